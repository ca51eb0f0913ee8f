//! Packing: moves content that rows still use out of segments, and out of blobs that are mostly dead, into
//! packs under `data/`, so that what it lay in can be deleted.
//!
//! A pack holds contents one after the other in the order of their inodes, which is about the order in which
//! they were made; contents that follow on each other in one file become one piece.
//!
//! Invariants:
//! - a row is changed only if it still is what it was when its content was read, and only after the pack is
//!   in the store; so a crash at any point leaves a pack that nobody names, never a row without content;
//! - content that does not match its checksum is not packed: its row and what it lies in stay;
//! - memory: about three times [`PACK`], however much there is to do.

mod fetch;
mod find;
#[cfg(test)]
mod tests;

use super::LogError;
use super::blobs::BlobNames;
use super::ids::{Blob, keys};
use super::row::{ExtentRow, Key, MAX_PIECE, Record};
use super::rules::{Rule, holds};
use super::source::{Committed, LocalError, Move};
use crate::store::{Condition, ObjectStore, PutOptions};
use bytes::Bytes;
use fetch::Contents;
use find::{Found, Search};
use futures::future::BoxFuture;
use std::collections::HashSet;
use std::sync::Arc;

/// Bytes after which a pack ends. With the last piece it is what a reader fetches at once, unless pieces are large. While
/// one is sent, its contents on their way to the journal and those of the next are in memory too.
const PACK: usize = (4 << 20) - PIECE as usize;
/// Contents of one file that follow on each other become one piece up to this size: small, so that a later
/// change of a part of it leaves little dead.
const PIECE: u64 = 256 << 10;
const _: () = assert!(PIECE <= MAX_PIECE as u64);

/// Changes rows as [`Committed::relocate`] does, with whatever the caller has to lock.
pub type Relocate<'a> = &'a (dyn Fn(&[Move]) -> Result<usize, LocalError> + Sync);

/// Returns once all that was changed so far is committed.
pub type Settled<'a> = &'a (dyn Fn() -> BoxFuture<'a, Result<(), LogError>> + Sync);

/// What packing works with.
pub struct Packer<'a> {
    /// Where the contents are, and the packs go.
    pub store: &'a Arc<dyn ObjectStore>,
    /// Where the rows are.
    pub committed: &'a Arc<dyn Committed>,
    /// Gives names to packs.
    pub names: &'a BlobNames,
    /// How rows are changed.
    pub relocate: Relocate<'a>,
    /// Called after each pack. Its rows are thousands: those of many packs at once would be most of the memory that a
    /// mount needs.
    pub settled: Settled<'a>,
}

/// What was done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Packed {
    /// Objects written.
    pub packs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Contents that now lie in them.
    pub moved: u64,
    /// Contents that could not be read, and stay where they are.
    pub unreadable: u64,
}

impl Packer<'_> {
    /// Moves all content of `targets` that committed rows use into packs, but stops after `budget` bytes. The
    /// changed rows are committed when this returns. With `since` only rows that changed in later slots are looked at.
    pub async fn run(
        &self,
        targets: HashSet<Blob>,
        since: Option<super::ids::Slot>,
        budget: u64,
    ) -> Result<Packed, LogError> {
        let mut done = Packed::default();
        let mut search = Search::new(self.committed.clone(), targets, since);
        while done.bytes < budget {
            let found;
            (search, found) = search.next(PACK as u64).await?;
            if found.is_empty() {
                break;
            }
            let moved = done.moved;
            self.pack(found, &mut done).await?;
            if done.moved > moved {
                (self.settled)().await?;
            }
        }
        Ok(done)
    }

    /// Makes one pack.
    async fn pack(&self, found: Vec<Found>, done: &mut Packed) -> Result<(), LogError> {
        let contents = Contents::fetch(self.store, self.committed, &found).await?;
        let pack = self.names.take_blob();
        let laid_out = lay_out(&pack, found, &contents)?;
        drop(contents);
        done.unreadable += laid_out.unreadable;
        if laid_out.moves.is_empty() {
            return Ok(());
        }
        let (Blob::Data { epoch, n }, bytes) = (&pack, laid_out.body.len() as u64) else { return Ok(()) };
        let key = keys::data(*epoch, *n);
        let body = Bytes::from(laid_out.body);
        let relocate = || super::blocking::blocking(|| (self.relocate)(&laid_out.moves));
        let early = if holds(Rule::PackBeforeRows) { None } else { Some(relocate()?) };
        put(self.store.as_ref(), &key, body.clone()).await?;
        let moved = early.map_or_else(relocate, Ok)?;
        if moved == 0 {
            // Every row has changed meanwhile, so nobody will ever name it.
            self.store.delete(&key, &Condition::None).await?;
            return Ok(());
        }
        for row in &laid_out.local {
            // A copy of its own: a slice would keep the whole pack in memory.
            let piece = &body[row.piece_off as usize..][..row.piece_len as usize];
            self.committed.keep_piece(row, &Bytes::copy_from_slice(piece));
        }
        done.packs += 1;
        done.bytes += bytes;
        done.moved += moved as u64;
        Ok(())
    }
}

