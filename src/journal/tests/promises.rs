//! One promise a test.

use super::helper::*;
use crate::journal::{Journal, Uncommitted};
use crate::log::ids::{Blob, Ino, Slot};
use crate::log::lease::SessionId;
use crate::log::row::{ExtentRow, InodeRow, Key, Record, Row};
use crate::log::source::{CommitSource, Committed, LocalKind, Move, Part, RecoverySink};
use bytes::Bytes;
use std::time::Instant;

#[test]
fn a_change_is_seen_at_once_and_after_its_commit() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, found) = open(dir.path());
    assert!(found.base.is_none() && found.uncommitted == 0);
    journal.apply(vec![inode(5, 1)]).unwrap();
    assert_eq!(journal.inode(Ino(5)).unwrap(), Some(inode_row(1)));
    assert_eq!(journal.uncommitted().rows, 1);
    commit(&journal, 1);
    assert_eq!(journal.uncommitted().rows, 0);
    assert_eq!(journal.inode(Ino(5)).unwrap(), Some(inode_row(1)));
    assert_eq!(journal.committed_seq(), 1);
    assert!(journal.seal(100).unwrap().is_none());
}

#[test]
fn uncommitted_changes_and_content_survive_and_a_landed_slot_is_not_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = Bytes::from_static(b"some content");
    {
        let (journal, _) = open(dir.path());
        journal.bind(SessionId(4)).unwrap();
        let id = journal.put_local(bytes.clone()).unwrap();
        journal.apply(vec![inode(5, 1), Record::put(&extent_key(5, 0), &local_extent(id, &bytes))]).unwrap();
        seal_and_record(&journal, 1, usize::MAX).unwrap();
        // A later change names the same piece, whose slot is chosen but not known to have landed.
        journal.apply(vec![Record::put(&extent_key(5, 50), &local_extent(id, &bytes))]).unwrap();
        journal.settle().unwrap();
    }
    let (journal, found) = open(dir.path());
    assert_eq!(found.uncommitted, 3);
    assert!(found.same_boot);
    assert_eq!(journal.apply(vec![inode(6, 1)]).unwrap_err().kind, LocalKind::Failed);
    assert_eq!(journal.keep_changes_after(Some(2)).unwrap(), 1);
    let rows = journal.extents(Ino(5), 0..100).unwrap();
    assert_eq!(rows.len(), 1, "the first extent comes from the store, as a segment, and was not given here");
    assert_eq!(rows[0].1.blob, Blob::Segment { epoch: EPOCH, slot: Slot(1) });
    assert_eq!(journal.piece(&rows[0].1).unwrap(), Some(bytes.clone()));
    assert_eq!(journal.seal(100).unwrap().unwrap().pieces.len(), 0);
}

#[test]
fn a_slot_that_never_landed_is_sealed_again_with_its_content() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = Bytes::from_static(b"some content");
    {
        let (journal, _) = open(dir.path());
        let id = journal.put_local(bytes.clone()).unwrap();
        journal.apply(vec![Record::put(&extent_key(5, 0), &local_extent(id, &bytes))]).unwrap();
        seal_and_record(&journal, 1, usize::MAX).unwrap();
    }
    let (journal, _) = open(dir.path());
    assert_eq!(journal.keep_changes_after(None).unwrap(), 1);
    let sealed = journal.seal(usize::MAX).unwrap().unwrap();
    assert_eq!(sealed.pieces.iter().map(|(_, b)| b.clone()).collect::<Vec<_>>(), [bytes]);
}

