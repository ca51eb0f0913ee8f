//! Content: every extent names bytes that are there, and they are what was written.

use super::Objects;
use super::report::{Kind, Report};
use super::state::State;
use crate::content::{is_right, object_of};
use crate::log::LogError;
use crate::log::ids::{Blob, Ino};
use crate::log::row::{ExtentRow, MAX_PIECE};
use crate::store::ObjectStore;
use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of one GET, unless a piece is larger.
const RUN: u64 = 8 << 20;
/// GETs under way at once.
const PARALLEL: usize = 8;

/// A piece, and who has bytes of it: inode, offset in the file, bytes.
pub(super) struct Piece {
    pub extent: ExtentRow,
    pub users: Vec<(Ino, u64, u64)>,
}

/// The pieces of each object that is there, in the order of their places.
pub(super) type Pieces = BTreeMap<String, BTreeMap<(u64, u32), Piece>>;

/// Checks the extents against each other and the objects; the pieces that can be read.
pub(super) fn check(state: &State, objects: &Objects, report: &mut Report) -> Pieces {
    let mut pieces = Pieces::new();
    let mut last: Option<(Ino, u64)> = None;
    for (ino, at, extent) in state.extents() {
        let end = at.saturating_add(extent.len);
        let wrong = |report: &mut Report, kind, object: Option<String>, what: String| {
            let paths = state.paths(ino);
            report.add(kind, |p| {
                (p.object, p.inode, p.paths) = (object, Some(ino.0), paths);
                (p.range, p.what) = (Some((at, end)), what);
            });
        };
        if last.is_some_and(|(before, until)| before == ino && until > at) {
            wrong(report, Kind::Extent, None, "they are given twice, by extents that overlap".into());
        }
        last = Some((ino, end));
        if let Some(what) = bad_extent(&extent) {
            wrong(report, Kind::Extent, None, what.into());
            continue;
        }
        let Some((key, etag)) = object_of(&extent.blob) else {
            wrong(report, Kind::MissingContent, None, "they are on a machine, and not in the store".into());
            continue;
        };
        let piece_end = extent.piece_off.saturating_add(u64::from(extent.piece_len));
        let missing = match objects.get(&key) {
            None => Some("the object is missing"),
            Some(object) if etag.as_ref().is_some_and(|etag| *etag != object.etag) => {
                Some("another client has replaced the object since it was imported")
            }
            Some(object) if object.size < piece_end => Some("the object is too short"),
            Some(_) => None,
        };
        if let Some(what) = missing {
            wrong(report, Kind::MissingContent, Some(key), what.into());
            continue;
        }
        let place = (extent.piece_off, extent.piece_len);
        let piece =
            pieces.entry(key).or_default().entry(place).or_insert(Piece { extent, users: Vec::new() });
        piece.users.push((ino, at, end));
    }
    report.counts.pieces = pieces.values().map(|of| of.len() as u64).sum();
    pieces
}

/// What is wrong with an extent by itself.
pub(super) fn bad_extent(extent: &ExtentRow) -> Option<&'static str> {
    let in_object = matches!(extent.blob, Blob::Object { .. });
    if extent.len == 0 {
        return Some("an extent of no bytes");
    }
    if u64::from(extent.skip).checked_add(extent.len).is_none_or(|end| end > u64::from(extent.piece_len)) {
        return Some("an extent reaches beyond its piece");
    }
    if !in_object && extent.piece_len > MAX_PIECE {
        return Some("a piece is larger than pieces may be");
    }
    (!in_object && extent.crc.is_none()).then_some("a piece has no checksum")
}

/// Reads every piece and compares it with its checksum.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    pieces: Pieces,
    state: &State,
    report: &mut Report,
) -> Result<(), LogError> {
    let runs =
        pieces.into_iter().flat_map(|(key, of)| runs(of).into_iter().map(move |run| (key.clone(), run)));
    let mut reads = futures::stream::iter(runs)
        .map(|(key, run)| async move {
            let bytes = fetch(store.as_ref(), &key, &run).await;
            (key, run, bytes)
        })
        .buffer_unordered(PARALLEL);
    while let Some((key, run, bytes)) = reads.next().await {
        let (start, bytes) = bytes?;
        report.counts.bytes_read += bytes.len() as u64;
        for piece in &run {
            if !is_sound(piece, start, &bytes) {
                tell(&key, piece, state, report);
            }
        }
    }
    Ok(())
}

/// Pieces that are read with one request.
fn runs(of: BTreeMap<(u64, u32), Piece>) -> Vec<Vec<Piece>> {
    let mut runs: Vec<(u64, Vec<Piece>)> = Vec::new();
    for ((at, len), piece) in of {
        let end = at + u64::from(len);
        match runs.last_mut() {
            Some((start, run)) if end - *start <= RUN => run.push(piece),
            _ => runs.push((at, vec![piece])),
        }
    }
    runs.into_iter().map(|(_, run)| run).collect()
}

/// The bytes of a run, and where they start. What is gone or replaced since it was listed has none.
async fn fetch(store: &dyn ObjectStore, key: &str, run: &[Piece]) -> Result<(u64, Bytes), LogError> {
    let end = |piece: &Piece| piece.extent.piece_off + u64::from(piece.extent.piece_len);
    let start = run.first().map_or(0, |piece| piece.extent.piece_off);
    let until = run.iter().map(end).max().unwrap_or(start);
    let etag = run.first().and_then(|piece| object_of(&piece.extent.blob)).and_then(|(_, etag)| etag);
    match store.get(key, Some(start..until), etag.as_ref()).await {
        Ok(object) => Ok((start, object.body)),
        Err(error) if error.is_not_found() || error.is_precondition() => Ok((start, Bytes::new())),
        Err(error) => Err(error.into()),
    }
}

fn is_sound(piece: &Piece, start: u64, bytes: &Bytes) -> bool {
    let from = (piece.extent.piece_off - start).min(bytes.len() as u64) as usize;
    let to = (from + piece.extent.piece_len as usize).min(bytes.len());
    is_right(&piece.extent, &bytes[from..to])
}

fn tell(key: &str, piece: &Piece, state: &State, report: &mut Report) {
    for (ino, from, to) in &piece.users {
        let paths = state.paths(*ino);
        report.add(Kind::DamagedContent, |p| {
            (p.object, p.inode, p.paths) = (Some(key.to_owned()), Some(ino.0), paths);
            p.range = Some((*from, *to));
            p.what =
                format!("the bytes from {} of the object are not what was written", piece.extent.piece_off);
        });
    }
}
