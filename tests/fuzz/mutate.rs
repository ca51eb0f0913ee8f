//! Changes of bytes, as somebody would make them who knows what he does.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// One change. Places are taken modulo the length.
#[derive(Debug, Clone)]
pub enum Edit {
    Flip {
        at: usize,
        bit: u8,
    },
    /// Writes a number that is a length, a count or a place somewhere, and is interesting there.
    Number {
        at: usize,
        number: u64,
        bytes: usize,
    },
    Cut {
        at: usize,
    },
    Remove {
        at: usize,
        len: usize,
    },
    Insert {
        at: usize,
        bytes: Vec<u8>,
    },
    Repeat {
        at: usize,
        len: usize,
    },
}

/// A few changes, most often one.
pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    vec(edit(), 1..4)
}

/// Numbers at the borders of what is sensible.
pub fn border() -> impl Strategy<Value = u64> {
    prop_oneof![
        select(vec![0, 1, 2, 7, 255, 4095, 4096, 1 << 20, (1 << 20) + 1, 1 << 31, 1 << 40]),
        select(vec![u64::from(u32::MAX), i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX - 1, u64::MAX]),
        any::<u64>(),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = any::<usize>;
    prop_oneof![
        4 => (at(), 0..8u8).prop_map(|(at, bit)| Edit::Flip { at, bit }),
        4 => (at(), border(), select(vec![1, 4, 8]))
            .prop_map(|(at, number, bytes)| Edit::Number { at, number, bytes }),
        1 => at().prop_map(|at| Edit::Cut { at }),
        1 => (at(), 1..64usize).prop_map(|(at, len)| Edit::Remove { at, len }),
        1 => (at(), vec(any::<u8>(), 1..64)).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        1 => (at(), 1..64usize).prop_map(|(at, len)| Edit::Repeat { at, len }),
    ]
}

/// `bytes` with these changes.
pub fn apply(mut bytes: Vec<u8>, edits: &[Edit]) -> Vec<u8> {
    for edit in edits {
        if bytes.is_empty() {
            break;
        }
        let len = bytes.len();
        match edit {
            Edit::Flip { at, bit } => bytes[at % len] ^= 1 << bit,
            Edit::Number { at, number, bytes: width } => {
                let number = number.to_le_bytes();
                let at = at % len;
                let end = len.min(at + width);
                bytes[at..end].copy_from_slice(&number[..end - at]);
            }
            Edit::Cut { at } => bytes.truncate(at % len),
            Edit::Remove { at, len: gone } => {
                let at = at % len;
                bytes.drain(at..len.min(at + gone));
            }
            Edit::Insert { at, bytes: more } => {
                let at = at % len;
                bytes.splice(at..at, more.iter().copied());
            }
            Edit::Repeat { at, len: again } => {
                let at = at % len;
                let part = bytes[at..len.min(at + again)].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
    bytes
}