#[test]
fn only_what_the_store_is_still_to_get_is_counted() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let bytes = Bytes::from_static(b"some content");
    let put = |ino| {
        let id = journal.put_local(bytes.clone()).unwrap();
        (id, Record::put(&extent_key(ino, 0), &local_extent(id, &bytes)))
    };
    // A capture that is given up, as where the file is deleted meanwhile.
    let (given_up, _) = put(5);
    assert_eq!(journal.uncommitted().bytes, 12);
    journal.abandon_local(&[given_up]);
    assert_eq!(journal.uncommitted().bytes, 0);
    // One that is named stays, whoever gives it up.
    let (named, record) = put(6);
    journal.apply(vec![record]).unwrap();
    journal.abandon_local(&[named]);
    assert_eq!(journal.uncommitted().bytes, 12);
    // Deleted while it is open: read as before, and owed to nobody.
    let row = journal.extents(Ino(6), 0..12).unwrap().remove(0).1;
    let pin = journal.pin_blobs(std::slice::from_ref(&row.blob));
    journal.apply(vec![Record::delete(&extent_key(6, 0))]).unwrap();
    commit(&journal, 1);
    assert_eq!(journal.uncommitted(), Uncommitted::default());
    assert_eq!(journal.piece(&row).unwrap(), Some(bytes.clone()));
    drop(pin);
    assert_eq!(journal.uncommitted(), Uncommitted::default());
}

#[test]
fn a_row_read_before_its_piece_went_to_the_store_can_still_be_applied() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let bytes = Bytes::from_static(b"some content");
    let id = journal.put_local(bytes.clone()).unwrap();
    let row = local_extent(id, &bytes);
    journal.apply(vec![Record::put(&extent_key(5, 0), &row)]).unwrap();
    commit(&journal, 1);
    journal.apply(vec![Record::put(&extent_key(6, 0), &row)]).unwrap();
    let now = journal.extents(Ino(6), 0..1).unwrap().remove(0).1;
    assert_eq!((now.blob.clone(), now.piece_off), (Blob::Segment { epoch: EPOCH, slot: Slot(1) }, 100));
    assert_eq!(journal.piece(&now).unwrap(), Some(bytes.clone()));
    assert_eq!(journal.piece(&row).unwrap(), Some(bytes));
    assert_eq!(journal.resolve(&row), now);
}

#[test]
fn a_held_change_is_passed_only_together_with_what_it_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.apply(vec![inode(1, 1)]).unwrap();
    let (_, held) = journal.apply_held(vec![inode(2, 1)]).unwrap();
    journal.apply(vec![inode(3, 1)]).unwrap();
    assert_eq!(seal_and_record(&journal, 1, usize::MAX).unwrap().len(), 1);
    assert!(journal.seal(usize::MAX).unwrap().is_none());
    let until = journal.apply(vec![inode(4, 1)]).unwrap();
    held.release(until);
    assert_eq!(seal_and_record(&journal, 2, 1).unwrap().len(), 3, "however small the bound");
    let (_, held) = journal.apply_held(vec![inode(5, 1)]).unwrap();
    drop(held);
    assert_eq!(seal_and_record(&journal, 3, usize::MAX).unwrap().len(), 1);
}

#[test]
fn a_removed_inode_takes_its_rows_along_everywhere() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let bytes = Bytes::from_static(b"x");
    let id = journal.put_local(bytes.clone()).unwrap();
    let xattr = Key::Xattr { ino: Ino(5), name: b"user.a".to_vec() };
    let rows = vec![
        inode(5, 1),
        Record::put(&extent_key(5, 0), &local_extent(id, &bytes)),
        Record::put_raw(&xattr, b"v".to_vec()),
    ];
    journal.apply(rows).unwrap();
    commit(&journal, 1);
    let segment = Blob::Segment { epoch: EPOCH, slot: Slot(1) };
    assert_eq!(journal.live_bytes(&segment).unwrap(), 1);
    journal.apply(vec![Record::delete(&Key::Inode { ino: Ino(5) })]).unwrap();
    for committed in [false, true] {
        assert!(journal.extents(Ino(5), 0..9).unwrap().is_empty(), "committed: {committed}");
        assert!(journal.xattrs(Ino(5)).unwrap().is_empty());
        assert_eq!(journal.get_raw(&xattr.encode()).unwrap(), None);
        if !committed {
            commit(&journal, 2);
        }
    }
    assert_eq!(journal.dead_blobs(Slot(1)).unwrap(), []);
    let pin = journal.pin_blobs(std::slice::from_ref(&segment));
    assert_eq!(journal.dead_blobs(Slot(2)).unwrap(), []);
    drop(pin);
    assert_eq!(journal.dead_blobs(Slot(2)).unwrap(), std::slice::from_ref(&segment));
    assert_eq!(journal.dead_among(std::slice::from_ref(&segment), Slot(1)).unwrap(), []);
    assert_eq!(journal.dead_among(std::slice::from_ref(&segment), Slot(2)).unwrap(), [segment]);
}

