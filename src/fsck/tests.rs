//! A session broken in each way: what is said of it, what a repair makes of it.

use super::{Depth, Kind, Report, check, repair};
use crate::log::checkpoint::{Header as CheckpointHeader, Name, Writer};
use crate::log::ids::{Blob, Epoch, Ino, Slot, keys};
use crate::log::lease::SessionId;
use crate::log::recover::recover;
use crate::log::row::{Cookie, DentryRow, ExtentRow, Home, InodeRow, Key, Record, Row, Time, ViewRow, meta};
use crate::log::segment::{Header, Kind as Of, encode};
use crate::log::source::Sealed;
use crate::log::testing::{FakeJournal, Shared, options, takeover};
use crate::store::ObjectStore;
use std::sync::Arc;

const COOKIES: [u8; 16] = [7; 16];
const CONTENT: &[u8] = b"what was written";

fn cookie(name: &str) -> Cookie {
    Cookie::of(&COOKIES, name.as_bytes())
}

fn entry(parent: u64, name: &str) -> Key {
    Key::Dentry { parent: Ino(parent), cookie: cookie(name), name: name.into() }
}

fn dentry(parent: u64, name: &str, ino: u64, kind: u32) -> Record {
    Record::put(&entry(parent, name), &DentryRow { ino: Ino(ino), kind })
}

fn row(mode: u32, nlink: u32, home: Option<(u64, &str)>) -> InodeRow {
    let time = Time { sec: 1, nsec: 0 };
    let home = home.map(|(parent, name)| Home { parent: Ino(parent), cookie: cookie(name) });
    InodeRow {
        mode,
        uid: 0,
        gid: 0,
        nlink,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        version: 1,
        home,
        target: Vec::new(),
    }
}

fn inode(ino: u64, row: &InodeRow) -> Record {
    Record::put(&Key::Inode { ino: Ino(ino) }, row)
}

fn file_row(name: (u64, &str), nlink: u32) -> InodeRow {
    let bytes = CONTENT.len() as u64;
    InodeRow { size: bytes, allocated: bytes, ..row(0o100_644, nlink, Some(name)) }
}

fn extent(epoch: Epoch, n: u64) -> ExtentRow {
    ExtentRow {
        len: CONTENT.len() as u64,
        blob: Blob::Data { epoch, n },
        piece_off: 0,
        piece_len: CONTENT.len() as u32,
        skip: 0,
        crc: Some(crc32c::crc32c(CONTENT)),
    }
}

fn at(ino: u64, offset: u64) -> Key {
    Key::Extent { ino: Ino(ino), offset }
}

fn link(ino: u64, parent: u64, name: &str) -> Key {
    Key::Link { ino: Ino(ino), parent: Ino(parent), cookie: cookie(name), name: name.into() }
}

/// What the view has of an object that shows an inode.
fn published(key: &str, ino: u64) -> Record {
    let row = ViewRow { ino: Ino(ino), version: 1, etag: "\"e\"".into(), size: 16, modified_ms: None };
    Record::put(&Key::View { key: key.into() }, &row)
}

/// A sound tree: `d/` (2) with `f` (3), which is `g` at the root too; `e/` (4) in `d/`.
fn sound(epoch: Epoch) -> Vec<Record> {
    const DIR: u32 = 0o040_000;
    const FILE: u32 = 0o100_000;
    vec![
        Record::put_raw(&Key::Meta { name: meta::COOKIE_KEY.to_vec() }, COOKIES.to_vec()),
        Record::put(&Key::Meta { name: meta::NEXT_INO.to_vec() }, &10u64),
        inode(1, &row(0o040_755, 3, None)),
        inode(2, &row(0o040_755, 3, Some((1, "d")))),
        inode(3, &file_row((2, "f"), 2)),
        inode(4, &row(0o040_755, 2, Some((2, "e")))),
        dentry(1, "d", 2, DIR),
        dentry(2, "f", 3, FILE),
        dentry(1, "g", 3, FILE),
        dentry(2, "e", 4, DIR),
        Record::put_raw(&link(3, 1, "g"), Vec::new()),
        Record::put(&at(3, 0), &extent(epoch, 1)),
    ]
}

/// A session in a store of its own, whose last commit can be chosen.
struct Broken {
    shared: Arc<Shared>,
    store: Arc<dyn ObjectStore>,
    session: SessionId,
    epoch: Epoch,
}

