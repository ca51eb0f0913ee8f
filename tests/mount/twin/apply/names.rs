//! Names and directories.

use super::super::ops::{At, Op};
use super::super::sys::{self, FdCall, PathCall};
use super::{Actor, Told, errno_name, ok};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Mode, OFlags, RenameFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;

/// Room for one name of a usual length, or one of the longest.
const SMALL: usize = 300;

/// How often each name was listed.
type Seen = BTreeMap<Vec<u8>, usize>;

impl Actor {
    pub(super) fn name(&mut self, op: &Op) -> Told {
        match op {
            Op::Mkdir { at, mode } => {
                ok(rustix::fs::mkdirat(self.dir(at)?, &*at.path.0, Mode::from_raw_mode(*mode)))
            }
            Op::Mknod { at, mode, rdev } => {
                ok(sys::path_call(self.dir(at)?, &at.path.0, PathCall::Mknod(*mode, *rdev)))
            }
            Op::Symlink { target, at } => ok(rustix::fs::symlinkat(&*target.0, self.dir(at)?, &*at.path.0)),
            Op::Readlink { at } => {
                rustix::fs::readlinkat(self.dir(at)?, &*at.path.0, Vec::new()).map(|t| format!("{t:?}"))
            }
            Op::Link { from, to, follow } => {
                let flags = if *follow { AtFlags::SYMLINK_FOLLOW } else { AtFlags::empty() };
                ok(rustix::fs::linkat(self.dir(from)?, &*from.path.0, self.dir(to)?, &*to.path.0, flags))
            }
            Op::LinkFd { fd, to } => {
                ok(rustix::fs::linkat(self.fd(*fd)?, "", self.dir(to)?, &*to.path.0, AtFlags::EMPTY_PATH))
            }
            Op::Unlink { at } => ok(rustix::fs::unlinkat(self.dir(at)?, &*at.path.0, AtFlags::empty())),
            Op::Rmdir { at } => ok(rustix::fs::unlinkat(self.dir(at)?, &*at.path.0, AtFlags::REMOVEDIR)),
            Op::Rename { from, to, flags } => {
                let flags = RenameFlags::from_bits_retain(*flags);
                let (from, to) = ((self.dir(from)?, &*from.path.0), (self.dir(to)?, &*to.path.0));
                ok(rustix::fs::renameat_with(from.0, from.1, to.0, to.1, flags))
            }
            other => unreachable!("{other:?} is no change of a name"),
        }
    }

    /// Makes files until one is refused.
    pub(super) fn populate(&mut self, at: &At, n: u16) -> Told {
        for i in 0..n {
            let path = format!("{}/f{i:03}", at.path.0);
            let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
            match rustix::fs::openat(self.dir(at)?, &*path, flags, Mode::from_raw_mode(0o644)) {
                Ok(file) => drop(file),
                Err(errno) => return Ok(format!("{i}, then {}", errno_name(errno))),
            }
        }
        Ok("all".to_owned())
    }

    pub(super) fn directory(&mut self, op: &Op) -> Told {
        match op {
            Op::Chdir { at } if at.dir.is_none() => ok(rustix::process::chdir(&*at.path.0)),
            Op::Chdir { at } => {
                let dir = rustix::fs::openat(self.dir(at)?, &*at.path.0, DIRECTORY, Mode::empty())?;
                ok(rustix::process::fchdir(dir))
            }
            Op::Fchdir { fd } => ok(rustix::process::fchdir(self.fd(*fd)?)),
            _ => {
                let here = rustix::process::getcwd(Vec::new())?;
                Ok(format!("{here:?}"))
            }
        }
    }

    /// Lists a directory that changes meanwhile. The order is each file system's own: what is told is what is
    /// there before and after, and that what stays was listed once.
    pub(super) fn list(&mut self, at: &At, first: u8, change: &Op, again: bool) -> Told {
        let dir = self.open_dir(at)?;
        let before = self.all(at)?;
        let mut seen = Seen::new();
        while seen.len() < usize::from(first) && read_some(&dir, &mut seen)? {}
        let here = sys::fd_call(dir.as_fd(), FdCall::Seek(0, libc::SEEK_CUR))?;
        let early = seen.clone();
        let changed = self.tell(change);
        while read_some(&dir, &mut seen)? {}
        let after = {
            let fresh = rustix::fs::openat(&dir, ".", DIRECTORY, Mode::empty())?;
            whole(fresh.as_fd())?
        };
        let stays = |name: &Vec<u8>| before.contains_key(name) && after.contains_key(name);
        let mut wrong = misses(&seen, |name| stays(name), &before);
        if again {
            sys::fd_call(dir.as_fd(), FdCall::Seek(here, libc::SEEK_SET))?;
            let mut rest = Seen::new();
            while read_some(&dir, &mut rest)? {}
            wrong.extend(misses(&rest, |name| stays(name) && !early.contains_key(name), &before));
        }
        if !wrong.is_empty() {
            return Ok(format!("WRONG, of {} names: {wrong:?}", before.len()));
        }
        Ok(format!("{changed}; {}, then {}", listed(&before), listed(&after)))
    }

    fn open_dir(&self, at: &At) -> Result<rustix::fd::OwnedFd, Errno> {
        rustix::fs::openat(self.dir(at)?, &*at.path.0, DIRECTORY, Mode::empty())
    }

    fn all(&self, at: &At) -> Result<Seen, Errno> {
        whole(self.open_dir(at)?.as_fd())
    }
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

/// Reads some entries; whether there were any.
fn read_some(dir: &impl AsFd, seen: &mut Seen) -> Result<bool, Errno> {
    let names = sys::list(dir.as_fd(), SMALL)?;
    let more = !names.is_empty();
    for name in names {
        *seen.entry(name).or_default() += 1;
    }
    Ok(more)
}

/// A listing that nothing interrupts.
fn whole(dir: BorrowedFd<'_>) -> Result<Seen, Errno> {
    let mut seen = Seen::new();
    loop {
        let names = sys::list(dir, 64 * 1024)?;
        if names.is_empty() {
            return Ok(seen);
        }
        for name in names {
            *seen.entry(name).or_default() += 1;
        }
    }
}

/// Names that were listed more than once, and those that should have been and were not.
fn misses(seen: &Seen, must: impl Fn(&Vec<u8>) -> bool, of: &Seen) -> Vec<String> {
    let told = |name: &[u8], what: &str| format!("{:?} {what}", String::from_utf8_lossy(name));
    let twice = seen.iter().filter(|(_, n)| **n > 1).map(|(name, n)| told(name, &format!("{n} times")));
    let missed = of.keys().filter(|name| must(name) && !seen.contains_key(*name));
    twice.chain(missed.map(|name| told(name, "not at all"))).collect()
}

fn listed(seen: &Seen) -> String {
    let names: Vec<_> = seen.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    match names.len() {
        0..10 => format!("{names:?}"),
        n => format!("{n} names {}", &blake3::hash(names.join("/").as_bytes()).to_hex()[..8]),
    }
}
