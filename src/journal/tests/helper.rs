//! A journal in a folder, and rows to put in it.

use crate::journal::{Found, Journal, JournalOptions};
use crate::log::ids::{Blob, Epoch, Ino, LocalId, Slot};
use crate::log::row::{DentryRow, ExtentRow, InodeRow, Key, Record, Row, Time};
use crate::log::source::{ChosenSlot, CommitSource};
use std::path::Path;
use std::sync::Arc;

pub const EPOCH: Epoch = Epoch { counter: 1, nonce: 9 };

pub fn options() -> JournalOptions {
    JournalOptions { row_cache: 1 << 20, piece_cache: 1 << 20, piece_store: 1 << 20 }
}

pub fn open(dir: &Path) -> (Arc<Journal>, Found) {
    Journal::open(dir, options()).unwrap()
}

pub fn inode(ino: u64, version: u64) -> Record {
    Record::put(&Key::Inode { ino: Ino(ino) }, &inode_row(version))
}

pub fn inode_row(version: u64) -> InodeRow {
    let time = Time { sec: 1, nsec: 2 };
    InodeRow {
        mode: 0o100644,
        uid: 0,
        gid: 0,
        nlink: 1,
        rdev: 0,
        size: version,
        allocated: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        version,
        home: None,
        target: Vec::new(),
    }
}

pub fn dentry(ino: u64) -> DentryRow {
    DentryRow { ino: Ino(ino), kind: 0o100000 }
}

/// The extent of a local piece of these bytes.
pub fn local_extent(id: LocalId, bytes: &[u8]) -> ExtentRow {
    ExtentRow {
        len: bytes.len() as u64,
        blob: Blob::Local(id),
        piece_off: 0,
        piece_len: bytes.len() as u32,
        skip: 0,
        crc: Some(crc32c::crc32c(bytes)),
    }
}

pub fn extent_key(ino: u64, offset: u64) -> Key {
    Key::Extent { ino: Ino(ino), offset }
}

/// Seals, places pieces one after the other, and records; the slot's resolved records.
pub fn seal_and_record(journal: &Journal, slot: u64, max: usize) -> Option<Vec<Record>> {
    let sealed = journal.seal(max).unwrap()?;
    let mut off = 100;
    let mut placed = Vec::new();
    for (id, bytes) in &sealed.pieces {
        placed.push((*id, off));
        off += bytes.len() as u64;
    }
    let mut records = sealed.records;
    for record in records.iter_mut().filter(|r| Key::is_extent(&r.key)) {
        let Some(value) = &record.value else { continue };
        let mut row = ExtentRow::decode(value).unwrap();
        if let Blob::Local(id) = row.blob {
            row.piece_off = placed.iter().find(|(i, _)| *i == id).unwrap().1;
            row.blob = Blob::Segment { epoch: EPOCH, slot: Slot(slot) };
            record.value = Some(row.encode());
        }
    }
    let chosen = ChosenSlot {
        epoch: EPOCH,
        slot: Slot(slot),
        checksum: [slot as u8; 32],
        last_seq: sealed.last_seq,
        placed,
    };
    journal.record(&chosen, records.clone()).unwrap();
    Some(records)
}

/// One commit of everything.
pub fn commit(journal: &Journal, slot: u64) {
    assert!(seal_and_record(journal, slot, usize::MAX).is_some());
    journal.committed(Slot(slot)).unwrap();
}
