//! What a checkpoint promises: all of it comes back, and damage is always an error.

use super::*;
use crate::log::LogError;
use crate::log::ids::{Epoch, Ino, Slot};
use crate::log::lease::SessionId;
use crate::log::row::{Key, Record};
use proptest::prelude::*;

const EPOCH: Epoch = Epoch { counter: 3, nonce: 7 };

fn header() -> Header {
    Header { session: SessionId(5), name: Name { slot: Slot(9), epoch: EPOCH, base: Some((Slot(4), EPOCH)) } }
}

fn write(records: &[Record]) -> Vec<u8> {
    let mut writer = Writer::new(&header());
    let mut out = Vec::new();
    for record in records {
        writer.push(record).unwrap();
        out.extend(writer.take());
    }
    out.extend(writer.finish().unwrap());
    out
}

/// Reads `bytes`, fed `step` at a time.
fn read(bytes: &[u8], step: usize) -> Result<(Header, Vec<Record>), LogError> {
    let mut reader = Reader::new("the/key");
    let mut records = Vec::new();
    let mut header = None;
    for chunk in bytes.chunks(step) {
        reader.feed(chunk);
        while let Some(rows) = reader.next_rows()? {
            records.extend(rows);
        }
        header = reader.header()?.cloned();
    }
    let rows = reader.finish()?;
    assert_eq!(rows, records.len() as u64);
    Ok((header.unwrap(), records))
}

fn many(n: u32) -> Vec<Record> {
    let value = |i: u32| (!i.is_multiple_of(7)).then(|| blake3::hash(&i.to_le_bytes()).as_bytes().repeat(3));
    let key = |i: u32| Key::Xattr { ino: Ino(1 + u64::from(i)), name: b"user.x".to_vec() };
    (0..n).map(|i| Record { key: key(i).encode(), value: value(i) }).collect()
}

fn must_be_damaged(bytes: &[u8], what: &str) {
    match read(bytes, 4096) {
        Err(LogError::Damaged { key, .. }) => assert_eq!(key, "the/key"),
        other => panic!("{what}: {:?}", other.map(|(_, r)| r.len())),
    }
}

#[test]
fn a_checkpoint_of_many_blocks_comes_back() {
    let records = many(20_000);
    let bytes = write(&records);
    for step in [100, 4096, bytes.len()] {
        let (head, read) = read(&bytes, step).unwrap();
        assert_eq!(head, header());
        assert!(read == records);
    }
}

#[test]
fn an_empty_one_comes_back_too() {
    assert_eq!(read(&write(&[]), 10).unwrap().1, vec![]);
}

#[test]
fn a_flipped_bit_anywhere_is_damage() {
    let bytes = write(&many(300));
    // Bits 8..12 hold the format, where a flip may as well make it a newer one.
    for at in (0..bytes.len()).filter(|i| !(8..12).contains(i)) {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        must_be_damaged(&bad, &format!("byte {at}"));
    }
}

#[test]
fn a_cut_or_longer_one_is_damage() {
    let bytes = write(&many(300));
    for end in 1..bytes.len() {
        must_be_damaged(&bytes[..end], &format!("cut at {end}"));
    }
    let longer = [&bytes[..], b"x"].concat();
    must_be_damaged(&longer, "a byte behind the end");
}

#[test]
fn a_missing_block_is_damage_even_where_every_block_is_sound() {
    let bytes = write(&many(20_000));
    let block = |at: usize| 16 + u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let second = 81 + block(81);
    let third = second + block(second);
    must_be_damaged(&[&bytes[..second], &bytes[third..]].concat(), "second block gone");
}

#[test]
fn a_huge_claim_is_refused_before_it_is_believed() {
    let mut bytes = write(&many(300));
    bytes[81..85].copy_from_slice(&u32::MAX.to_le_bytes());
    must_be_damaged(&bytes, "packed length");
    let mut bytes = write(&many(300));
    bytes[85..89].copy_from_slice(&u32::MAX.to_le_bytes());
    let packed = u32::from_le_bytes(bytes[81..85].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[81..93]), &bytes[97..97 + packed]);
    bytes[93..97].copy_from_slice(&crc.to_le_bytes());
    must_be_damaged(&bytes, "raw length, with a checksum that agrees");
}

#[test]
fn a_newer_format_is_called_newer() {
    let mut bytes = write(&many(3));
    bytes[8..12].copy_from_slice(&(FORMAT + 1).to_le_bytes());
    match read(&bytes, 100) {
        Err(LogError::NewerFormat { found, known, .. }) => assert_eq!((found, known), (FORMAT + 1, FORMAT)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rows_out_of_order_are_refused() {
    let mut writer = Writer::new(&header());
    writer.push(&Record { key: vec![2], value: None }).unwrap();
    assert!(writer.push(&Record { key: vec![2], value: None }).is_err());
}

proptest! {
    #[test]
    fn any_bytes_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 1..400)) {
        let whole = [&write(&[])[..81], &bytes[..]].concat();
        let _ = read(&whole, 50);
        let _ = read(&bytes, 50);
    }
}

#[test]
fn names_come_back_and_others_are_passed_over() {
    for name in [header().name, Name::image(Slot(12), EPOCH)] {
        assert_eq!(Name::parse(&name.key()), Some(name));
    }
    assert_eq!(
        header().name.key(),
        ".cwdfs/checkpoint/000000000009-0000000003-0000000000000007~000000000004-0000000003-0000000000000007"
    );
    for bad in [".cwdfs/checkpoint/", ".cwdfs/checkpoint/1-2", ".cwdfs/checkpoint/x~y", "a"] {
        assert_eq!(Name::parse(bad), None, "{bad}");
    }
}

#[test]
fn the_newest_is_chosen_first_and_none_below_the_floor_or_without_its_image() {
    let image = |slot| Name::image(Slot(slot), EPOCH);
    let delta = |slot, on| Name { slot: Slot(slot), epoch: EPOCH, base: Some((Slot(on), EPOCH)) };
    let names = [image(10), image(30), delta(20, 10), delta(40, 30), delta(50, 25), delta(30, 10), image(5)];
    let plans: Vec<(u64, Option<u64>)> =
        choose(&names, Slot(20)).iter().map(|p| (p.image.slot.0, p.delta.map(|d| d.slot.0))).collect();
    assert_eq!(plans, [(30, Some(40)), (30, None), (10, Some(30)), (10, Some(20))]);
    assert!(choose(&names, Slot(51)).is_empty());
}
