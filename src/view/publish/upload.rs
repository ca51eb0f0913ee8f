//! Writes one object: headers, tag and bytes, under a condition on the key.
//!
//! Invariants:
//! - an upload that fails leaves nothing behind that this process could still remove;
//! - bytes in memory stay within the budget of all uploads together.

use super::plan::{Known, PART, Part, checksums, parts};
use crate::store::{Condition, ETag, Part as Uploaded, PutOptions, UploadId};
use crate::view::error::{Result, ViewError};
use crate::view::headers;
use crate::view::shared::{MEMORY_UNIT, Shared};
use crate::view::tag::{self, Tag};
use crate::view::tree::Shown;
use bytes::Bytes;
use futures::stream::{StreamExt, TryStreamExt};
use tokio::sync::SemaphorePermit;

/// The longest object that stores take, bytes: a sparse file can be longer.
const MAX_OBJECT: u64 = 5 << 40;
/// Parts of one object under way at once.
const PARALLEL_PARTS: usize = 4;
/// Zeros whose checksum stands for a hole's.
static ZEROS: [u8; 64 << 10] = [0; 64 << 10];

/// Writes the object that shows `shown` at `key`; returns its ETag and size.
pub(super) async fn upload(
    shared: &Shared,
    key: &str,
    shown: &Shown,
    condition: Condition,
) -> Result<(ETag, u64)> {
    let regular = shown.row.is_file();
    let size = if regular { shown.row.size } else { 0 };
    if size > MAX_OBJECT {
        return Err(ViewError::TooLarge { key: key.to_owned(), size });
    }
    let content_type = if regular { shared.options.content_type(key) } else { None };
    let mut metadata = headers::write(&shown.row, &shown.xattrs)
        .map_err(|why| ViewError::Unpublishable { key: key.to_owned(), why })?;
    let mut mark = |crc| {
        let tag = Tag { ino: shown.ino, version: shown.row.version, size, crc };
        let text = tag.encode(shared.session_id, key, &metadata);
        metadata.insert(tag::NAME.to_owned(), text);
    };
    if size <= PART {
        let _permit = memory(shared, size).await?;
        let body = shared.reader.read(&shown.extents, 0..size).await?;
        mark(crc32c::crc32c(&body));
        let options = PutOptions { condition, metadata, content_type };
        return Ok((shared.store.put(key, body, &options).await?, size));
    }
    mark(checksum(shared, shown, size).await?);
    let options = PutOptions { condition: condition.clone(), metadata, content_type };
    let upload = shared.store.create_multipart(key, &options).await?;
    let done = send(shared, key, &upload, shown, size, &condition).await;
    if let Err(error) = &done
        && let Err(left) = shared.store.abort_multipart(key, &upload).await
    {
        tracing::warn!(%error, "an unfinished upload of {key} stays in the store: {left}");
    }
    Ok((done?, size))
}

async fn send(
    shared: &Shared,
    key: &str,
    upload: &UploadId,
    shown: &Shown,
    size: u64,
    condition: &Condition,
) -> Result<ETag> {
    let parts = parts(&shown.extents, size);
    let sending = (1..).zip(parts).map(|(number, part)| part_of(shared, key, upload, shown, number, part));
    let done: Vec<Uploaded> = futures::stream::iter(sending).buffered(PARALLEL_PARTS).try_collect().await?;
    shared.writable().await?;
    Ok(shared.store.complete_multipart(key, upload, &done, condition).await?)
}

async fn part_of(
    shared: &Shared,
    key: &str,
    upload: &UploadId,
    shown: &Shown,
    number: u32,
    part: Part,
) -> Result<Uploaded> {
    if let Some((source, from)) = part.copy {
        match shared.store.upload_part_copy(key, upload, number, &source, from).await {
            Ok(done) => return Ok(done),
            // A store that cannot, or a blob that was just repacked: reading says which.
            Err(error) => tracing::debug!(%error, key, number, "a part is sent instead of copied"),
        }
    }
    let _permit = memory(shared, part.at.end - part.at.start).await?;
    let body = shared.reader.read(&shown.extents, part.at).await?;
    Ok(shared.store.upload_part(key, upload, number, body).await?)
}

/// Room for `bytes` of content in memory.
async fn memory(shared: &Shared, bytes: u64) -> Result<SemaphorePermit<'_>> {
    let units = shared.memory_units(bytes);
    let permit = shared.memory.acquire_many(units).await;
    permit.map_err(|_| ViewError::Stopped("no memory is given out any more".into()))
}

/// The CRC-32C of a whole content, from those of its pieces; reads only what has none.
async fn checksum(shared: &Shared, shown: &Shown, size: u64) -> Result<u32> {
    let mut crc = 0;
    for (range, known) in checksums(&shown.extents, size) {
        match known {
            Known::Crc(piece) => crc = combine(crc, piece, range.end - range.start),
            Known::Zeros => crc = zeros(crc, range.end - range.start),
            Known::Unread => {
                let mut at = range.start;
                while at < range.end {
                    let end = range.end.min(at + MEMORY_UNIT);
                    let _permit = memory(shared, end - at).await?;
                    let bytes: Bytes = shared.reader.read(&shown.extents, at..end).await?;
                    crc = crc32c::crc32c_append(crc, &bytes);
                    at = end;
                }
            }
        }
    }
    Ok(crc)
}

fn combine(crc: u32, next: u32, len: u64) -> u32 {
    // Lengths of pieces fit any usize that this runs on.
    crc32c::crc32c_combine(crc, next, len as usize)
}

/// The checksum after `len` zeros: squares, so that a hole of a terabyte costs no more than one of a page.
fn zeros(mut crc: u32, len: u64) -> u32 {
    let unit = ZEROS.len() as u64;
    crc = crc32c::crc32c_append(crc, &ZEROS[..(len % unit) as usize]);
    let (mut count, mut block, mut block_len) = (len / unit, crc32c::crc32c(&ZEROS), unit);
    while count > 0 {
        if count & 1 == 1 {
            crc = combine(crc, block, block_len);
        }
        block = combine(block, block, block_len);
        block_len *= 2;
        count >>= 1;
    }
    crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_count_as_if_they_were_read() {
        let data = vec![0u8; 1_000_003];
        for len in [0, 1, ZEROS.len(), ZEROS.len() + 1, 3 * ZEROS.len() + 7, 1_000_003] {
            assert_eq!(zeros(0x1234, len as u64), crc32c::crc32c_append(0x1234, &data[..len]), "{len}");
        }
    }
}