/// A pack to be.
#[derive(Default)]
struct LaidOut {
    body: Vec<u8>,
    moves: Vec<Move>,
    /// Pieces whose content the journal had: it gets it under the new place too, so that what was read from
    /// this machine before is read from it after.
    local: Vec<ExtentRow>,
    unreadable: u64,
}

impl LaidOut {
    fn end(&mut self, piece: Piece, pack: &Blob) -> Result<(), LocalError> {
        let row = piece.row(pack, &self.body)?;
        if piece.local {
            self.local.push(row.clone());
        }
        self.moves.push(piece.into_move(&row));
        Ok(())
    }
}

/// Lays contents out one after the other, those that follow on each other in a file as one piece.
fn lay_out(pack: &Blob, found: Vec<Found>, contents: &Contents) -> Result<LaidOut, LocalError> {
    // Not grown: that would double it, and have both for a moment.
    let mut out = LaidOut { body: Vec::with_capacity(contents.bytes()), ..LaidOut::default() };
    let mut open: Option<Piece> = None;
    for one in found {
        let Some(bytes) = contents.of(&one.row) else {
            out.unreadable += 1;
            continue;
        };
        if let Some(piece) = open.take_if(|piece| !piece.takes(&one)) {
            out.end(piece, pack)?;
        }
        let piece = open.get_or_insert_with(|| Piece::at(out.body.len() as u64, &one));
        piece.local &= contents.is_local(&one.row);
        piece.len += one.row.len;
        piece.expected.push((one.key, one.value));
        out.body.extend_from_slice(&bytes);
    }
    if let Some(piece) = open {
        out.end(piece, pack)?;
    }
    Ok(out)
}

/// A piece of a pack to be, and the rows that it replaces.
struct Piece {
    start: u64,
    len: u64,
    place: (super::ids::Ino, u64),
    expected: Vec<(Vec<u8>, Vec<u8>)>,
    /// The journal had all of it.
    local: bool,
}

impl Piece {
    fn at(start: u64, first: &Found) -> Piece {
        Piece { start, len: 0, place: (first.ino, first.offset), expected: Vec::new(), local: true }
    }

    fn takes(&self, next: &Found) -> bool {
        let (ino, offset) = self.place;
        next.ino == ino && next.offset == offset + self.len && self.len + next.row.len <= PIECE
    }

    /// Its row, now that all of it is at the end of `body`.
    fn row(&self, pack: &Blob, body: &[u8]) -> Result<ExtentRow, LocalError> {
        let bytes = &body[self.start as usize..];
        let piece_len = u32::try_from(self.len)
            .ok()
            .filter(|len| *len <= MAX_PIECE && bytes.len() as u64 == u64::from(*len))
            .ok_or_else(|| LocalError::failed("an extent is longer than its piece"))?;
        let (blob, crc) = (pack.clone(), Some(crc32c::crc32c(bytes)));
        Ok(ExtentRow { len: self.len, blob, piece_off: self.start, piece_len, skip: 0, crc })
    }

    fn into_move(self, row: &ExtentRow) -> Move {
        let (ino, offset) = self.place;
        let mut records = vec![Record::put(&Key::Extent { ino, offset }, row)];
        records.extend(self.expected.iter().skip(1).map(|(key, _)| Record { key: key.clone(), value: None }));
        Move { expected: self.expected, records }
    }
}

/// Writes a pack. What lies there already has to be the same: our own earlier try.
async fn put(store: &dyn ObjectStore, key: &str, body: Bytes) -> Result<(), LogError> {
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    match store.put(key, body.clone(), &options).await {
        Ok(_etag) => Ok(()),
        Err(error) if error.is_precondition() => {
            if store.get(key, None, None).await?.body == body {
                return Ok(());
            }
            let what = "another writer has written it under our name: a clone of this machine".to_owned();
            Err(LogError::Damaged { key: key.to_owned(), what })
        }
        Err(error) => Err(error.into()),
    }
}
