//! What a process does with an operation, and how it tells of it: words that are equal where both file systems
//! did the same.

mod attrs;
mod files;
mod maps;
mod names;

use super::jail::Jail;
use super::ops::{At, On, Op, Step};
use super::strategy::{FDS, MAPS};
pub use attrs::time_told;
use maps::Mapped;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, Stat};
use rustix::io::Errno;
use std::path::Path;

/// An answer in words, or the call's error.
type Told = Result<String, Errno>;

/// A process's state: descriptors and mappings; the rest (directories, umask, user, locks) has the kernel.
pub struct Actor {
    /// This side is the one that shows how it has to be.
    reference: bool,
    jail: Jail,
    fds: Vec<Option<OwnedFd>>,
    maps: Vec<Option<Mapped>>,
}

impl Actor {
    /// A process of a user that has nothing open yet.
    pub fn new(reference: bool, jail: Jail) -> Actor {
        let fds = (0..FDS).map(|_| None).collect();
        let maps = (0..MAPS).map(|_| None).collect();
        Actor { reference, jail, fds, maps }
    }

    /// Starts a case: gives everything back, and works below `base` from now on, with no way out of it.
    pub fn reset(&mut self, base: &Path) {
        self.maps.iter_mut().for_each(|map| *map = None);
        self.fds.iter_mut().for_each(|fd| *fd = None);
        rustix::process::umask(Mode::from_raw_mode(0o022));
        self.jail.enter(base).unwrap_or_else(|e| panic!("enter {}: {e}", base.display()));
    }

    /// One step.
    pub fn step(&mut self, step: &Step) -> String {
        let Some(watch) = &step.watch else { return self.tell(&step.op) };
        let before = self.stat_at(watch, false);
        let told = self.tell(&step.op);
        let after = self.stat_at(watch, false);
        format!("{told}; {:?} {}", watch, attrs::changes(before, after))
    }

    fn tell(&mut self, op: &Op) -> String {
        match self.act(op) {
            Ok(told) => told,
            Err(errno) => errno_name(errno),
        }
    }

    fn act(&mut self, op: &Op) -> Told {
        match op {
            Op::Mkdir { .. }
            | Op::Mknod { .. }
            | Op::Symlink { .. }
            | Op::Readlink { .. }
            | Op::Link { .. }
            | Op::LinkFd { .. }
            | Op::Unlink { .. }
            | Op::Rmdir { .. }
            | Op::Rename { .. } => self.name(op),
            Op::Populate { at, n } => self.populate(at, *n),
            Op::List { at, first, change, again } => self.list(at, *first, change, *again),
            Op::Chdir { .. } | Op::Fchdir { .. } | Op::Getcwd => self.directory(op),
            Op::Stat { .. }
            | Op::Chmod { .. }
            | Op::Chown { .. }
            | Op::Utimens { .. }
            | Op::Truncate { .. }
            | Op::Access { .. }
            | Op::Statfs { .. }
            | Op::Umask { .. } => self.attribute(op),
            Op::SetXattr { .. } | Op::GetXattr { .. } | Op::ListXattr { .. } | Op::RemoveXattr { .. } => {
                self.xattr(op)
            }
            Op::Map { .. } | Op::Load { .. } | Op::Store { .. } | Op::Msync { .. } | Op::Unmap { .. } => {
                self.mapping(op)
            }
            Op::Pause | Op::Flush | Op::Lose { .. } => unreachable!("the run does {op:?}"),
            _ => self.file(op),
        }
    }

    /// A descriptor; the next open one where that is not open, so that most calls meet a file. From [`FDS`] on,
    /// the next that reads and writes a file.
    fn fd(&self, n: u8) -> Result<BorrowedFd<'_>, Errno> {
        let open = || (0..FDS).filter_map(|i| self.fds[usize::from((n + i) % FDS)].as_ref().map(AsFd::as_fd));
        let file = if n < FDS { None } else { open().find(|fd| attrs::is_open_file(*fd)) };
        file.or_else(|| open().next()).ok_or(Errno::BADF)
    }

    /// Where a path starts: at that descriptor, or the next directory that is open.
    fn dir(&self, at: &At) -> Result<BorrowedFd<'_>, Errno> {
        let Some(n) = at.dir else { return Ok(CWD) };
        if let Some(fd) = &self.fds[usize::from(n)] {
            return Ok(fd.as_fd());
        }
        let mut open = (0..FDS).filter_map(|i| self.fds[usize::from((n + i) % FDS)].as_ref());
        let dir = open.find(|fd| rustix::fs::fstat(fd).is_ok_and(|stat| attrs::is_dir(&stat)));
        dir.map(AsFd::as_fd).ok_or(Errno::BADF)
    }

    /// Makes a call that takes a path alone, from where the path starts.
    fn starting_at<T>(&self, at: &At, call: impl FnOnce(&str) -> Result<T, Errno>) -> Result<T, Errno> {
        if at.dir.is_none() {
            return call(&at.path.0);
        }
        let dir = self.dir(at)?;
        let here = rustix::fs::open(".", OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
        rustix::process::fchdir(dir)?;
        let answer = call(&at.path.0);
        rustix::process::fchdir(here).expect("back to where it was");
        answer
    }

    fn stat_at(&self, at: &At, follow: bool) -> Result<Stat, Errno> {
        let flags = if follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
        rustix::fs::statat(self.dir(at)?, &*at.path.0, flags)
    }

    fn stat(&self, on: &On) -> Result<Stat, Errno> {
        match on {
            On::Path(at, follow) => self.stat_at(at, *follow),
            On::Fd(fd) => rustix::fs::fstat(self.fd(*fd)?),
        }
    }
}

/// `ENOENT`, and so on.
fn errno_name(errno: Errno) -> String {
    format!("{:?}", nix::errno::Errno::from_raw(errno.raw_os_error()))
}

/// An answer that says no more than that it was done.
fn ok<T>(answer: Result<T, Errno>) -> Told {
    answer.map(|_| "ok".to_owned())
}

/// Bytes in short: how many, and a hash.
fn bytes_told(bytes: &[u8]) -> String {
    let hash = blake3::hash(bytes).to_hex();
    let start: String = bytes.iter().take(4).map(|b| format!("{b:02x}")).collect();
    format!("{} bytes {start}.. {}", bytes.len(), &hash[..8])
}

/// What is written: it tells where in the writing it was.
fn pattern(fill: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| fill.wrapping_add((i / 7) as u8)).collect()
}
