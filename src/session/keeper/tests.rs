//! Rounds and sweeps on a real session over a directory store that dies at any request.

use crate::log::ids::{Ino, keys};
use crate::log::lease::Lease;
use crate::log::segment;
use crate::log::source::Sealed;
use crate::session::api::{NewNode, OpenFlags};
use crate::session::testing::{self, ROOT};
use crate::session::{Durability, KeepOptions, Session, SessionError, SessionOptions};
use crate::store::faulty::{Chances, Fault, FaultyStore, Rule};
use crate::store::{Condition, DirStore, Kind, ObjectStore, PutOptions};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

type Files = BTreeMap<String, Vec<u8>>;
type Result<T> = std::result::Result<T, SessionError>;

/// Nothing happens by itself, every checkpoint is an image, and nothing waits for followers.
fn options(cache: &Path, timeout: Duration) -> SessionOptions {
    SessionOptions {
        durability: Durability::Close,
        timeout,
        keep: KeepOptions {
            busy: u64::MAX,
            quiet: u64::MAX,
            image: 0,
            idle: Duration::ZERO,
            grace: Duration::from_secs(3600),
        },
        passthrough: false,
        ..testing::options(cache)
    }
}

fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

/// A mounted session, and its cache folder.
struct Mounted {
    session: Arc<Session>,
    cache: TempDir,
}

impl std::ops::Deref for Mounted {
    type Target = Arc<Session>;
    fn deref(&self) -> &Arc<Session> {
        &self.session
    }
}

async fn mount(store: Arc<dyn ObjectStore>, options: SessionOptions, cache: TempDir) -> Mounted {
    Mounted { session: Session::start(store, options).await.unwrap(), cache }
}

/// On a machine that has nothing of it yet.
async fn mount_dir(dir: &Path) -> Mounted {
    mount_with(dir, tempfile::tempdir().unwrap()).await
}

async fn mount_with(dir: &Path, cache: TempDir) -> Mounted {
    let options = options(cache.path(), Duration::from_secs(20));
    mount(Arc::new(DirStore::new(dir)), options, cache).await
}

