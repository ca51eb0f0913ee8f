//! Extent arithmetic: what changes in an inode's extent rows when a range gets new content.
//!
//! Invariant: the rows of one inode never overlap; a cut row still names its whole piece.

use super::ranges::Ranges;
use crate::log::row::ExtentRow;
use std::collections::BTreeMap;
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

/// What a capture changes in an inode's extent rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Replaced {
    /// Each changed offset's new row, or `None` where the row goes.
    pub changes: BTreeMap<u64, Option<ExtentRow>>,
    /// By how many bytes the part of the file that is not a hole grew.
    pub grown: i64,
}

/// Takes `removed` out of `existing` (the rows that overlap `removed` or `pieces`, at their offsets) and puts
/// `pieces` (which do not overlap each other) in the place of what they cover.
pub fn replace(
    existing: BTreeMap<u64, ExtentRow>,
    removed: &Ranges,
    pieces: &[(u64, ExtentRow)],
) -> Replaced {
    let mut now = existing.clone();
    for range in removed.iter() {
        clear(&mut now, &range);
    }
    for (offset, row) in pieces {
        clear(&mut now, &(*offset..*offset + row.len));
        now.insert(*offset, row.clone());
    }
    let bytes = |rows: &BTreeMap<u64, ExtentRow>| rows.values().map(|row| row.len as i64).sum::<i64>();
    let grown = bytes(&now) - bytes(&existing);
    let mut changes = BTreeMap::new();
    for offset in existing.keys().filter(|offset| !now.contains_key(offset)) {
        changes.insert(*offset, None);
    }
    for (offset, row) in now {
        if existing.get(&offset) != Some(&row) {
            changes.insert(offset, Some(row));
        }
    }
    Replaced { changes, grown }
}

/// Takes `range` out of `rows`, which do not overlap each other.
fn clear(rows: &mut BTreeMap<u64, ExtentRow>, range: &Range<u64>) {
    let hit: Vec<(u64, ExtentRow)> = rows
        .range(..range.end)
        .rev()
        .take_while(|(offset, row)| **offset + row.len > range.start)
        .map(|(offset, row)| (*offset, row.clone()))
        .collect();
    for (offset, change) in cut(&hit, range) {
        match change {
            Some(row) => rows.insert(offset, row),
            None => rows.remove(&offset),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::{Blob, LocalId};
    use proptest::prelude::*;

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

        #[test]
        fn replacing_equals_bytes_removed_and_overwritten(
            old in proptest::collection::vec((0u64..100, 1u64..40), 0..8),
            removed in proptest::collection::vec((0u64..100, 1u64..40), 0..4),
            new in proptest::collection::vec((0u64..12, 1u64..10), 0..6),
        ) {
            let mut rows: BTreeMap<u64, ExtentRow> = BTreeMap::new();
            for (n, (off, len)) in old.into_iter().enumerate() {
                clear(&mut rows, &(off..off + len));
                rows.insert(off, row(n as u64, len));
            }
            let removed: Ranges = removed.into_iter().map(|(o, l)| o..o + l).collect();
            let new: BTreeMap<u64, u64> = new.into_iter().map(|(o, l)| (o * 10, l)).collect();
            let pieces: Vec<_> = new.iter().map(|(o, l)| (*o, row(100 + o, *l))).collect();
            let mut model = bytes(&rows);
            removed.iter().flatten().for_each(|b| { model.remove(&b); });
            for (o, r) in &pieces {
                for i in 0..r.len { model.insert(o + i, (r.blob.clone(), i)); }
            }
            let before = bytes(&rows).len() as i64;
            let replaced = replace(rows.clone(), &removed, &pieces);
            for (at, change) in replaced.changes {
                match change { Some(r) => { rows.insert(at, r); } None => { prop_assert!(rows.remove(&at).is_some()); } }
            }
            prop_assert_eq!(bytes(&rows), model);
            prop_assert_eq!(bytes(&rows).len() as i64 - before, replaced.grown);
        }
    }
}
