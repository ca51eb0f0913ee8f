//! Bytes of blobs from the store: in aligned chunks, in parallel, each asked for once at a time, and
//! believed only as far as their checksums.
//!
//! Invariant: a piece that does not match its checksum is fetched once more; then it is an error that names
//! the object.

use super::chunks::{CHUNK, ChunkKey, Chunks, SMALL};
use super::{ContentError, Rows};
use crate::log::ids::{Blob, keys};
use crate::log::row::ExtentRow;
use crate::store::{ETag, Kind, ObjectStore, StoreError};
use bytes::{Bytes, BytesMut};
use futures::FutureExt;
use futures::future::{BoxFuture, Shared};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::Semaphore;

/// Requests under way at once.
const PARALLEL: usize = 16;

/// Chunks fetched ahead of a reader that goes through a blob in order.
const AHEAD: u64 = 4;

/// A blob of at most so many chunks holds what was written or packed together: once a second one of them is asked for,
/// all are fetched.
const TOGETHER: u64 = 5;

/// Blobs whose readers' places are remembered.
const PLACES: usize = 4096;

type Fetching = Shared<BoxFuture<'static, Result<Bytes, ContentError>>>;

/// Where a blob's reader is.
#[derive(Clone, Copy, Default)]
struct Place {
    /// The chunk that a reader in order asks for next.
    next: u64,
    /// The blob's bytes, once known.
    size: Option<u64>,
    /// All of it was asked for.
    whole: bool,
}

/// Fetches pieces.
pub(super) struct Fetcher {
    store: Arc<dyn ObjectStore>,
    rows: Arc<dyn Rows>,
    pub chunks: Chunks,
    under_way: Mutex<HashMap<ChunkKey, Fetching>>,
    places: Mutex<HashMap<Blob, Place>>,
    permits: Semaphore,
    runtime: tokio::runtime::Handle,
}

/// The object that holds a blob, and the ETag it must have; `None` for a local one.
pub fn object_of(blob: &Blob) -> Option<(String, Option<ETag>)> {
    match blob {
        Blob::Segment { epoch, slot } => Some((keys::segment(*epoch, *slot), None)),
        Blob::Data { epoch, n } => Some((keys::data(*epoch, *n), None)),
        Blob::Object { key, etag } => Some((key.clone(), Some(ETag(etag.clone())))),
        Blob::Local(_) => None,
    }
}

/// Whether `bytes` are the whole piece that `extent` names.
pub fn is_right(extent: &ExtentRow, bytes: &[u8]) -> bool {
    let sum = |crc| crc == crc32c::crc32c(bytes);
    bytes.len() == extent.piece_len as usize && extent.crc.is_none_or(sum)
}

fn piece_range(extent: &ExtentRow) -> Range<u64> {
    extent.piece_off..extent.piece_off.saturating_add(u64::from(extent.piece_len))
}

fn chunks_of(range: &Range<u64>) -> Range<u64> {
    range.start / CHUNK..range.end.div_ceil(CHUNK)
}

fn within(range: &Range<u64>, key: &ChunkKey) -> Range<u64> {
    range.start.max(key.range().start)..range.end.min(key.range().end)
}

impl Fetcher {
    /// Over `store`.
    pub fn new(
        store: Arc<dyn ObjectStore>,
        rows: Arc<dyn Rows>,
        chunks: Chunks,
        runtime: tokio::runtime::Handle,
    ) -> Fetcher {
        Fetcher {
            store,
            rows,
            chunks,
            under_way: Mutex::default(),
            places: Mutex::default(),
            permits: Semaphore::new(PARALLEL),
            runtime,
        }
    }

