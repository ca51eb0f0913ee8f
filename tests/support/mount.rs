//! A mounted session: the daemon as a child of the test, so that it can be killed precisely, and its
//! mount point, which never outlives the test.

use super::ran::Ran;
use super::world::{Host, World};
use rustix::mount::UnmountFlags;
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long a mount may take to answer.
const READY: Duration = Duration::from_secs(60);
/// After this long a daemon is killed, so that a hung request fails its test instead of hanging it.
const WATCHDOG: Duration = Duration::from_secs(900);
/// The same where every size is run.
const WATCHDOG_FULL: Duration = Duration::from_secs(3 * 3600);
/// How much of the daemon's log a failing test shows, in bytes.
const LOG_SHOWN: usize = 12 * 1024;

type Daemon = Arc<Mutex<Option<Child>>>;

/// What statfs(2) says of a FUSE file system.
const FUSE: u64 = 0x6573_5546;

/// Whether a daemon answers there, and not the directory below, which is seen while a dead mount is cleared away; one
/// whose session another has taken meanwhile says so.
fn answers(mountpoint: &Path) -> bool {
    match rustix::fs::statfs(mountpoint) {
        Ok(said) => said.f_type as u64 == FUSE,
        Err(error) => error == rustix::io::Errno::STALE,
    }
}

/// A session mounted by a daemon of ours. Dropping it kills the daemon and takes the mount away.
pub struct Mount<'w> {
    world: &'w World,
    host: Host<'w>,
    mountpoint: PathBuf,
    cache: PathBuf,
    log: PathBuf,
    daemon: Daemon,
    pid: Pid,
    /// How long it took until the mount answered.
    pub ready_after: Duration,
}

