//! What is written together is what is written one by one.

use super::helper::*;
use crate::journal::{base, clean, db};
use crate::log::ids::{Blob, Ino, LocalId, Slot};
use crate::log::row::{ExtentRow, Key, Record};
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

/// Every row of a table.
fn dump(conn: &Connection, table: &str) -> Vec<Vec<Value>> {
    let mut all = conn.prepare(&format!("SELECT * FROM {table}")).unwrap();
    let columns = all.column_count();
    let row = |row: &rusqlite::Row<'_>| (0..columns).map(|n| row.get(n)).collect();
    all.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap()
}

fn same(one: &Connection, other: &Connection, tables: &[&str]) {
    for table in tables {
        let rows = dump(one, table);
        assert!(!rows.is_empty(), "{table} has nothing to compare");
        assert_eq!(rows, dump(other, table), "{table}");
    }
}

fn extent(ino: u64, offset: u64, slot: u64) -> Record {
    let row = ExtentRow {
        blob: Blob::Segment { epoch: EPOCH, slot: Slot(slot) },
        ..local_extent(LocalId(0), b"content")
    };
    Record::put(&extent_key(ino, offset), &row)
}

#[test]
fn rows_of_a_slot() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ((a, _), (b, _)) = (db::open_writer(a.path()).unwrap(), db::open_writer(b.path()).unwrap());
    let mut first: Vec<_> = (10..210).flat_map(|ino| [inode(ino, 1), extent(ino, 0, 1)]).collect();
    first.sort_by(|a, b| a.key.cmp(&b.key));
    // Removed between others, in the order of keys and out of it, twice in one slot, and anew behind that.
    let gone = |ino| Record::delete(&Key::Inode { ino: Ino(ino) });
    let mut second: Vec<_> = (10..110).map(|ino| inode(ino, 2)).collect();
    second.extend((110..120).map(gone));
    second.extend((120..200).flat_map(|ino| [extent(ino, 0, 2), extent(ino, 8, 2)]));
    second.extend([extent(120, 0, 1), extent(120, 0, 2), gone(121), extent(121, 0, 2), inode(10, 3)]);
    for (slot, records) in [(1, &first), (2, &second)] {
        base::apply(&a, Slot(slot), records).unwrap();
        records.iter().for_each(|r| base::apply(&b, Slot(slot), std::slice::from_ref(r)).unwrap());
    }
    same(&a, &b, &["base", "recent", "blob"]);
}

#[test]
fn places_of_pieces() {
    let (a, b) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let ((a, _), (b, _)) = (db::open_writer(a.path()).unwrap(), db::open_writer(b.path()).unwrap());
    let blob = |slot| Blob::Segment { epoch: EPOCH, slot: Slot(slot) };
    for conn in [&a, &b] {
        for id in (0..200).filter(|id| id % 7 != 3) {
            let bytes = vec![1u8; 10 + id as usize];
            conn.execute("INSERT INTO piece VALUES (?, ?)", (id, bytes)).unwrap();
        }
        clean::place(conn, &blob(1), &[(LocalId(50), 9)]).unwrap();
    }
    // Some have gone meanwhile, one has a place already.
    let pieces: Vec<_> = (20..180).map(|id| (LocalId(id), id * 100)).collect();
    clean::place(&a, &blob(2), &pieces).unwrap();
    pieces.iter().for_each(|piece| clean::place(&b, &blob(2), &[*piece]).unwrap());
    same(&a, &b, &["place", "tally"]);
    assert_eq!(clean::total(&a).unwrap(), (20..180).filter(|id| id % 7 != 3).map(|id| 10 + id).sum::<u64>());
}
