//! Content that still lies in a plain object is copied to where only we write.
//!
//! Invariant: an extent is changed only while it still names the piece that was copied.

use crate::log::ids::{Blob, Ino, keys};
use crate::log::row::{ExtentRow, Key, Record};
use crate::log::source::Seq;
use crate::session::api::Result;
use crate::session::{Session, SessionError, Writer};
use crate::store::{Condition, ETag, ObjectStore, PutOptions};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Pieces of a part, which is what is in memory: 8 MiB where pieces are whole.
const PART: usize = 8;
/// The most pieces of a blob.
const MAX_BLOB: usize = 256;

/// A plain object: key and ETag.
type Source = (String, String);
/// A piece of it: offset and length.
type Piece = (u64, u32);

/// Whether a blob is a plain object.
pub(in crate::session) fn is_imported(blob: &Blob) -> bool {
    matches!(blob, Blob::Object { .. })
}

impl Session {
    /// Whether content of a file lies in a plain object.
    pub fn is_imported(&self, ino: Ino) -> Result<bool> {
        let extents = self.journal.extents(ino, 0..u64::MAX)?;
        Ok(extents.iter().any(|(_, extent)| is_imported(&extent.blob)))
    }

    /// Copies what content of a file lies in plain objects to `data/`, and returns the number of the change
    /// that says so; `None` when there was none. To be called before a file is changed, renamed, linked or
    /// pinned, and before its object is overwritten or deleted.
    pub async fn own_content(self: &Arc<Self>, ino: Ino) -> Result<Option<Seq>> {
        self.own_some(ino, |_, _| true).await
    }

    /// Like [`Session::own_content`], of the extents (given with their offsets) that `pick` takes.
    pub(in crate::session) async fn own_some(
        self: &Arc<Self>,
        ino: Ino,
        pick: impl Fn(u64, &ExtentRow) -> bool,
    ) -> Result<Option<Seq>> {
        let Some(writer) = &self.writer else { return Err(SessionError::Errno(libc::EROFS)) };
        let mut wanted: BTreeMap<Source, BTreeSet<Piece>> = BTreeMap::new();
        for (offset, extent) in self.journal.extents(ino, 0..u64::MAX)? {
            if !pick(offset, &extent) {
                continue;
            }
            if let Blob::Object { key, etag } = extent.blob {
                wanted.entry((key, etag)).or_default().insert((extent.piece_off, extent.piece_len));
            }
        }
        if wanted.is_empty() {
            return Ok(None);
        }
        let mut copied = HashMap::new();
        for (source, pieces) in wanted {
            let pieces: Vec<Piece> = pieces.into_iter().collect();
            for blob in pieces.chunks(MAX_BLOB) {
                copy_blob(&*self.store, writer, &source, blob, &mut copied).await?;
            }
        }
        self.point_at_copies(ino, &copied)
    }

    /// Copies the whole content of an outside object to `data/`; returns the extents that name it.
    pub async fn copy_outside(&self, object: &super::Outside) -> Result<Vec<(u64, ExtentRow)>> {
        let Some(writer) = &self.writer else { return Err(SessionError::Errno(libc::EROFS)) };
        let mut extents = object.extents();
        let source = (object.key.clone(), object.etag.clone());
        let pieces: Vec<Piece> = extents.iter().map(|(_, e)| (e.piece_off, e.piece_len)).collect();
        let mut copied = HashMap::new();
        for blob in pieces.chunks(MAX_BLOB) {
            copy_blob(&*self.store, writer, &source, blob, &mut copied).await?;
        }
        for (_, extent) in &mut extents {
            *extent = copy_of(extent, &copied).unwrap_or_else(|| extent.clone());
        }
        Ok(extents)
    }

    /// Whether a file that lost its last name while it is open still needs the bytes of the object `key`.
    pub fn object_in_use(&self, key: &str) -> bool {
        let of_key = |extent: &ExtentRow| matches!(&extent.blob, Blob::Object { key: k, .. } if k == key);
        let nodes = self.nodes.all();
        nodes.iter().any(|node| node.orphan(|rows| rows.extents.values().any(of_key)).unwrap_or(false))
    }

