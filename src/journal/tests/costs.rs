//! What operations cost, in counts.

use super::helper::*;
use crate::journal::db;
use crate::journal::queue::{Op, Queue};
use crate::log::ids::{Ino, LocalId, Slot};
use crate::log::row::{Key, Record};
use crate::log::source::{Part, RecoverySink};
use bytes::Bytes;
use rusqlite::StatementStatus;
use std::sync::atomic::Ordering;
use tempfile::TempDir;

/// Its writer gathers for a moment anyway; being woken for each change cost more than writing them.
#[test]
fn a_burst_of_changes_wakes_the_writer_once() {
    let queue = Queue::default();
    for n in 0..1000 {
        queue.push(Op::Piece { id: LocalId(n), bytes: Bytes::from_static(&[7; 100]) });
    }
    assert_eq!(queue.woken.load(Ordering::Relaxed), 1);
    queue.push(Op::Piece { id: LocalId(1000), bytes: vec![7; 4 << 20].into() });
    assert_eq!(queue.woken.load(Ordering::Relaxed), 2, "much is written without waiting for more");
}

#[test]
fn a_statement_is_prepared_once_whatever_is_bound() {
    let dir = TempDir::new().unwrap();
    let (writer, _) = db::open_writer(dir.path()).unwrap();
    let reader = db::ReaderPath::new(dir.path()).open().unwrap();
    for conn in [&writer, &reader] {
        let sql = "SELECT key, value FROM base WHERE key >= ? AND key < ? ORDER BY key LIMIT ?";
        let mut scan = conn.prepare(sql).unwrap();
        for limit in 1..20 {
            let found = scan.exists(([limit as u8], [limit as u8 + 9], limit)).unwrap();
            assert!(!found);
        }
        assert_eq!(scan.get_status(StatementStatus::RePrepare), 0);
    }
}

#[test]
fn an_inode_without_attributes_is_asked_for_once() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path());
    let key = |ino, name: &str| Key::Xattr { ino: Ino(ino), name: name.into() }.encode();
    let attribute =
        |name: &str| Record::put_raw(&Key::Xattr { ino: Ino(5), name: name.into() }, b"x".to_vec());
    journal.apply(vec![inode(5, 1), inode(6, 1)]).unwrap();
    commit(&journal, 1);
    for name in ["security.capability", "system.posix_acl_access", "user.a"] {
        assert_eq!(journal.get_raw(&key(5, name)).unwrap(), None);
        assert_eq!(journal.get_raw(&key(6, name)).unwrap(), None);
    }
    assert_eq!(journal.asked(), 2);

    journal.apply(vec![attribute("user.a")]).unwrap();
    assert!(journal.get_raw(&key(5, "user.a")).unwrap().is_some());
    commit(&journal, 2);
    assert!(journal.get_raw(&key(5, "user.a")).unwrap().is_some(), "there is one now");
    assert_eq!(journal.get_raw(&key(5, "user.b")).unwrap(), None);
    assert_eq!(journal.get_raw(&key(6, "user.a")).unwrap(), None);
}

#[test]
fn memory_is_given_back_and_everything_is_still_there() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path());
    let mut sink = journal.sink();
    sink.reset().unwrap();
    let rows: Vec<_> = (5..2005).map(|ino| inode(ino, 1)).collect();
    sink.rows(Part::Image, rows.clone()).unwrap();
    sink.checkpoint_loaded(EPOCH, Slot(3), Slot(3)).unwrap();
    let all = |what: &str| {
        for record in &rows {
            assert!(journal.get_raw(&record.key).unwrap().is_some(), "{what}");
        }
    };
    all("as it was loaded");
    let changed = inode(7, 2);
    journal.apply(vec![changed.clone()]).unwrap();
    journal.shrink().unwrap();
    all("afterwards");
    assert_eq!(journal.get_raw(&changed.key).unwrap().as_deref(), changed.value.as_deref());
}
