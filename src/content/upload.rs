//! Large content on its way to the store: as blobs of at most 256 MiB, in parts of 8 MiB, in parallel.
//!
//! Invariants:
//! - every byte is read from its source once, so a source may forget what was read;
//! - a part that failed is sent again alone, from memory, until it is there or will never be;
//! - at most [`PARALLEL`] parts are in memory, over all uploads.

use super::ContentError;
use super::fetch::object_of;
use crate::log::blobs::BlobNames;
use crate::log::row::{ExtentRow, MAX_PIECE};
use crate::store::{Condition, Kind, ObjectStore, Part, PutOptions, StoreError, UploadId};
use bytes::{Bytes, BytesMut};
use futures::stream::{FuturesUnordered, StreamExt, TryStreamExt};
use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;

/// Bytes of a part; all parts but the last have this size exactly, which some stores demand.
pub(super) const PART: u64 = 8 << 20;

/// Bytes of a blob.
const BLOB: u64 = 256 << 20;

/// Parts under way at once.
const PARALLEL: usize = 6;

/// The longest pause before a part is sent again.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Where the bytes come from.
pub(super) trait Source: Send + Sync {
    /// All bytes of a range of the file, as they were when its capture began. Called once for each.
    fn read(&self, range: Range<u64>) -> Result<Bytes, ContentError>;

    /// Nobody needs the upload any more.
    fn is_cancelled(&self) -> bool;
}

/// A range of the file that becomes one piece.
type Pieces = Vec<Range<u64>>;

/// Uploads content.
pub(super) struct Uploader {
    store: Arc<dyn ObjectStore>,
    names: Arc<BlobNames>,
    permits: Semaphore,
}

/// Cuts `ranges` into pieces, parts and blobs. A piece ends at each multiple of [`MAX_PIECE`] of the file, so
/// that a later change of the same place replaces whole pieces, and at the end of its part.
fn plan(ranges: impl Iterator<Item = Range<u64>>) -> Vec<Vec<Pieces>> {
    let piece = u64::from(MAX_PIECE);
    let (mut blobs, mut parts, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
    let (mut in_part, mut in_blob) = (0, 0);
    for range in ranges {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / piece + 1) * piece).min(at + PART - in_part);
            pieces.push(at..end);
            in_part += end - at;
            in_blob += end - at;
            at = end;
            if in_part == PART {
                parts.push(std::mem::take(&mut pieces));
                in_part = 0;
            }
            if in_blob == BLOB {
                blobs.push(std::mem::take(&mut parts));
                in_blob = 0;
            }
        }
    }
    if !pieces.is_empty() {
        parts.push(pieces);
    }
    if !parts.is_empty() {
        blobs.push(parts);
    }
    blobs
}

impl Uploader {
    /// To `store`, under names from `names`.
    pub fn new(store: Arc<dyn ObjectStore>, names: Arc<BlobNames>) -> Uploader {
        Uploader { store, names, permits: Semaphore::new(PARALLEL) }
    }

    /// Uploads `ranges` of the file behind `source`; returns the extents that name them.
    pub async fn upload(
        &self,
        ranges: impl Iterator<Item = Range<u64>>,
        source: &dyn Source,
    ) -> Result<Vec<(u64, ExtentRow)>, ContentError> {
        let blobs = plan(ranges);
        let uploads: Vec<_> = blobs.into_iter().map(|parts| self.blob(parts, source)).collect();
        // Two blobs at a time: the second fills the pipe while the first ends.
        let done: Vec<Vec<_>> = futures::stream::iter(uploads).buffered(2).try_collect().await?;
        Ok(done.into_iter().flatten().collect())
    }

    async fn blob(
        &self,
        mut parts: Vec<Pieces>,
        source: &dyn Source,
    ) -> Result<Vec<(u64, ExtentRow)>, ContentError> {
        let blob = self.names.take_blob();
        let (key, _) = object_of(&blob).ok_or(ContentError::Stopped)?;
        let placed = match parts.len() {
            1 => vec![self.whole(&key, parts.swap_remove(0), source).await?],
            _ => self.multipart(&key, parts, source).await?,
        };
        let rows = placed.into_iter().enumerate().flat_map(|(n, pieces)| {
            let start = n as u64 * PART;
            let place = |(offset, piece_off, len, crc)| {
                let row = ExtentRow {
                    len: u64::from(len),
                    blob: blob.clone(),
                    piece_off: start + piece_off,
                    piece_len: len,
                    skip: 0,
                    crc: Some(crc),
                };
                (offset, row)
            };
            pieces.into_iter().map(place).collect::<Vec<_>>()
        });
        Ok(rows.collect())
    }

    async fn whole(
        &self,
        key: &str,
        pieces: Pieces,
        source: &dyn Source,
    ) -> Result<Vec<Placed>, ContentError> {
        let _permit = self.permits.acquire().await.map_err(|_| ContentError::Stopped)?;
        let (body, placed) = read(&pieces, source)?;
        let options = PutOptions::default();
        insist(source, || self.store.put(key, body.clone(), &options)).await?;
        Ok(placed)
    }

