//! Runs of records as bytes: the one encoding that segments and checkpoints share.
//!
//! A record is a varint key length, the key, a byte 0 (tombstone) or 1 (upsert), and for an upsert a varint
//! value length and the value. Varints are LEB128. Records follow each other without anything between.

use super::row::Record;
use serde::Deserialize;

/// Bytes that are no run of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a record cannot be read")]
pub struct BadRecords;

/// Appends a record.
pub fn push(out: &mut Vec<u8>, record: &Record) {
    push_bytes(out, &record.key);
    match &record.value {
        None => out.push(0),
        Some(value) => {
            out.push(1);
            push_bytes(out, value);
        }
    }
}

/// The bytes of all `records`.
pub fn encode(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::new();
    for record in records {
        push(&mut out, record);
    }
    out
}

/// The records that `bytes` encode, all of them. Allocates no more than a small multiple of `bytes`.
pub fn decode(mut bytes: &[u8]) -> Result<Vec<Record>, BadRecords> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let (raw, rest) = postcard::take_from_bytes::<Raw>(bytes).map_err(|_| BadRecords)?;
        records.push(Record { key: raw.key.to_vec(), value: raw.value.map(<[u8]>::to_vec) });
        bytes = rest;
    }
    Ok(records)
}

/// What postcard reads as the encoding above, borrowing from its input.
#[derive(Deserialize)]
struct Raw<'a> {
    key: &'a [u8],
    value: Option<&'a [u8]>,
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut n = bytes.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn records() -> impl Strategy<Value = Vec<Record>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        let record = (bytes(), proptest::option::of(bytes())).prop_map(|(key, value)| Record { key, value });
        proptest::collection::vec(record, 0..20)
    }

    proptest! {
        #[test]
        fn records_come_back(records in records()) {
            prop_assert_eq!(decode(&encode(&records)), Ok(records));
        }

        #[test]
        fn a_cut_run_is_refused_or_shorter(records in records(), cut in 1usize..50) {
            let bytes = encode(&records);
            let kept = bytes.len().saturating_sub(cut);
            if let Ok(read) = decode(&bytes[..kept]) {
                prop_assert!(read.len() < records.len() || bytes.is_empty());
            }
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&bytes);
        }
    }
}