impl Mounted {
    async fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let session = &self.session;
        let flags = OpenFlags { read: true, write: true, truncate: true, ..OpenFlags::default() };
        let (ino, fh) = match session.lookup(Ino::ROOT, name.as_bytes())? {
            Some(attr) => (attr.ino, session.open(ROOT, attr.ino, flags).get().await?.fh),
            None => {
                let new = NewNode { mode: 0o644, umask: 0o022, rdev: 0, target: Vec::new() };
                let made = session.create(ROOT, Ino::ROOT, name.as_bytes(), new, flags).get().await?;
                (made.0.ino, made.1.fh)
            }
        };
        session.write(ROOT, fh, ino, 0, bytes, Default::default()).get().await?;
        let closed = session.flush(ROOT, fh, ino).get().await;
        session.release(fh);
        session.forget(ino, 1);
        closed
    }

    async fn remove(&self, name: &str) -> Result<()> {
        self.session.unlink(ROOT, Ino::ROOT, name.as_bytes()).get().await?;
        let seq = crate::log::source::CommitSource::last_seq(&*self.session.journal);
        let writer = self.session.writer()?;
        Ok(writer.committer.wait(seq, self.session.options.timeout).await?)
    }

    async fn get(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let Some(attr) = self.session.lookup(Ino::ROOT, name.as_bytes())? else { return Ok(None) };
        let flags = OpenFlags { read: true, ..OpenFlags::default() };
        let fh = self.session.open(ROOT, attr.ino, flags).get().await?.fh;
        let bytes = self.session.read(fh, attr.ino, 0, attr.size as u32).get().await;
        self.session.release(fh);
        self.session.forget(attr.ino, 1);
        Ok(Some(bytes?.to_vec()))
    }

    async fn must_hold(&self, files: &Files, what: &str) {
        for (name, bytes) in files {
            let found = self.get(name).await.unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
            assert!(found.as_ref() == Some(bytes), "{what}: {name} differs");
        }
        let entries = self.session.journal.entries(Ino::ROOT, 0, 1000).unwrap();
        let names: Vec<String> = entries.into_iter().map(|e| String::from_utf8(e.name).unwrap()).collect();
        assert_eq!(names.len(), files.len(), "{what}: {names:?}");
    }

    async fn round(&self) -> std::result::Result<(), crate::log::LogError> {
        // As in life, where rounds follow what the journal knows, and not what callers were told.
        self.session.settled().await;
        let mut keeping = self.session.writer.as_ref().unwrap().keeping.lock().await;
        self.session.keep_round(&mut keeping).await
    }

    async fn sweep(&self) -> std::result::Result<(), crate::log::LogError> {
        self.session.settled().await;
        let mut keeping = self.session.writer.as_ref().unwrap().keeping.lock().await;
        self.session.keep_sweep(&mut keeping, Duration::ZERO).await
    }

    /// The process dies; what is left is its cache folder.
    async fn kill(self) -> TempDir {
        let Mounted { session, cache } = self;
        session.stop.cancel();
        session.writer.as_ref().unwrap().committer.stop().await;
        let (dead, journal) = (Arc::downgrade(&session), Arc::downgrade(&session.journal));
        drop(session);
        // Tasks that were in the middle of something let go of it, and of the folder's lock.
        for _ in 0..10_000 {
            if dead.strong_count() == 0 && journal.strong_count() == 0 {
                return cache;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("something keeps a session alive that was killed");
    }
}

fn copy(from: &Path) -> TempDir {
    let to = tempfile::tempdir().unwrap();
    let ran = std::process::Command::new("cp").arg("-a").arg(from.join(".")).arg(to.path()).status();
    assert!(ran.unwrap().success());
    to
}

async fn keys_below(store: &dyn ObjectStore, prefix: &str) -> Vec<String> {
    let page = store.list(prefix, None, 1000).await.unwrap();
    assert!(!page.more);
    page.objects.into_iter().map(|o| o.key).collect()
}

/// A session with a log of many small files, some overwritten and some removed.
async fn prepared() -> (TempDir, Files) {
    let dir = tempfile::tempdir().unwrap();
    let mounted = mount_dir(dir.path()).await;
    let mut files = Files::new();
    for n in 0..40u64 {
        let (name, bytes) = (format!("f{}", n % 25), noise(n, 100 + n as usize * 10));
        mounted.put(&name, &bytes).await.unwrap();
        files.insert(name, bytes);
    }
    let large = noise(1000, 700 << 10);
    mounted.put("large", &large).await.unwrap();
    files.insert("large".into(), large);
    mounted.remove("f3").await.unwrap();
    files.remove("f3");
    mounted.kill().await;
    (dir, files)
}

/// Works, with rounds and sweeps in between, until the store fails it; `files` are then what was
/// acknowledged, and the last name is that of the change whose fate is open.
async fn work(mounted: &Mounted, files: &mut Files) -> std::result::Result<(), Option<String>> {
    for step in 0..3u64 {
        mounted.round().await.map_err(|_| None)?;
        for n in 0..4 {
            let (name, bytes) = (format!("f{}", 10 + n + step), noise(step * 10 + n + 5000, 900));
            mounted.put(&name, &bytes).await.map_err(|_| Some(name.clone()))?;
            files.insert(name, bytes);
        }
        let name = format!("f{step}");
        mounted.remove(&name).await.map_err(|_| Some(name.clone()))?;
        files.remove(&name);
        mounted.sweep().await.map_err(|_| None)?;
    }
    Ok(())
}

/// Damages every object of the newest checkpoint; whether there is an older one to fall back to.
async fn damage_newest_image(store: &DirStore) -> bool {
    let names = crate::log::checkpoint::list(store).await.unwrap();
    let Some(newest) = names.iter().filter(|n| n.base.is_none()).max() else { return false };
    let mut body = store.get(&newest.key(), None, None).await.unwrap().body.to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    let options = PutOptions { condition: Condition::None, ..PutOptions::default() };
    store.put(&newest.key(), body.into(), &options).await.unwrap();
    true
}

/// How a process dies.
#[derive(Debug, Clone, Copy)]
struct Death {
    /// At which request to the store.
    nth: u32,
    /// That request takes effect.
    answer_lost: bool,
    /// Its cache folder is found by the next mount.
    same_machine: bool,
}

async fn die(from: &Path, files: &Files, death: Death) -> bool {
    let Death { nth, answer_lost, same_machine } = death;
    let dir = copy(from);
    let store = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path(), Duration::from_millis(400));
    let mounted = mount(store.clone(), options, cache).await;
    let mut files = files.clone();
    let dead_from = if answer_lost { nth + 1 } else { nth };
    if answer_lost {
        store.add_rule(Rule::new(Fault::After(Kind::Unavailable)).from_nth(nth).times(1));
    }
    store.add_rule(Rule::new(Fault::Before(Kind::Unavailable)).from_nth(dead_from));
    let ended = work(&mounted, &mut files).await;
    let finished = ended.is_ok() && store.injected().is_empty();
    let cache = mounted.kill().await;
    let what = format!("{death:?}");
    if let Err(Some(open)) = ended {
        // Whatever became of it, it is one of the two; the machine that made the change still knows it.
        let as_it_is = copy(dir.path());
        let cache = if same_machine { copy(cache.path()) } else { tempfile::tempdir().unwrap() };
        let elsewhere = mount_with(as_it_is.path(), cache).await;
        match elsewhere.get(&open).await.unwrap() {
            Some(bytes) => files.insert(open, bytes),
            None => files.remove(&open),
        };
        elsewhere.kill().await;
    }
    let damaged = copy(dir.path());
    let elsewhere = match same_machine {
        true => mount_with(dir.path(), cache).await,
        false => mount_dir(dir.path()).await,
    };
    elsewhere.must_hold(&files, &what).await;
    // What was interrupted can be done to its end.
    elsewhere.round().await.unwrap();
    elsewhere.sweep().await.unwrap();
    elsewhere.kill().await;
    let again = mount_dir(dir.path()).await;
    again.must_hold(&files, &format!("{what}, after another round")).await;
    again.kill().await;
    if !same_machine && damage_newest_image(&DirStore::new(damaged.path())).await {
        let fallen_back = mount_dir(damaged.path()).await;
        fallen_back.must_hold(&files, &format!("{what}, newest image damaged")).await;
        assert_eq!(fallen_back.status().notices.len(), 1, "the damage is told of");
        fallen_back.kill().await;
    }
    finished
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_two_checkpoints_the_content_is_there_once() {
    let (dir, cache) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut options = options(cache.path(), Duration::from_secs(20));
    // By its weight alone, no image would be due after the first.
    options.keep.image = u64::MAX;
    let session = mount(Arc::new(DirStore::new(dir.path())), options, cache).await;
    let mut files = Files::new();
    for n in 0..40 {
        files.insert(format!("f{n}"), noise(n, 50_000));
        session.put(&format!("f{n}"), &files[&format!("f{n}")]).await.unwrap();
    }
    let mut kinds = Vec::new();
    for n in 0..3 {
        session.round().await.unwrap();
        let listed = crate::log::checkpoint::list(session.session.store.as_ref()).await.unwrap();
        let newest = listed.iter().max_by_key(|name| (name.slot, name.base.is_none())).unwrap();
        kinds.push(newest.base.is_none());
        files.insert(format!("more{n}"), noise(n, 100));
        session.put(&format!("more{n}"), &files[&format!("more{n}")]).await.unwrap();
    }
    assert_eq!(kinds, [true, true, false], "which are images");
    session.sweep().await.unwrap();
    let held: u64 =
        session.session.store.list("", None, 1000).await.unwrap().objects.iter().map(|o| o.size).sum();
    let content: usize = files.values().map(Vec::len).sum();
    assert!(held < content as u64 * 11 / 10, "{held} bytes in the store for {content} of content");
    let _cache = session.kill().await;
    let elsewhere = mount_dir(dir.path()).await;
    elsewhere.must_hold(&files, "on another machine").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_wherever_it_dies() {
    let (dir, files) = prepared().await;
    let all = std::env::var_os("CWDFS_TEST_FULL").is_some();
    let mut nth = 1;
    loop {
        // Of these four each third request gets one in turn.
        let turn = nth / 3 % 4;
        let ways = [(false, false), (true, false), (false, true), (true, true)];
        let mut finished = true;
        for (n, (answer_lost, same_machine)) in (0..).zip(ways) {
            if all || n == turn {
                finished &= die(dir.path(), &files, Death { nth, answer_lost, same_machine }).await;
            }
        }
        if finished {
            break;
        }
        nth += if all { 1 } else { 3 };
    }
    assert!(nth > 40, "only {nth} requests were made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_stays_short_and_only_what_is_needed_is_kept() {
    let (dir, mut files) = prepared().await;
    let store = DirStore::new(dir.path());
    let mounted = mount_dir(dir.path()).await;
    for n in 0..30u64 {
        let bytes = noise(n, 500);
        mounted.put("hot", &bytes).await.unwrap();
        files.insert("hot".into(), bytes);
        if n.is_multiple_of(5) {
            mounted.round().await.unwrap();
            mounted.sweep().await.unwrap();
        }
    }
    mounted.put("large", b"small now").await.unwrap();
    files.insert("large".into(), b"small now".to_vec());
    for n in 0..4u64 {
        mounted.put("hot", &noise(n, 300)).await.unwrap();
        files.insert("hot".into(), noise(n, 300));
        mounted.round().await.unwrap();
        mounted.sweep().await.unwrap();
    }
    let log = keys_below(&store, keys::LOG).await;
    assert!(log.len() < 16, "{log:?}");
    let checkpoints = keys_below(&store, keys::CHECKPOINT).await;
    assert_eq!(checkpoints.len(), 2, "{checkpoints:?}");
    let lease = Lease::peek(&store).await.unwrap().unwrap();
    assert!(lease.floor.0 > 60, "{lease:?}");
    let mut data = 0;
    for key in keys_below(&store, keys::DATA).await {
        data += store.head(&key).await.unwrap().size;
    }
    assert!(data < 100 << 10, "the large content is gone: {data} bytes are left");
    mounted.must_hold(&files, "here").await;
    mounted.kill().await;
    let elsewhere = mount_dir(dir.path()).await;
    elsewhere.must_hold(&files, "elsewhere").await;
    elsewhere.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn seals_stay_and_what_lies_behind_them_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = DirStore::new(dir.path());
    let mut files = Files::new();
    for n in 0..5u64 {
        let mounted = mount_dir(dir.path()).await;
        for m in 0..3 {
            let (name, bytes) = (format!("f{n}-{m}"), noise(n, 50));
            mounted.put(&name, &bytes).await.unwrap();
            files.insert(name, bytes);
        }
        if n == 1 {
            // What a stalled writer sent late, behind where it will be sealed.
            let lease = &mounted.writer.as_ref().unwrap().lease;
            let committed = mounted.writer.as_ref().unwrap().committer.progress().slot;
            let (session, epoch, slot) = (lease.session(), lease.epoch(), committed.next().next());
            let kind = segment::Kind::Changes;
            let header = segment::Header { session, epoch, slot, wall_ms: 0, label: None, committed, kind };
            let late = segment::encode(&header, Sealed::default()).unwrap();
            store.put(&keys::segment(epoch, slot), late.bytes, &PutOptions::default()).await.unwrap();
        }
        mounted.kill().await;
    }
    let mounted = mount_dir(dir.path()).await;
    for n in 0..4u64 {
        mounted.put("again", &noise(n, 10)).await.unwrap();
        mounted.round().await.unwrap();
    }
    files.insert("again".into(), noise(3, 10));
    mounted.sweep().await.unwrap();
    let ours = keys::log_of(mounted.writer.as_ref().unwrap().lease.epoch());
    let log = keys_below(&store, keys::LOG).await;
    let (ours, old): (Vec<_>, Vec<_>) = log.into_iter().partition(|key| key.starts_with(&ours));
    assert_eq!(old.len(), 5, "one seal for each mount that ended: {old:?}");
    assert!(ours.len() < 6, "{ours:?}");
    for key in old {
        let (epoch, slot) = keys::parse_segment(&key).unwrap();
        let body = store.get(&key, None, None).await.unwrap().body;
        let header = segment::decode_header(epoch, slot, &body).unwrap();
        assert!(matches!(header.kind, segment::Kind::Seal { .. }));
    }
    mounted.kill().await;
    let elsewhere = mount_dir(dir.path()).await;
    elsewhere.must_hold(&files, "after the old logs went").await;
    elsewhere.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_open_deleted_file_is_readable_until_it_is_closed_and_then_collected() {
    let (dir, _) = prepared().await;
    let store = DirStore::new(dir.path());
    let mounted = mount_dir(dir.path()).await;
    let large = mounted.lookup(Ino::ROOT, b"large").unwrap().unwrap();
    let flags = OpenFlags { read: true, ..OpenFlags::default() };
    let fh = mounted.open(ROOT, large.ino, flags).get().await.unwrap().fh;
    mounted.remove("large").await.unwrap();
    let rounds = async |from: u64| {
        for n in from..from + 4 {
            mounted.put("other", &noise(n, 10)).await.unwrap();
            mounted.round().await.unwrap();
            mounted.sweep().await.unwrap();
        }
    };
    rounds(0).await;
    let read = mounted.read(fh, large.ino, 0, 700 << 10).get().await.unwrap();
    assert!(read[..] == noise(1000, 700 << 10), "its content was collected while it was open");
    let blobs = keys_below(&store, keys::DATA).await;
    mounted.release(fh);
    mounted.forget(large.ino, 1);
    rounds(4).await;
    let left = keys_below(&store, keys::DATA).await;
    assert!(blobs.iter().any(|key| !left.contains(key)), "{left:?}");
    mounted.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_that_is_overtaken_by_packing_and_collection_finds_the_new_place() {
    let (dir, files) = prepared().await;
    // With a checkpoint, so that the next mount does not replay, and so fetch, the content's segment.
    let first = mount_dir(dir.path()).await;
    first.round().await.unwrap();
    first.kill().await;
    let store = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
    let cache = tempfile::tempdir().unwrap();
    let options = options(cache.path(), Duration::from_secs(20));
    let mounted = Arc::new(mount(store.clone(), options, cache).await);
    store.add_rule(Rule::new(Fault::Delay(Duration::from_secs(3))).on("get").key(keys::LOG).times(1));
    let reading = tokio::spawn({
        let mounted = mounted.clone();
        async move { mounted.get("f20").await }
    });
    for _ in 0..2000 {
        if !store.injected().is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(!store.injected().is_empty(), "the read asks nothing of the log");
    for n in 0..4u64 {
        mounted.put("other", &noise(n, 10)).await.unwrap();
        mounted.round().await.unwrap();
        mounted.sweep().await.unwrap();
    }
    let log = keys_below(store.as_ref(), keys::LOG).await;
    assert!(log.len() < 10 && !reading.is_finished(), "{log:?}");
    assert!(reading.await.unwrap().unwrap().as_ref() == files.get("f20"));
}

/// A round of which the end of a session waits no longer has just moved content: those rows are stored, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_that_is_cut_short_leaves_nothing_unstored() {
    let (dir, files) = prepared().await;
    let store = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path(), Duration::from_secs(20));
    (options.keep.quiet, options.keep.idle) = (0, Duration::from_secs(3600));
    let mounted = mount(store.clone(), options, cache).await;
    mounted.must_hold(&files, "before").await;
    store.add_rule(Rule::new(Fault::Delay(Duration::from_millis(500))).on("put").key(keys::DATA));
    store.add_rule(Rule::new(Fault::Delay(Duration::from_millis(1300))).on("put").key(keys::LOG));
    let report = mounted.session.close(Duration::from_millis(1500)).await;
    assert_eq!(store.injected().get("delay"), Some(&2), "the pack and the rows that name it");
    assert!(report.is_clean() && report.released, "{:?}, {:?}", report.left, report.error);
    mount_dir(dir.path()).await.must_hold(&files, "after").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_that_never_became_rows_is_found_and_deleted_and_that_of_a_successor_is_not() {
    let (dir, files) = prepared().await;
    let store = DirStore::new(dir.path());
    let orphan = |counter| keys::data(crate::log::ids::Epoch { counter, nonce: 5 }, 77);
    for counter in [1, 900] {
        store.put(&orphan(counter), "left over".into(), &PutOptions::default()).await.unwrap();
    }
    let mounted = mount_dir(dir.path()).await;
    for n in 0..4u64 {
        mounted.put("other", &noise(n, 10)).await.unwrap();
        mounted.round().await.unwrap();
        mounted.sweep().await.unwrap();
    }
    let left = keys_below(&store, keys::DATA).await;
    assert!(!left.contains(&orphan(1)) && left.contains(&orphan(900)), "{left:?}");
    let files = files.into_iter().chain([("other".to_owned(), noise(3, 10))]).collect();
    mounted.must_hold(&files, "the rest").await;
    mounted.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fenced_keeper_writes_and_deletes_nothing() {
    let (dir, files) = prepared().await;
    let old = mount_dir(dir.path()).await;
    old.round().await.unwrap();
    old.put("other", b"x").await.unwrap();
    old.round().await.unwrap();
    let new = mount_dir(dir.path()).await;
    let store = DirStore::new(dir.path());
    let before = keys_below(&store, keys::ROOT).await;
    // It learns of it when it next writes the lease.
    let lease = &old.writer.as_ref().unwrap().lease;
    assert!(lease.raise_floor(crate::log::ids::Slot(1 << 40)).await.is_err());
    assert!(old.round().await.is_err());
    assert!(old.sweep().await.is_err());
    assert_eq!(keys_below(&store, keys::ROOT).await, before);
    let files = files.into_iter().chain([("other".to_owned(), b"x".to_vec())]).collect();
    new.must_hold(&files, "the successor").await;
    old.kill().await;
    new.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_fails_all_the_time_costs_time_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let store = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 42);
    let cache = tempfile::tempdir().unwrap();
    let mut options = options(cache.path(), Duration::from_secs(20));
    options.keep = KeepOptions { grace: Duration::from_millis(20), ..KeepOptions::for_tests() };
    let mounted = mount(store.clone(), options, cache).await;
    store.set_chances(Chances { max_delay: Duration::from_millis(20), ..Chances::rough() });
    let mut files = Files::new();
    for n in 0..250u64 {
        let (name, bytes) = (format!("f{}", n % 30), noise(n, 2000));
        mounted.put(&name, &bytes).await.unwrap();
        files.insert(name, bytes);
        if n.is_multiple_of(20) {
            // Some fail, at any request; the next goes on from what is there.
            let _ = mounted.round().await;
            let _ = mounted.sweep().await;
        }
    }
    store.calm();
    mounted.round().await.unwrap();
    mounted.must_hold(&files, "here").await;
    mounted.kill().await;
    let elsewhere = mount_dir(dir.path()).await;
    elsewhere.must_hold(&files, "elsewhere").await;
    assert!(elsewhere.status().notices.is_empty(), "{:?}", elsewhere.status().notices);
    let floor = elsewhere.writer.as_ref().unwrap().lease.floor();
    assert!(floor > crate::log::ids::Slot(100), "{floor}");
    elsewhere.kill().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_was_deleted_is_not_made_again() {
    let (dir, _) = prepared().await;
    let store = DirStore::new(dir.path());
    let mounted = mount_dir(dir.path()).await;
    mounted.put("other", b"x").await.unwrap();
    let all = keys_below(&store, "").await;
    assert!(store.delete_many(&all).await.unwrap().is_empty());
    let failed = mounted.round().await;
    assert!(matches!(failed, Err(crate::log::LogError::Deleted { .. })), "{failed:?}");
    assert_eq!(keys_below(&store, "").await, Vec::<String>::new());
    mounted.kill().await;
}
