//! A PostgreSQL server of Debian's package, run as its user, reached by a socket outside of the mount.

use crate::support::Ran;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The user that the package makes; a server refuses to run as root.
const USER: &str = "postgres";
/// How long a server may take to recover, or to stop.
const LIMIT: Duration = Duration::from_secs(120);

/// A running server. Dropping it kills all of its processes at once, as the loss of a machine does.
pub struct Server {
    postmaster: Child,
    place: PathBuf,
    log: PathBuf,
}

/// Where Debian puts the programs of the newest version there is.
fn programs() -> PathBuf {
    let versions =
        fs::read_dir("/usr/lib/postgresql").expect("the package postgresql, which tests/run installs");
    let version = |path: &PathBuf| path.file_name().and_then(|n| n.to_str()?.parse::<u32>().ok());
    let versions = versions.map(|entry| entry.expect("a version").path());
    versions
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(version)
        .expect("a server")
        .join("bin")
}

/// A program of PostgreSQL's, as its user.
fn command(name: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", USER, "--regid", USER, "--init-groups", "--"]).arg(programs().join(name));
    command.current_dir("/").env("PGUSER", USER).env("LC_ALL", "C.UTF-8");
    command
}

/// Runs a program on a cluster that no server uses.
#[track_caller]
pub fn program(name: &str, args: &[&str], cluster: &Path) {
    Ran::of(command(name).args(args).arg(cluster)).ok();
}

/// Gives a directory to PostgreSQL's user.
fn own(dir: &Path) {
    fs::create_dir_all(dir).expect("mkdir");
    Ran::of(Command::new("chown").arg(USER).arg(dir)).ok();
}

/// Makes a cluster whose blocks have checksums.
#[track_caller]
pub fn init(cluster: &Path) {
    own(cluster);
    program("initdb", &["--data-checksums", "--auth", "trust", "--locale", "C.UTF-8", "-D"], cluster);
}

impl Server {
    /// Starts the server of a cluster and returns when it answers, after recovery where one is needed.
    #[track_caller]
    pub fn start(cluster: &Path, place: &Path) -> Server {
        own(place);
        let log = place.join("log");
        let file = File::create(&log).expect("a log");
        let settings = [
            "listen_addresses=",
            &format!("unix_socket_directories={}", place.display()),
            // What makes a commit wait, named though it is the default: it is what is tested.
            "fsync=on",
            "synchronous_commit=on",
            "full_page_writes=on",
            // In files of the cluster: killed, a server would leave the usual ones in /dev/shm for ever.
            "dynamic_shared_memory_type=mmap",
        ];
        let mut command = command("postgres");
        command.arg("-D").arg(cluster).args(settings.iter().flat_map(|s| ["-c", s]));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(file);
        let postmaster = command.spawn().expect("run setpriv");
        let mut server = Server { postmaster, place: place.to_owned(), log };
        let end = Instant::now() + LIMIT;
        while Ran::of(server.client("pg_isready").arg("-q")).code != Some(0) {
            let ended = server.postmaster.try_wait().expect("look at the server");
            assert!(ended.is_none(), "the server did not start: {}", server.log());
            assert!(Instant::now() < end, "the server does not answer: {}", server.log());
            std::thread::sleep(Duration::from_millis(100));
        }
        server
    }

    fn log(&self) -> String {
        fs::read_to_string(&self.log).expect("the server's log")
    }

    /// Panics unless the server found that it had been killed, and nothing worse.
    #[track_caller]
    pub fn has_recovered(&self) {
        let log = self.log();
        assert!(log.contains("automatic recovery in progress"), "no recovery: {log}");
        for line in log.lines() {
            // Whoever asks too early is turned away, and may hang up before he is told.
            let bad = ["PANIC", "ERROR", "WARNING", "could not"].iter().any(|word| line.contains(word));
            assert!(!bad || line.contains("client"), "in the log of a recovery: {line}");
        }
    }

    /// A client program that knows where the server is.
    fn client(&self, name: &str) -> Command {
        let mut command = command(name);
        command.arg("-h").arg(&self.place).args(["-U", USER]);
        command
    }

    /// psql that prints rows and nothing else, and ends at the first error.
    pub fn psql(&self) -> Command {
        let mut command = self.client("psql");
        command.args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-d", "postgres"]);
        command
    }

    /// The rows of a query, or of several.
    #[track_caller]
    pub fn query(&self, text: &str) -> String {
        Ran::of(self.psql().arg("-c").arg(text)).ok().out
    }

    /// Runs a client program to its end.
    #[track_caller]
    pub fn run(&self, name: &str, args: &[&str]) {
        Ran::of(self.client(name).args(args)).ok();
    }

    /// Stops it cleanly.
    #[track_caller]
    pub fn stop(mut self) {
        kill_process(Pid::from_child(&self.postmaster), Signal::INT).expect("stop the server");
        let end = Instant::now() + LIMIT;
        while self.postmaster.try_wait().expect("look at the server").is_none() {
            assert!(Instant::now() < end, "the server does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let log = self.log();
        assert!(log.contains("database system is shut down") && !log.contains("PANIC"), "{log}");
    }

    /// The processes of the server: whose parent the postmaster is.
    fn backends(&self) -> Vec<Pid> {
        let listing = fs::read_dir("/proc").expect("the process table");
        let pids = listing.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
        let parent = |pid: &i32| {
            // pid (name) state parent; a process that has ended meanwhile is none of them.
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
        };
        pids.filter(|pid| parent(pid) == Some(self.postmaster.id())).filter_map(Pid::from_raw).collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // While the postmaster has not been reaped its number is its own.
        if !matches!(self.postmaster.try_wait(), Ok(None)) {
            return;
        }
        // Stopped first, so that nothing new is started while the rest is killed.
        let postmaster = Pid::from_child(&self.postmaster);
        let _ = kill_process(postmaster, Signal::STOP);
        for pid in self.backends() {
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = kill_process(postmaster, Signal::KILL);
        let _ = self.postmaster.wait();
    }
}
