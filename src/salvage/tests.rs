//! A cache that somebody has made up: nothing leaves the directory that is given, and what is sound comes out.

use super::{Contents, Report, copy, list};
use crate::content::keep;
use crate::journal::salvage::Set;
use crate::journal::{Journal, JournalOptions};
use crate::log::ids::{Blob, Epoch, Ino, SessionId, Slot};
use crate::log::row::{Cookie, DentryRow, ExtentRow, Home, InodeRow, Key, Record, Time};
use crate::log::source::{LocalKind, RecoverySink};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

const DIR: u32 = 0o040_777;
const FILE: u32 = 0o106_666;
const LINK: u32 = 0o120_777;
const SECRET: &[u8] = b"of somebody else";
const GOOD: &[u8] = b"what was written";

struct World {
    dir: TempDir,
    journal: Arc<Journal>,
}

/// Everything that can be seen of a directory and what is below it.
fn seen(dir: &Path) -> BTreeMap<PathBuf, (u32, u32, i64, Vec<u8>)> {
    let mut all = BTreeMap::new();
    let mut next = vec![dir.to_owned()];
    while let Some(path) = next.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let mut bytes = Vec::new();
        if meta.is_file() {
            // Some are said to be of more bytes than there is memory.
            fs::File::open(&path).unwrap().take(1 << 20).read_to_end(&mut bytes).unwrap();
        }
        if meta.is_dir() {
            next.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        all.insert(path, (meta.mode(), meta.uid(), meta.mtime(), bytes));
    }
    all
}

fn entry(ino: u64, parent: u64, name: &[u8]) -> Key {
    Key::Dentry { parent: Ino(parent), cookie: Cookie(1000 + ino), name: name.to_vec() }
}

/// The rows of an inode and its name.
fn node(ino: u64, mode: u32, parent: u64, name: &[u8], change: impl FnOnce(&mut InodeRow)) -> Vec<Record> {
    let (time, cookie) = (Time { sec: 1, nsec: u32::MAX }, Cookie(1000 + ino));
    let mut row = InodeRow {
        mode,
        uid: 12_345,
        gid: 12_345,
        nlink: 1,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        version: 1,
        home: (ino != 1).then_some(Home { parent: Ino(parent), cookie }),
        target: Vec::new(),
    };
    change(&mut row);
    let mut records = vec![Record::put(&Key::Inode { ino: Ino(ino) }, &row)];
    if ino != 1 {
        let dentry = DentryRow { ino: Ino(ino), kind: mode & 0o170_000 };
        records.push(Record::put(&entry(ino, parent, name), &dentry));
    }
    records
}

impl World {
    fn new() -> World {
        World::on(Vec::new())
    }

    /// With these rows committed.
    fn on(base: Vec<Record>) -> World {
        let dir = TempDir::new().unwrap();
        fs::create_dir_all(dir.path().join("outside/sub")).unwrap();
        fs::write(dir.path().join("outside/victim"), SECRET).unwrap();
        fs::create_dir(dir.path().join("cache")).unwrap();
        let options = JournalOptions { row_cache: 1 << 20, piece_cache: 1 << 20, piece_store: 1 << 20 };
        let (journal, _) = Journal::open(&dir.path().join("cache"), options).unwrap();
        if !base.is_empty() {
            journal.sink().segment(Epoch { counter: 1, nonce: 1 }, Slot(1), &[7; 32], base).unwrap();
        }
        journal.bind(SessionId(7)).unwrap();
        let world = World { dir, journal };
        world.node(1, DIR, 1, b"", |_| {});
        world
    }

    fn outside(&self) -> PathBuf {
        self.dir.path().join("outside")
    }

    /// An inode and its name.
    fn node(&self, ino: u64, mode: u32, parent: u64, name: &[u8], change: impl FnOnce(&mut InodeRow)) {
        self.journal.apply(node(ino, mode, parent, name, change)).unwrap();
    }

    /// Content of a file, and what is wrong with its extent.
    fn content(&self, ino: u64, offset: u64, bytes: &'static [u8], change: impl FnOnce(&mut ExtentRow)) {
        let id = self.journal.put_local(Bytes::from_static(bytes)).unwrap();
        let len = bytes.len() as u64;
        let crc = Some(crc32c::crc32c(bytes));
        let mut row =
            ExtentRow { len, blob: Blob::Local(id), piece_off: 0, piece_len: len as u32, skip: 0, crc };
        change(&mut row);
        self.journal.apply(vec![Record::put(&Key::Extent { ino: Ino(ino), offset }, &row)]).unwrap();
    }