    /// The whole piece that `extent` names, if it is here and right.
    pub fn local(self: &Arc<Self>, extent: &ExtentRow) -> Result<Option<Bytes>, ContentError> {
        if let Some(bytes) = self.rows.piece(extent)? {
            return Ok(Some(bytes));
        }
        let extent = &self.rows.resolve(extent);
        if matches!(extent.blob, Blob::Local(_)) {
            return Ok(None);
        }
        let range = piece_range(extent);
        let mut parts = Vec::with_capacity(1);
        for index in chunks_of(&range) {
            let key = ChunkKey { blob: extent.blob.clone(), index };
            match self.chunks.read(&key, within(&range, &key))? {
                Some(part) => parts.push(part),
                None => return Ok(None),
            }
        }
        let bytes = join(parts);
        if !is_right(extent, &bytes) {
            self.forget(extent)?;
            return Ok(None);
        }
        self.went_on(&extent.blob, range.end.saturating_sub(1) / CHUNK);
        Ok(Some(bytes))
    }

    /// The whole piece that `extent` names.
    pub async fn piece(self: &Arc<Self>, extent: &ExtentRow) -> Result<Bytes, ContentError> {
        if let Some(bytes) = self.local(extent)? {
            return Ok(bytes);
        }
        let extent = &self.rows.resolve(extent);
        if let Blob::Local(id) = extent.blob {
            let why = format!("content {} is not in the journal", id.0);
            return Err(ContentError::Io { what: "read a captured content".into(), why });
        }
        let range = piece_range(extent);
        self.goes_elsewhere(&extent.blob);
        let chunks = chunks_of(&range).map(|index| ChunkKey { blob: extent.blob.clone(), index });
        let parts = futures::future::try_join_all(chunks.map(|key| {
            let wanted = within(&range, &key);
            let this = self.clone();
            async move {
                let chunk = this.chunk(&key).await?;
                let start = (wanted.start - key.range().start).min(chunk.len() as u64) as usize;
                let end = (wanted.end - key.range().start).min(chunk.len() as u64) as usize;
                Ok::<_, ContentError>(chunk.slice(start..end))
            }
        }));
        let bytes = join(parts.await?);
        self.went_on(&extent.blob, range.end.saturating_sub(1) / CHUNK);
        let bytes = match is_right(extent, &bytes) {
            true => bytes,
            false => self.again(extent).await?,
        };
        // A small blob's chunk is in memory only: the journal keeps what is used of it.
        if self.place(&extent.blob, |place| place.size.is_some_and(|size| size <= SMALL as u64)) {
            self.rows.keep_piece(extent, &bytes);
        }
        Ok(bytes)
    }

    /// A whole blob that came here by the way: whoever reads of it finds it, or waits until it is kept.
    pub fn take(self: &Arc<Self>, blob: &Blob, object: &Bytes) {
        let size = object.len() as u64;
        self.place(blob, |place| place.size = Some(size));
        for key in (0..size.div_ceil(CHUNK)).map(|index| ChunkKey { blob: blob.clone(), index }) {
            let bytes = object.slice(key.range().start as usize..key.range().end.min(size) as usize);
            let (this, wanted) = (self.clone(), key.clone());
            let keeping = async move {
                let kept = bytes.clone();
                let runtime = this.runtime.clone();
                let written = runtime.spawn_blocking(move || this.keep(&wanted, &kept)).await;
                written.map_err(|_| ContentError::Stopped).map(|()| bytes)
            };
            // It runs on its own; whoever needs it finds it under way.
            drop(self.bring(&key, keeping));
        }
    }

    /// A range of a blob, past all caches, for pieces that the caller checks (see [`Fetcher::again`]).
    pub async fn run(&self, blob: &Blob, range: Range<u64>) -> Result<Bytes, ContentError> {
        let (key, etag) = object_of(blob).ok_or_else(|| no_object(blob))?;
        // The semaphore is never closed, so there is always a permit in the end.
        let _permit = self.permits.acquire().await.map_err(|_| ContentError::Stopped)?;
        Ok(self.store.get(&key, Some(range), etag.as_ref()).await?.body)
    }

