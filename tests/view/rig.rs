//! A store, hosts that mount it one after the other, and whatever can go wrong between.

use crate::outside::Client;
use cwdfs::log::ids::Ino;
use cwdfs::session::api::*;
use cwdfs::session::{Durability, KeepOptions, Owners, Session, SessionError, SessionOptions};
use cwdfs::store::faulty::FaultyStore;
use cwdfs::store::{DirStore, ObjectStore};
use cwdfs::view::{Imported, View, ViewOptions, ViewStatus};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio::time::Instant;

/// Who does everything.
pub const ROOT_USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Every wait of a test is far shorter.
pub const LONG: Duration = Duration::from_secs(30);

/// A store and a machine.
pub struct Rig {
    dir: tempfile::TempDir,
    cache: u32,
    /// Whom mounts show everything to belong to.
    pub owners: Owners,
    /// An outside client of the store, which nothing disturbs.
    pub client: Client,
}

/// A mounted session with its view.
pub struct Host {
    /// What the session asks the store through.
    pub faulty: Arc<FaultyStore>,
    /// The mounted session.
    pub session: Arc<Session>,
    /// Its view.
    pub view: Arc<View>,
    runtime: Runtime,
}

/// Nothing happens by itself: neither publishing nor importing, within the time of a test.
pub fn by_hand() -> ViewOptions {
    let never = Duration::from_secs(3600);
    ViewOptions { delay: never, import_interval: never, ..ViewOptions::default() }
}

impl Rig {
    /// An empty store.
    pub fn new() -> Rig {
        // Once for all tests of the program; `RUST_LOG=cwdfs=debug` shows what the view does.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let client = Client::new(&dir.path().join("store"));
        Rig { dir, cache: 0, owners: Owners::default(), client }
    }

    /// Mounts what is in the store, with the machine's cache.
    pub fn mount(&self) -> Host {
        self.mount_with(by_hand())
    }

    /// The same, with a view of these options; what follows each mount by itself is over.
    pub fn mount_with(&self, options: ViewOptions) -> Host {
        let host = self.try_mount(options, |_| {}).expect("the view starts");
        let begun = std::time::Instant::now();
        while host.status().last_import.is_none() {
            assert!(begun.elapsed() < LONG, "no import after the mount: {:#?}", host.status());
            std::thread::sleep(Duration::from_millis(2));
        }
        // So is the comparison of all: later changes wait for their time.
        host.wait(host.view.wait_published(Instant::now() + LONG));
        host
    }

    /// Mounts at once; `prepare` may make the store bad once the session is there.
    pub fn try_mount(
        &self,
        options: ViewOptions,
        prepare: impl FnOnce(&FaultyStore),
    ) -> std::result::Result<Host, cwdfs::view::ViewError> {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let inner: Arc<dyn ObjectStore> = Arc::new(DirStore::new(self.dir.path().join("store")));
        let faulty = FaultyStore::new(inner, 7);
        let store: Arc<dyn ObjectStore> = faulty.clone();
        let session = runtime.block_on(Session::start(store, self.options())).expect("the session opens");
        prepare(&faulty);
        let view = runtime.block_on(View::start(session.clone(), options));
        match view {
            Ok(view) => Ok(Host { faulty, session, view, runtime }),
            Err(error) => {
                drop(session);
                runtime.shutdown_timeout(Duration::from_secs(5));
                Err(error)
            }
        }
    }

    /// From now on another machine mounts: without what the one before had kept.
    pub fn wipe(&mut self) {
        self.cache += 1;
    }

    fn options(&self) -> SessionOptions {
        let cache_dir = self.dir.path().join(format!("cache-{}", self.cache));
        std::fs::create_dir_all(&cache_dir).expect("a cache folder");
        SessionOptions {
            cache_dir,
            cache_size: 256 << 20,
            quota: None,
            durability: Durability::Close,
            lazy: ignore::gitignore::Gitignore::empty(),
            commit_interval: Duration::from_millis(100),
            timeout: LONG,
            holder: "the view test".into(),
            lease_ttl: Duration::from_secs(15),
            succession: cwdfs::log::lease::Succession::AtOnce,
            park_after: None,
            owners: self.owners,
            modes: Default::default(),
            read_only: false,
            follow_interval: Duration::from_secs(5),
            passthrough: false,
            keep: KeepOptions::for_tests(),
        }
    }

    /// Where the store's files are.
    pub fn store_dir(&self) -> PathBuf {
        self.dir.path().join("store")
    }
}

