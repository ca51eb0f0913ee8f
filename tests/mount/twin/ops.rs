//! What a step does: one call (or a few that belong together) by one process. Printed, a step is the Rust that
//! makes it, so that what was found can be kept as a test.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A path, relative to a process's working directory or to an open directory.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct P(pub String);

impl fmt::Debug for P {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "p({:?})", self.0)
    }
}

/// A path.
pub fn p(text: &str) -> P {
    P(text.to_owned())
}

/// Where a path starts and what it is. `dir` is one of the process's descriptors.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    pub dir: Option<u8>,
    pub path: P,
}

impl fmt::Debug for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dir {
            None => write!(f, "at({:?})", self.path.0),
            Some(dir) => write!(f, "below({dir}, {:?})", self.path.0),
        }
    }
}

/// A path from the working directory.
pub fn at(path: &str) -> At {
    At { dir: None, path: p(path) }
}

/// A path from an open directory.
pub fn below(dir: u8, path: &str) -> At {
    At { dir: Some(dir), path: p(path) }
}

/// What an operation on an inode finds it by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum On {
    /// A path, and whether a symlink at its end is followed.
    Path(At, bool),
    /// A descriptor.
    Fd(u8),
}

/// A time for utimensat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum When {
    Omit,
    Now,
    /// Seconds and nanoseconds, which need not be valid.
    To(i64, i64),
}

/// How a mount ends, once all of it is in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// SIGKILL and the cache deleted; the next mount is elsewhere.
    Machine,
    /// SIGKILL; the next mount finds the cache.
    Daemon,
    /// A clean unmount; the next mount is elsewhere.
    Unmount,
}

/// Sizes and offsets are as the calls take them, negative ones included.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    // ---- names
    Mkdir {
        at: At,
        mode: u32,
    },
    /// `kind` with the permission bits is the mode; `rdev` major and minor.
    Mknod {
        at: At,
        mode: u32,
        rdev: (u32, u32),
    },
    Symlink {
        target: P,
        at: At,
    },
    Readlink {
        at: At,
    },
    Link {
        from: At,
        to: At,
        follow: bool,
    },
    /// linkat with AT_EMPTY_PATH.
    LinkFd {
        fd: u8,
        to: At,
    },
    Unlink {
        at: At,
    },
    Rmdir {
        at: At,
    },
    Rename {
        from: At,
        to: At,
        flags: u32,
    },
    /// Makes `n` files there.
    Populate {
        at: At,
        n: u16,
    },
    /// Lists a directory by small answers; after `first` of them does something else, goes on, and where
    /// `again` goes back to where it was then and lists the rest once more.
    List {
        at: At,
        first: u8,
        change: Box<Op>,
        again: bool,
    },
    Chdir {
        at: At,
    },
    Fchdir {
        fd: u8,
    },
    Getcwd,

    // ---- attributes
    Stat {
        on: On,
    },
    Chmod {
        on: On,
        mode: u32,
    },
    Chown {
        on: On,
        uid: u32,
        gid: u32,
    },
    Utimens {
        on: On,
        atime: When,
        mtime: When,
    },
    Truncate {
        at: At,
        size: i64,
    },
    Access {
        at: At,
        mode: u32,
        flags: u32,
    },
    Statfs {
        at: At,
    },
    Umask {
        mask: u32,
    },
    SetXattr {
        on: On,
        name: String,
        value: Vec<u8>,
        flags: i32,
    },
    GetXattr {
        on: On,
        name: String,
        room: u16,
    },
    ListXattr {
        on: On,
    },
    RemoveXattr {
        on: On,
        name: String,
    },

    // ---- open files
    Open {
        fd: u8,
        at: At,
        flags: i32,
        mode: u32,
    },
    Close {
        fd: u8,
    },
    Dup {
        fd: u8,
        to: u8,
    },
    /// With a position, or at that of the descriptor.
    Read {
        fd: u8,
        at: Option<i64>,
        len: u32,
    },
    Write {
        fd: u8,
        at: Option<i64>,
        len: u32,
        fill: u8,
    },
    Seek {
        fd: u8,
        to: i64,
        whence: i32,
    },
    Ftruncate {
        fd: u8,
        size: i64,
    },
    Fallocate {
        fd: u8,
        mode: i32,
        at: i64,
        len: i64,
    },
    Copy {
        from: u8,
        from_at: i64,
        to: u8,
        to_at: i64,
        len: u32,
    },
    Sendfile {
        from: u8,
        from_at: i64,
        to: u8,
        len: u32,
    },
    /// From one to the other, through a pipe.
    Splice {
        from: u8,
        from_at: i64,
        to: u8,
        to_at: i64,
        len: u32,
    },
    Fsync {
        fd: u8,
        data: bool,
    },
    /// Maps shared, whole pages.
    Map {
        map: u8,
        fd: u8,
        page: u32,
        pages: u16,
        write: bool,
    },
    Load {
        map: u8,
        at: u32,
        len: u32,
    },
    /// Stores, does something else, and then calls msync: when the times of the file move in between is each
    /// file system's own.
    Store {
        map: u8,
        at: u32,
        len: u32,
        fill: u8,
        meanwhile: Option<Box<Op>>,
    },
    Msync {
        map: u8,
    },
    Unmap {
        map: u8,
    },
    Flock {
        fd: u8,
        how: i32,
    },
    /// A record lock, of the process or (`ofd`) of the open file; `test` asks who is in the way.
    Lock {
        fd: u8,
        ofd: bool,
        test: bool,
        kind: i16,
        start: i64,
        len: i64,
    },

    // ---- everything
    /// Lets timers and commits run.
    Pause,
    /// Commits everything.
    Flush,
    /// Ends the mount and every process, and mounts it again.
    Lose {
        end: End,
    },
}

/// One step: which process does what. `watch` is looked at before and after, and what of it changed is a
/// part of the answer.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub by: u8,
    pub op: Op,
    pub watch: Option<At>,
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "by({}, {:?})", self.by, self.op)?;
        self.watch.as_ref().map_or(Ok(()), |watch| write!(f, ".watching({watch:?})"))
    }
}

/// A step of process `by`.
pub fn by(by: u8, op: Op) -> Step {
    Step { by, op, watch: None }
}

impl Step {
    /// The same, with an eye on a name.
    pub fn watching(self, at: At) -> Step {
        Step { watch: Some(at), ..self }
    }
}
