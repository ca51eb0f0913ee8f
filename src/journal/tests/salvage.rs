//! What is set aside, when, and how it reads.

use super::helper::{EPOCH, commit, extent_key, inode_row, local_extent, open, seal_and_record};
use crate::journal::Journal;
use crate::journal::salvage::{Ground, Item, Set, What, sets_in};
use crate::log::ids::{Epoch, Ino, Slot};
use crate::log::row::{Cookie, DentryRow, Home, InodeRow, Key, Record};
use crate::log::source::{CommitSource, LocalKind, RecoverySink};
use bytes::Bytes;
use std::path::Path;

const OTHER: Epoch = Epoch { counter: 2, nonce: 5 };

fn cookie(name: &str) -> Cookie {
    Cookie(4 + name.bytes().map(u64::from).sum::<u64>())
}

fn row(parent: u64, name: &str, mode: u32) -> InodeRow {
    let home = Some(Home { parent: Ino(parent), cookie: cookie(name) });
    InodeRow { home, mode, ..inode_row(1) }
}

fn entry(parent: u64, name: &str) -> Key {
    Key::Dentry { parent: Ino(parent), cookie: cookie(name), name: name.into() }
}

/// The rows of a new inode.
fn made(ino: u64, parent: u64, name: &str, mode: u32) -> Vec<Record> {
    let dentry = DentryRow { ino: Ino(ino), kind: mode & 0o170_000 };
    vec![
        Record::put(&Key::Inode { ino: Ino(ino) }, &row(parent, name, mode)),
        Record::put(&entry(parent, name), &dentry),
    ]
}

fn write(journal: &Journal, ino: u64, bytes: &'static [u8]) {
    let id = journal.put_local(Bytes::from_static(bytes)).unwrap();
    journal.apply(vec![Record::put(&extent_key(ino, 0), &local_extent(id, bytes))]).unwrap();
}

/// A root, a directory `d` with the files `old` and `gone`, committed; then changes of each kind.
fn changed(journal: &Journal) {
    journal
        .apply(vec![Record::put(
            &Key::Inode { ino: Ino::ROOT },
            &InodeRow { mode: 0o040755, ..inode_row(1) },
        )])
        .unwrap();
    for (ino, parent, name, mode) in
        [(2, 1, "d", 0o040750), (3, 2, "old", 0o100644), (4, 2, "gone", 0o100644)]
    {
        journal.apply(made(ino, parent, name, mode)).unwrap();
    }
    commit(journal, 1);
    journal.apply(made(5, 2, "new", 0o100600)).unwrap();
    write(journal, 5, b"precious");
    let renamed = DentryRow { ino: Ino(3), kind: 0o100000 };
    journal
        .apply(vec![
            Record::delete(&entry(2, "old")),
            Record::put(&entry(1, "moved"), &renamed),
            Record::put(&Key::Inode { ino: Ino(3) }, &row(1, "moved", 0o100644)),
            Record::delete(&entry(2, "gone")),
            Record::delete(&Key::Inode { ino: Ino(4) }),
        ])
        .unwrap();
}

fn foreign(journal: &Journal, slot: u64) {
    let record = Record::put(&Key::Inode { ino: Ino(5) }, &row(1, "theirs", 0o100644));
    journal.sink().segment(OTHER, Slot(slot), &[7; 32], vec![record]).unwrap();
}

fn path(names: &[Vec<Vec<u8>>]) -> String {
    let parts = names.first().cloned().unwrap_or_default();
    parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect::<Vec<_>>().join("/")
}