    /// A local file that a file's content is said to be in.
    fn image(&self, ino: u64, file: u64, size: u64, valid: Vec<(u64, u64)>) {
        let time = Time { sec: 1, nsec: 0 };
        let (mtime, ctime, dirty) = (time, time, valid.clone());
        let removed = vec![(u64::MAX, 0), (5, 2)];
        let record = keep::Record {
            file,
            size,
            mtime,
            ctime,
            version: 1,
            valid,
            dirty,
            removed,
            changed: true,
            synced: true,
        };
        let value = postcard::to_stdvec(&record).unwrap();
        self.journal.local_put(keep::TABLE, &ino.to_be_bytes(), Some(value)).unwrap();
    }

    /// Copies all of it out; the directory, and what is said.
    async fn copied(self) -> (TempDir, PathBuf, Report) {
        let World { dir, journal } = self;
        journal.settle().unwrap();
        drop(journal);
        let before = seen(&dir.path().join("outside"));
        let set = waiting(&dir.path().join("cache"));
        let contents = Contents::of(&set, Err("not asked".into())).await;
        let listed = list(&set, &contents).await.unwrap();
        let to = dir.path().join("to");
        let report = copy(&set, &contents, &to, listed).await.unwrap();
        assert_eq!(seen(&dir.path().join("outside")), before, "something outside was written");
        let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        assert_eq!(names.len(), 3, "{names:?}");
        for (path, (mode, _, _, bytes)) in seen(&to) {
            assert!(!bytes.windows(SECRET.len()).any(|part| part == SECRET), "{path:?} tells a secret");
            assert_eq!(mode & 0o6000, 0, "{path:?} has set-id bits");
        }
        assert_eq!(fs::read(to.join("files/good")).unwrap(), GOOD);
        (dir, to, report)
    }

    fn good(&self) {
        self.node(900, FILE, 1, b"good", |row| row.size = GOOD.len() as u64);
        self.content(900, 0, GOOD, |_| {});
    }
}

/// What waits in a cache. Its lock is held a moment longer where another test has just forked: until that executes.
fn waiting(cache: &Path) -> Set {
    let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
    loop {
        match Set::waiting(cache) {
            Err(error) if error.kind == LocalKind::Busy && std::time::Instant::now() < until => {
                std::thread::sleep(std::time::Duration::from_millis(5));
            }
            set => return set.unwrap().expect("there are changes"),
        }
    }
}

#[tokio::test]
async fn names_lead_nowhere_but_below_the_directory() {
    let world = World::new();
    let odd: [&[u8]; 9] = [
        b"..",
        b".",
        b"",
        b"/abs",
        b"x/../../../outside/new",
        b"../../outside/victim",
        b"nul\0",
        b"\n",
        &[b'n'; 300],
    ];
    for (n, name) in (10..).zip(odd) {
        world.node(n, FILE, 1, name, |row| row.size = 3);
        world.node(n + 100, DIR, 1, name, |_| {});
        world.node(n + 200, FILE, n + 100, b"victim", |_| {});
        world.node(n + 300, LINK, n + 100, b"link", |row| row.target = b"../../outside".to_vec());
    }
    // Two of one name, of different kinds.
    world.node(50, DIR, 1, b"twice", |_| {});
    world.node(51, FILE, 1, b"twice", |_| {});
    world.node(52, 0o010_666, 1, b"twice", |_| {});
    world.node(53, 0o020_666, 1, b"device", |row| row.rdev = 0x0103);
    // Further names.
    world.node(54, FILE, 1, b"named", |_| {});
    for (n, name) in [&b".."[..], b"../outside/named", b"/named"].into_iter().enumerate() {
        let (cookie, name) = (Cookie(5 + n as u64), name.to_vec());
        let key = Key::Link { ino: Ino(54), parent: Ino(1), cookie, name };
        world.journal.apply(vec![Record::put_raw(&key, Vec::new())]).unwrap();
    }
    world.good();
    world.copied().await;
}

