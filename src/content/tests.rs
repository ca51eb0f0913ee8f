//! Files against models, over a directory store and rows in memory.

use super::*;
use crate::log::ids::{Blob, Epoch};
use crate::log::row::Time;
use crate::store::DirStore;
use parking_lot::Mutex;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tempfile::TempDir;

type Facts = BTreeMap<(String, Vec<u8>), Vec<u8>>;

/// Rows in memory: extents of each inode, captured contents, local facts.
#[derive(Default)]
pub(super) struct Fake {
    extents: Mutex<HashMap<Ino, BTreeMap<u64, ExtentRow>>>,
    /// While it is set, whoever asks for rows gets them late; and how many wait.
    pub(super) held: AtomicBool,
    pub(super) waiting: AtomicU64,
    pieces: Mutex<HashMap<LocalId, Bytes>>,
    facts: Mutex<Facts>,
    next: AtomicU64,
}

impl Fake {
    /// Takes the rows that lie in `range` away.
    pub(super) fn make_hole(&self, range: Range<u64>) {
        let inside = |at: u64, row: &ExtentRow| at >= range.start && at + row.len <= range.end;
        self.extents.lock().entry(INO).or_default().retain(|at, row| !inside(*at, row));
    }
}

impl Rows for Fake {
    fn extents(&self, ino: Ino, range: Range<u64>) -> Result<Vec<(u64, ExtentRow)>, LocalError> {
        let overlaps = |(at, row): &(&u64, &ExtentRow)| **at < range.end && **at + row.len > range.start;
        let rows: Vec<_> = {
            let all = self.extents.lock();
            let rows = all.get(&ino).into_iter().flatten().filter(overlaps);
            rows.map(|(at, row)| (*at, row.clone())).collect()
        };
        self.waiting.fetch_add(1, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        Ok(rows)
    }
    fn version(&self, _ino: Ino) -> Result<Option<u64>, LocalError> {
        Ok(Some(1))
    }
    fn put_local(&self, bytes: Bytes) -> Result<LocalId, LocalError> {
        let id = LocalId(self.next.fetch_add(1, Ordering::Relaxed));
        self.pieces.lock().insert(id, bytes);
        Ok(id)
    }
    fn abandon_local(&self, ids: &[LocalId]) {
        self.pieces.lock().retain(|id, _| !ids.contains(id));
    }
    fn piece(&self, extent: &ExtentRow) -> Result<Option<Bytes>, LocalError> {
        let Blob::Local(id) = extent.blob else { return Ok(None) };
        Ok(self.pieces.lock().get(&id).cloned())
    }
    fn resolve(&self, extent: &ExtentRow) -> ExtentRow {
        extent.clone()
    }
    fn keep_piece(&self, _extent: &ExtentRow, _bytes: &Bytes) {}
    fn local_put(&self, table: &str, key: &[u8], value: Option<Vec<u8>>) -> Result<(), LocalError> {
        let key = (table.to_owned(), key.to_vec());
        match value {
            Some(value) => self.facts.lock().insert(key, value),
            None => self.facts.lock().remove(&key),
        };
        Ok(())
    }
    fn local_all(&self, table: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LocalError> {
        let facts = self.facts.lock();
        Ok(facts.iter().filter(|((t, _), _)| t == table).map(|((_, k), v)| (k.clone(), v.clone())).collect())
    }
    fn settle(&self) -> Result<(), LocalError> {
        Ok(())
    }
}

pub(super) struct Bench {
    dir: TempDir,
    pub(super) rows: Arc<Fake>,
    pub(super) content: Arc<Content>,
    names: Arc<BlobNames>,
    cache: u64,
}

pub(super) const INO: Ino = Ino(7);

pub(super) fn row(size: u64) -> InodeRow {
    let t = Time { sec: 1, nsec: 0 };
    InodeRow {
        mode: libc::S_IFREG | 0o644,
        uid: 0,
        gid: 0,
        nlink: 1,
        rdev: 0,
        size,
        allocated: 0,
        atime: t,
        mtime: t,
        ctime: t,
        btime: t,
        version: 1,
        home: None,
        target: Vec::new(),
    }
}

pub(super) fn at(n: u64) -> Time {
    Time { sec: 1 + n as i64, nsec: 0 }
}

impl Bench {
    pub(super) fn new(cache: u64) -> Bench {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("store")).unwrap();
        let rows = Arc::new(Fake::default());
        let names = Arc::new(BlobNames::new(Epoch { counter: 1, nonce: 1 }));
        let content = Bench::open(&dir, &rows, &names, cache);
        Bench { dir, rows, content, names, cache }
    }

    fn open(dir: &TempDir, rows: &Arc<Fake>, names: &Arc<BlobNames>, cache: u64) -> Arc<Content> {
        Content::open(ContentConfig {
            dir: dir.path().join("cache"),
            cache_size: cache,
            store: Arc::new(DirStore::new(dir.path().join("store"))),
            names: Some(names.clone()),
            rows: rows.clone(),
            runtime: tokio::runtime::Handle::current(),
            same_boot: true,
        })
        .unwrap()
    }

    /// A mount elsewhere of a session whose one file holds `data`: nothing of it is here.
    pub(super) async fn elsewhere(data: &[u8], cache: u64) -> (Bench, Arc<File>) {
        let bench = Bench::new(cache);
        let file = bench.content.file(INO, &row(0));
        file.write(Place::At(0), data, at(1)).unwrap();
        bench.capture(&file).await;
        drop(file);
        let bench = bench.again(true);
        let file = bench.content.file(INO, &row(data.len() as u64));
        (bench, file)
    }

    /// Another mount, with the cache of this one or without.
    pub(super) fn again(self, wiped: bool) -> Bench {
        let Bench { dir, rows, content, names, cache } = self;
        drop(content);
        if wiped {
            std::fs::remove_dir_all(dir.path().join("cache")).unwrap();
            rows.facts.lock().clear();
        }
        let content = Bench::open(&dir, &rows, &names, cache);
        Bench { dir, rows, content, names, cache }
    }

    /// The next mount, after this process was killed with all it `held`: what is on the disk and in the journal stays.
    fn killed<T>(self, held: T) -> Bench {
        let Bench { dir, rows, content, names, cache } = self;
        let (at, kept) = (dir.path().join("cache"), dir.path().join("kept"));
        let copied = std::process::Command::new("cp").arg("-a").args([&at, &kept]).status().unwrap();
        assert!(copied.success());
        let facts = rows.facts.lock().clone();
        drop(held);
        drop(content);
        *rows.facts.lock() = facts;
        std::fs::remove_dir_all(&at).unwrap();
        std::fs::rename(&kept, &at).unwrap();
        let content = Bench::open(&dir, &rows, &names, cache);
        Bench { dir, rows, content, names, cache }
    }

    fn apply(&self, capture: Capture, placed: Placed) {
        let replaced = placed.replace(|range| self.rows.extents(INO, range)).unwrap();
        let mut all = self.rows.extents.lock();
        let extents = all.entry(INO).or_default();
        for (at, change) in replaced.changes {
            match change {
                Some(row) => extents.insert(at, row),
                None => extents.remove(&at),
            };
        }
        assert!(extents.iter().all(|(at, row)| at + row.len <= placed.size), "extents within the size");
        drop(all);
        capture.done(1);
    }

    pub(super) async fn capture(&self, file: &Arc<File>) {
        match file.capture().unwrap() {
            Begin::Unchanged(_) => {}
            Begin::Busy => panic!("no other capture runs"),
            Begin::Small(mut capture) => {
                let placed = capture.place_small().unwrap();
                self.apply(capture, placed);
            }
            Begin::Large(capture) => {
                let placed = capture.place_large().await.unwrap();
                self.apply(capture, placed);
            }
        }
    }
}

async fn read_all(file: &Arc<File>) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        let bytes = match file.read_here(all.len() as u64, 1 << 20).unwrap() {
            Some(bytes) => bytes,
            None => file.read(all.len() as u64, 1 << 20).await.unwrap(),
        };
        if bytes.is_empty() {
            return all;
        }
        all.extend_from_slice(&bytes);
    }
}