#[test]
fn content_overwritten_before_its_seal_is_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for byte in [b"a", b"b"] {
        let bytes = Bytes::from_static(byte);
        let id = journal.put_local(bytes.clone()).unwrap();
        journal.apply(vec![Record::put(&extent_key(5, 0), &local_extent(id, &bytes))]).unwrap();
    }
    assert_eq!(journal.uncommitted().bytes, 2);
    commit(&journal, 1);
    assert_eq!(journal.uncommitted().bytes, 0);
    journal.settle().unwrap();
    let pieces: i64 = journal
        .shared
        .readers
        .with(|c| Ok(c.query_row("SELECT count(*) FROM piece", [], |r| r.get(0)).unwrap()))
        .unwrap();
    assert_eq!(pieces, 1);
}

#[test]
fn a_second_process_is_refused_and_a_damaged_database_can_be_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let busy = Journal::open(dir.path(), options()).err().unwrap();
    assert_eq!(busy.kind, LocalKind::Busy);
    drop(journal);
    std::fs::write(dir.path().join("journal.db"), b"this is no database, however long it may be").unwrap();
    let damaged = Journal::open(dir.path(), options()).err().unwrap();
    assert_eq!(damaged.kind, LocalKind::Damaged, "{damaged}");
    assert!(damaged.message.contains("journal.db"), "{damaged}");
    let aside = Journal::set_aside(dir.path(), "it was damaged").unwrap();
    assert!(aside.join("journal.db").exists());
    open(dir.path());
}

#[test]
fn a_bit_that_flips_between_two_mounts_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.apply((2..500).map(|ino| inode(ino, 1)).collect()).unwrap();
    drop(journal);
    drop(open(dir.path()));
    let path = dir.path().join("journal.db");
    let sound = std::fs::read(&path).unwrap();
    for at in [sound.len() / 2, sound.len() - 20, 200] {
        let mut bytes = sound.clone();
        bytes[at] ^= 0x20;
        let sum = std::fs::read(dir.path().join("journal.sum")).unwrap();
        std::fs::write(&path, bytes).unwrap();
        assert_eq!(Journal::open(dir.path(), options()).err().unwrap().kind, LocalKind::Damaged, "byte {at}");
        std::fs::write(&path, &sound).unwrap();
        std::fs::write(dir.path().join("journal.sum"), sum).unwrap();
    }
    assert_eq!(open(dir.path()).1.uncommitted, 498);
    // One that was killed leaves no sum, and is believed as far as it can be read.
}

#[test]
fn a_full_database_refuses_new_changes_and_loses_none() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let limit = |pages| journal.shared.queue.page_limit.store(pages, std::sync::atomic::Ordering::Relaxed);
    limit(1);
    let big = Record::put_raw(&Key::Meta { name: b"big".to_vec() }, vec![7; 1 << 20]);
    journal.apply(vec![big.clone()]).unwrap();
    assert_eq!(journal.settle().unwrap_err().kind, LocalKind::Full);
    assert_eq!(journal.apply(vec![inode(5, 1)]).unwrap_err().kind, LocalKind::Full);
    assert_eq!(journal.get_raw(&big.key).unwrap().as_deref(), big.value.as_deref());
    limit(0);
    let started = Instant::now();
    while journal.settle().is_err() {
        assert!(started.elapsed().as_secs() < 20, "{:?}", journal.failure());
    }
    journal.apply(vec![inode(5, 1)]).unwrap();
    drop(journal);
    assert_eq!(open(dir.path()).1.uncommitted, 2);
}

