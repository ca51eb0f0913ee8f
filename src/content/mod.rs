//! Content: extents, local data files, capture, hydrate, evict.
//!
//! A [`Content`] is the local half of all files' content of one session; a [`File`] is one file's while it
//! is used. What is captured becomes rows through [`Rows`], which the journal implements; large content is
//! uploaded as blobs first.
//!
//! Invariants:
//! - content that is in no capture yet is never evicted;
//! - no lock of a file is held while another file's is waited for, nor across an await.

mod backing;
mod budget;
mod capture;
mod chunks;
mod core;
mod error;
pub mod extents;
mod fetch;
mod file;
mod image;
pub mod keep;
mod pool;
pub mod ranges;
mod read;
mod seek;
mod upload;

#[cfg(test)]
mod tests;

pub use capture::{Begin, Capture, Placed, SMALL};
pub use error::ContentError;
pub use fetch::{is_right, object_of};
pub use file::{File, Live, MAX_SIZE, Place, Unplaced};

use crate::log::blobs::BlobNames;
use crate::log::ids::{Blob, Ino, LocalId};
use crate::log::row::{ExtentRow, InodeRow};
use crate::log::source::LocalError;
use crate::store::ObjectStore;
use bytes::Bytes;
use core::Core;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A local fact: its key and its value.
pub type Fact = (Vec<u8>, Vec<u8>);

/// What content asks of whoever holds the rows: the seam between this room and the journal above it.
pub trait Rows: Send + Sync + 'static {
    /// The extents of `ino` that overlap `range`, each with its offset in the file, in order.
    fn extents(&self, ino: Ino, range: Range<u64>) -> Result<Vec<(u64, ExtentRow)>, LocalError>;
    /// The version of an inode's row; `None` when there is no such inode.
    fn version(&self, ino: Ino) -> Result<Option<u64>, LocalError>;
    /// Keeps a small captured content until a slot carries it.
    fn put_local(&self, bytes: Bytes) -> Result<LocalId, LocalError>;
    /// No row will name these: they go, but for those that one names.
    fn abandon_local(&self, ids: &[LocalId]);
    /// A piece's bytes, when they are local.
    fn piece(&self, extent: &ExtentRow) -> Result<Option<Bytes>, LocalError>;
    /// The row as it is now: of a piece that has gone to the store since the row was read, its place there.
    fn resolve(&self, extent: &ExtentRow) -> ExtentRow;
    /// Keeps a fetched piece's bytes as clean content.
    fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes);
    /// Sets or removes a local fact that outlives the process.
    fn local_put(&self, table: &str, key: &[u8], value: Option<Vec<u8>>) -> Result<(), LocalError>;
    /// All local facts of a table.
    fn local_all(&self, table: &str) -> Result<Vec<Fact>, LocalError>;
    /// Returns once every local fact set so far is in the database.
    fn settle(&self) -> Result<(), LocalError>;
}

/// How content is opened.
pub struct ContentConfig {
    /// The session's folder of the cache directory; ours is `data/` in it.
    pub dir: PathBuf,
    /// Bound of local content, bytes.
    pub cache_size: u64,
    /// Where blobs are.
    pub store: Arc<dyn ObjectStore>,
    /// Names for new blobs; `None` of a follower, which captures nothing.
    pub names: Option<Arc<BlobNames>>,
    /// Where rows are.
    pub rows: Arc<dyn Rows>,
    /// Where transfers run.
    pub runtime: tokio::runtime::Handle,
    /// Local content was last written in this boot of the machine.
    pub same_boot: bool,
}

/// Local content's size, for `status`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of content kept locally.
    pub used: u64,
    /// The bound.
    pub limit: u64,
    /// Bytes changed and in no applied capture yet.
    pub unstored: u64,
    /// Reads answered by what was here, since the mount.
    pub hits: u64,
    /// Reads for which something was fetched.
    pub misses: u64,
    /// Files and chunks evicted.
    pub evicted: u64,
    /// Their bytes.
    pub evicted_bytes: u64,
}

/// The content of one session's files.
pub struct Content {
    core: Arc<Core>,
}

impl Content {
    /// Opens `data/`, with what an earlier mount left there.
    pub fn open(config: ContentConfig) -> Result<Arc<Content>, ContentError> {
        Ok(Arc::new(Content { core: Core::open(config)? }))
    }

    /// The content of `ino`, whose row is `row`. To be asked for once for each time an inode is taken into
    /// use: two at once would not know of each other.
    pub fn file(&self, ino: Ino, row: &InodeRow) -> Arc<File> {
        let cached = self.core.files.lock().get(&ino).cloned();
        if let Some(file) = cached {
            if !file.agrees(row) {
                file.reload(row);
            }
            return file;
        }
        let file = File::new(self.core.clone(), ino, row);
        self.core.restore(&file, row);
        file
    }

    /// A whole blob that came here with something else, kept as if somebody had read it. What would fill more than half
    /// of the cache is not.
    pub fn take(&self, blob: &Blob, object: &Bytes) {
        let budget = &self.core.budget;
        if budget.used() + object.len() as u64 <= budget.limit() / 2 {
            self.core.fetcher.take(blob, object);
        }
    }

    /// Forgets cached content of `ino`, whose extents were changed by somebody else or are gone for good.
    pub fn forget(&self, ino: Ino) {
        let file = self.core.files.lock().get(&ino).cloned();
        if let Some(file) = file {
            let mut state = file.state.lock();
            if !state.is_changed() {
                file.drop_image(&mut state);
                let listed = self.core.files.lock().remove(&ino);
                drop(state);
                drop(listed);
            }
        }
        self.core.drop_record(ino);
    }

    /// Inodes whose content an earlier mount could not store: each is changed as soon as it is asked for.
    pub fn leftovers(&self) -> Vec<Ino> {
        self.core.leftovers()
    }

    /// Sizes.
    pub fn usage(&self) -> Usage {
        let budget = &self.core.budget;
        let counts = &self.core.counts;
        Usage {
            used: budget.used(),
            limit: budget.limit(),
            unstored: budget.unstored(),
            hits: counts.hits.get(),
            misses: counts.misses.get(),
            evicted: counts.evicted.get(),
            evicted_bytes: counts.evicted_bytes.get(),
        }
    }

    /// Whether so much is unstored, `others` (bytes in the journal) included, that writers have to wait.
    pub fn is_crowded(&self, others: u64) -> bool {
        let budget = &self.core.budget;
        budget.unstored().saturating_add(others) > budget.unstored_limit()
    }

    /// Returns when the amount of unstored content fell, or after a short while.
    pub async fn until_less(&self) {
        // Time alone also lets the caller look again: the journal's share falls without a word to us.
        let _ = tokio::time::timeout(Duration::from_millis(100), self.core.budget.fell()).await;
    }

    /// Gives back about `bytes` of local room that clean content takes.
    pub fn make_room(&self, bytes: u64) {
        self.core.make_room(bytes);
    }

    /// Gives up uploads; what they carried counts as changed again.
    pub fn stop(&self) {
        self.core.stop();
    }

    /// Notes what is kept, for the next mount; returns how many files have content that is not stored. To be
    /// called when nothing changes any more.
    pub fn close(&self) -> Result<usize, ContentError> {
        self.core.stop();
        self.core.close()
    }
}

impl Drop for Content {
    fn drop(&mut self) {
        self.core.stop();
        let files = std::mem::take(&mut *self.core.files.lock());
        drop(files);
    }
}
