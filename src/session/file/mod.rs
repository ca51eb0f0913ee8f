//! The data path of a session: open files, reads, writes, captures, barriers.

use super::api::*;
use super::node::{Node, Nodes};
use super::status::{Cache, Unstored};
use super::{Session, SessionOptions};
use crate::journal::{Held, Journal};
use crate::log::blobs::BlobNames;
use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Time};
use crate::log::source::Seq;
use crate::store::ObjectStore;
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What the data path keeps for the whole session.
pub struct Data {}

/// What the data path is opened with.
pub(super) struct DataConfig<'a> {
    /// Where blobs are.
    pub store: &'a Arc<dyn ObjectStore>,
    /// Where rows are.
    pub journal: &'a Arc<Journal>,
    /// The session's nodes; an orphan's extents are there and not in the journal.
    pub nodes: &'a Arc<Nodes>,
    /// How the session is opened.
    pub options: &'a SessionOptions,
    /// Names for new blobs; `None` of a follower.
    pub names: Option<Arc<BlobNames>>,
    /// Local content was last written in this boot of the machine.
    pub same_boot: bool,
}

impl Data {
    /// Opens local content, with what an earlier mount left there.
    pub(super) fn open(_config: DataConfig<'_>) -> Result<Data> {
        todo!()
    }
    /// Sets aside what an earlier mount could not store, which is not of this history; returns how many
    /// files that were.
    pub(super) fn salvage(&self) -> Result<usize> {
        todo!()
    }
}

/// What the data path keeps for an inode in use.
#[derive(Default)]
pub struct Slot {}

/// A capture that has to go on after the change of names that asked for it.
pub(super) struct PendingCapture {}

impl PendingCapture {
    /// Runs the capture; commits stop before the change that `held` guards until its rows are there.
    pub(super) fn start(self, _held: Held) {
        todo!()
    }
}

/// What the namespace asks of the data path.
impl Session {
    /// Puts the live size, mtime and ctime of a changed file over its captured row, and returns the bytes
    /// of it that are not holes; `None`: the row says it all.
    pub(super) fn overlay(&self, _node: &Node, _row: &mut InodeRow) -> Option<u64> {
        None
    }
    /// utimens on a file whose content may be changed: later captures keep this time.
    pub(super) fn set_live_mtime(&self, _node: &Node, _mtime: Time) {
        todo!()
    }
    /// Sets a regular file's length (its permission is checked, its set-id bits are cleared by the caller).
    /// Under the level `sync` the answer waits.
    pub(super) fn set_size(self: &Arc<Self>, _ino: Ino, _fh: Option<Fh>, _size: u64) -> Outcome<()> {
        todo!()
    }
    /// Captures changed files before their names change: the small ones at once, the rest as what is
    /// returned, which the caller starts with the change's hold. Called without any lock.
    pub(super) fn capture_for_names(self: &Arc<Self>, _inos: &[Ino]) -> Result<Option<PendingCapture>> {
        todo!()
    }
    /// Opens a file that was made by the change `seq`, which its first close waits for, even when nothing
    /// was written.
    pub(super) fn open_created(
        self: &Arc<Self>,
        _caller: Caller,
        _ino: Ino,
        _flags: OpenFlags,
        _seq: Seq,
    ) -> Result<Opened> {
        todo!()
    }
    /// `node` has lost its last name while in use: what it holds is never shipped from now on. Called with
    /// the lock of changes held; extents that are in it so far are in the orphan.
    pub(super) fn orphaned(&self, _node: &Arc<Node>) {}
    /// Captures everything changed. Returns once all its rows are in the journal.
    pub(super) async fn capture_all(self: &Arc<Self>) -> Result<()> {
        todo!()
    }
    /// Called each commit interval: captures what changed in open files, those whose capture is costly less
    /// often, and what an earlier mount left over. Returns the first failure, after it has tried all.
    pub(super) async fn capture_due(self: &Arc<Self>) -> Result<()> {
        todo!()
    }
    /// Content that is changed and not in the journal's rows: files and bytes (`rows` is 0).
    pub(super) fn uncaptured(&self) -> Unstored {
        todo!()
    }
    /// The local cache's size.
    pub(super) fn cache_usage(&self) -> Cache {
        todo!()
    }
    /// A follower found an open inode's rows changed: forgets what it has cached of it.
    pub(super) fn reload(&self, _node: &Arc<Node>) {
        todo!()
    }
    /// Gives up uploads and notes what is kept for the next mount. Nothing is called after it.
    pub(super) fn close_data(&self) -> Result<()> {
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