#[test]
fn relocation_changes_only_rows_that_are_as_expected() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.apply(vec![inode(5, 1), inode(6, 1)]).unwrap();
    commit(&journal, 1);
    journal.apply(vec![inode(6, 2)]).unwrap();
    let old = inode_row(1).encode();
    let expected = |ino| (Key::Inode { ino: Ino(ino) }.encode(), old.clone());
    let one = |ino| Move { expected: vec![expected(ino)], records: vec![inode(ino, 9)] };
    assert_eq!(journal.relocate(&[one(5), one(6)]).unwrap(), 1);
    let version = |ino| journal.get::<InodeRow>(&Key::Inode { ino: Ino(ino) }).unwrap().unwrap().version;
    assert_eq!((version(5), version(6)), (9, 2));
    let both = Move { expected: vec![expected(7), expected(6)], records: vec![inode(7, 9), inode(6, 9)] };
    journal.apply(vec![inode(7, 1)]).unwrap();
    assert_eq!(journal.relocate(&[both]).unwrap(), 0, "all of a move or nothing");
    assert_eq!((version(7), version(6)), (1, 2));
}

#[test]
fn three_hundred_thousand_rows_load_fast_and_a_delta_goes_over_them() {
    const FILES: u64 = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let mut sink = journal.sink();
    sink.reset().unwrap();
    let pack = Blob::Data { epoch: EPOCH, n: 3 };
    let extent =
        |_| ExtentRow { len: 10, blob: pack.clone(), piece_off: 0, piece_len: 10, skip: 0, crc: Some(1) };
    let dentries = (1..=FILES).map(|i| {
        let cookie = crate::log::row::Cookie(i);
        Record::put(&Key::Dentry { parent: Ino(1), cookie, name: i.to_string().into_bytes() }, &dentry(i))
    });
    let rows: Vec<Record> = (1..=FILES)
        .map(|i| inode(i, 1))
        .chain(dentries)
        .chain((1..=FILES).map(|i| Record::put(&extent_key(i, 0), &extent(i))))
        .collect();
    let started = Instant::now();
    for batch in rows.chunks(4096) {
        sink.rows(Part::Image, batch.to_vec()).unwrap();
    }
    let delta = vec![Record::delete(&Key::Inode { ino: Ino(7) }), inode(FILES + 1, 1)];
    sink.rows(Part::Delta, delta.clone()).unwrap();
    sink.checkpoint_loaded(EPOCH, Slot(40), Slot(30)).unwrap();
    let took = started.elapsed();
    println!("{} rows in {took:?}: {:.2} us a row", rows.len(), took.as_secs_f64() * 1e6 / rows.len() as f64);
    assert_eq!(journal.live_bytes(&pack).unwrap(), (FILES - 1) * 10);
    assert_eq!(journal.extents(Ino(7), 0..10).unwrap(), []);
    assert_eq!(journal.entries(Ino(1), 0, 10).unwrap().len(), 10);
    let snapshot = journal.snapshot().unwrap();
    assert_eq!((snapshot.base(), snapshot.changes_from()), ((EPOCH, Slot(40)), Slot(30)));
    let mut changed = snapshot.rows(None, Some(Slot(30)), 10).unwrap();
    changed.sort_by_key(|r| r.value.is_some());
    assert_eq!(changed, delta);
    assert!(snapshot.rows(None, Some(Slot(29)), 10).is_err());
}