#[tokio::test]
async fn no_symlink_is_followed_not_even_by_who_comes_behind_it() {
    // A committed directory in one that became a symlink: it is nothing to copy, and had its attributes set all the same.
    let via = node(60, DIR, 1, b"via", |_| {});
    let base = [via, node(61, DIR, 60, b"sub", |_| {}), node(62, FILE, 61, b"gone", |_| {})].concat();
    let world = World::on(base);
    let outside = world.outside().as_os_str().as_bytes().to_vec();
    world.node(60, LINK, 1, b"via", |row| row.target = outside.clone());
    let gone = [entry(62, 61, b"gone"), Key::Inode { ino: Ino(62) }];
    world.journal.apply(gone.iter().map(Record::delete).collect()).unwrap();
    // Names in a symlink: as if it were a directory.
    world.node(10, LINK, 1, b"a", |row| row.target = outside.clone());
    world.node(11, DIR, 10, b"sub", |_| {});
    world.node(12, FILE, 10, b"victim", |_| {});
    world.node(13, DIR, 11, b"made", |_| {});
    world.node(14, LINK, 10, b"link", |row| row.target = b"victim".to_vec());
    // A directory and a symlink of one name, and what is in the directory.
    world.node(20, DIR, 1, b"d", |_| {});
    world.node(21, LINK, 1, b"d", |row| row.target = outside.clone());
    world.node(22, FILE, 20, b"victim", |_| {});
    // Symlinks of the names that are used here.
    world.node(30, LINK, 1, b"files", |row| row.target = outside.clone());
    world.node(31, LINK, 1, b"lost+found", |row| row.target = outside.clone());
    for (n, target) in [&b""[..], b"nul\0", &[b't'; 5000]].into_iter().enumerate() {
        let name = format!("t{n}");
        world.node(40 + n as u64, LINK, 1, name.as_bytes(), |row| row.target = target.to_vec());
    }
    world.good();
    let (_dir, to, _) = world.copied().await;
    assert!(fs::symlink_metadata(to.join("files/via")).unwrap().is_symlink());
}

#[tokio::test]
async fn what_is_claimed_is_not_believed() {
    let world = World::new();
    for (ino, size) in [(10, u64::MAX), (11, i64::MAX as u64), (12, 1 << 62)] {
        world.node(ino, FILE, 1, format!("size{ino}").as_bytes(), |row| row.size = size);
        world.content(ino, 0, b"12345", |_| {});
        world.content(ino, u64::MAX, b"12345", |_| {});
        world.content(ino, u64::MAX - 2, b"12345", |_| {});
    }
    world.node(20, FILE, 1, b"extents", |row| row.size = 1000);
    world.content(20, 0, b"12345", |row| row.len = u64::MAX);
    world.content(20, 100, b"12345", |row| (row.skip, row.len) = (u32::MAX, 5));
    world.content(20, 200, b"12345", |row| (row.piece_len, row.len) = (u32::MAX, 1 << 31));
    world.content(20, 300, b"12345", |row| row.crc = Some(1));
    world.content(20, 400, b"12345", |row| row.piece_off = u64::MAX);
    let data = world.dir.path().join("cache/data");
    fs::create_dir_all(&data).unwrap();
    symlink(world.outside().join("victim"), data.join("1001")).unwrap();
    rustix::fs::mknodat(rustix::fs::CWD, data.join("1002"), rustix::fs::FileType::Fifo, 0o600.into(), 0)
        .unwrap();
    fs::File::create(data.join("1003")).unwrap().set_len(1 << 40).unwrap();
    for (ino, file) in [(31, 1001), (32, 1002), (33, 1003), (34, 1004)] {
        world.node(ino, FILE, 1, format!("image{ino}").as_bytes(), |_| {});
        world.image(ino, file, 1 << 40, vec![(10, 5), (0, 1 << 39), (7, u64::MAX)]);
    }
    world.good();
    let (_dir, to, report) = world.copied().await;
    for name in ["extents", "image31", "image32", "image34"] {
        let entry = report.entries.iter().find(|entry| entry.path.as_deref() == Some(name)).unwrap();
        assert!(!entry.whole && !entry.missing.is_empty(), "{name} is called whole: {entry:?}");
    }
    assert_eq!(fs::metadata(to.join("files/image33")).unwrap().blocks(), 0, "holes stay holes");
}

#[tokio::test]
async fn attributes_that_give_power_are_left_out() {
    let world = World::new();
    world.node(10, FILE, 1, b"f", |row| row.uid = u32::MAX);
    let names: [&[u8]; 5] = [b"security.capability", b"trusted.x", b"user.kept", b"", b"user.nul\0"];
    for name in names {
        let key = Key::Xattr { ino: Ino(10), name: name.to_vec() };
        world.journal.apply(vec![Record::put_raw(&key, b"value".to_vec())]).unwrap();
    }
    world.good();
    let (_dir, to, _) = world.copied().await;
    let mut list = [0; 1000];
    let len = rustix::fs::listxattr(to.join("files/f"), &mut list[..]).unwrap();
    assert_eq!(&list[..len], b"user.kept\0");
}

#[test]
fn a_database_elsewhere_is_not_opened() {
    let world = World::new();
    world.good();
    world.journal.settle().unwrap();
    let World { dir, journal } = world;
    drop(journal);
    let fake = dir.path().join("fake");
    fs::create_dir(&fake).unwrap();
    symlink(dir.path().join("cache/journal.db"), fake.join("journal.db")).unwrap();
    assert!(Set::waiting(&fake).is_err(), "a symlink was followed");
    let way = dir.path().join("way");
    symlink(dir.path().join("cache"), &way).unwrap();
    assert!(Set::waiting(&way).unwrap().is_some(), "how the folder is reached does not matter");
}