impl<'w> Mount<'w> {
    /// Runs a foreground mount until it answers; the error is how the command ended instead.
    pub fn start(world: &'w World, host: &Host<'w>, mut command: Command) -> Result<Mount<'w>, Ran> {
        let log = host.mountpoint.with_file_name(format!("daemon-{}.log", unique()));
        let file = File::create(&log).expect("a log file");
        let copy = file.try_clone().expect("a second handle of the log file");
        command.stdin(Stdio::null()).stdout(file).stderr(copy);
        let line = format!("{command:?}");
        let start = Instant::now();
        let child = command.spawn().unwrap_or_else(|e| panic!("cannot run {line}: {e}"));
        let pid = Pid::from_child(&child);
        let daemon = Arc::new(Mutex::new(Some(child)));
        watch(&daemon);
        let (mountpoint, cache) = (host.mountpoint.clone(), host.cache.clone());
        let host = host.clone();
        let mut mount =
            Mount { world, host, mountpoint, cache, log, daemon, pid, ready_after: Duration::ZERO };
        // A dead mount that is still there is mounted, and its attributes may be known; but it answers nothing.
        while !is_mounted(&mount.mountpoint) || !answers(&mount.mountpoint) {
            if let Some(status) = mount.ended() {
                let (err, took) = (mount.log(), start.elapsed());
                return Err(Ran { line, code: status.code(), out: String::new(), err, took });
            }
            assert!(start.elapsed() < READY, "not mounted within {READY:?}: {line}\n{}", mount.log());
            std::thread::sleep(Duration::from_millis(5));
        }
        mount.ready_after = start.elapsed();
        Ok(mount)
    }

    /// Where the session is mounted.
    pub fn root(&self) -> &Path {
        &self.mountpoint
    }

    /// A path inside the session.
    pub fn path(&self, name: impl AsRef<Path>) -> PathBuf {
        self.mountpoint.join(name)
    }

    /// Its machine's cache directory.
    pub fn cache(&self) -> &Path {
        &self.cache
    }

    /// The daemon's process id.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Everything the daemon has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// `cwdfs status --json`.
    #[track_caller]
    pub fn status(&self) -> Value {
        let ran = self.run("status", &["--json"]).ok();
        serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("status is no JSON: {e}\n{ran}"))
    }

    /// Waits until `done` holds of the status; panics with it when `limit` passes first.
    #[track_caller]
    pub fn wait_status(&self, what: &str, limit: Duration, done: impl Fn(&Value) -> bool) -> Value {
        let start = Instant::now();
        loop {
            let status = self.status();
            if done(&status) {
                return status;
            }
            assert!(start.elapsed() < limit, "{what}: not within {limit:?}; status is {status:#}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// `cwdfs COMMAND OPTIONS... MOUNTPOINT`, run to its end.
    pub fn run(&self, command: &str, options: &[&str]) -> Ran {
        self.host.run(command, options)
    }

    /// `cwdfs flush`: everything changed so far is in the store.
    #[track_caller]
    pub fn flush(&self) {
        self.run("flush", &[]).ok();
    }

    /// `cwdfs flush --view`: everything changed so far is published too.
    #[track_caller]
    pub fn publish(&self) {
        self.run("flush", &["--view"]).ok();
    }

    /// `cwdfs refresh`: outside changes are in.
    #[track_caller]
    pub fn refresh(&self) {
        self.run("refresh", &[]).ok();
    }

    /// Unmounts cleanly; the daemon must end with 0.
    #[track_caller]
    pub fn unmount(mut self) {
        self.run("unmount", &[]).ok();
        let status = self.wait_end(Duration::from_secs(60));
        assert_eq!(status.code(), Some(0), "the daemon after a clean unmount:\n{}", self.log());
        assert!(!is_mounted(&self.mountpoint), "still mounted after unmount");
    }

    /// Kills the daemon with SIGKILL and takes the dead mount away.
    pub fn kill(mut self) {
        self.kill_only();
        self.detach();
    }

    /// Kills the daemon with SIGKILL and leaves the dead mount ("transport endpoint is not connected").
    pub fn kill_only(&mut self) {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = daemon.as_mut() {
            child.kill().expect("kill the daemon");
            child.wait().expect("reap the daemon");
        }
    }

    /// Sends SIGKILL at this moment, from any thread, and drops what the relay holds.
    pub fn kill_now(&self) {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(child) = daemon.as_mut() {
            // Not by its number: that may be another's once this one has ended.
            child.kill().expect("kill the daemon");
        }
        drop(daemon);
        self.world.relay().drop_held();
    }

    /// Kills the daemon, drops what the relay holds, and deletes the cache: a machine that is gone.
    pub fn lose_machine(mut self) {
        self.kill_only();
        self.world.relay().drop_held();
        self.detach();
        fs::remove_dir_all(&self.cache).expect("wipe the cache");
    }

    /// Sends the daemon a signal.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(self.pid, signal).expect("signal the daemon");
    }

    /// Waits for the daemon to end by itself.
    #[track_caller]
    pub fn wait_end(&mut self, limit: Duration) -> ExitStatus {
        let start = Instant::now();
        loop {
            if let Some(status) = self.ended() {
                return status;
            }
            assert!(start.elapsed() < limit, "the daemon did not end within {limit:?}:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ended(&mut self) -> Option<ExitStatus> {
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        daemon.as_mut().and_then(|child| child.try_wait().expect("look at the daemon"))
    }

    /// Takes the mount away without asking the daemon.
    pub fn detach(&self) {
        while is_mounted(&self.mountpoint) {
            if rustix::mount::unmount(&self.mountpoint, UnmountFlags::DETACH).is_ok() {
                continue;
            }
            // Not root: the helper may.
            let helper = Command::new("fusermount3").args(["-u", "-z"]).arg(&self.mountpoint).status();
            if !helper.is_ok_and(|status| status.success()) {
                return;
            }
        }
    }
}

impl Drop for Mount<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let from = log.ceil_char_boundary(log.len().saturating_sub(LOG_SHOWN));
            eprintln!("-- the daemon at {} logged:\n{}", self.mountpoint.display(), &log[from..]);
        }
        let mut daemon = self.daemon.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut child) = daemon.take() {
            // One that has ended already is what we want.
            let _ = child.kill();
            let _ = child.wait();
        }
        drop(daemon);
        self.detach();
    }
}

/// Kills the daemon when the test has hung for too long.
fn watch(daemon: &Daemon) {
    let daemon = Arc::downgrade(daemon);
    std::thread::spawn(move || {
        let limit = if super::full() { WATCHDOG_FULL } else { WATCHDOG };
        let end = Instant::now() + limit;
        while Instant::now() < end {
            std::thread::sleep(Duration::from_millis(500));
            if daemon.strong_count() == 0 {
                return;
            }
        }
        if let Some(daemon) = daemon.upgrade()
            && let Some(child) = daemon.lock().unwrap_or_else(PoisonError::into_inner).as_mut()
            && child.try_wait().is_ok_and(|ended| ended.is_none())
        {
            eprintln!("-- watchdog: killing daemon {} after {limit:?}", child.id());
            let _ = child.kill();
        }
    });
}

/// Whether a FUSE file system is mounted at this path, dead or alive.
pub fn is_mounted(path: &Path) -> bool {
    let table = fs::read_to_string("/proc/thread-self/mountinfo").expect("read the mount table");
    table.lines().any(|line| {
        let mut words = line.split(' ');
        let here = words.nth(4).is_some_and(|p| Path::new(&p.replace("\\040", " ")) == path);
        here && line.split(" - ").nth(1).is_some_and(|rest| rest.starts_with("fuse"))
    })
}

fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed).to_string()
}
