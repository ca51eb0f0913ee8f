//! Small contents: bytes that wait for a slot, and clean ones kept close.

use super::overlay::forget_one;
use super::queue::Op;
use super::{Journal, Result, Shared, clean};
use crate::log::ids::{Blob, LocalId};
use crate::log::row::ExtentRow;
use crate::log::source::{LocalError, LocalKind};
use bytes::Bytes;
use moka::sync::Cache;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a content in memory is found by.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    Local(LocalId),
    Place(Blob, u64),
}

/// Contents in memory, bounded by their bytes.
pub(super) struct PieceCache(Cache<At, Bytes>);

impl PieceCache {
    pub fn new(bytes: u64) -> PieceCache {
        let weigh = |_: &At, bytes: &Bytes| u32::try_from(bytes.len() + 128).unwrap_or(u32::MAX);
        PieceCache(Cache::builder().max_capacity(bytes).weigher(weigh).build())
    }

    pub fn add(&self, id: LocalId, bytes: Bytes) {
        self.0.insert(At::Local(id), bytes);
    }

    /// The piece has gone to the store, and is found by its place from now on.
    pub fn moved(&self, id: LocalId, blob: Blob, off: u64) {
        if let Some(bytes) = self.0.remove(&At::Local(id)) {
            self.0.insert(At::Place(blob, off), bytes);
        }
    }

    pub fn drop(&self, ids: &[LocalId]) {
        ids.iter().for_each(|id| self.0.invalidate(&At::Local(*id)));
    }
}

/// Holds blobs that something open still reads, although no row may name them any more.
pub struct PinGuard {
    shared: Arc<Shared>,
    blobs: Vec<Blob>,
}

impl Drop for PinGuard {
    fn drop(&mut self) {
        let mut unused = Vec::new();
        let mut overlay = self.shared.overlay.write();
        for blob in &self.blobs {
            if forget_one(&mut overlay.pins, blob)
                && let Blob::Local(id) = blob
            {
                let committed = overlay.committed_seq;
                if overlay.locals.unpin(*id, committed) {
                    unused.push(*id);
                }
            }
        }
        drop(overlay);
        self.shared.pieces.drop(&unused);
        self.shared.remove_pieces(unused);
    }
}

impl Shared {
    /// The bytes of a piece that is still in no committed slot.
    pub(super) fn local_bytes(&self, id: LocalId) -> Result<Option<Bytes>> {
        // The queue first: it lets go only once the database has it.
        if let Some(bytes) = self.queue.piece(id).or_else(|| self.pieces.0.get(&At::Local(id))) {
            return Ok(Some(bytes));
        }
        self.readers.with(|conn| clean::read(conn, id))
    }

    pub(super) fn placed_bytes(&self, blob: &Blob, off: u64) -> Result<Option<Bytes>> {
        if let Some(bytes) = self.pieces.0.get(&At::Place(blob.clone(), off)) {
            return Ok(Some(bytes));
        }
        self.readers.with(|conn| clean::read_at(conn, blob, off))
    }

    /// Drops pieces that no row names; nobody waits for it.
    pub(super) fn remove_pieces(&self, ids: Vec<LocalId>) {
        if !ids.is_empty() {
            // What is left behind by a failure is dropped when the journal is next opened.
            drop(self.queue.send(move |conn| clean::remove(conn, &ids)));
        }
    }
}

/// Small contents.
impl Journal {
    /// Keeps a small captured content until a slot carries it, and its bytes as clean content after that.
    /// It belongs to the next change that names it.
    pub fn put_local(&self, bytes: Bytes) -> Result<LocalId> {
        self.check_writable()?;
        self.shared.queue.wait_for_space()?;
        let id = LocalId(self.shared.next_local.fetch_add(1, Ordering::Relaxed));
        self.shared.overlay.write().locals.add(id, bytes.len() as u64);
        self.shared.pieces.add(id, bytes.clone());
        self.shared.queue.push(Op::Piece { id, bytes });
        Ok(id)
    }

