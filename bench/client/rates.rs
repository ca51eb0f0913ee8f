//! Small operations one after another, in a directory of the client's own: how many a second.

use rustix::fs::{Mode, OFlags};
use std::ffi::CString;
use std::io::{self, BufRead, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

/// Bytes of each file.
pub const SIZE: usize = 4096;

/// What is done to each file of the directory, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Creates it, writes 4 KiB, closes it.
    Create,
    /// stat(2), attributes known to the kernel.
    Stat,
    /// Lists the directory.
    List,
    /// Opens it, reads it, closes it.
    Read,
    /// Gives it another name.
    Rename,
    /// Removes it.
    Unlink,
}

impl Phase {
    /// All, in the order in which they can be done.
    pub const ALL: [Phase; 6] =
        [Phase::Create, Phase::Stat, Phase::List, Phase::Read, Phase::Rename, Phase::Unlink];

    /// As the tables name it, and as the client is told.
    pub fn name(self) -> &'static str {
        match self {
            Phase::Create => "create+write 4 KiB+close",
            Phase::Stat => "stat",
            Phase::List => "readdir",
            Phase::Read => "open+read+close",
            Phase::Rename => "rename",
            Phase::Unlink => "unlink",
        }
    }

    /// How often it is done to every file, so that it takes long enough to be measured.
    pub fn passes(self) -> usize {
        match self {
            Phase::Stat | Phase::List => 40,
            Phase::Read => 5,
            Phase::Create | Phase::Rename | Phase::Unlink => 1,
        }
    }
}

/// Clients at work beside each other.
pub struct Clients(Vec<Client>);

struct Client {
    child: Child,
    to: ChildStdin,
    from: io::BufReader<ChildStdout>,
}

impl Clients {
    /// Starts so many clients, each with so many files in a directory of its own below `root`.
    pub fn start(root: &Path, clients: usize, files: usize) -> Clients {
        let start = |n: usize| {
            let dir = root.join(format!("client{n}"));
            let mut command = Command::new(std::env::current_exe().expect("the bench's own path"));
            command
                .arg("client")
                .arg(dir)
                .arg(files.to_string())
                .stdin(Stdio::piped())
                .stdout(Stdio::piped());
            let mut child = command.spawn().expect("the bench runs itself");
            let to = child.stdin.take().expect("it was piped");
            let from = io::BufReader::new(child.stdout.take().expect("it was piped"));
            Client { child, to, from }
        };
        let mut clients = Clients((0..clients).map(start).collect());
        clients.0.iter_mut().for_each(Client::wait);
        clients
    }

    /// Lets all do this to all their files, and tells how long it took until the last was done.
    pub fn run(&mut self, phase: Phase) -> Duration {
        let start = Instant::now();
        for client in &mut self.0 {
            writeln!(client.to, "{}", phase.name()).expect("tell a client");
        }
        self.0.iter_mut().for_each(Client::wait);
        start.elapsed()
    }
}

impl Client {
    fn wait(&mut self) {
        let mut line = String::new();
        self.from.read_line(&mut line).expect("hear from a client");
        assert_eq!(line, "done\n", "a client failed; what it said stands above");
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        for client in &mut self.0 {
            // One that has ended already is what we want.
            let _ = client.child.kill();
            let _ = client.child.wait();
        }
    }
}

/// The client itself: does what each line of its input says.
pub fn serve(dir: PathBuf, files: usize) -> io::Result<()> {
    std::fs::create_dir(&dir)?;
    let name = |letter: char, n: usize| CString::new(format!("{}/{letter}{n}", dir.display()));
    let named = |letter| (0..files).map(|n| name(letter, n)).collect::<Result<Vec<_>, _>>();
    let (before, after) = (named('f')?, named('g')?);
    let noise = noise();
    println!("done");
    for line in io::stdin().lines() {
        let line = line?;
        let phase = Phase::ALL.into_iter().find(|phase| phase.name() == line);
        let phase = phase.ok_or_else(|| io::Error::other(format!("no such phase: {line}")))?;
        for _ in 0..phase.passes() {
            pass(phase, &dir, (&before, &after), &noise)?;
        }
        println!("done");
    }
    Ok(())
}

fn pass(phase: Phase, dir: &Path, (before, after): (&[CString], &[CString]), noise: &[u8]) -> io::Result<()> {
    match phase {
        Phase::Create => before.iter().enumerate().try_for_each(|(n, path)| {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
            let file = rustix::fs::open(path, flags, Mode::from_raw_mode(0o644))?;
            if rustix::io::write(&file, content(noise, n))? != SIZE {
                return Err(io::Error::other("a short write"));
            }
            Ok(nix::unistd::close(file)?)
        }),
        Phase::Stat => before.iter().try_for_each(|path| {
            let size = rustix::fs::stat(path)?.st_size;
            if size == SIZE as i64 {
                Ok(())
            } else {
                Err(io::Error::other(format!("{path:?} has {size} bytes")))
            }
        }),
        Phase::List => {
            let count = std::fs::read_dir(dir)?.try_fold(0, |n, entry| entry.map(|_| n + 1))?;
            if count == before.len() { Ok(()) } else { Err(io::Error::other(format!("{count} names"))) }
        }
        Phase::Read => {
            let mut buffer = [0; SIZE];
            before.iter().enumerate().try_for_each(|(n, path)| {
                let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
                let got = rustix::io::read(&file, &mut buffer)?;
                if got == SIZE && buffer == *content(noise, n) {
                    Ok(())
                } else {
                    Err(io::Error::other(format!("{path:?} is wrong")))
                }
            })
        }
        Phase::Rename => before.iter().zip(after).try_for_each(|(a, b)| Ok(rustix::fs::rename(a, b)?)),
        Phase::Unlink => after.iter().try_for_each(|path| Ok(rustix::fs::unlink(path)?)),
    }
}

/// Bytes that do not compress, of which each file has another piece.
fn noise() -> Vec<u8> {
    let mut noise = vec![0; 1 << 20];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

fn content(noise: &[u8], n: usize) -> &[u8] {
    let at = n * 4099 % (noise.len() - SIZE);
    &noise[at..at + SIZE]
}