impl Broken {
    async fn new() -> Broken {
        let shared = Shared::new();
        let store = shared.client().store();
        let got = recover(store.clone(), options("a"), None, &mut FakeJournal::new().sink()).await.unwrap();
        let (session, epoch) = (got.lease.session(), got.lease.epoch());
        got.lease.release().await.unwrap();
        shared.set(&keys::data(epoch, 1), CONTENT.to_vec());
        let broken = Broken { shared, store, session, epoch };
        broken.commit(1, sound(epoch));
        broken
    }

    fn commit(&self, slot: u64, records: Vec<Record>) {
        let header = Header {
            session: self.session,
            epoch: self.epoch,
            slot: Slot(slot),
            wall_ms: 0,
            label: None,
            committed: Slot(slot - 1),
            kind: Of::Changes,
        };
        let encoded = encode(&header, Sealed { last_seq: 0, records, pieces: Vec::new() }).unwrap();
        self.shared.set(&keys::segment(self.epoch, Slot(slot)), encoded.bytes);
    }

    fn image(&self, slot: u64, mut records: Vec<Record>) -> String {
        let name = Name::image(Slot(slot), self.epoch);
        records.sort_by(|a, b| a.key.cmp(&b.key));
        let mut writer = Writer::new(&CheckpointHeader { session: self.session, name });
        records.iter().for_each(|record| writer.push(record).unwrap());
        let mut bytes = writer.take();
        bytes.extend(writer.finish().unwrap());
        self.shared.set(&name.key(), bytes);
        name.key()
    }

    fn flip(&self, key: &str) {
        let mut bytes = self.shared.get(key).unwrap().to_vec();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        self.shared.set(key, bytes);
    }

    async fn check(&self) -> Report {
        check(&self.store, Depth::Full).await.unwrap().expect("a session")
    }

    async fn kinds(&self) -> Vec<Kind> {
        let mut kinds: Vec<Kind> = self.check().await.problems.iter().map(|p| p.kind).collect();
        kinds.dedup();
        kinds
    }

    async fn repair(&self) -> Report {
        repair(&self.store, takeover("fsck"), Depth::Full).await.unwrap().expect("a session")
    }
}

#[tokio::test(start_paused = true)]
async fn a_sound_session_has_no_problem_and_is_not_written() {
    let session = Broken::new().await;
    let report = session.check().await;
    assert_eq!(report.problems, []);
    assert_eq!((report.counts.inodes, report.counts.pieces, report.last_slot), (4, 1, 1));
    assert_eq!(report.counts.bytes_read, CONTENT.len() as u64);
    let before = session.shared.keys();
    assert!(session.repair().await.problems.is_empty());
    assert_eq!(session.shared.keys(), before);
}

