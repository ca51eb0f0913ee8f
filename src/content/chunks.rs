//! Clean content that came from the store, by blob: aligned chunks of blobs, on the local disk where they
//! are large and in memory where they are small.
//!
//! Invariant: nothing here is believed without the checksum of the piece that is asked for; only chunks of
//! plain objects have none, and these are forgotten with the process.

use super::budget::Budget;
use super::pool::{Pool, PoolFile};
use super::{ContentError, Rows};
use crate::log::ids::Blob;
use bytes::Bytes;
use moka::sync::Cache;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of a chunk; a blob's last one is shorter.
pub(super) const CHUNK: u64 = 4 << 20;

/// Chunks up to this size stay in memory.
pub(super) const SMALL: usize = 256 << 10;

/// Bytes of small chunks in memory.
const SMALL_CACHE: u64 = 16 << 20;

/// The local facts that say which chunk lies in which file.
const TABLE: &str = "chunks";

/// A chunk's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(super) struct ChunkKey {
    /// Of which blob.
    pub blob: Blob,
    /// Starts at this many [`CHUNK`]s.
    pub index: u64,
}

impl ChunkKey {
    /// Its bytes of the blob.
    pub fn range(&self) -> Range<u64> {
        self.index * CHUNK..(self.index + 1) * CHUNK
    }
}

struct Chunk {
    file: PoolFile,
    len: u64,
    used: AtomicU64,
}

/// The chunks that are here.
pub(super) struct Chunks {
    pool: Arc<Pool>,
    budget: Arc<Budget>,
    rows: Arc<dyn Rows>,
    small: Cache<ChunkKey, Bytes>,
    large: Mutex<HashMap<ChunkKey, Arc<Chunk>>>,
}

/// Chunks of an earlier mount: name, file, length.
pub(super) type Kept = Vec<(ChunkKey, u64, u64)>;

/// Reads what an earlier mount kept; a file that two records name is nobody's.
pub(super) fn kept(rows: &dyn Rows, taken: &mut HashSet<u64>) -> Result<Kept, ContentError> {
    let mut kept = Vec::new();
    for (key, value) in rows.local_all(TABLE)? {
        let chunk = postcard::from_bytes::<ChunkKey>(&key).ok();
        let place = postcard::from_bytes::<(u64, u64)>(&value).ok();
        match (chunk, place) {
            (Some(chunk), Some((id, len))) if taken.insert(id) => kept.push((chunk, id, len)),
            _ => rows.local_put(TABLE, &key, None)?,
        }
    }
    Ok(kept)
}

impl Chunks {
    /// With what was kept.
    pub fn new(pool: Arc<Pool>, budget: Arc<Budget>, rows: Arc<dyn Rows>, kept: Kept) -> Chunks {
        let weigh = |_: &ChunkKey, bytes: &Bytes| bytes.len() as u32;
        let small = Cache::builder().max_capacity(SMALL_CACHE).weigher(weigh).build();
        let mut large = HashMap::new();
        for (key, id, len) in kept {
            budget.moved_used(0, len);
            let used = AtomicU64::new(budget.tick());
            large.insert(key, Arc::new(Chunk { file: pool.claimed(id), len, used }));
        }
        Chunks { pool, budget, rows, small, large: Mutex::new(large) }
    }

    /// Whether a chunk is here.
    pub fn has(&self, key: &ChunkKey) -> bool {
        self.small.contains_key(key) || self.large.lock().contains_key(key)
    }

    /// `range` (of the blob, within the chunk) of a chunk that is here; `None` also when it is shorter.
    pub fn read(&self, key: &ChunkKey, range: Range<u64>) -> Result<Option<Bytes>, ContentError> {
        let start = key.range().start;
        let part = range.start - start..range.end - start;
        if let Some(bytes) = self.small.get(key) {
            let fits = part.end <= bytes.len() as u64;
            return Ok(fits.then(|| bytes.slice(part.start as usize..part.end as usize)));
        }
        let Some(chunk) = self.large.lock().get(key).cloned() else { return Ok(None) };
        if part.end > chunk.len {
            return Ok(None);
        }
        chunk.used.store(self.budget.tick(), Ordering::Relaxed);
        let mut buf = vec![0; (part.end - part.start) as usize];
        chunk.file.read(part.start, &mut buf)?;
        chunk.file.rest();
        Ok(Some(buf.into()))
    }

    /// Keeps a chunk.
    pub fn keep(&self, key: &ChunkKey, bytes: &Bytes) -> Result<(), ContentError> {
        self.keep_now(key, bytes).inspect_err(|error| self.budget.could_not_keep(error))
    }

    fn keep_now(&self, key: &ChunkKey, bytes: &Bytes) -> Result<(), ContentError> {
        if bytes.len() <= SMALL {
            // A copy, so that it does not hold a larger buffer.
            self.small.insert(key.clone(), Bytes::copy_from_slice(bytes));
            return Ok(());
        }
        let file = self.pool.take();
        file.write(0, bytes)?;
        file.rest();
        if !matches!(key.blob, Blob::Object { .. }) {
            self.note(key, Some((file.id(), bytes.len() as u64)))?;
        }
        let used = AtomicU64::new(self.budget.tick());
        let chunk = Arc::new(Chunk { file, len: bytes.len() as u64, used });
        self.budget.moved_used(0, chunk.len);
        let old = self.large.lock().insert(key.clone(), chunk);
        if let Some(old) = old {
            self.budget.moved_used(old.len, 0);
        }
        Ok(())
    }

    /// Forgets a chunk: it was damaged, or has to make room.
    pub fn forget(&self, key: &ChunkKey) -> Result<(), ContentError> {
        self.small.invalidate(key);
        let old = self.large.lock().remove(key);
        if let Some(old) = old {
            self.budget.moved_used(old.len, 0);
            self.note(key, None)?;
        }
        Ok(())
    }

    /// When each large chunk was last used, and its bytes.
    pub fn uses(&self) -> Vec<(u64, ChunkKey, u64)> {
        let large = self.large.lock();
        large.iter().map(|(key, c)| (c.used.load(Ordering::Relaxed), key.clone(), c.len)).collect()
    }

    /// The files outlive this process.
    pub fn close(&self) {
        for (key, chunk) in self.large.lock().iter() {
            if !matches!(key.blob, Blob::Object { .. }) {
                chunk.file.keep();
            }
        }
    }

    fn note(&self, key: &ChunkKey, place: Option<(u64, u64)>) -> Result<(), ContentError> {
        let bad = |e: postcard::Error| ContentError::Io { what: "note a chunk".into(), why: e.to_string() };
        let value = place.map(|place| postcard::to_stdvec(&place)).transpose().map_err(bad)?;
        let key = postcard::to_stdvec(key).map_err(bad)?;
        Ok(self.rows.local_put(TABLE, &key, value)?)
    }
}
