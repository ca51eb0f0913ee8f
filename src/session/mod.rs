//! What a filesystem operation means: the tree operations, open files, durability, recovery. Testable
//! without FUSE and without S3.
//!
//! Invariants:
//! - every change of rows is made under one lock and as one [`crate::journal::Journal::apply`], so no reader,
//!   commit or crash sees half an operation;
//! - nothing on the path of a reply waits for the store, unless the durability level says so, or too much is
//!   unstored: such an answer is an [`api::Outcome::Later`].

pub mod api;
mod error;
pub mod options;

pub use error::SessionError;
pub use options::{Durability, SessionOptions};

use crate::log::ids::Ino;
use api::*;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

/// One mounted session.
pub struct Session {
    _private: (),
}

/// Names and attributes.
impl Session {
    /// The entry `name` of `parent`, or `None` (which the kernel may cache).
    pub fn lookup(&self, _parent: Ino, _name: &[u8]) -> Result<Option<Attr>> {
        todo!()
    }
    /// What stat shows; of an open or changed file, its newest state.
    pub fn getattr(&self, _ino: Ino) -> Result<Attr> {
        todo!()
    }
    /// Changes attributes, the length included.
    pub fn setattr(
        self: &Arc<Self>,
        _caller: Caller,
        _ino: Ino,
        _fh: Option<Fh>,
        _set: SetAttr,
    ) -> Outcome<Attr> {
        todo!()
    }
    /// A symlink's target.
    pub fn readlink(&self, _ino: Ino) -> Result<Vec<u8>> {
        todo!()
    }
    /// Makes a file, FIFO, socket, device, directory or symlink, by the type bits of `new.mode`.
    pub fn make(
        self: &Arc<Self>,
        _caller: Caller,
        _parent: Ino,
        _name: &[u8],
        _new: NewNode,
    ) -> Outcome<Attr> {
        todo!()
    }
    /// Makes a regular file and opens it.
    pub fn create(
        self: &Arc<Self>,
        _caller: Caller,
        _parent: Ino,
        _name: &[u8],
        _new: NewNode,
        _flags: OpenFlags,
    ) -> Outcome<(Attr, Opened)> {
        todo!()
    }
    /// Removes a name that is not a directory's.
    pub fn unlink(self: &Arc<Self>, _caller: Caller, _parent: Ino, _name: &[u8]) -> Outcome<()> {
        todo!()
    }
    /// Removes an empty directory.
    pub fn rmdir(self: &Arc<Self>, _caller: Caller, _parent: Ino, _name: &[u8]) -> Outcome<()> {
        todo!()
    }
    /// Moves a name, as one step.
    pub fn rename(
        self: &Arc<Self>,
        _caller: Caller,
        _from: (Ino, &[u8]),
        _to: (Ino, &[u8]),
        _mode: RenameMode,
    ) -> Outcome<()> {
        todo!()
    }
    /// Gives an inode another name.
    pub fn link(self: &Arc<Self>, _caller: Caller, _ino: Ino, _parent: Ino, _name: &[u8]) -> Outcome<Attr> {
        todo!()
    }
    /// Opens a directory.
    pub fn opendir(&self, _ino: Ino) -> Result<Fh> {
        todo!()
    }
    /// Entries behind `cookie` (0: from the start), `.` and `..` first, handed to `emit` until it says stop
    /// (`false`: that entry did not fit). Entries of one cookie are never divided between two calls.
    pub fn readdir(
        &self,
        _fh: Fh,
        _ino: Ino,
        _cookie: u64,
        _attrs: bool,
        _emit: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<()> {
        todo!()
    }
    /// Closes a directory.
    pub fn releasedir(&self, _fh: Fh) {
        todo!()
    }
    /// Sizes and counts.
    pub fn statfs(&self) -> Result<StatFs> {
        todo!()
    }
    /// Sets an extended attribute (POSIX ACLs included).
    pub fn setxattr(
        self: &Arc<Self>,
        _caller: Caller,
        _ino: Ino,
        _name: &[u8],
        _value: &[u8],
        _mode: XattrMode,
    ) -> Outcome<()> {
        todo!()
    }
    /// An extended attribute's value.
    pub fn getxattr(&self, _ino: Ino, _name: &[u8]) -> Result<Vec<u8>> {
        todo!()
    }
    /// The names of all extended attributes.
    pub fn listxattr(&self, _ino: Ino) -> Result<Vec<Vec<u8>>> {
        todo!()
    }
    /// Removes an extended attribute.
    pub fn removexattr(self: &Arc<Self>, _caller: Caller, _ino: Ino, _name: &[u8]) -> Outcome<()> {
        todo!()
    }
    /// The kernel forgot an inode (for the passthrough rule "until FORGET").
    pub fn forget(&self, _ino: Ino, _lookups: u64) {
        todo!()
    }
    /// The path of an inode's first name, from the root, without a leading slash; `None` once it has none.
    pub fn path_of(&self, _ino: Ino) -> Result<Option<Vec<u8>>> {
        todo!()
    }
}

/// Open files.
impl Session {
    /// Opens a file.
    pub fn open(self: &Arc<Self>, _caller: Caller, _ino: Ino, _flags: OpenFlags) -> Outcome<Opened> {
        todo!()
    }
    /// The file behind an open in a passthrough mode.
    pub fn backing(&self, _fh: Fh) -> Result<OwnedFd> {
        todo!()
    }
    /// Reads up to `size` bytes; fewer only at the end.
    pub fn read(self: &Arc<Self>, _fh: Fh, _ino: Ino, _offset: u64, _size: u32) -> Outcome<ReadBytes> {
        todo!()
    }
    /// Writes all of `data`; `kill_suid` as the kernel asks.
    pub fn write(
        self: &Arc<Self>,
        _caller: Caller,
        _fh: Fh,
        _ino: Ino,
        _offset: u64,
        _data: &[u8],
        _kill_suid: bool,
    ) -> Outcome<u32> {
        todo!()
    }
    /// One close(2): waits when the file changed since its last capture and the level says so.
    pub fn flush(self: &Arc<Self>, _caller: Caller, _fh: Fh, _ino: Ino) -> Outcome<()> {
        todo!()
    }
    /// fsync and fdatasync.
    pub fn fsync(self: &Arc<Self>, _fh: Fh, _ino: Ino) -> Outcome<()> {
        todo!()
    }
    /// fsync of a directory.
    pub fn fsyncdir(self: &Arc<Self>, _ino: Ino) -> Outcome<()> {
        todo!()
    }
    /// The last reference to an open is gone.
    pub fn release(self: &Arc<Self>, _fh: Fh) {
        todo!()
    }
    /// Reserves, punches or zeroes a range.
    pub fn fallocate(
        self: &Arc<Self>,
        _fh: Fh,
        _ino: Ino,
        _offset: u64,
        _len: u64,
        _how: Allocate,
    ) -> Outcome<()> {
        todo!()
    }
    /// The next data (`hole` false) or hole from `offset` on; ENXIO at or past the end.
    pub fn seek(&self, _ino: Ino, _offset: u64, _hole: bool) -> Result<u64> {
        todo!()
    }
    /// Copies a range between two files, by sharing extents where it can.
    pub fn copy_range(
        self: &Arc<Self>,
        _from: (Fh, Ino, u64),
        _to: (Fh, Ino, u64),
        _len: u64,
    ) -> Outcome<u64> {
        todo!()
    }
}

/// The whole session.
impl Session {
    /// Captures everything changed before the call and returns once it is in the store.
    pub async fn flush_all(self: &Arc<Self>, _timeout: Duration) -> Result<()> {
        todo!()
    }
    /// Receives what the kernel must forget; taken once, by the thread that tells it.
    pub fn invalidations(&self) -> Option<std::sync::mpsc::Receiver<Invalidation>> {
        todo!()
    }
}