/// Changes to a sound tree, what they are found to be, and what lies where after a repair.
#[tokio::test(start_paused = true)]
async fn broken_rows_are_named_and_mended_without_losing_content() {
    const FILE: u32 = 0o100_000;
    let epoch = Epoch { counter: 0, nonce: 0 };
    let cases: Vec<(&str, Vec<Record>, Vec<Kind>)> = vec![
        ("nlink of a file", vec![inode(3, &file_row((2, "f"), 7))], vec![Kind::Nlink]),
        ("nlink of a directory", vec![inode(2, &row(0o040_755, 2, Some((1, "d"))))], vec![Kind::Nlink]),
        ("nlink of the root", vec![inode(1, &row(0o040_755, 9, None))], vec![Kind::Nlink]),
        (
            "allocated",
            vec![inode(3, &InodeRow { allocated: 3, ..file_row((2, "f"), 2) })],
            vec![Kind::Allocated],
        ),
        ("an orphan", vec![inode(7, &row(0o100_644, 1, Some((2, "x"))))], vec![Kind::Orphan]),
        ("a directory without a name", vec![Record::delete(&entry(1, "d"))], vec![Kind::Orphan, Kind::Nlink]),
        ("a dangling name", vec![dentry(2, "none", 8, FILE)], vec![Kind::DanglingName]),
        ("a name of another type", vec![dentry(2, "e", 4, FILE)], vec![Kind::Name, Kind::Nlink]),
        ("a link that is not there", vec![Record::put_raw(&link(3, 2, "h"), vec![])], vec![Kind::Links]),
        ("a link that is not told", vec![Record::delete(&link(3, 1, "g"))], vec![Kind::Links]),
        ("a home that is elsewhere", vec![inode(4, &row(0o040_755, 2, Some((1, "e"))))], vec![Kind::Links]),
        (
            "a loop of directories",
            vec![
                Record::delete(&entry(1, "d")),
                dentry(4, "d", 2, 0o040_000),
                inode(1, &row(0o040_755, 2, None)),
                inode(2, &row(0o040_755, 3, Some((4, "d")))),
                inode(4, &row(0o040_755, 3, Some((2, "e")))),
            ],
            vec![Kind::Orphan],
        ),
        ("a directory of two names", vec![dentry(1, "again", 4, 0o040_000)], vec![Kind::Links, Kind::Nlink]),
        ("content of no inode", vec![Record::put(&at(9, 0), &extent(epoch, 1))], vec![Kind::NoInode]),
        (
            "a name under another cookie",
            vec![
                Record::delete(&entry(2, "f")),
                Record::put(
                    &Key::Dentry { parent: Ino(2), cookie: Cookie(99), name: b"f".to_vec() },
                    &DentryRow { ino: Ino(3), kind: FILE },
                ),
                inode(
                    3,
                    &InodeRow {
                        home: Some(Home { parent: Ino(2), cookie: Cookie(99) }),
                        ..file_row((2, "f"), 2)
                    },
                ),
            ],
            vec![Kind::Name],
        ),
        ("no root", vec![Record::delete(&Key::Inode { ino: Ino(1) })], vec![Kind::Root, Kind::Name]),
        (
            "the next number",
            vec![Record::put(&Key::Meta { name: meta::NEXT_INO.to_vec() }, &4u64)],
            vec![Kind::NextIno],
        ),
        (
            "no key of cookies",
            vec![Record::delete(&Key::Meta { name: meta::COOKIE_KEY.to_vec() })],
            vec![Kind::Name],
        ),
    ];
    for (what, mut change, expected) in cases {
        let session = Broken::new().await;
        for record in &mut change {
            if matches!(Key::decode(&record.key), Some(Key::Extent { .. })) {
                record.value = Some(extent(session.epoch, 1).encode());
            }
        }
        session.commit(2, change);
        assert_eq!(session.kinds().await, expected, "{what}: {}", session.check().await);
        let report = session.repair().await;
        assert!(report.is_sound(), "{what}: {report}");
        let after = session.check().await;
        assert_eq!(after.problems, [], "{what}: {after}");
        assert_eq!(after.counts.bytes_read, CONTENT.len() as u64, "{what}: its content is still named");
    }
}

#[tokio::test(start_paused = true)]
async fn content_that_is_missing_or_damaged_is_named_with_its_file_and_not_repaired() {
    for (what, kind) in [
        ("missing", Kind::MissingContent),
        ("damaged", Kind::DamagedContent),
        ("short", Kind::MissingContent),
    ] {
        let session = Broken::new().await;
        let key = keys::data(session.epoch, 1);
        match what {
            "missing" => session.shared.remove(&key),
            "short" => session.shared.set(&key, CONTENT[1..].to_vec()),
            _ => session.flip(&key),
        }
        let report = session.check().await;
        let [problem] = &report.problems[..] else { panic!("{what}: {report}") };
        assert_eq!((problem.kind, problem.object.as_deref()), (kind, Some(key.as_str())));
        assert_eq!(problem.paths, ["d/f", "g"]);
        assert_eq!(problem.range, Some((0, CONTENT.len() as u64)));
        assert!(!session.repair().await.is_sound(), "{what}: it cannot be made up");
    }
}

#[tokio::test(start_paused = true)]
async fn extents_that_overlap_are_named_and_a_commit_with_one_that_reaches_too_far_is_refused() {
    let session = Broken::new().await;
    session.commit(2, vec![Record::put(&at(3, 4), &extent(session.epoch, 1))]);
    let kinds = session.kinds().await;
    assert!(kinds.contains(&Kind::Extent), "{kinds:?}");
    assert!(session.check().await.to_string().contains("overlap"));
    let session = Broken::new().await;
    let long = ExtentRow { len: 100, ..extent(session.epoch, 1) };
    session.commit(2, vec![Record::put(&at(3, 50), &long)]);
    assert_eq!(session.kinds().await, [Kind::Segment]);
}

#[tokio::test(start_paused = true)]
async fn a_damaged_checkpoint_is_replaced_while_the_log_is_there() {
    let session = Broken::new().await;
    let good = session.image(1, sound(session.epoch));
    session.commit(2, vec![inode(8, &row(0o100_644, 1, Some((1, "x")))), dentry(1, "x", 8, 0o100_000)]);
    let bad = session.image(2, sound(session.epoch));
    session.flip(&bad);
    let report = session.check().await;
    let [problem] = &report.problems[..] else { panic!("{report}") };
    assert_eq!((problem.kind, problem.object.as_deref()), (Kind::Checkpoint, Some(bad.as_str())));
    assert!(session.repair().await.is_sound());
    let after = session.check().await;
    assert_eq!((after.problems.len(), after.counts.inodes), (0, 5), "{after}");
    assert!(after.notes.iter().any(|note| note.contains(&bad)), "it is still there, and said to be: {after}");
    assert!(session.shared.keys().contains(&good), "nothing was deleted");
}