    /// The change that was to name these pieces is not made: they go. One that a change names stays.
    pub fn abandon_local(&self, ids: &[LocalId]) {
        let mut unused = ids.to_vec();
        {
            let mut overlay = self.shared.overlay.write();
            unused.retain(|id| overlay.locals.abandon(*id));
        }
        self.shared.pieces.drop(&unused);
        self.shared.remove_pieces(unused);
    }

    /// A piece's bytes, when they are local: an uncommitted one always is. `None`: fetch it, from where
    /// [`Journal::resolve`] says it lies. Bytes that do not match the row's checksum are not returned: of an
    /// uncommitted piece that is an error, of another `None`.
    pub fn piece(&self, extent: &ExtentRow) -> Result<Option<Bytes>> {
        let bytes = match extent.blob {
            Blob::Local(id) => {
                let (known, place) = {
                    let overlay = self.shared.overlay.read();
                    (overlay.locals.knows(id), overlay.locals.moved(id))
                };
                let placed = match place {
                    Some(place) => self.shared.placed_bytes(&place.blob(), place.off)?,
                    None => None,
                };
                // While its slot is being noted as committed it is found by its number only.
                let bytes = match placed {
                    Some(bytes) => Some(bytes),
                    None => self.shared.local_bytes(id)?,
                };
                if known && bytes.as_ref().is_none_or(|b| !matches(extent, b)) {
                    return self.missing(id, extent);
                }
                bytes
            }
            Blob::Object { .. } => None,
            _ => self.shared.placed_bytes(&extent.blob, extent.piece_off)?,
        };
        Ok(bytes.filter(|b| matches(extent, b)))
    }

    /// A local piece seems to be gone: it has just gone to the store, or its bytes are damaged.
    fn missing(&self, id: LocalId, extent: &ExtentRow) -> Result<Option<Bytes>> {
        let place = self.shared.overlay.read().locals.moved(id);
        match place {
            Some(place) => {
                let bytes = self.shared.placed_bytes(&place.blob(), place.off)?;
                Ok(bytes.filter(|b| matches(extent, b)))
            }
            None => Err(LocalError::new(
                LocalKind::Damaged,
                format!("content {} that is not in the store yet is missing or damaged", id.0),
            )),
        }
    }

    /// The row as it is now: of a piece that has gone to the store since the row was read, its place there.
    pub fn resolve(&self, extent: &ExtentRow) -> ExtentRow {
        let mut row = extent.clone();
        if let Blob::Local(id) = row.blob
            && let Some(place) = self.shared.overlay.read().locals.moved(id)
        {
            place.resolve(&mut row);
        }
        row
    }

    /// Keeps a fetched piece's bytes as clean content, if they are what the row says.
    pub fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes) {
        self.shared.keep_piece(extent, bytes);
    }

    /// Keeps blobs from collection, and local pieces from being dropped, for as long as the guard lives.
    pub fn pin_blobs(&self, blobs: &[Blob]) -> PinGuard {
        let mut overlay = self.shared.overlay.write();
        for blob in blobs {
            *overlay.pins.entry(blob.clone()).or_default() += 1;
        }
        PinGuard { shared: self.shared.clone(), blobs: blobs.to_vec() }
    }
}

impl Shared {
    /// See [`Journal::keep_piece`].
    pub(super) fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes) {
        let kept = matches!(extent.blob, Blob::Segment { .. } | Blob::Data { .. });
        // Best effort: while the disk fails, what can be fetched again is not kept.
        if !kept || !matches(extent, bytes) || self.queue.check().is_err() {
            return;
        }
        let (blob, off, bytes) = (extent.blob.clone(), extent.piece_off, bytes.clone());
        self.pieces.0.insert(At::Place(blob.clone(), off), bytes.clone());
        let id = LocalId(self.next_local.fetch_add(1, Ordering::Relaxed));
        self.queue.push(Op::Keep { id, blob, off, bytes });
    }
}

fn matches(extent: &ExtentRow, bytes: &Bytes) -> bool {
    bytes.len() == extent.piece_len as usize && extent.crc.is_none_or(|crc| crc32c::crc32c(bytes) == crc)
}
