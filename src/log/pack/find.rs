//! Finding the extents whose content lies in given blobs.

use crate::log::LogError;
use crate::log::ids::{Blob, Ino, Slot};
use crate::log::row::{ExtentRow, Key, KeyBytes, Row};
use crate::log::source::{Committed, LocalError, LocalKind};
use std::collections::HashSet;
use std::sync::Arc;

/// Rows that are read at once.
const ROWS: usize = 4096;
/// The most extents that are found at once.
const MOST: usize = 16 << 10;

/// An extent, as its row is committed.
pub(super) struct Found {
    pub ino: Ino,
    pub offset: u64,
    pub row: ExtentRow,
    /// The row as it is encoded.
    pub key: KeyBytes,
    pub value: Vec<u8>,
}

/// On the way through the extent rows, in their order.
pub(super) struct Search {
    committed: Arc<dyn Committed>,
    targets: HashSet<Blob>,
    since: Option<Slot>,
    after: Option<KeyBytes>,
}

impl Search {
    pub fn new(committed: Arc<dyn Committed>, targets: HashSet<Blob>, since: Option<Slot>) -> Search {
        Search { committed, targets, since, after: Some(Key::extents()) }
    }

    /// The next extents, with about `bytes` of pieces; none at the end. The search goes to a thread that may
    /// block, and comes back.
    pub async fn next(self, bytes: u64) -> Result<(Search, Vec<Found>), LogError> {
        let found = crate::log::blocking::aside(move || self.search(bytes)).await;
        Ok(found.map_err(|e| LocalError::failed(format!("looking for content to pack: {e}")))??)
    }

    fn search(mut self, bytes: u64) -> Result<(Search, Vec<Found>), LocalError> {
        let mut found = Vec::new();
        let mut weight = 0;
        let Some(mut after) = self.after.take() else { return Ok((self, found)) };
        let snapshot = self.committed.snapshot()?;
        // Rows changed since a slot can be told only as far back as the journal knows.
        let since = self.since.filter(|since| *since >= snapshot.changes_from());
        loop {
            let rows = snapshot.rows(Some(&after), since, ROWS)?;
            let last = rows.len() < ROWS;
            for record in rows {
                if !Key::is_extent(&record.key) {
                    return Ok((self, found));
                }
                after = record.key;
                let Some(value) = record.value else { continue };
                let row = ExtentRow::decode(&value).map_err(|e| damaged(e.to_string()))?;
                if !self.targets.contains(&row.blob) {
                    continue;
                }
                let Some(Key::Extent { ino, offset }) = Key::decode(&after) else {
                    return Err(damaged("an extent's key cannot be read".into()));
                };
                weight += u64::from(row.piece_len);
                found.push(Found { ino, offset, row, key: after.clone(), value });
                if weight >= bytes || found.len() >= MOST {
                    self.after = Some(after);
                    return Ok((self, found));
                }
            }
            if last {
                return Ok((self, found));
            }
        }
    }
}

fn damaged(what: String) -> LocalError {
    LocalError::new(LocalKind::Damaged, what)
}
