//! Names: stubs that move to files of their own.

use super::Session;
use super::api::*;
use crate::log::ids::Ino;
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Session {
    /// Something was changed now: parking starts to count anew.
    pub(super) fn touched(&self) {
        let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Boot time is positive and fits for five hundred years.
        self.changed_at.store(t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64, Ordering::Relaxed);
    }
}

/// Names and attributes.
impl Session {
    /// The entry `name` of `parent`, or `None` (which the kernel may cache). Each inode that this, `make`,
    /// `create`, `link` or a `readdir` with attributes hands out counts as one lookup, until `forget`.
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
    /// Makes a regular file and opens it; one that is there is opened, unless `flags.exclusive`.
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
    /// The names of the extended attributes that the caller may see (`trusted.` is root's).
    pub fn listxattr(&self, _caller: Caller, _ino: Ino) -> Result<Vec<Vec<u8>>> {
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