    async fn multipart(
        &self,
        key: &str,
        parts: Vec<Pieces>,
        source: &dyn Source,
    ) -> Result<Vec<Vec<Placed>>, ContentError> {
        let options = PutOptions::default();
        let upload = insist(source, || self.store.create_multipart(key, &options)).await?;
        let uploaded = self.parts(key, &upload, parts, source).await;
        let (sent, placed): (Vec<Part>, Vec<_>) = match uploaded {
            Ok(done) => done.into_iter().unzip(),
            Err(e) => return Err(self.abort(key, &upload, e).await),
        };
        let complete = || self.store.complete_multipart(key, &upload, &sent, &Condition::None);
        let error = match insist(source, complete).await {
            Ok(_) => return Ok(placed),
            Err(e) => e,
        };
        let gone = matches!(&error, ContentError::Store(e) if e.is_not_found());
        if gone && self.is_complete(key, &placed).await? {
            return Ok(placed);
        }
        Err(self.abort(key, &upload, error).await)
    }

    /// Whether an upload that is no longer there became the object: an earlier attempt whose answer was lost.
    async fn is_complete(&self, key: &str, placed: &[Vec<Placed>]) -> Result<bool, ContentError> {
        let size: u64 = placed.iter().flatten().map(|(_, _, len, _)| u64::from(*len)).sum();
        match self.store.head(key).await {
            Ok(meta) => Ok(meta.size == size),
            Err(e) if e.is_not_found() => Ok(false),
            Err(e) => Err(e.into()),
        }
    }

    /// Gives an upload up because of `error`, which is returned.
    async fn abort(&self, key: &str, upload: &UploadId, error: ContentError) -> ContentError {
        if let Err(e) = self.store.abort_multipart(key, upload).await {
            tracing::warn!("an unfinished upload of {key} stays in the store: {e}");
        }
        error
    }

    async fn parts(
        &self,
        key: &str,
        upload: &UploadId,
        parts: Vec<Pieces>,
        source: &dyn Source,
    ) -> Result<Vec<(Part, Vec<Placed>)>, ContentError> {
        let sending: FuturesUnordered<_> = (1..)
            .zip(parts)
            .map(async |(number, pieces): (u32, Pieces)| {
                // The semaphore is never closed, so there is always a permit in the end.
                let _permit = self.permits.acquire().await.map_err(|_| ContentError::Stopped)?;
                let (body, placed) = read(&pieces, source)?;
                let part =
                    insist(source, || self.store.upload_part(key, upload, number, body.clone())).await?;
                Ok::<_, ContentError>((part, placed))
            })
            .collect();
        let mut done: Vec<_> = sending.try_collect().await?;
        done.sort_by_key(|(part, _)| part.number);
        Ok(done)
    }
}

/// A piece of a part: offset in the file, offset in the part, length, CRC-32C.
type Placed = (u64, u64, u32, u32);

fn read(pieces: &Pieces, source: &dyn Source) -> Result<(Bytes, Vec<Placed>), ContentError> {
    let mut body = BytesMut::with_capacity(pieces.iter().map(|p| (p.end - p.start) as usize).sum());
    let mut placed = Vec::with_capacity(pieces.len());
    for piece in pieces {
        let bytes = source.read(piece.clone())?;
        placed.push((piece.start, body.len() as u64, bytes.len() as u32, crc32c::crc32c(&bytes)));
        body.extend_from_slice(&bytes);
    }
    Ok((body.freeze(), placed))
}

/// Sends until it is there, or will never be, or nobody needs it.
async fn insist<T, F>(source: &dyn Source, send: impl Fn() -> F) -> Result<T, ContentError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut pause = Duration::from_millis(200);
    loop {
        let error = match send().await {
            Ok(done) => return Ok(done),
            Err(e) => e,
        };
        if source.is_cancelled() {
            return Err(ContentError::Stopped);
        }
        // Expired credentials are renewed by their provider.
        if !error.kind.is_retryable() && error.kind != Kind::Expired {
            return Err(error.into());
        }
        tracing::info!("{error}; sent again in {pause:?}");
        tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..1.0))).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_plan_covers_its_ranges_in_full_parts(
            cuts in proptest::collection::vec((1u64..3_000_000, 1u64..40_000_000), 1..40),
        ) {
            let mut at = 0;
            let ranges: Vec<Range<u64>> =
                cuts.into_iter().map(|(gap, len)| { let r = at + gap..at + gap + len; at = r.end; r }).collect();
            let blobs = plan(ranges.iter().cloned());
            let pieces: Vec<Range<u64>> = blobs.iter().flatten().flatten().cloned().collect();
            let joined: super::super::ranges::Ranges = pieces.iter().cloned().collect();
            prop_assert_eq!(&joined, &ranges.into_iter().collect());
            prop_assert_eq!(pieces.iter().map(|p| p.end - p.start).sum::<u64>(), joined.bytes());
            prop_assert!(pieces.iter().all(|p| p.end - p.start <= u64::from(MAX_PIECE)));
            let size = |part: &Pieces| part.iter().map(|p| p.end - p.start).sum::<u64>();
            let parts: Vec<u64> = blobs.iter().flatten().map(size).collect();
            prop_assert!(parts[..parts.len() - 1].iter().all(|p| *p == PART));
            prop_assert!(blobs.iter().all(|b| b.iter().map(size).sum::<u64>() <= BLOB));
        }
    }
}
