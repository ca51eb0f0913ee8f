//! How a large content becomes the parts of an upload: copied inside the store where its blobs allow it.
//!
//! Invariants:
//! - the parts cover the content, in order, without gaps;
//! - every part but the last has the same size, which some stores demand, and there are at most 10,000;
//! - the content's checksum is known before the upload begins, because the object's metadata tells it.

use crate::content::extents::slice;
use crate::log::ids::Blob;
use crate::log::row::ExtentRow;
use crate::view::read::location;
use std::ops::Range;

/// The least bytes of a part; captured content lies in blobs in runs of this.
pub(super) const PART: u64 = 8 << 20;
/// Above this many, parts are larger.
const MAX_PARTS: u64 = 4096;

/// One part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Part {
    /// Its place in the content.
    pub at: Range<u64>,
    /// The object and the bytes of it that can be copied; `None`: to be sent.
    pub copy: Option<(String, Range<u64>)>,
}

/// The parts of a content of `size` bytes with these extents, in the order of their offsets.
pub(super) fn parts(extents: &[(u64, ExtentRow)], size: u64) -> Vec<Part> {
    let len = size.div_ceil(MAX_PARTS).max(PART).next_power_of_two();
    let mut rest = extents;
    let mut parts = Vec::new();
    let mut start = 0;
    while start < size {
        let at = start..size.min(start + len);
        rest = &rest[rest.partition_point(|(offset, extent)| offset + extent.len <= at.start)..];
        parts.push(Part { copy: source(rest, &at), at: at.clone() });
        start = at.end;
    }
    parts
}

/// The one stretch of one stored blob that is the content's bytes `at`.
fn source(extents: &[(u64, ExtentRow)], at: &Range<u64>) -> Option<(String, Range<u64>)> {
    let mut found: Option<(&Blob, Range<u64>)> = None;
    let mut end = at.start;
    for (offset, extent) in extents.iter().take_while(|(offset, _)| *offset < at.end) {
        let Some((start, row)) = slice(*offset, extent, at) else { continue };
        let from = row.piece_off + u64::from(row.skip);
        let range = from..from + row.len;
        found = match found {
            _ if start != end => return None,
            None => Some((&extent.blob, range)),
            Some((blob, whole)) if *blob == extent.blob && whole.end == range.start => {
                Some((blob, whole.start..range.end))
            }
            Some(_) => return None,
        };
        end = start + row.len;
    }
    let (blob, range) = found.filter(|_| end == at.end)?;
    // An imported object is read under its ETag, which a copied part cannot demand.
    let stored = matches!(blob, Blob::Segment { .. } | Blob::Data { .. });
    location(blob).filter(|_| stored).map(|(key, _)| (key, range))
}

/// What is known of a range's checksum.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// It is a hole.
    Zeros,
    /// Its CRC-32C.
    Crc(u32),
    /// Nothing: it has to be read.
    Unread,
}

/// The content in ranges without gaps, each with what is known of its checksum.
pub(super) fn checksums(extents: &[(u64, ExtentRow)], size: u64) -> Vec<(Range<u64>, Known)> {
    let mut all = Vec::new();
    let mut end = 0;
    for (at, extent) in extents.iter().filter(|(at, _)| *at < size) {
        if *at > end {
            all.push((end..*at, Known::Zeros));
        }
        end = (at + extent.len).min(size);
        let whole = extent.skip == 0 && extent.len == u64::from(extent.piece_len) && at + extent.len <= size;
        let known = extent.crc.filter(|_| whole).map_or(Known::Unread, Known::Crc);
        all.push((*at..end, known));
    }
    if size > end {
        all.push((end..size, Known::Zeros));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::Epoch;
    use crate::log::row::MAX_PIECE;
    use proptest::prelude::*;

    const MIB: u64 = 1 << 20;

    fn extent(n: u64, piece_off: u64, cut: u64) -> ExtentRow {
        let blob = Blob::Data { epoch: Epoch { counter: 1, nonce: 1 }, n };
        ExtentRow { len: MIB - cut, blob, piece_off, piece_len: MAX_PIECE, skip: 0, crc: Some(1) }
    }

    /// The object and offset that a byte of the content lies at.
    fn place(extents: &[(u64, ExtentRow)], byte: u64) -> Option<(String, u64)> {
        let (at, e) = extents.iter().find(|(at, e)| (*at..at + e.len).contains(&byte))?;
        Some((location(&e.blob)?.0, e.piece_off + u64::from(e.skip) + byte - at))
    }

    fn check(extents: &[(u64, ExtentRow)], size: u64) {
        let parts = parts(extents, size);
        let mut end = 0;
        for (i, part) in parts.iter().enumerate() {
            assert_eq!(part.at.start, end);
            end = part.at.end;
            let len = part.at.end - part.at.start;
            assert!(len > 0 && (len == parts[0].at.end || i + 1 == parts.len()));
            let Some((key, from)) = &part.copy else { continue };
            assert_eq!(from.end - from.start, len);
            for probe in [0, 1, len / 3, len / 2, len - 1] {
                assert_eq!(place(extents, part.at.start + probe), Some((key.clone(), from.start + probe)));
            }
        }
        assert_eq!(end, size);
        assert!(
            parts.len() <= 10_000 && parts.iter().all(|p| p.at.end - p.at.start >= PART || p.at.end == size)
        );
    }

    proptest! {
        #[test]
        fn parts_cover_the_content(
            runs in proptest::collection::vec((0u64..4, 1u64..30, 0u64..3, 0u64..2), 0..12),
            tail in 0u64..3,
        ) {
            let (mut extents, mut at) = (Vec::new(), 0);
            for (n, (hole, len, blob, cut)) in runs.into_iter().enumerate() {
                at += hole * 700_000;
                for i in 0..len {
                    let extent = extent(blob + 10 * n as u64, i * MIB, cut * 4096);
                    extents.push((at, extent.clone()));
                    at += extent.len;
                }
            }
            let size = at + tail * 3 * MIB;
            check(&extents, size);
            let covered = checksums(&extents, size).into_iter().fold(0, |end, (range, _)| {
                assert_eq!(range.start, end);
                range.end
            });
            prop_assert_eq!(covered, size);
        }
    }

    #[test]
    fn a_large_blob_is_copied_and_an_append_is_sent() {
        let mut extents: Vec<_> = (0..300).map(|i| (i * MIB, extent(1, i * MIB, 0))).collect();
        extents.push((300 * MIB, ExtentRow { len: 5, piece_len: 5, ..extent(2, 0, 0) }));
        let parts = parts(&extents, 300 * MIB + 5);
        let sent: Vec<_> = parts.iter().filter(|part| part.copy.is_none()).collect();
        assert_eq!((parts.len(), sent.len()), (38, 1));
        assert_eq!(sent[0].at.end, 300 * MIB + 5);
    }

    #[test]
    fn a_huge_hole_takes_few_parts() {
        check(&[], 1 << 40);
        check(&[], (1 << 40) + 1);
    }
}
