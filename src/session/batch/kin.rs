//! Who descends from whom, as /proc shows it.
//!
//! Only `status` is read: `stat` of a process inside exec(2) can be read only once that has ended, and an exec that
//! closes files may be waiting for our answer.

use rustix::event::{PollFd, PollFlags};
use rustix::fs::{fstat, fstatfs};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use rustix::time::Timespec;
use std::os::fd::{AsFd, OwnedFd};

/// Lines of descent are followed no further up.
const DEEPEST: usize = 4096;
/// The file system of process handles, where each has a number of its own (Linux 6.9).
const PIDFS: i64 = 0x5049_4446;
/// A handle of any task, not only of a process's first (Linux 6.9); rustix has no name for it.
const THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL as u32);

/// A task's process, and the parent of that (0: none that we see).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kin {
    pub process: u32,
    pub parent: u32,
}

/// `None` of a task that is gone, or that we may not see.
pub fn of(task: u32) -> Option<Kin> {
    parse(&std::fs::read_to_string(format!("/proc/{task}/status")).ok()?)
}

fn parse(status: &str) -> Option<Kin> {
    let number = |name: &str| {
        let rest = status.lines().find_map(|line| line.strip_prefix(name))?;
        rest.trim().parse().ok()
    };
    Some(Kin { process: number("Tgid:")?, parent: number("PPid:")? })
}

/// The processes above a task, nearest first, up to the last of those that are `sought`, or to the end of the line.
fn line(task: u32, sought: &[u32]) -> Vec<u32> {
    let mut line = Vec::new();
    let mut missing = sought.len();
    let mut next = task;
    while missing > 0
        && line.len() < DEEPEST
        && let Some(Kin { parent, .. }) = of(next)
        && parent != 0
    {
        missing -= usize::from(sought.contains(&parent));
        line.push(parent);
        next = parent;
    }
    line
}

/// Those of `sought` that are above a task.
pub fn above(task: u32, sought: &[u32]) -> Vec<u32> {
    let is_sought = |process: &u32| sought.contains(process);
    let found = line(task, sought);
    if !found.iter().any(is_sought) {
        return Vec::new();
    }
    // A process in between may have ended between two looks, and its number be another's: a line that is seen twice
    // was true in between, because who loses its parent gets another at once.
    match line(task, sought) == found {
        true => found.into_iter().filter(is_sought).collect(),
        false => Vec::new(),
    }
}

/// A number that no other task has had since the machine was started; `None` where the kernel has none (before 6.9).
pub fn identity(task: u32) -> Option<u64> {
    let handle = pidfd_open(Pid::from_raw(i32::try_from(task).ok()?)?, THREAD).ok()?;
    // The type's width differs between targets.
    #[allow(clippy::unnecessary_cast)]
    let is_pidfs = fstatfs(&handle).ok()?.f_type as i64 == PIDFS;
    if is_pidfs { Some(fstat(&handle).ok()?.st_ino) } else { None }
}

/// A handle of a process, which stays its own.
pub fn handle(process: u32) -> Result<OwnedFd, Errno> {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).ok_or(Errno::SRCH)?;
    pidfd_open(pid, PidfdFlags::empty())
}

/// Whether the process of a handle has ended. Its number is nobody else's before.
pub fn has_ended(handle: &impl AsFd) -> bool {
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    let mut end = [PollFd::new(handle, PollFlags::IN)];
    // What cannot be looked at is nothing to lean on.
    rustix::event::poll(&mut end, Some(&now)).map_or(true, |ready| ready > 0)
}

/// Why descendants of a caller could not be told here, if so. `task` is the caller's, 0 where the kernel has no number of it for us.
pub fn blind_to(task: u32) -> Result<Kin, String> {
    if task == 0 {
        return Err("this process is outside the pid namespace of the mount's daemon".into());
    }
    let own =
        std::fs::read_link("/proc/self").map_err(|error| format!("the daemon has no /proc: {error}"))?;
    let us = std::process::id();
    if own.to_str().and_then(|own| own.parse().ok()) != Some(us) {
        return Err("the /proc that the daemon has is of another pid namespace than its own".into());
    }
    of(task).ok_or_else(|| "the daemon may not see this process in /proc (mounted with hidepid?)".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Child, Command, Stdio};

    /// A shell that has a shell that has a child, and the number of the last.
    fn family() -> (Child, u32) {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 60 & echo $!; wait' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("a shell");
        let mut said = String::new();
        BufReader::new(shell.stdout.take().expect("its output")).read_line(&mut said).expect("a number");
        (shell, said.trim().parse().expect("a number"))
    }

    fn end(mut shell: Child, last: u32) {
        let last = Pid::from_raw(last as i32).expect("a process");
        rustix::process::kill_process(last, rustix::process::Signal::KILL).expect("kill");
        shell.wait().expect("it ends with its child");
    }

    #[test]
    fn a_grandchild_is_below_its_ancestors_and_nobody_else() {
        let us = std::process::id();
        let (shell, last) = family();
        assert_eq!(above(last, &[us]), [us]);
        assert_eq!(above(last, &[shell.id(), us]), [shell.id(), us], "nearest first");
        assert!(above(last, &[last]).is_empty(), "nobody is above itself");
        assert!(above(us, &[shell.id()]).is_empty());
        let (other, of_other) = family();
        assert!(above(last, &[other.id()]).is_empty());
        end(other, of_other);
        let gone = shell.id();
        end(shell, last);
        assert_eq!(of(gone), None);
        assert!(above(gone, &[us]).is_empty(), "one that is gone descends from nobody");
    }

    #[test]
    fn an_identity_stays_and_is_nobody_elses() {
        let us = std::process::id();
        let Some(ours) = identity(us) else {
            let release = rustix::system::uname().release().to_string_lossy().into_owned();
            assert!(release.starts_with("5.") || release.starts_with("6."), "none on {release}");
            return;
        };
        assert_eq!(identity(us), Some(ours));
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        assert!(identity(child.id()).is_some_and(|theirs| theirs != ours));
        // Threads have one too: most callers' numbers are a thread's.
        let thread = std::thread::spawn(|| {
            let task = rustix::thread::gettid().as_raw_nonzero().get() as u32;
            (of(task), identity(task))
        });
        let (kin, theirs) = thread.join().expect("no panic");
        assert_eq!(kin.map(|kin| kin.process), Some(us));
        assert!(theirs.is_some_and(|theirs| theirs != ours));
        child.kill().expect("kill");
        child.wait().expect("reap");
    }

    #[test]
    fn a_handle_tells_of_the_end() {
        let mut child = Command::new("sleep").arg("60").spawn().expect("a child");
        let handle = handle(child.id()).expect("a handle");
        assert!(!has_ended(&handle));
        child.kill().expect("kill");
        child.wait().expect("reap");
        assert!(has_ended(&handle));
    }

    #[test]
    fn who_cannot_be_seen_is_told_why() {
        assert!(blind_to(0).expect_err("no number").contains("pid namespace"));
        assert_eq!(blind_to(std::process::id()).expect("we see ourselves").process, std::process::id());
        assert_eq!(parse("Name:\tx\nTgid:\t7\nPid:\t9\nPPid:\t3\n"), Some(Kin { process: 7, parent: 3 }));
        assert_eq!(parse("Name:\tx\n"), None);
    }
}
