//! A session whose bucket holds rows that no writer makes, opened and used as a mount would.

use crate::config;
use crate::rows::{Around, rows};
use crate::visit::visit;
use cwdfs::log::ids::{Ino, Slot, keys};
use cwdfs::log::lease::{Lease, LeaseBody, Succession};
use cwdfs::log::row::{Key, Record, meta};
use cwdfs::log::segment;
use cwdfs::session::api::*;
use cwdfs::session::{Durability, KeepOptions, Owners, Session, SessionOptions};
use cwdfs::store::{DirStore, ObjectStore, PutOptions};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use std::cell::Cell;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tokio::runtime::Runtime;

/// Nothing that is asked of a session of a few rows takes as long.
const LONG: Duration = Duration::from_secs(60);

/// A sound session to begin with.
struct Sound {
    dir: tempfile::TempDir,
    around: Around,
}

fn runtime() -> Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("a runtime")
}

fn options(cache: &Path, read_only: bool) -> SessionOptions {
    SessionOptions {
        cache_dir: cache.to_owned(),
        cache_size: 32 << 20,
        quota: Some(1 << 30),
        durability: Durability::Close,
        lazy: ignore::gitignore::Gitignore::empty(),
        commit_interval: Duration::from_millis(50),
        timeout: Duration::from_secs(2),
        holder: "the fuzzer".into(),
        lease_ttl: Duration::from_secs(15),
        succession: Succession::AtOnce,
        park_after: None,
        owners: Owners::default(),
        modes: Default::default(),
        read_only,
        follow_interval: Duration::from_secs(5),
        passthrough: false,
        keep: KeepOptions::for_tests(),
    }
}

/// Made once, by a real session.
fn sound() -> &'static Sound {
    static SOUND: OnceLock<Sound> = OnceLock::new();
    SOUND.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a folder");
        let (store, cache) = (dir.path().join("store"), dir.path().join("cache"));
        std::fs::create_dir_all(&store).expect("a folder");
        let runtime = runtime();
        let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(store));
        runtime.block_on(make(store.clone(), &cache));
        let lease = runtime.block_on(Lease::peek(&*store)).expect("a lease").expect("a lease");
        let around = runtime.block_on(around(&*store, &lease));
        Sound { dir, around }
    })
}

/// `f`, `d/g`, and a symlink.
async fn make(store: Arc<dyn ObjectStore>, cache: &Path) {
    let session = Session::start(store, options(cache, false)).await.expect("a session");
    let root = Caller { uid: 0, gid: 0, pid: 0 };
    let new = |mode, target: &[u8]| NewNode { mode, umask: 0, rdev: 0, target: target.to_vec() };
    let directory = new(libc::S_IFDIR | 0o755, b"");
    let directory = session.make(root, Ino::ROOT, b"d", directory).get().await.expect("a directory");
    session.make(root, Ino::ROOT, b"link", new(libc::S_IFLNK | 0o777, b"f")).get().await.expect("a symlink");
    for (parent, name) in [(Ino::ROOT, &b"f"[..]), (directory.ino, b"g")] {
        let flags = OpenFlags { write: true, ..OpenFlags::default() };
        let created = session.create(root, parent, name, new(libc::S_IFREG | 0o644, b""), flags).get().await;
        let (attr, opened) = created.expect("a file");
        session
            .write(root, opened.fh, attr.ino, 0, b"content", WriteHow::default())
            .get()
            .await
            .expect("write");
        session.flush(root, opened.fh, attr.ino).get().await.expect("close");
        session.release(opened.fh);
    }
    assert!(session.close(LONG).await.is_clean());
}

/// What somebody knows who can read the bucket.
async fn around(store: &dyn ObjectStore, lease: &LeaseBody) -> Around {
    let overview = cwdfs::log::inspect::session(store).await.expect("an overview");
    let last = overview.segments.iter().map(|segment| segment.slot).max().expect("a segment");
    let first = keys::segment(lease.origin, Slot(1));
    let first = store.get(&first, None, None).await.expect("the first segment");
    let first = segment::decode(lease.origin, Slot(1), &first.body).expect("the first segment");
    let name = Key::Meta { name: meta::COOKIE_KEY.to_vec() }.encode();
    let cookies =
        first.records.iter().find(|record| record.key == name).and_then(|record| record.value.clone());
    let cookies = cookies.expect("it has a key").try_into().expect("of 16 bytes");
    Around { session: lease.session, epoch: lease.epoch, slot: Slot(last), cookies }
}

/// The sound session with one more commit of these rows.
async fn put(store: &dyn ObjectStore, records: Vec<Record>) {
    let around = sound().around;
    let key = keys::segment(around.epoch, around.slot.next());
    let (bytes, _) = around.commit(records);
    store.put(&key, bytes, &PutOptions::default()).await.expect("it is put");
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").arg(from).arg(to).status().expect("cp runs");
    assert!(copied.success());
}

/// Opens the session with these rows, uses it, ends it; then looks for what it may have left elsewhere. Whether it
/// could be opened.
fn try_rows(records: Vec<Record>, read_only: bool) -> bool {
    let dir = tempfile::tempdir().expect("a folder");
    copy(&sound().dir.path().join("store"), &dir.path().join("store"));
    std::fs::write(dir.path().join("outside"), "untouched").expect("a file");
    let runtime = runtime();
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(dir.path().join("store")));
    let worked = runtime.block_on(async {
        put(&*store, records).await;
        let options = options(&dir.path().join("cache"), read_only);
        let work = async {
            match Session::start(store, options).await {
                Ok(session) => {
                    visit(session).await;
                    true
                }
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    false
                }
            }
        };
        tokio::time::timeout(LONG, tokio::spawn(work)).await
    });
    let opened = worked.expect("it hangs").expect("it panics");
    runtime.shutdown_timeout(LONG);
    let mut left: Vec<_> =
        std::fs::read_dir(dir.path()).expect("a folder").map(|e| e.expect("an entry").file_name()).collect();
    left.sort();
    assert!(
        left.iter().all(|name| ["cache", "outside", "store"].contains(&name.to_str().unwrap_or(""))),
        "{left:?}"
    );
    assert_eq!(std::fs::read(dir.path().join("outside")).expect("it is there"), b"untouched");
    opened
}

#[test]
fn a_hostile_session_is_refused_or_harmless() {
    let (mut runner, opened) =
        (TestRunner::new(config(100, "tests/fuzz/regressions/sessions.txt")), Cell::new(0));
    let cases = runner.config().cases;
    let hostile = (rows(sound().around), prop::bool::weighted(0.2));
    let tried = runner.run(&hostile, |(records, read_only)| {
        opened.set(opened.get() + u32::from(try_rows(records, read_only)));
        Ok(())
    });
    tried.unwrap_or_else(|failure| panic!("{failure}"));
    assert!(
        opened.get() > cases / 2,
        "{} of {cases} sessions were opened: the rest tells little",
        opened.get()
    );
}

#[test]
fn a_sound_session_is_used_whole() {
    // What `visit` does is worth something only where it finds something to do.
    assert!(try_rows(Vec::new(), false) && try_rows(Vec::new(), true));
}