#[tokio::test(start_paused = true)]
async fn a_damaged_or_missing_slot_is_told_and_nothing_is_written_before_it() {
    for missing in [true, false] {
        let session = Broken::new().await;
        session.commit(2, vec![inode(3, &file_row((2, "f"), 7))]);
        session.commit(3, vec![inode(3, &file_row((2, "f"), 2))]);
        let key = keys::segment(session.epoch, Slot(2));
        if missing {
            session.shared.remove(&key)
        } else {
            session.flip(&key)
        }
        let report = session.check().await;
        let [problem] = &report.problems[..] else { panic!("{report}") };
        let kind = if missing { Kind::Gap } else { Kind::Segment };
        assert_eq!((problem.kind, problem.object.as_deref()), (kind, Some(key.as_str())));
        let before = session.shared.keys();
        assert!(!session.repair().await.is_sound());
        assert_eq!(session.shared.keys(), before, "what is behind the damage can still be brought back");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_missing_or_damaged_is_made_anew() {
    for missing in [true, false] {
        let session = Broken::new().await;
        match missing {
            true => session.shared.remove(keys::LEASE),
            false => session.shared.set(keys::LEASE, b"{ no lease".to_vec()),
        }
        assert_eq!(session.kinds().await, [Kind::Lease]);
        if !missing {
            let refused = repair(&session.store, options("fsck"), Depth::Quick).await;
            assert!(refused.is_err_and(|e| e.to_string().contains("--takeover")));
        }
        let report = session.repair().await;
        assert!(report.is_sound(), "{report}");
        assert_eq!(session.kinds().await, []);
        let aside = session.shared.keys().into_iter().filter(|key| key.contains("damaged-lease")).count();
        assert_eq!(aside, usize::from(!missing), "the old bytes are kept");
    }
}

#[tokio::test(start_paused = true)]
async fn a_published_object_that_is_gone_is_forgotten_so_that_it_is_published_again() {
    let session = Broken::new().await;
    session.commit(2, vec![published("d/f", 3)]);
    assert_eq!(session.kinds().await, [Kind::MissingObject]);
    assert!(session.repair().await.is_sound());
    assert_eq!(session.kinds().await, []);
}

/// As between the DELETE of a key whose file was renamed and the commit that says so.
#[tokio::test(start_paused = true)]
async fn the_object_of_a_name_that_a_file_had_once_may_be_gone() {
    let session = Broken::new().await;
    session.commit(2, vec![published("d/once", 3)]);
    assert_eq!(session.kinds().await, []);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_names_is_counted_and_no_session_is_none() {
    let session = Broken::new().await;
    session.shared.set(&keys::data(session.epoch, 2), vec![0; 9]);
    session.shared.set("new", vec![0; 3]);
    let report = session.check().await;
    assert_eq!(report.problems, []);
    let counts = report.counts;
    assert_eq!((counts.unnamed_objects, counts.unnamed_bytes, counts.new_objects), (1, 9, 1));
    let plain = Shared::new();
    plain.set("a", vec![1]);
    assert!(check(&plain.client().store(), Depth::Full).await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_was_left_behind_is_aborted() {
    let session = Broken::new().await;
    session.shared.add_upload(&keys::data(session.epoch, 7), "u");
    assert_eq!(session.kinds().await, [Kind::LeftUpload]);
    assert!(session.repair().await.is_sound());
    assert_eq!(session.shared.uploads(), Vec::<String>::new());
    assert_eq!(session.kinds().await, []);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_somebody_holds_is_not_repaired_unless_told() {
    let session = Broken::new().await;
    session.commit(2, vec![inode(3, &file_row((2, "f"), 7))]);
    let sink = FakeJournal::new();
    let held = recover(session.store.clone(), options("b"), None, &mut sink.sink()).await.unwrap();
    held.lease.keep(&tokio::runtime::Handle::current());
    let refused = repair(&session.store, options("fsck"), Depth::Full).await;
    assert!(matches!(refused, Err(crate::log::LogError::Held { .. })), "{refused:?}");
    assert_eq!(session.kinds().await, [Kind::Nlink]);
    assert!(session.repair().await.is_sound());
}
