//! Extent arithmetic: what changes in an inode's extent rows when a range gets new content.
//!
//! Invariant: the rows of one inode never overlap; a cut row still names its whole piece.

use crate::log::row::ExtentRow;
use std::ops::Range;

/// The part of `extent` (at `offset` in its file) that lies in `range`; `None` when there is none.
pub fn slice(offset: u64, extent: &ExtentRow, range: &Range<u64>) -> Option<(u64, ExtentRow)> {
    let start = offset.max(range.start);
    let end = (offset + extent.len).min(range.end);
    if start >= end {
        return None;
    }
    let mut row = extent.clone();
    // Within a piece of at most MAX_PIECE bytes, so it fits.
    row.skip += (start - offset) as u32;
    row.len = end - start;
    Some((start, row))
}

/// The row changes that take `range` away from `existing` (the rows that overlap it, with their offsets):
/// a new row for each offset, or `None` where the row goes.
pub fn cut(existing: &[(u64, ExtentRow)], range: &Range<u64>) -> Vec<(u64, Option<ExtentRow>)> {
    let mut changes = Vec::new();
    for (offset, extent) in existing {
        let whole = *offset..*offset + extent.len;
        if whole.end <= range.start || whole.start >= range.end {
            continue;
        }
        match slice(*offset, extent, &(0..range.start)) {
            Some((at, row)) => changes.push((at, Some(row))),
            None => changes.push((*offset, None)),
        }
        if let Some((at, row)) = slice(*offset, extent, &(range.end..u64::MAX)) {
            changes.push((at, Some(row)));
        }
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::{Blob, LocalId};
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn row(blob: u64, len: u64) -> ExtentRow {
        let blob = Blob::Local(LocalId(blob));
        ExtentRow { len, blob, piece_off: 0, piece_len: len as u32, skip: 0, crc: Some(0) }
    }

    /// Which byte of which blob each byte of the file is.
    fn bytes(rows: &BTreeMap<u64, ExtentRow>) -> BTreeMap<u64, (Blob, u64)> {
        let mut all = BTreeMap::new();
        for (off, r) in rows {
            for i in 0..r.len {
                let old = all.insert(off + i, (r.blob.clone(), r.piece_off + u64::from(r.skip) + i));
                assert!(old.is_none(), "rows overlap");
            }
        }
        all
    }

    proptest! {
        #[test]
        fn cutting_and_placing_equals_bytes_overwritten(writes in proptest::collection::vec((0u64..100, 1u64..40), 1..20)) {
            let mut rows: BTreeMap<u64, ExtentRow> = BTreeMap::new();
            let mut model = BTreeMap::new();
            for (n, (off, len)) in writes.into_iter().enumerate() {
                let all: Vec<_> = rows.iter().map(|(o, r)| (*o, r.clone())).collect();
                for (at, change) in cut(&all, &(off..off + len)) {
                    match change { Some(r) => { rows.insert(at, r); } None => { rows.remove(&at); } }
                }
                let new = row(n as u64, len);
                for i in 0..len { model.insert(off + i, (new.blob.clone(), i)); }
                rows.insert(off, new);
                prop_assert_eq!(bytes(&rows), model.clone());
            }
        }
    }
}
