//! A segment's run of records: compressed with zstd, or plain where that is not shorter.
//!
//! A stored length equal to the plain length means plain. Invariant: the keys strictly rise. A reader refuses
//! anything else, which bounds what a hostile run can hold.

use super::records;
use super::row::Record;
use std::io::Read;

/// The most plain bytes of one run.
pub const MAX_RUN: usize = 128 << 20;

/// Runs shorter than this are not worth compressing.
const COMPRESS_FROM: usize = 512;
/// zstd level: the speed matters more than the last percent.
const LEVEL: i32 = 1;
/// The largest zstd window accepted, as a power of two: 16 MiB.
const WINDOW_LOG: u32 = 24;

/// A run as it is stored.
#[derive(Debug, Clone)]
pub struct Run {
    /// Compressed, or plain when as long as `plain_len`.
    pub stored: Vec<u8>,
    /// Bytes before compression.
    pub plain_len: u64,
}

/// Stores a run whose keys strictly rise.
pub fn pack(records: &[Record]) -> Run {
    let plain = records::encode(records);
    let plain_len = plain.len() as u64;
    if plain.len() >= COMPRESS_FROM
        && let Ok(compressed) = zstd::bulk::compress(&plain, LEVEL)
        && compressed.len() < plain.len()
    {
        return Run { stored: compressed, plain_len };
    }
    Run { stored: plain, plain_len }
}

/// Reads a stored run of `plain_len` bytes; the error says what is wrong with it.
pub fn unpack(stored: &[u8], plain_len: u64) -> Result<Vec<Record>, &'static str> {
    if plain_len == stored.len() as u64 {
        return parse(stored);
    }
    parse(&expand(stored, plain_len)?)
}

/// The plain bytes of a compressed run. Memory grows with what really comes out, never with a claim.
fn expand(stored: &[u8], plain_len: u64) -> Result<Vec<u8>, &'static str> {
    if plain_len > MAX_RUN as u64 {
        return Err("its records claim to be longer than any are");
    }
    let bad = |_| "its records cannot be decompressed";
    let mut decoder = zstd::stream::read::Decoder::with_buffer(stored).map_err(bad)?;
    decoder.window_log_max(WINDOW_LOG).map_err(bad)?;
    let mut plain = Vec::new();
    decoder.take(plain_len + 1).read_to_end(&mut plain).map_err(bad)?;
    if plain.len() as u64 != plain_len {
        return Err("its records are not as long as it says");
    }
    Ok(plain)
}

fn parse(plain: &[u8]) -> Result<Vec<Record>, &'static str> {
    let records = records::decode(plain).map_err(|_| "a record cannot be read")?;
    if records.windows(2).any(|pair| pair[0].key >= pair[1].key) {
        return Err("its records are not in order");
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Rows = BTreeMap<Vec<u8>, Option<Vec<u8>>>;

    fn runs() -> impl Strategy<Value = Vec<Record>> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..300);
        proptest::collection::btree_map(bytes(), proptest::option::of(bytes()), 0..60)
            .prop_map(|rows: Rows| rows.into_iter().map(|(key, value)| Record { key, value }).collect())
    }

    proptest! {
        #[test]
        fn runs_come_back(records in runs()) {
            let run = pack(&records);
            prop_assert_eq!(unpack(&run.stored, run.plain_len), Ok(records));
        }

        #[test]
        fn any_bytes_are_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), n: u64) {
            let _ = unpack(&bytes, n);
            let _ = unpack(&bytes, bytes.len() as u64);
        }
    }

    #[test]
    fn a_run_out_of_order_or_doubled_is_refused() {
        let row = |k: u8| Record { key: vec![k], value: None };
        for records in [vec![row(2), row(1)], vec![row(1), row(1)]] {
            let run = pack(&records);
            assert_eq!(unpack(&run.stored, run.plain_len), Err("its records are not in order"));
        }
    }

    #[test]
    fn a_claim_is_not_believed() {
        let bomb = zstd::bulk::compress(&vec![0u8; 64 << 20], 1).unwrap();
        assert!(bomb.len() < 100_000);
        assert_eq!(unpack(&bomb, 1 << 40), Err("its records claim to be longer than any are"));
        assert_eq!(unpack(&bomb, 1000), Err("its records are not as long as it says"));
    }
}
