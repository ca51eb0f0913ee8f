//! The values that pass between a session and whoever serves it (FUSE, tests, import).

use super::SessionError;
use crate::log::ids::Ino;
use crate::log::row::Time;
use bytes::Bytes;
use futures::future::BoxFuture;

/// The result of an operation.
pub type Result<T> = std::result::Result<T, SessionError>;

/// An answer that is ready, or one that first has to wait for the store: then it is awaited on a task,
/// never on a thread of the kernel loop.
pub enum Outcome<T> {
    /// Answer now.
    Ready(Result<T>),
    /// Answer when it is done; every such wait is bounded.
    Later(BoxFuture<'static, Result<T>>),
}

impl<T> Outcome<T> {
    /// Waits for the answer.
    pub async fn get(self) -> Result<T> {
        match self {
            Outcome::Ready(answer) => answer,
            Outcome::Later(answer) => answer.await,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caller {
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// Thread id in our pid namespace; 0 when it cannot be seen.
    pub pid: u32,
}

/// What stat shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attr {
    /// Inode number.
    pub ino: Ino,
    /// `st_mode`.
    pub mode: u32,
    /// Names, or 2 + subdirectories.
    pub nlink: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device number.
    pub rdev: u32,
    /// Bytes.
    pub size: u64,
    /// 512-byte blocks that are not holes.
    pub blocks: u64,
    /// Access.
    pub atime: Time,
    /// Content change.
    pub mtime: Time,
    /// Inode change.
    pub ctime: Time,
    /// Creation.
    pub btime: Time,
}

/// A time to set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SetTime {
    /// Our clock.
    Now,
    /// This.
    To(Time),
}

/// What setattr changes; `None` leaves a field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SetAttr {
    /// Permission bits.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Length.
    pub size: Option<u64>,
    /// Access time.
    pub atime: Option<SetTime>,
    /// Content change time.
    pub mtime: Option<SetTime>,
}

/// An open file's or directory's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Fh(pub u64);

/// How reads and writes of an open reach us; facts/fuse.md's table in types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IoMode {
    /// Through the kernel's page cache, written through. `keep`: pages cached before stay valid.
    Cached { keep: bool },
    /// Every read and write comes to us.
    Direct,
    /// Reads and writes go to the backing file.
    Passthrough,
    /// Reads and writes come to us, mappings go to the backing file.
    PassthroughDirect,
}

/// An opened file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// To use in later calls.
    pub fh: Fh,
    /// How its reads and writes travel.
    pub mode: IoMode,
    /// Its close needs no FLUSH, because it cannot have changed the file.
    pub no_flush: bool,
}

/// What is asked of an open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OpenFlags {
    /// O_RDONLY or O_RDWR.
    pub read: bool,
    /// O_WRONLY or O_RDWR.
    pub write: bool,
    /// O_APPEND.
    pub append: bool,
    /// O_TRUNC. The kernel sends it with a create only; at other opens it truncates by itself.
    pub truncate: bool,
    /// O_SYNC or O_DSYNC: each write waits.
    pub sync: bool,
    /// O_DIRECT.
    pub direct: bool,
    /// O_EXCL of a create: fails with EEXIST instead of opening what is there.
    pub exclusive: bool,
}

/// What mknod, mkdir, create and symlink make.
#[derive(Debug, Clone)]
pub struct NewNode {
    /// Type and permission bits as asked for, before umask and ACL.
    pub mode: u32,
    /// The caller's umask (not applied by the kernel: a default ACL comes first).
    pub umask: u32,
    /// Device number.
    pub rdev: u32,
    /// A symlink's target.
    pub target: Vec<u8>,
}

/// One row of a directory listing.
#[derive(Debug, Clone)]
pub struct DirEntry {
    /// Pass it back to go on behind this entry.
    pub cookie: u64,
    /// Its inode.
    pub ino: Ino,
    /// Type bits of its mode.
    pub kind: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// With readdirplus, for all but `.` and `..`.
    pub attr: Option<Attr>,
}

/// What rename does when the target exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RenameMode {
    /// Replaces it.
    Replace,
    /// Fails with EEXIST.
    NoReplace,
    /// Swaps the two.
    Exchange,
    /// Leaves a whiteout, a character device 0:0, where the source was; replaces the target, or fails with
    /// EEXIST.
    Whiteout {
        /// Replaces it.
        replace: bool,
    },
}

/// What fallocate does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Allocate {
    /// Reserves, growing the file.
    Grow,
    /// Reserves without growing.
    KeepSize,
    /// Makes a hole.
    PunchHole,
    /// Zeroes; grows the file unless `keep_size`.
    ZeroRange { keep_size: bool },
}

/// What the kernel says of a write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteHow {
    /// Set-id bits go.
    pub kills_set_id: bool,
    /// They are pages that were stored to through a mapping.
    pub mapped: bool,
}

/// What setxattr demands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum XattrMode {
    /// Creates or replaces.
    Either,
    /// Fails with EEXIST.
    Create,
    /// Fails with ENODATA.
    Replace,
    /// Demands both, which never holds: fails with EEXIST or ENODATA.
    Neither,
}

/// What statfs shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatFs {
    /// Bytes in all.
    pub total: u64,
    /// Bytes free.
    pub free: u64,
    /// Inodes in use.
    pub files: u64,
}

/// What the kernel must forget because of a change it did not make.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Invalidation {
    /// Attributes and cached pages of an inode.
    Inode(Ino),
    /// Its attributes alone: no request of it is in the way.
    Attributes(Ino),
    /// A name of a directory.
    Entry { parent: Ino, name: Vec<u8> },
}

/// Bytes read.
pub type ReadBytes = Bytes;