    /// A piece that was not right, once more; then it is an error.
    pub async fn again(&self, extent: &ExtentRow) -> Result<Bytes, ContentError> {
        self.forget(extent)?;
        let bytes = match self.run(&extent.blob, piece_range(extent)).await {
            Ok(bytes) => bytes,
            Err(ContentError::Store(StoreError { kind: Kind::InvalidRange, .. })) => Bytes::new(),
            Err(e) => return Err(e),
        };
        match is_right(extent, &bytes) {
            true => Ok(bytes),
            false => {
                let object = object_of(&extent.blob).map(|(key, _)| key).unwrap_or_default();
                Err(ContentError::Corrupt { object, offset: extent.piece_off })
            }
        }
    }

    fn forget(&self, extent: &ExtentRow) -> Result<(), ContentError> {
        for index in chunks_of(&piece_range(extent)) {
            self.chunks.forget(&ChunkKey { blob: extent.blob.clone(), index })?;
        }
        Ok(())
    }

    /// A chunk from the store; shared by all who ask for it at once, and finished though they leave.
    fn chunk(self: &Arc<Self>, key: &ChunkKey) -> Fetching {
        let (this, wanted) = (self.clone(), key.clone());
        self.bring(key, async move { this.get_chunk(&wanted).await })
    }

    /// What brings a chunk: what is under way already, or `work`, which is until it ends.
    fn bring(
        self: &Arc<Self>,
        key: &ChunkKey,
        work: impl Future<Output = Result<Bytes, ContentError>> + Send + 'static,
    ) -> Fetching {
        let mut under_way = self.under_way.lock();
        if let Some(fetching) = under_way.get(key) {
            return fetching.clone();
        }
        let (this, wanted) = (self.clone(), key.clone());
        let task = self.runtime.spawn(async move {
            let brought = work.await;
            this.under_way.lock().remove(&wanted);
            brought
        });
        let ended = |joined: Result<_, tokio::task::JoinError>| joined.unwrap_or(Err(ContentError::Stopped));
        let fetching = task.map(ended).boxed().shared();
        under_way.insert(key.clone(), fetching.clone());
        fetching
    }

    async fn get_chunk(&self, key: &ChunkKey) -> Result<Bytes, ContentError> {
        if let Some(size) = self.places.lock().get(&key.blob).and_then(|place| place.size) {
            let range = key.range().start..key.range().end.min(size);
            if let Some(bytes) = self.chunks.read(key, range)? {
                return Ok(bytes);
            }
        }
        let (object, etag) = object_of(&key.blob).ok_or_else(|| no_object(&key.blob))?;
        // The semaphore is never closed, so there is always a permit in the end.
        let _permit = self.permits.acquire().await.map_err(|_| ContentError::Stopped)?;
        let got = match self.store.get(&object, Some(key.range()), etag.as_ref()).await {
            Ok(got) => got,
            // A blob shorter than the piece: the checksum says so to whoever asked.
            Err(e) if e.kind == Kind::InvalidRange => return Ok(Bytes::new()),
            Err(e) => return Err(e.into()),
        };
        self.place(&key.blob, |place| place.size = Some(got.meta.size));
        self.keep(key, &got.body);
        Ok(got.body)
    }

    fn keep(&self, key: &ChunkKey, bytes: &Bytes) {
        if let Err(e) = self.chunks.keep(key, bytes) {
            // The reader has its bytes; only the next one has to fetch them again.
            let object = object_of(&key.blob).map(|(object, _)| object).unwrap_or_default();
            tracing::warn!("cannot keep a chunk of {object}: {e}");
        }
    }

    /// A reader needs a chunk that is not here, of a blob of which some is: small contents are read in the order of
    /// their names, and lie in another, so that one chunk after the other would be waited for.
    fn goes_elsewhere(self: &Arc<Self>, blob: &Blob) {
        let size = self.place(blob, |place| {
            let size = place.size.filter(|size| !place.whole && *size <= TOGETHER * CHUNK)?;
            place.whole = true;
            Some(size)
        });
        let chunks = 0..size.unwrap_or(0).div_ceil(CHUNK);
        for key in chunks.map(|index| ChunkKey { blob: blob.clone(), index }) {
            if !self.chunks.has(&key) {
                // It runs on its own; whoever needs it finds it under way, and its error there.
                drop(self.chunk(&key));
            }
        }
    }