#[test]
fn a_new_session_that_never_committed_is_based_on_the_empty_tree() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, found) = open(dir.path());
    assert!(found.base.is_none());
    journal.sink().reset().unwrap();
    journal.bind(SessionId(8)).unwrap();
    journal.writing_as(Some(EPOCH)).unwrap();
    journal.apply(vec![inode(5, 1)]).unwrap();
    seal_and_record(&journal, 1, usize::MAX).unwrap();
    journal.apply(vec![inode(6, 1)]).unwrap();
    drop(journal);
    let (journal, found) = open(dir.path());
    let base = found.base.unwrap();
    assert_eq!((base.session, base.slot, base.chosen.len()), (SessionId(8), Slot(0), 1));
    assert_eq!((found.writer, found.uncommitted), (Some(EPOCH), 2));
    assert!(journal.apply(vec![inode(7, 1)]).is_err(), "before the old changes are settled");
    // Slot 1 landed: recovery applies it, and the rest is kept.
    journal.sink().segment(EPOCH, Slot(1), &[1; 32], vec![inode(5, 1)]).unwrap();
    assert_eq!(journal.keep_changes_after(Some(base.chosen[0].3)).unwrap(), 1);
    assert_eq!(journal.uncommitted().rows, 1);
    journal.apply(vec![inode(7, 1)]).unwrap();
    journal.sink().reset().unwrap();
    drop(journal);
    assert!(open(dir.path()).1.base.is_none(), "a checkpoint was being loaded");
}

#[test]
fn content_is_found_while_its_slot_is_being_noted_as_committed() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    journal.bind(SessionId(8)).unwrap();
    let bytes = Bytes::from_static(b"content");
    let id = journal.put_local(bytes.clone()).unwrap();
    let extent = local_extent(id, &bytes);
    journal.apply(vec![inode(5, 1), Record::put(&extent_key(5, 0), &extent)]).unwrap();
    drop(journal);
    // Opened anew, it has nothing in memory.
    let (journal, _) = open(dir.path());
    journal.keep_changes_after(None).unwrap();
    seal_and_record(&journal, 1, usize::MAX).unwrap();
    let (let_go, hold) = std::sync::mpsc::channel::<()>();
    let held = journal.shared.queue.send(move |_| {
        hold.recv().unwrap();
        Ok(())
    });
    std::thread::scope(|scope| {
        let committing = scope.spawn(|| journal.committed(Slot(1)).unwrap());
        while journal.shared.overlay.read().locals.moved(id).is_none() {
            std::thread::yield_now();
        }
        assert_eq!(journal.piece(&extent).unwrap(), Some(bytes));
        let_go.send(()).unwrap();
        committing.join().unwrap();
    });
    held.wait().unwrap();
}

#[test]
fn whose_slots_came_into_the_rows_is_remembered_until_the_changes_are_settled() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (journal, _) = open(dir.path());
        journal.bind(SessionId(4)).unwrap();
        journal.apply(vec![inode(5, 1)]).unwrap();
        seal_and_record(&journal, 1, usize::MAX).unwrap();
        journal.apply(vec![inode(6, 1)]).unwrap();
        journal.settle().unwrap();
    }
    // Recovery finds its own slot, and dies.
    let (journal, found) = open(dir.path());
    let own = found.base.unwrap().chosen[0];
    journal.sink().segment(own.0, own.1, &own.2, vec![inode(5, 1)]).unwrap();
    drop(journal);
    let (journal, found) = open(dir.path());
    let base = found.base.unwrap();
    assert_eq!((base.slot, base.landed, base.diverged), (Slot(1), Some(1), false));
    // The next one finds another writer's, and dies too.
    journal.sink().segment(EPOCH, Slot(2), &[9; 32], vec![inode(5, 2)]).unwrap();
    drop(journal);
    let (journal, found) = open(dir.path());
    let base = found.base.unwrap();
    assert_eq!((base.slot, found.uncommitted), (Slot(2), 0), "what was made without it has left");
    drop(journal);
}
