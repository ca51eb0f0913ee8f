//! Reading the pieces that are to be packed: from the journal where it has them, else from the store, what
//! lies close together in one request.

use super::find::Found;
use crate::log::LogError;
use crate::log::blocking::blocking;
use crate::log::ids::{Blob, keys};
use crate::log::row::ExtentRow;
use crate::log::source::Committed;
use crate::store::{Kind, ObjectStore};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

/// Requests under way at once.
const PARALLEL: usize = 4;
/// The most bytes of one request.
const SPAN: u64 = 8 << 20;
/// Bytes between two pieces that are read along rather than asked for separately.
const GAP: u64 = 64 << 10;

type Place = (Blob, u64, u32);

/// The pieces of some extents; those that are missing or damaged are not in it.
#[derive(Default)]
pub(super) struct Contents {
    pieces: HashMap<Place, Bytes>,
    /// Those that the journal had.
    local: HashSet<Place>,
}

impl Contents {
    /// Reads them. Fails only where trying again may help.
    pub async fn fetch(
        store: &Arc<dyn ObjectStore>,
        committed: &Arc<dyn Committed>,
        found: &[Found],
    ) -> Result<Contents, LogError> {
        let mut contents = Contents::default();
        let mut missing: BTreeMap<Blob, BTreeMap<u64, ExtentRow>> = BTreeMap::new();
        for row in found.iter().map(|found| &found.row) {
            let local = blocking(|| committed.piece(&row.blob, row.piece_off, row.piece_len))?;
            match local.filter(|bytes| is_right(row, bytes)) {
                Some(bytes) => contents.add_local(place(row), bytes),
                None => drop(missing.entry(row.blob.clone()).or_default().insert(row.piece_off, row.clone())),
            }
        }
        let spans: Vec<Span> = missing.into_values().flat_map(|rows| spans(rows.into_values())).collect();
        let mut reads = futures::stream::iter(spans)
            .map(|span| {
                let store = store.clone();
                async move { span.read(store.as_ref()).await }
            })
            .buffer_unordered(PARALLEL);
        while let Some(read) = reads.next().await {
            contents.pieces.extend(read?);
        }
        Ok(contents)
    }

    fn add_local(&mut self, place: Place, bytes: Bytes) {
        self.local.insert(place.clone());
        self.pieces.insert(place, bytes);
    }

    /// Whether the journal had an extent's piece.
    pub fn is_local(&self, row: &ExtentRow) -> bool {
        self.local.contains(&place(row))
    }

    /// Bytes of all pieces: what extents take of them is no more, unless they share some.
    pub fn bytes(&self) -> usize {
        self.pieces.values().map(Bytes::len).sum()
    }

    /// The bytes that an extent takes from its piece; `None` when the piece could not be had.
    pub fn of(&self, row: &ExtentRow) -> Option<Bytes> {
        let piece = self.pieces.get(&place(row))?;
        let start = row.skip as usize;
        let end = start.checked_add(usize::try_from(row.len).ok()?)?;
        (end <= piece.len()).then(|| piece.slice(start..end))
    }
}

fn place(row: &ExtentRow) -> Place {
    (row.blob.clone(), row.piece_off, row.piece_len)
}

fn is_right(row: &ExtentRow, bytes: &[u8]) -> bool {
    bytes.len() == row.piece_len as usize && row.crc.is_none_or(|crc| crc32c::crc32c(bytes) == crc)
}

/// Pieces of one blob that are read by one request.
struct Span {
    range: Range<u64>,
    rows: Vec<ExtentRow>,
}

/// Groups pieces of one blob, given in their order.
fn spans(rows: impl Iterator<Item = ExtentRow>) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for row in rows {
        let end = row.piece_off.saturating_add(u64::from(row.piece_len));
        match spans.last_mut() {
            Some(span)
                if row.piece_off <= span.range.end.saturating_add(GAP)
                    && end.saturating_sub(span.range.start) <= SPAN =>
            {
                span.range.end = span.range.end.max(end);
                span.rows.push(row);
            }
            _ => spans.push(Span { range: row.piece_off..end, rows: vec![row] }),
        }
    }
    spans
}

impl Span {
    async fn read(self, store: &dyn ObjectStore) -> Result<Vec<(Place, Bytes)>, LogError> {
        let Some(key) = self.rows.first().and_then(|row| key_of(&row.blob)) else { return Ok(Vec::new()) };
        let body = match store.get(&key, Some(self.range.clone()), None).await {
            Ok(object) => object.body,
            // Damage, which its readers are told of; everything else can be packed all the same.
            Err(error) if error.is_not_found() || error.kind == Kind::InvalidRange => {
                tracing::warn!(key, %error, "content to be packed is missing");
                return Ok(Vec::new());
            }
            Err(error) => return Err(error.into()),
        };
        let mut pieces = Vec::with_capacity(self.rows.len());
        for row in &self.rows {
            // Within the span, which is at most SPAN bytes and one piece.
            let start = (row.piece_off - self.range.start) as usize;
            let end = (start + row.piece_len as usize).min(body.len());
            let bytes = body.slice(start.min(end)..end);
            if is_right(row, &bytes) {
                pieces.push((place(row), bytes));
            } else {
                tracing::warn!(key, offset = row.piece_off, "content to be packed is damaged");
            }
        }
        Ok(pieces)
    }
}

fn key_of(blob: &Blob) -> Option<String> {
    match blob {
        Blob::Segment { epoch, slot } => Some(keys::segment(*epoch, *slot)),
        Blob::Data { epoch, n } => Some(keys::data(*epoch, *n)),
        Blob::Object { .. } | Blob::Local(_) => None,
    }
}