    /// A reader reached a chunk: fetches the next ones when it goes in order.
    fn went_on(self: &Arc<Self>, blob: &Blob, index: u64) {
        let place = self.place(blob, |place| {
            let before = *place;
            place.next = index + 1;
            before
        });
        let Some(size) = place.size.filter(|size| *size > CHUNK) else { return };
        if index != place.next {
            return;
        }
        let last = (size - 1) / CHUNK;
        for next in index + 1..=(index + AHEAD).min(last) {
            let key = ChunkKey { blob: blob.clone(), index: next };
            if !self.chunks.has(&key) {
                // It runs on its own; whoever needs it finds it under way, and its error there.
                drop(self.chunk(&key));
            }
        }
    }

    fn place<R>(&self, blob: &Blob, change: impl FnOnce(&mut Place) -> R) -> R {
        let mut places = self.places.lock();
        if places.len() >= PLACES && !places.contains_key(blob) {
            places.clear();
        }
        change(places.entry(blob.clone()).or_default())
    }
}

fn no_object(blob: &Blob) -> ContentError {
    ContentError::Io { what: "fetch".into(), why: format!("{blob:?} is in no object") }
}

fn join(mut parts: Vec<Bytes>) -> Bytes {
    if parts.len() == 1 {
        return parts.swap_remove(0);
    }
    let mut all = BytesMut::with_capacity(parts.iter().map(Bytes::len).sum());
    parts.iter().for_each(|part| all.extend_from_slice(part));
    all.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::content::budget::Budget;
    use crate::content::pool::Pool;
    use crate::content::tests::{Fake, pattern};
    use crate::log::ids::Epoch;
    use crate::store::faulty::FaultyStore;
    use crate::store::{DirStore, PutOptions};
    use std::time::Duration;

    /// The whole of a pack in as many requests as it has chunks, of which only the first is waited for alone.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_pack_that_is_read_here_and_there_is_fetched_at_once() {
        const FILE: u32 = 4096;
        let dir = tempfile::tempdir().unwrap();
        let store = FaultyStore::new(Arc::new(DirStore::new(dir.path().join("store"))), 1);
        let blob = Blob::Data { epoch: Epoch { counter: 1, nonce: 1 }, n: 1 };
        let (key, _) = object_of(&blob).unwrap();
        let bytes = Bytes::from(pattern(4 * CHUNK as usize - 9 * FILE as usize, 5));
        store.put(&key, bytes.clone(), &PutOptions::default()).await.unwrap();
        let rows: Arc<dyn Rows> = Arc::new(Fake::default());
        let pool = Pool::open(&dir.path().join("cache"), |_| false).unwrap();
        let chunks = Chunks::new(pool, Arc::new(Budget::new(1 << 30)), rows.clone(), Vec::new());
        let fetcher = Arc::new(Fetcher::new(store.clone(), rows, chunks, tokio::runtime::Handle::current()));
        let file = |n: u64| {
            let at = n * u64::from(FILE);
            let crc = Some(crc32c::crc32c(&bytes[at as usize..][..FILE as usize]));
            let blob = blob.clone();
            ExtentRow { len: u64::from(FILE), blob, piece_off: at, piece_len: FILE, skip: 0, crc }
        };
        let gets = || store.requests().get("get").copied().unwrap_or(0);
        let per_chunk = CHUNK / u64::from(FILE);
        fetcher.piece(&file(2 * per_chunk)).await.unwrap();
        fetcher.piece(&file(2 * per_chunk + 7)).await.unwrap();
        assert_eq!(gets(), 1, "one file brings its chunk");
        fetcher.piece(&file(3)).await.unwrap();
        while gets() < 4 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        for n in (0..bytes.len() as u64 / u64::from(FILE)).step_by(37) {
            fetcher.piece(&file(n)).await.unwrap();
        }
        assert_eq!(gets(), 4);
    }
}