impl Host {
    /// Waits for something of the session or the view.
    pub fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        let timed = self.runtime.block_on(async { tokio::time::timeout(LONG * 2, work).await });
        timed.expect("nothing takes that long")
    }

    /// Runs an operation where the session spawns, and waits for it.
    pub fn run<T>(&self, run: impl FnOnce(&Arc<Session>) -> Outcome<T>) -> Result<T> {
        let outcome = {
            let _in = self.runtime.enter();
            run(&self.session)
        };
        self.wait(outcome.get())
    }

    /// Starts work beside the test.
    pub fn spawn<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> tokio::task::JoinHandle<T> {
        self.runtime.spawn(work)
    }

    /// Everything changed so far is in the store.
    pub fn flush(&self) {
        self.wait(self.session.flush_all(LONG)).expect("the session flushes");
    }

    /// Everything changed so far is in the view.
    #[track_caller]
    pub fn publish(&self) {
        self.flush();
        let done = self.wait(self.view.wait_published(Instant::now() + LONG));
        assert!(done, "not all is published: {:#?}", self.status());
    }

    /// Whether everything is published within `limit`.
    pub fn publishes_within(&self, limit: Duration) -> bool {
        self.flush();
        self.wait(self.view.wait_published(Instant::now() + limit))
    }

    /// Imports what happened outside.
    #[track_caller]
    pub fn refresh(&self) -> Imported {
        self.wait(self.view.refresh()).expect("the import passes")
    }

    /// How far the view is.
    pub fn status(&self) -> ViewStatus {
        self.view.status().expect("a writer has a view")
    }

    /// Ends the session as an unmount does.
    pub fn unmount(self) {
        self.publish();
        self.wait(self.view.stop());
        let report = self.wait(self.session.close(LONG));
        assert!(report.is_clean(), "{report:?}");
        self.end();
    }

    /// The process dies.
    pub fn crash(self) {
        self.end();
    }

    fn end(self) {
        let Host { faulty, session, view, runtime } = self;
        drop((faulty, session, view));
        runtime.shutdown_timeout(Duration::from_secs(5));
    }

    /// The inode at a path (`""`: the root).
    pub fn find(&self, path: &str) -> Result<Ino> {
        let mut at = Ino::ROOT;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            at = self.look(at, name.as_bytes())?;
        }
        Ok(at)
    }

    /// The inode that a name of a directory names.
    pub fn look(&self, parent: Ino, name: &[u8]) -> Result<Ino> {
        let attr = self.session.lookup(parent, name)?.ok_or(SessionError::Errno(libc::ENOENT))?;
        self.session.forget(attr.ino, 1);
        Ok(attr.ino)
    }

    /// Whether there is something at a path.
    pub fn has(&self, path: &str) -> bool {
        self.find(path).is_ok()
    }

    fn place<'a>(&self, path: &'a str) -> Result<(Ino, &'a [u8])> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Ok((self.find(parent)?, name.as_bytes()))
    }

    /// Opens a file, as `flags` say; makes it where it is not.
    pub fn open(&self, path: &str, flags: OpenFlags) -> Result<(Fh, Ino)> {
        let (parent, name) = self.place(path)?;
        if let Ok(ino) = self.find(path) {
            return Ok((self.run(|s| s.open(ROOT_USER, ino, flags))?.fh, ino));
        }
        let new = NewNode { mode: 0o644, umask: 0o022, rdev: 0, target: Vec::new() };
        let (attr, opened) = self.run(|s| s.create(ROOT_USER, parent, name, new, flags))?;
        self.session.forget(attr.ino, 1);
        Ok((opened.fh, attr.ino))
    }

    /// Closes a file, as close(2) does and its last reference after it.
    pub fn close(&self, (fh, ino): (Fh, Ino)) -> Result<()> {
        let flushed = self.run(|s| s.flush(ROOT_USER, fh, ino));
        let _in = self.runtime.enter();
        self.session.release(fh);
        flushed
    }

    /// Replaces the whole content of a file.
    pub fn write(&self, path: &str, bytes: &[u8]) {
        self.try_write(path, bytes).unwrap_or_else(|error| panic!("write {path}: {error}"));
    }

    /// The same, with its error.
    pub fn try_write(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.open(path, OpenFlags { write: true, truncate: true, ..OpenFlags::default() })?;
        self.put_bytes(file, 0, bytes)?;
        self.close(file)
    }

    /// Adds to the end of a file.
    pub fn append(&self, path: &str, bytes: &[u8]) -> Result<()> {
        let file = self.open(path, OpenFlags { write: true, append: true, ..OpenFlags::default() })?;
        let size = self.session.getattr(file.1)?.size;
        let written = self.put_bytes(file, size, bytes);
        let closed = self.close(file);
        written.and(closed)
    }

    /// Writes to an open file.
    pub fn put_bytes(&self, (fh, ino): (Fh, Ino), offset: u64, bytes: &[u8]) -> Result<()> {
        for (n, part) in bytes.chunks(1 << 20).enumerate() {
            let at = offset + ((n as u64) << 20);
            self.run(|s| s.write(ROOT_USER, fh, ino, at, part, Default::default()))?;
        }
        Ok(())
    }

    /// A file's content.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        self.read_ino(self.find(path)?)
    }

    /// A file's content as text; panics where it cannot be read.
    #[track_caller]
    pub fn text(&self, path: &str) -> String {
        let bytes = self.read(path).unwrap_or_else(|error| panic!("read {path}: {error}"));
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The content of an inode.
    pub fn read_ino(&self, ino: Ino) -> Result<Vec<u8>> {
        let flags = OpenFlags { read: true, ..OpenFlags::default() };
        let fh = self.run(|s| s.open(ROOT_USER, ino, flags))?.fh;
        let content = self.read_open(fh, ino);
        let _in = self.runtime.enter();
        self.session.release(fh);
        content
    }

    /// The content of an open file.
    pub fn read_open(&self, fh: Fh, ino: Ino) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        loop {
            let bytes = self.run(|s| s.read(fh, ino, all.len() as u64, 1 << 20))?;
            if bytes.is_empty() {
                return Ok(all);
            }
            all.extend_from_slice(&bytes);
        }
    }

    fn make(&self, path: &str, mode: u32, target: &[u8]) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.make_named(parent, name, mode, target)
    }

    /// Makes an inode at any name.
    pub fn make_named(&self, parent: Ino, name: &[u8], mode: u32, target: &[u8]) -> Result<()> {
        let new = NewNode { mode, umask: 0o022, rdev: 0, target: target.to_vec() };
        let attr = self.run(|s| s.make(ROOT_USER, parent, name, new))?;
        self.session.forget(attr.ino, 1);
        Ok(())
    }

    /// Makes a directory.
    pub fn mkdir(&self, path: &str) -> Result<()> {
        self.make(path, libc::S_IFDIR | 0o755, b"")
    }

    /// Makes a symlink.
    pub fn symlink(&self, path: &str, target: &str) -> Result<()> {
        self.make(path, libc::S_IFLNK | 0o777, target.as_bytes())
    }

    /// Removes a name.
    pub fn unlink(&self, path: &str) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.run(|s| s.unlink(ROOT_USER, parent, name))
    }

    /// Removes an empty directory.
    pub fn rmdir(&self, path: &str) -> Result<()> {
        let (parent, name) = self.place(path)?;
        self.run(|s| s.rmdir(ROOT_USER, parent, name))
    }

    /// Moves a name.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (from, to) = (self.place(from)?, self.place(to)?);
        self.run(|s| s.rename(ROOT_USER, from, to, RenameMode::Replace))
    }

    /// Makes a hard link.
    pub fn link(&self, from: &str, to: &str) -> Result<()> {
        let ino = self.find(from)?;
        let (parent, name) = self.place(to)?;
        let attr = self.run(|s| s.link(ROOT_USER, ino, parent, name))?;
        self.session.forget(attr.ino, 1);
        Ok(())
    }

    /// Sets permission bits.
    pub fn chmod(&self, path: &str, mode: u32) -> Result<()> {
        let ino = self.find(path)?;
        let set = SetAttr { mode: Some(mode), ..SetAttr::default() };
        self.run(|s| s.setattr(ROOT_USER, ino, None, set)).map(drop)
    }

    /// The names in a directory.
    pub fn names(&self, path: &str) -> Vec<String> {
        let ino = self.find(path).expect("a directory");
        let mut names = Vec::new();
        let mut emit = |entry: &DirEntry| {
            names.push(String::from_utf8_lossy(&entry.name).into_owned());
            true
        };
        self.session.readdir(ino, 0, false, &mut emit).expect("readdir");
        names.retain(|name| name != "." && name != "..");
        names.sort();
        names
    }
}