pub(super) fn pattern(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let step = |_| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) as u8
    };
    (0..len).map(step).collect()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[derive(Debug, Clone)]
enum Op {
    Write(u64, usize),
    Append(usize),
    Truncate(u64),
    Punch(u64, u64),
    Zero(u64, u64),
    Capture,
    FailedCapture,
    Evict,
    Reload,
}

const MOST: u64 = 700_000;

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..MOST, 1usize..90_000).prop_map(|(o, l)| Op::Write(o, l)),
        2 => (1usize..50_000).prop_map(Op::Append),
        2 => (0..MOST).prop_map(Op::Truncate),
        1 => (0..MOST, 1..MOST).prop_map(|(o, l)| Op::Punch(o, l)),
        1 => (0..MOST, 1..90_000u64).prop_map(|(o, l)| Op::Zero(o, l)),
        3 => Just(Op::Capture),
        2 => Just(Op::FailedCapture),
        2 => Just(Op::Evict),
        1 => Just(Op::Reload),
    ]
}

async fn run(ops: Vec<Op>) {
    let bench = Bench::new(64 << 20);
    let mut file = bench.content.file(INO, &row(0));
    let mut model: Vec<u8> = Vec::new();
    for (n, op) in ops.into_iter().enumerate() {
        let now = at(n as u64);
        match op {
            Op::Write(offset, len) => {
                let data = pattern(len, n as u64);
                file.write(Place::At(offset), &data, now).unwrap();
                let end = offset as usize + len;
                model.resize(model.len().max(end), 0);
                model[offset as usize..end].copy_from_slice(&data);
            }
            Op::Append(len) => {
                let data = pattern(len, n as u64);
                assert_eq!(file.write(Place::End, &data, now).unwrap(), model.len() as u64);
                model.extend(data);
            }
            Op::Truncate(size) => {
                file.truncate(size, now).unwrap();
                model.resize(size as usize, 0);
            }
            Op::Punch(offset, len) => {
                file.punch(offset..offset + len, now).unwrap();
                let end = ((offset + len) as usize).min(model.len());
                model[(offset as usize).min(end)..end].fill(0);
            }
            Op::Zero(offset, len) => {
                file.zero(offset..offset + len, now).unwrap();
                let end = (offset + len) as usize;
                model.resize(model.len().max(end), 0);
                model[offset as usize..end].fill(0);
            }
            Op::Capture => bench.capture(&file).await,
            Op::FailedCapture => drop(file.capture().unwrap()),
            Op::Evict => _ = bench.content.core.make_room(u64::MAX),
            Op::Reload => {
                bench.capture(&file).await;
                assert!(!file.is_changed());
                bench.content.forget(INO);
                file = bench.content.file(INO, &row(model.len() as u64));
            }
        }
        assert_eq!(file.size(), model.len() as u64);
        assert!(read_all(&file).await == model, "after operation {n}");
    }
    bench.capture(&file).await;
    drop(file);
    let bench = bench.again(true);
    let file = bench.content.file(INO, &row(model.len() as u64));
    assert!(read_all(&file).await == model, "from the store and the journal alone");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn a_file_is_its_bytes(ops in proptest::collection::vec(op(), 1..24)) {
        runtime().block_on(run(ops));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_under_way_is_not_torn_by_writes() {
    let bench = Bench::new(256 << 20);
    let file = bench.content.file(INO, &row(0));
    let old = pattern(20 << 20, 1);
    file.write(Place::At(0), &old, at(1)).unwrap();
    let Begin::Large(capture) = file.capture().unwrap() else { panic!("it is large") };
    assert!(matches!(file.capture().unwrap(), Begin::Busy));
    let new = pattern(3 << 20, 2);
    file.write(Place::At(777), &new, at(2)).unwrap();
    file.truncate(12 << 20, at(3)).unwrap();
    let placed = capture.place_large().await.unwrap();
    assert_eq!(placed.size, old.len() as u64);
    bench.apply(capture, placed);
    let mut now = old.clone();
    now[777..777 + new.len()].copy_from_slice(&new);
    now.truncate(12 << 20);
    assert!(read_all(&file).await == now);
    assert!(file.is_changed());
    // What the rows say is the file as it was when the capture began.
    drop(file);
    let bench = bench.again(true);
    let file = bench.content.file(INO, &row(old.len() as u64));
    assert!(read_all(&file).await == old);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_appended_to_a_large_file_is_captured_alone() {
    let bench = Bench::new(256 << 20);
    let file = bench.content.file(INO, &row(0));
    file.write(Place::At(0), &pattern(9 << 20, 1), at(1)).unwrap();
    bench.capture(&file).await;
    file.write(Place::End, b"a line\n", at(2)).unwrap();
    file.write(Place::At(5000), b"x", at(2)).unwrap();
    assert_eq!(file.dirty(), 8);
    let Begin::Small(mut capture) = file.capture().unwrap() else { panic!("it is small") };
    let placed = capture.place_small().unwrap();
    assert_eq!(placed.pieces.iter().map(|(_, row)| row.len).sum::<u64>(), 8);
    bench.apply(capture, placed);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_capture_that_is_given_up_leaves_nothing_behind() {
    let bench = Bench::new(64 << 20);
    let file = bench.content.file(INO, &row(0));
    file.write(Place::At(0), b"content", at(1)).unwrap();
    let Begin::Small(mut capture) = file.capture().unwrap() else { panic!("it is small") };
    capture.place_small().unwrap();
    assert_eq!(bench.rows.pieces.lock().len(), 1);
    drop(capture);
    assert_eq!((bench.rows.pieces.lock().len(), file.dirty()), (0, 7));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_passes_through_a_small_cache_both_ways() {
    let bench = Bench::new(8 << 20);
    let file = bench.content.file(INO, &row(0));
    let all = pattern(64 << 20, 3);
    for (n, part) in all.chunks(1 << 20).enumerate() {
        file.write(Place::At((n as u64) << 20), part, at(1)).unwrap();
        if bench.content.is_crowded(0) {
            bench.capture(&file).await;
        }
        assert!(bench.content.usage().used <= 13 << 20, "{:?}", bench.content.usage());
    }
    bench.capture(&file).await;
    assert!(read_all(&file).await == all);
    assert_eq!(bench.content.usage().unstored, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_in_the_store_is_an_error_that_names_it() {
    let bench = Bench::new(64 << 20);
    let file = bench.content.file(INO, &row(0));
    let all = pattern(2 << 20, 4);
    file.write(Place::At(0), &all, at(1)).unwrap();
    bench.capture(&file).await;
    drop(file);
    let bench = bench.again(true);
    {
        let mut rows = bench.rows.extents.lock();
        let second = rows.get_mut(&INO).unwrap().values_mut().nth(1).unwrap();
        second.crc = second.crc.map(|crc| crc ^ 1);
    }
    let file = bench.content.file(INO, &row(all.len() as u64));
    assert!(file.read(0, 1000).await.unwrap() == all[..1000]);
    match file.read(1 << 20, 1000).await {
        Err(ContentError::Corrupt { object, offset }) => {
            assert!(object.starts_with(".cwdfs/data/"), "{object}");
            assert_eq!(offset, 1 << 20);
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_stored_is_there_at_the_next_mount() {
    let bench = Bench::new(64 << 20);
    let file = bench.content.file(INO, &row(0));
    let all = pattern(1 << 20, 5);
    file.write(Place::At(0), &all, at(1)).unwrap();
    assert_eq!(bench.content.close().unwrap(), 1);
    drop(file);
    let bench = bench.again(false);
    assert_eq!(bench.content.leftovers(), vec![INO]);
    let file = bench.content.file(INO, &row(0));
    assert!(file.is_changed());
    assert!(read_all(&file).await == all);
    bench.capture(&file).await;
    drop(file);
    let bench = bench.again(true);
    assert!(bench.content.leftovers().is_empty());
    let file = bench.content.file(INO, &row(all.len() as u64));
    assert!(read_all(&file).await == all);
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_content_is_reused_only_for_its_version() {
    let bench = Bench::new(64 << 20);
    let file = bench.content.file(INO, &row(0));
    let all = pattern(1 << 20, 6);
    file.write(Place::At(0), &all, at(1)).unwrap();
    bench.capture(&file).await;
    assert_eq!(bench.content.close().unwrap(), 0);
    drop(file);
    let bench = bench.again(false);
    let same = bench.content.file(INO, &row(all.len() as u64));
    assert!(same.is_whole());
    assert_eq!(bench.content.close().unwrap(), 0);
    drop(same);
    let bench = bench.again(false);
    let other = bench.content.file(INO, &InodeRow { version: 2, ..row(all.len() as u64) });
    assert!(!other.is_whole());
    assert!(read_all(&other).await == all);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_past_us_are_found_by_comparing() {
    let bench = Bench::new(256 << 20);
    let file = bench.content.file(INO, &row(0));
    let mut all = pattern(9 << 20, 7);
    file.write(Place::At(0), &all, at(1)).unwrap();
    bench.capture(&file).await;
    let fd = std::fs::File::from(file.enter_backing().unwrap().expect("all of it is here"));
    file.suspect().unwrap();
    assert_eq!(file.dirty(), 0);
    std::os::unix::fs::FileExt::write_all_at(&fd, b"changed", 5 << 20).unwrap();
    all[5 << 20..(5 << 20) + 7].copy_from_slice(b"changed");
    file.compare().unwrap();
    assert_eq!(file.dirty(), 64 << 10);
    bench.content.core.make_room(u64::MAX);
    bench.capture(&file).await;
    file.compare().unwrap();
    file.leave_backing();
    drop((file, fd));
    let bench = bench.again(true);
    let file = bench.content.file(INO, &row(all.len() as u64));
    assert!(read_all(&file).await == all);
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_of_a_file_that_the_kernel_may_write_show_once_its_writes_are_captured() {
    let bench = Bench::new(256 << 20);
    let file = bench.content.file(INO, &row(0));
    file.write(Place::At(0), &pattern(4 << 20, 8), at(1)).unwrap();
    file.punch(1 << 20..4 << 20, at(1)).unwrap();
    bench.capture(&file).await;
    file.fetch_whole().await.unwrap();
    let fd = std::fs::File::from(file.enter_backing().unwrap().expect("all of it is here"));
    file.suspect().unwrap();
    assert_eq!(file.seek(0, true).unwrap(), Some(1 << 20), "nothing was written");
    std::os::unix::fs::FileExt::write_all_at(&fd, b"new", 2 << 20).unwrap();
    assert_eq!(file.seek(2 << 20, true).unwrap(), Some(4 << 20), "data anywhere, until it is compared");
    file.compare().unwrap();
    bench.capture(&file).await;
    assert_eq!(file.seek(1 << 20, false).unwrap(), Some(2 << 20));
    assert_eq!(file.seek(2 << 20, true).unwrap(), Some((2 << 20) + (64 << 10)));
    file.compare().unwrap();
    file.leave_backing();
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_are_those_of_the_file_and_not_of_the_cache() {
    let bench = Bench::new(64 << 20);
    let file = bench.content.file(INO, &row(0));
    file.write(Place::At(1 << 20), &pattern(1 << 20, 8), at(1)).unwrap();
    file.truncate(4 << 20, at(1)).unwrap();
    for captured in [false, true] {
        assert_eq!(file.seek(0, false).unwrap(), Some(1 << 20), "{captured}");
        assert_eq!(file.seek(0, true).unwrap(), Some(0));
        assert_eq!(file.seek((1 << 20) + 5, true).unwrap(), Some(2 << 20));
        assert_eq!(file.seek(2 << 20, false).unwrap(), None);
        assert_eq!(file.seek(4 << 20, true).unwrap(), None);
        bench.capture(&file).await;
        bench.content.core.make_room(u64::MAX);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_many_read_at_once_stays_within_the_cache() {
    let data = pattern(48 << 20, 9);
    let (bench, file) = Bench::elsewhere(&data, 8 << 20).await;
    let data = Arc::new(data);
    for _round in 0..4 {
        let readers: Vec<_> = (0..4usize)
            .map(|n| {
                let (file, data) = (file.clone(), data.clone());
                tokio::spawn(async move {
                    for at in (n << 18..data.len()).step_by(1 << 20) {
                        let bytes = match file.read_here(at as u64, 1 << 18).unwrap() {
                            Some(bytes) => bytes,
                            None => file.read(at as u64, 1 << 18).await.unwrap(),
                        };
                        assert!(bytes == data[at..at + (1 << 18)], "at {at}");
                    }
                })
            })
            .collect();
        for reader in readers {
            reader.await.unwrap();
        }
        let used = bench.content.usage().used;
        assert!(used < 40 << 20, "{used} bytes of a file are kept by a cache of 8 MiB");
        // What is read ahead may still be on its way.
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while bench.content.usage().used >= 20 << 20 {
            assert!(std::time::Instant::now() < until, "an image is out of reach for eviction");
            bench.content.make_room(u64::MAX);
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
}

/// A process is killed while content is on its way: the next one finds the content of one moment, or that of the rows.
#[test]
fn what_changes_on_its_way_is_not_found_mixed_after_a_kill() {
    type Change = fn(&Arc<File>) -> Result<(), super::ContentError>;
    let changes: [(&str, Change); 5] = [
        ("nothing", |_| Ok(())),
        ("truncate", |file| file.truncate(100_000, at(2))),
        ("truncate and write", |file| {
            file.truncate(0, at(2))?;
            file.write(Place::At(0), &pattern(1000, 7), at(3)).map(drop)
        }),
        ("write", |file| file.write(Place::At(50_000), &pattern(90_000, 9), at(2)).map(drop)),
        ("punch", |file| file.punch(10_000..200_000, at(2))),
    ];
    let runtime = runtime();
    for (name, change) in changes {
        runtime.block_on(async {
            let bench = Bench::new(64 << 20);
            let file = bench.content.file(INO, &row(0));
            let noted = pattern(600_000, 3);
            file.write(Place::At(0), &noted, at(1)).unwrap();
            let Begin::Large(capture) = file.capture().unwrap() else { panic!("it is large") };
            change(&file).unwrap();
            let changed = read_all(&file).await;
            let bench = bench.killed((file, capture));
            let found = read_all(&bench.content.file(INO, &row(0))).await;
            assert!(found.is_empty() || found == noted || found == changed, "{name}: {} bytes", found.len());
            assert!(name != "nothing" || found == noted, "what was noted and not changed is there");
        });
    }
}
