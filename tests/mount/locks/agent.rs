//! Processes that take locks, and what they were told in order.

use std::fs::{self, Metadata};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// How long an answer may take that has to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process that takes locks as it is told (`agent.py` says which words it knows).
pub struct Agent {
    name: &'static str,
    child: Child,
    tell: ChildStdin,
    told: mpsc::Receiver<String>,
}

impl Agent {
    /// A process whose working directory is `dir`.
    pub fn new(dir: &Path, name: &'static str) -> Agent {
        let mut child = Command::new("python3")
            .args(["-c", include_str!("agent.py")])
            .current_dir(dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3");
        let (tell, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Agent { name, child, tell, told: lines(output) }
    }

    /// Tells it something that is answered at once, and returns the answer.
    #[track_caller]
    pub fn ask(&mut self, command: &str) -> String {
        self.start(command);
        self.answer()
    }

    /// As [`Agent::ask`], with what was asked, for a story.
    #[track_caller]
    pub fn note(&mut self, story: &mut Vec<String>, command: &str) {
        let answer = self.ask(command);
        story.push(format!("{}: {command}: {answer}", self.name));
    }

    /// Tells it to take a lock on `file` that it has to wait for; returns when it waits.
    #[track_caller]
    pub fn wait_for(&mut self, command: &str, file: &Metadata) {
        let waiting = waiting_for(file);
        self.start(command);
        let start = Instant::now();
        // The kernel gives its list in pieces: while others take locks, a line may be missed, or seen twice.
        while waiting_for(file) <= waiting || waiting_for(file) <= waiting {
            assert!(self.told.try_recv().is_err(), "{}: {command}: did not wait", self.name);
            assert!(start.elapsed() < PATIENCE, "{}: {command}: is not seen to wait", self.name);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The answer to what it was told to wait for.
    #[track_caller]
    pub fn answer(&mut self) -> String {
        let answer = self.told.recv_timeout(PATIENCE);
        answer.unwrap_or_else(|e| panic!("{}: no answer: {e}", self.name))
    }

    fn start(&mut self, command: &str) {
        writeln!(self.tell, "{command}").expect("the agent reads");
    }

    /// SIGKILL, and reaped.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("reap");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // One that was killed already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lines(output: ChildStdout) -> mpsc::Receiver<String> {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                return;
            }
        }
    });
    told
}

/// How many wait for a lock on this file, by the kernel's list of locks.
fn waiting_for(file: &Metadata) -> usize {
    let (major, minor) = (rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let of_file = format!(" {major:02x}:{minor:02x}:{} ", file.ino());
    let locks = fs::read_to_string("/proc/locks").expect("the kernel's list of locks");
    locks.lines().filter(|line| line.contains("-> ") && line.contains(&of_file)).count()
}