    fn point_at_copies(&self, ino: Ino, copied: &HashMap<(Source, Piece), Placed>) -> Result<Option<Seq>> {
        let mut change = self.change()?;
        let Some(row) = self.journal.inode(ino)? else { return Ok(None) };
        for (offset, extent) in self.journal.extents(ino, 0..u64::MAX)? {
            if let Some(extent) = copy_of(&extent, copied) {
                change.record(Record::put(&Key::Extent { ino, offset }, &extent));
            }
        }
        // The inode's own row goes with its extents, so that one of a removed inode is never left alone.
        change.put_inode(ino, row);
        change.apply()
    }
}

/// Where a piece was copied to, and its CRC-32C.
type Placed = (Blob, u64, u32);

/// The extent with its piece's copy, when there is one.
fn copy_of(extent: &ExtentRow, copied: &HashMap<(Source, Piece), Placed>) -> Option<ExtentRow> {
    let Blob::Object { key, etag } = &extent.blob else { return None };
    let piece = (extent.piece_off, extent.piece_len);
    let (blob, piece_off, crc) = copied.get(&((key.clone(), etag.clone()), piece))?.clone();
    Some(ExtentRow { blob, piece_off, crc: Some(crc), ..extent.clone() })
}

/// Copies pieces of an object into one new blob.
async fn copy_blob(
    store: &dyn ObjectStore,
    writer: &Writer,
    source: &Source,
    pieces: &[Piece],
    copied: &mut HashMap<(Source, Piece), Placed>,
) -> Result<()> {
    writer.lease.ensure().await?;
    let n = writer.names.take();
    let epoch = writer.names.epoch();
    let (key, blob) = (keys::data(epoch, n), Blob::Data { epoch, n });
    let mut parts = pieces.chunks(PART);
    let mut end = 0;
    let mut read = async |part: &[Piece]| {
        let body = fetch(store, source, part).await?;
        let mut at = 0;
        for piece in part {
            // A part is a few megabytes.
            let bytes = &body[at as usize..(at + u64::from(piece.1)) as usize];
            let placed = (blob.clone(), end + at, crc32c::crc32c(bytes));
            copied.insert((source.clone(), *piece), placed);
            at += u64::from(piece.1);
        }
        end += at;
        Ok::<_, SessionError>(body)
    };
    if pieces.len() <= PART {
        let body = read(pieces).await?;
        let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
        store.put(&key, body, &options).await?;
        return Ok(());
    }
    let upload = store.create_multipart(&key, &PutOptions::default()).await?;
    let sent = async {
        let mut sent = Vec::new();
        for number in 1.. {
            let Some(part) = parts.next() else { break };
            let body = read(part).await?;
            sent.push(store.upload_part(&key, &upload, number, body).await?);
        }
        store.complete_multipart(&key, &upload, &sent, &Condition::Absent).await?;
        Ok::<_, SessionError>(())
    };
    let sent = sent.await;
    if let Err(error) = &sent
        && let Err(left) = store.abort_multipart(&key, &upload).await
    {
        tracing::warn!(%error, "an unfinished upload of {key} stays in the store: {left}");
    }
    sent
}

/// The bytes of some pieces of an object, one behind the other.
async fn fetch(store: &dyn ObjectStore, source: &Source, pieces: &[Piece]) -> Result<Bytes> {
    let (key, etag) = source;
    let mut out = Vec::new();
    for run in pieces.chunk_by(|a, b| a.0 + u64::from(a.1) == b.0) {
        let offset = run[0].0;
        let len: u64 = run.iter().map(|piece| u64::from(piece.1)).sum();
        let range = offset..offset + len;
        let body = store.get(key, Some(range), Some(&ETag(etag.clone()))).await?.body;
        if body.len() as u64 != len {
            return Err(SessionError::Corrupt { object: key.clone(), offset });
        }
        out.extend_from_slice(&body);
    }
    Ok(out.into())
}