fn check(set: &Set) {
    let items = set.items().unwrap();
    let of = |ino: u64| items.iter().find(|item| item.ino == Ino(ino)).unwrap();
    let all: Vec<u64> = items.iter().map(|item| item.ino.0).collect();
    assert_eq!(all, [3, 4, 5], "the directories did not change but for their entries");
    let Item { what, names, were, .. } = of(3);
    assert_eq!((&what[..], &path(names)[..], &path(were)[..]), (&[What::Renamed][..], "moved", "d/old"));
    assert_eq!((&of(4).what[..], &path(&of(4).were)[..]), (&[What::Deleted][..], "d/gone"));
    assert_eq!((&of(5).what[..], &path(&of(5).names)[..]), (&[What::Created][..], "d/new"));
    let (_, extent) = of(5).extents.first_key_value().unwrap();
    assert_eq!(set.piece(extent).unwrap().unwrap(), &b"precious"[..]);
    assert!(set.directories().iter().any(|(path, row)| path == &[b"d".to_vec()] && row.mode == 0o040750));
}

fn only_set(dir: &Path) -> Set {
    let sets = sets_in(dir).unwrap();
    assert_eq!(sets.len(), 1, "{sets:?}");
    Set::open(&sets[0]).unwrap()
}

#[test]
fn a_set_says_what_happened_to_which_path() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    changed(&journal);
    let salvaged = journal.salvage_changes("fenced", Some("host b")).unwrap().expect("there is something");
    assert_eq!(salvaged.images, 0);
    assert_eq!(journal.uncommitted(), Default::default());
    assert!(journal.seal(100).unwrap().is_none());
    assert!(journal.salvage_changes("again", None).unwrap().is_none(), "nothing is left");
    let set = only_set(dir.path());
    assert_eq!((&set.info.why[..], set.info.by.as_deref()), ("fenced", Some("host b")));
    assert_eq!(set.ground, Ground::SetAside);
    check(&set);
    assert!(std::fs::read_to_string(salvaged.folder.join("README")).unwrap().contains("cwdfs salvage"));
    journal.apply(made(9, 1, "x", 0o100644)).unwrap();
}

#[test]
fn what_waits_in_a_cache_is_read_without_a_change_and_never_beside_its_process() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    changed(&journal);
    journal.bind(crate::log::ids::SessionId(7)).unwrap();
    journal.settle().unwrap();
    assert_eq!(Set::waiting(dir.path()).err().unwrap().kind, LocalKind::Busy);
    drop(journal);
    for _ in 0..2 {
        let set = Set::waiting(dir.path()).unwrap().expect("changes wait");
        assert_eq!((&set.ground, set.info.session), (&Ground::Waiting, Some(crate::log::ids::SessionId(7))));
        check(&set);
        assert_eq!(Journal::open(dir.path(), super::helper::options()).err().unwrap().kind, LocalKind::Busy);
    }
    assert!(open(dir.path()).1.uncommitted > 0, "a mount still finds them");
}

#[test]
fn a_crash_while_another_history_is_taken_in_puts_no_changes_on_top_of_it() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (journal, _) = open(dir.path());
        changed(&journal);
        journal.bind(crate::log::ids::SessionId(7)).unwrap();
    }
    {
        let (journal, found) = open(dir.path());
        assert!(found.uncommitted > 0);
        foreign(&journal, 2);
        // And here the process ends, before anything was decided.
    }
    let (_, found) = open(dir.path());
    assert_eq!(found.uncommitted, 0, "they were made on rows that are no more");
    check(&only_set(dir.path()));
}

#[test]
fn own_slots_that_landed_are_not_set_aside() {
    let dir = tempfile::tempdir().unwrap();
    let records = {
        let (journal, _) = open(dir.path());
        journal.bind(crate::log::ids::SessionId(7)).unwrap();
        journal.apply(made(2, 1, "landed", 0o100644)).unwrap();
        write(&journal, 2, b"in the store");
        let records = seal_and_record(&journal, 1, usize::MAX).unwrap();
        journal.apply(made(3, 1, "lost", 0o100644)).unwrap();
        records
    };
    let (journal, _) = open(dir.path());
    journal.sink().segment(EPOCH, Slot(1), &[1; 32], records).unwrap();
    foreign(&journal, 2);
    journal.salvage_changes("diverged", None).unwrap().expect("one file was not stored");
    let items = only_set(dir.path()).items().unwrap();
    assert_eq!(items.iter().map(|item| path(&item.names)).collect::<Vec<_>>(), ["lost"]);
}
