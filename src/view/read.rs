//! Reads committed content: from the journal where it still has the bytes, else from the blobs in the store.
//!
//! Invariant: bytes whose checksum does not hold are fetched once more, and then an error.

use super::error::{Result, ViewError};
use crate::content::extents::slice;
use crate::journal::Journal;
use crate::log::ids::{Blob, keys};
use crate::log::row::ExtentRow;
use crate::store::{ETag, ObjectStore};
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// The most bytes fetched by one request.
const MAX_FETCH: u64 = 8 << 20;

/// Reads content.
#[derive(Clone)]
pub(super) struct Reader {
    /// Has what was captured lately.
    pub journal: Arc<Journal>,
    /// Has everything committed.
    pub store: Arc<dyn ObjectStore>,
}

/// Where in the store a blob lies, and the ETag it must have; `None`: in the journal only.
pub(super) fn location(blob: &Blob) -> Option<(String, Option<ETag>)> {
    Some(match blob {
        Blob::Segment { epoch, slot } => (keys::segment(*epoch, *slot), None),
        Blob::Data { epoch, n } => (keys::data(*epoch, *n), None),
        Blob::Object { key, etag } => (key.clone(), Some(ETag(etag.clone()))),
        Blob::Local(_) => return None,
    })
}

impl Reader {
    /// The bytes of `range` of a file with these extents (in the order of their offsets); holes are zeros.
    pub async fn read(&self, extents: &[(u64, ExtentRow)], range: Range<u64>) -> Result<Bytes> {
        // A range is at most a part's bytes, which fit in memory.
        let mut out = vec![0; (range.end - range.start) as usize];
        let wanted: Vec<_> = extents.iter().filter_map(|(at, e)| slice(*at, e, &range)).collect();
        let mut rest = wanted.as_slice();
        while let Some((at, extent)) = rest.first() {
            if let Some(piece) = self.journal.piece(extent)? {
                place(&mut out, range.start, *at, extent, &piece);
                rest = &rest[1..];
                continue;
            }
            let run = run_length(rest);
            let (run, others) = rest.split_at(run);
            self.fetch(run, range.start, &mut out).await?;
            rest = others;
        }
        Ok(out.into())
    }

    /// Fetches extents whose pieces lie side by side in one blob.
    async fn fetch(&self, run: &[(u64, ExtentRow)], base: u64, out: &mut [u8]) -> Result<()> {
        let (Some((_, first)), Some((_, last))) = (run.first(), run.last()) else { return Ok(()) };
        let span = first.piece_off..last.piece_off + u64::from(last.piece_len);
        let Some((key, etag)) = location(&first.blob) else {
            return Err(ViewError::NotYet { key: String::new(), what: "its content is not committed" });
        };
        for attempt in 0..2 {
            let object = self.store.get(&key, Some(span.clone()), etag.as_ref()).await?;
            match check(run, &span, &object.body) {
                None => {
                    for (at, extent) in run {
                        let skip = (extent.piece_off - span.start) as usize;
                        let piece = object.body.slice(skip..skip + extent.piece_len as usize);
                        place(out, base, *at, extent, &piece);
                    }
                    return Ok(());
                }
                Some(offset) if attempt == 1 => return Err(ViewError::Corrupt { object: key, offset }),
                Some(offset) => {
                    tracing::warn!(object = key, offset, "checksum does not hold, fetching again")
                }
            }
        }
        Ok(())
    }
}

/// How many of the first extents can be fetched together.
fn run_length(extents: &[(u64, ExtentRow)]) -> usize {
    let first = &extents[0].1;
    let mut end = first.piece_off + u64::from(first.piece_len);
    let mut count = 1;
    for pair in extents.windows(2) {
        let (before, next) = (&pair[0].1, &pair[1].1);
        let next_end = next.piece_off + u64::from(next.piece_len);
        let same = next.piece_off == before.piece_off && next_end == end;
        if next.blob != first.blob
            || !(same || next.piece_off == end)
            || next_end - first.piece_off > MAX_FETCH
        {
            break;
        }
        end = next_end;
        count += 1;
    }
    count
}

/// The offset of the first piece that is not what it should be.
fn check(run: &[(u64, ExtentRow)], span: &Range<u64>, body: &[u8]) -> Option<u64> {
    let whole = |extent: &ExtentRow| {
        let skip = (extent.piece_off - span.start) as usize;
        let piece = body.get(skip..skip + extent.piece_len as usize)?;
        extent.crc.is_none_or(|crc| crc32c::crc32c(piece) == crc).then_some(())
    };
    run.iter().find(|(_, extent)| whole(extent).is_none()).map(|(_, extent)| extent.piece_off)
}

fn place(out: &mut [u8], base: u64, at: u64, extent: &ExtentRow, piece: &[u8]) {
    let start = (at - base) as usize;
    let (skip, len) = (extent.skip as usize, extent.len as usize);
    // A row read from the store may name more than its piece has; what it lacks stays zero only if the
    // checksum said nothing, which `check` has refused.
    if let (Some(from), Some(to)) = (piece.get(skip..skip + len), out.get_mut(start..start + len)) {
        to.copy_from_slice(from);
    }
}
