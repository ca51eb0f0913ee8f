//! The local journal: the tree, and what is not yet in the store.
//!
//! Invariants:
//! - committed rows (`base`) are the state after one committed slot, and change only slot by slot;
//! - changes since lie beside them in the order they happened, and are written behind in batches within
//!   milliseconds; a crash of the daemon loses at most the last batch, never one from the middle;
//! - a reader sees the newest change of each row at once: changes in memory, then the cache, then SQLite.

use crate::log::ids::{Ino, LocalId};
use crate::log::lease::SessionId;
use crate::log::recover::LocalBase;
use crate::log::row::{Cookie, DentryRow, ExtentRow, InodeRow, Key, KeyBytes, Record, Row};
use crate::log::source::{LocalError, Seq};
use bytes::Bytes;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

/// The result of a journal operation.
pub type Result<T> = std::result::Result<T, LocalError>;

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes of rows kept in memory.
    pub row_cache: u64,
    /// Bytes of small contents kept in memory.
    pub piece_cache: u64,
    /// Bytes of clean small contents kept in the database.
    pub piece_store: u64,
}

/// What an existing journal held when it was opened.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its lineage, unless it is new or was never based on a slot.
    pub base: Option<LocalBase>,
    /// Changed rows that are not committed as far as it knows.
    pub uncommitted: u64,
    /// It was last written in this boot of the machine.
    pub same_boot: bool,
}

/// What is not yet in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uncommitted {
    /// Changed rows.
    pub rows: u64,
    /// Bytes of small content.
    pub bytes: u64,
    /// The distinct inodes among the rows.
    pub files: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub cookie: Cookie,
    /// Its name.
    pub name: Vec<u8>,
    /// What it names.
    pub row: DentryRow,
}

/// Keeps commits from going past a change that has to wait for a capture. Dropped unreleased, it lets go
/// as if there had been no capture.
pub struct Held {
    _private: (),
}

impl Held {
    /// The capture's rows end at `until`: the held change and they go into one commit.
    pub fn release(self, _until: Seq) {
        todo!()
    }
}

/// The journal of one session on this machine.
pub struct Journal {
    _private: (),
}

impl Journal {
    /// Opens or creates `dir/journal.db`. A damaged database is an error that names the file.
    pub fn open(_dir: &Path, _options: JournalOptions) -> Result<(Arc<Journal>, Found)> {
        todo!()
    }

    /// Binds an empty journal to a session, or checks that it is of this one.
    pub fn bind(&self, _session: SessionId) -> Result<()> {
        todo!()
    }

    /// Drops every uncommitted change after moving it to `salvage/` beside the database; returns how many.
    pub fn salvage_changes(&self, _why: &str) -> Result<u64> {
        todo!()
    }

    /// Drops uncommitted changes up to `seq`, which recovery found to be committed, and keeps the rest.
    pub fn keep_changes_after(&self, _seq: Option<Seq>) -> Result<u64> {
        todo!()
    }

    /// A row's value.
    pub fn get_raw(&self, _key: &[u8]) -> Result<Option<Bytes>> {
        todo!()
    }

    /// A row, decoded.
    pub fn get<R: Row>(&self, _key: &Key) -> Result<Option<R>> {
        todo!()
    }

    /// Up to `limit` rows with `from <= key < end`, newest values, in key order.
    pub fn scan(&self, _from: &[u8], _end: Option<&[u8]>, _limit: usize) -> Result<Vec<(KeyBytes, Bytes)>> {
        todo!()
    }

    /// The key behind this session's directory cookies; made with the session.
    pub fn cookie_key(&self) -> Result<[u8; 16]> {
        todo!()
    }

    /// An inode's row.
    pub fn inode(&self, _ino: Ino) -> Result<Option<InodeRow>> {
        todo!()
    }

    /// The entry `name` of `parent`.
    pub fn dentry(&self, _parent: Ino, _name: &[u8]) -> Result<Option<Entry>> {
        todo!()
    }

    /// Up to `limit` entries of `parent` whose cookie is at least `from`, in cookie order.
    pub fn entries(&self, _parent: Ino, _from: u64, _limit: usize) -> Result<Vec<Entry>> {
        todo!()
    }

    /// The extents of `ino` that overlap `range`, each with its offset in the file.
    pub fn extents(&self, _ino: Ino, _range: Range<u64>) -> Result<Vec<(u64, ExtentRow)>> {
        todo!()
    }

    /// The names and values of an inode's extended attributes.
    pub fn xattrs(&self, _ino: Ino) -> Result<Vec<(Vec<u8>, Bytes)>> {
        todo!()
    }

    /// An inode's further names: directory, cookie, name.
    pub fn links(&self, _ino: Ino) -> Result<Vec<(Ino, Cookie, Vec<u8>)>> {
        todo!()
    }

    /// Changes rows, as one step that no commit and no crash divides. Returns the last change's number.
    pub fn apply(&self, _records: Vec<Record>) -> Result<Seq> {
        todo!()
    }

    /// Like [`Journal::apply`]; no commit goes past these changes before the returned guard is released.
    pub fn apply_held(&self, _records: Vec<Record>) -> Result<(Seq, Held)> {
        todo!()
    }

    /// Keeps a small captured content until a slot carries it, and its bytes as clean content after that.
    pub fn put_local(&self, _bytes: Bytes) -> Result<LocalId> {
        todo!()
    }

    /// A piece's bytes, when they are local: an uncommitted one always is. `None`: fetch it.
    pub fn piece(&self, _extent: &ExtentRow) -> Result<Option<Bytes>> {
        todo!()
    }

    /// Keeps a fetched piece's bytes as clean content.
    pub fn keep_piece(&self, _extent: &ExtentRow, _bytes: &Bytes) {
        todo!()
    }

    /// What is not committed.
    pub fn uncommitted(&self) -> Uncommitted {
        todo!()
    }

    /// Returns once every change made so far is in the database.
    pub fn settle(&self) -> Result<()> {
        todo!()
    }

    /// The keys that each committed slot (or import of one by a follower) changed, in order; for publish
    /// and for a follower's invalidations. A receiver that lags learns so and has to compare everything.
    pub fn committed_keys(&self) -> tokio::sync::broadcast::Receiver<Arc<Vec<KeyBytes>>> {
        todo!()
    }

    /// Local facts that are not part of the session (cached files, import progress), by name.
    pub fn local_get(&self, _table: &str, _key: &[u8]) -> Result<Option<Vec<u8>>> {
        todo!()
    }

    /// Sets or removes a local fact; written behind, in order with changes.
    pub fn local_put(&self, _table: &str, _key: &[u8], _value: Option<Vec<u8>>) -> Result<()> {
        todo!()
    }

    /// All local facts of a table.
    pub fn local_all(&self, _table: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        todo!()
    }
}
