//! The session under test, driven by paths.

use crate::ops::{Kind, Move, Path, Reserve, SLOTS};
use crate::reference::Result;
use cwdfs::log::ids::Ino;
use cwdfs::log::row::Time;
use cwdfs::session::api::*;
use cwdfs::session::{Durability, KeepOptions, Session, SessionOptions};
use cwdfs::store::DirStore;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

const ROOT_USER: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Every wait of a test is far shorter.
const TIMEOUT: Duration = Duration::from_secs(20);

/// A mounted session, its folders, and the files that are open.
pub struct Subject {
    dir: tempfile::TempDir,
    caches: u32,
    runtime: Option<tokio::runtime::Runtime>,
    session: Option<Arc<Session>>,
    open: [Option<(Fh, Ino)>; SLOTS],
    durability: Durability,
}

/// One inode of a tree as it was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    pub ino: u64,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub nlink: u32,
    pub mtime: i64,
    pub data: Vec<u8>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

impl Subject {
    /// A new session in a directory store.
    pub fn new(durability: Durability) -> Subject {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let open = [None; SLOTS];
        let mut subject = Subject { dir, caches: 0, runtime: None, session: None, open, durability };
        subject.mount();
        subject
    }

    fn cache_dir(&self) -> PathBuf {
        self.dir.path().join(format!("cache-{}", self.caches))
    }

    fn options(&self) -> SessionOptions {
        SessionOptions {
            cache_dir: self.cache_dir(),
            cache_size: 64 << 20,
            quota: None,
            durability: self.durability,
            lazy: ignore::gitignore::Gitignore::empty(),
            commit_interval: Duration::from_millis(200),
            timeout: TIMEOUT,
            holder: "the model test".into(),
            lease_ttl: Duration::from_secs(15),
            succession: cwdfs::log::lease::Succession::AtOnce,
            park_after: None,
            owners: Default::default(),
            modes: Default::default(),
            read_only: false,
            follow_interval: Duration::from_secs(5),
            keep: KeepOptions::for_tests(),
            passthrough: false,
        }
    }

    /// Mounts what is in the store and the cache folder.
    fn mount(&mut self) {
        let store = Arc::new(DirStore::new(self.dir.path().join("store")));
        std::fs::create_dir_all(self.cache_dir()).expect("a cache folder");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let session = runtime.block_on(Session::start(store, self.options()));
        self.session = Some(session.expect("the session opens"));
        self.runtime = Some(runtime);
    }

    /// Unmounts and mounts again.
    pub fn remount(&mut self) {
        for slot in 0..SLOTS {
            // Most are not open, which is no matter here.
            let _ = self.close(slot);
        }
        let session = self.session.take().expect("mounted");
        let report = self.wait(async { session.close(TIMEOUT).await });
        assert!(report.is_clean(), "{report:?}");
        drop(session);
        self.stop();
        self.mount();
    }

    /// The process dies; the next one mounts, with the cache folder or without.
    pub fn crash(&mut self, wipe: bool) {
        self.open = [None; SLOTS];
        self.session = None;
        self.stop();
        self.caches += u32::from(wipe);
        self.mount();
    }

    fn stop(&mut self) {
        self.runtime.take().expect("mounted").shutdown_timeout(Duration::from_secs(5));
    }

    fn session(&self) -> &Arc<Session> {
        self.session.as_ref().expect("mounted")
    }

    fn wait<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("mounted").block_on(work)
    }

    fn get<T>(&self, outcome: Outcome<T>) -> Result<T> {
        let answer = self.wait(async { tokio::time::timeout(TIMEOUT * 2, outcome.get()).await });
        answer.expect("every wait is bounded").map_err(|error| {
            let errno = error.errno();
            assert!(![libc::EIO, libc::ESTALE].contains(&errno), "{error}");
            errno
        })
    }

    /// Everything within the runtime, where the session spawns.
    fn within<T>(&self, run: impl FnOnce(&Arc<Session>) -> Outcome<T>) -> Result<T> {
        let outcome = {
            let _in = self.runtime.as_ref().expect("mounted").enter();
            run(self.session())
        };
        self.get(outcome)
    }

    fn find(&self, path: &Path) -> Result<Ino> {
        let (parent, name) = self.parent(path)?;
        self.look(parent, &name).map(|attr| attr.ino)
    }

    fn look(&self, parent: Ino, name: &[u8]) -> Result<Attr> {
        let attr = self.session().lookup(parent, name).map_err(|e| e.errno())?.ok_or(libc::ENOENT)?;
        self.session().forget(attr.ino, 1);
        Ok(attr)
    }

    fn parent(&self, path: &Path) -> Result<(Ino, Vec<u8>)> {
        let mut names = path.names();
        let last = names.pop().expect("paths are not empty");
        let mut at = Ino::ROOT;
        for name in names {
            at = self.look(at, &name)?.ino;
        }
        match self.session().getattr(at).map_err(|e| e.errno())?.mode & libc::S_IFMT {
            libc::S_IFDIR => Ok((at, last)),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn make_node(&self, at: &Path, mode: u32, target: &[u8]) -> Result<()> {
        let (parent, name) = self.parent(at)?;
        let new = NewNode { mode, umask: 0o022, rdev: 0, target: target.to_vec() };
        let attr = self.within(|s| s.make(ROOT_USER, parent, &name, new))?;
        self.session().forget(attr.ino, 1);
        Ok(())
    }

    pub fn make(&self, at: &Path, kind: Kind, mode: u32) -> Result<()> {
        let kind = match kind {
            Kind::File => libc::S_IFREG,
            Kind::Dir => libc::S_IFDIR,
            Kind::Fifo => libc::S_IFIFO,
        };
        self.make_node(at, kind | mode, b"")
    }

    pub fn symlink(&self, at: &Path, target: &[u8]) -> Result<()> {
        self.make_node(at, libc::S_IFLNK | 0o777, target)
    }

    pub fn unlink(&self, at: &Path) -> Result<()> {
        let (parent, name) = self.parent(at)?;
        self.within(|s| s.unlink(ROOT_USER, parent, &name))
    }

    pub fn rmdir(&self, at: &Path) -> Result<()> {
        let (parent, name) = self.parent(at)?;
        self.within(|s| s.rmdir(ROOT_USER, parent, &name))
    }

    pub fn rename(&self, from: &Path, to: &Path, how: Move) -> Result<()> {
        let (from, to) = (self.parent(from)?, self.parent(to)?);
        let mode = match how {
            Move::Replace => RenameMode::Replace,
            Move::NoReplace => RenameMode::NoReplace,
            Move::Exchange => RenameMode::Exchange,
        };
        self.within(|s| s.rename(ROOT_USER, (from.0, &from.1), (to.0, &to.1), mode))
    }

    pub fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let ino = self.find(from)?;
        let (parent, name) = self.parent(to)?;
        let attr = self.within(|s| s.link(ROOT_USER, ino, parent, &name))?;
        self.session().forget(attr.ino, 1);
        Ok(())
    }

    fn set(&self, at: &Path, set: SetAttr) -> Result<()> {
        let ino = self.find(at)?;
        self.within(|s| s.setattr(ROOT_USER, ino, None, set)).map(drop)
    }

    pub fn chmod(&self, at: &Path, mode: u32) -> Result<()> {
        self.set(at, SetAttr { mode: Some(mode), ..SetAttr::default() })
    }

    pub fn chown(&self, at: &Path, uid: u32, gid: u32) -> Result<()> {
        self.set(at, SetAttr { uid: Some(uid), gid: Some(gid), ..SetAttr::default() })
    }

    pub fn utimens(&self, at: &Path, sec: i64) -> Result<()> {
        let mtime = Some(SetTime::To(Time { sec, nsec: 7 }));
        self.set(at, SetAttr { mtime, ..SetAttr::default() })
    }

    pub fn truncate(&self, at: &Path, size: u64) -> Result<()> {
        self.set(at, SetAttr { size: Some(size), ..SetAttr::default() })
    }

    pub fn set_xattr(&self, at: &Path, name: &[u8], value: &[u8]) -> Result<()> {
        let ino = self.find(at)?;
        self.within(|s| s.setxattr(ROOT_USER, ino, name, value, XattrMode::Either))
    }

    pub fn remove_xattr(&self, at: &Path, name: &[u8]) -> Result<()> {
        let ino = self.find(at)?;
        self.within(|s| s.removexattr(ROOT_USER, ino, name))
    }

    pub fn open(&mut self, slot: usize, at: &Path, create: bool, truncate: bool) -> Result<()> {
        let flags = OpenFlags { read: true, write: true, truncate, ..OpenFlags::default() };
        let (ino, fh) = match self.find(at) {
            Err(libc::ENOENT) if create => {
                let (parent, name) = self.parent(at)?;
                let new = NewNode { mode: 0o644, umask: 0o022, rdev: 0, target: Vec::new() };
                let flags = OpenFlags { exclusive: true, ..flags };
                let (attr, opened) = self.within(|s| s.create(ROOT_USER, parent, &name, new, flags))?;
                self.session().forget(attr.ino, 1);
                (attr.ino, opened.fh)
            }
            found => {
                let ino = found?;
                match self.session().getattr(ino).map_err(|e| e.errno())?.mode & libc::S_IFMT {
                    libc::S_IFREG => {}
                    libc::S_IFDIR => return Err(libc::EISDIR),
                    _ => return Err(libc::EINVAL),
                }
                (ino, self.within(|s| s.open(ROOT_USER, ino, flags))?.fh)
            }
        };
        self.open[slot] = Some((fh, ino));
        Ok(())
    }

    fn handle(&self, slot: usize) -> (Fh, Ino) {
        self.open[slot].expect("the model has it open")
    }

    pub fn write(&self, slot: usize, offset: u64, data: &[u8]) -> Result<u32> {
        let (fh, ino) = self.handle(slot);
        self.within(|s| s.write(ROOT_USER, fh, ino, offset, data, Default::default()))
    }

    pub fn read(&self, slot: usize, offset: u64, size: u32) -> Result<Vec<u8>> {
        let (fh, ino) = self.handle(slot);
        self.within(|s| s.read(fh, ino, offset, size)).map(|bytes| bytes.to_vec())
    }

    pub fn reserve(&self, slot: usize, offset: u64, len: u64, how: Reserve) -> Result<()> {
        let (fh, ino) = self.handle(slot);
        let how = match how {
            Reserve::Grow => Allocate::Grow,
            Reserve::KeepSize => Allocate::KeepSize,
            Reserve::Punch => Allocate::PunchHole,
            Reserve::Zero => Allocate::ZeroRange { keep_size: false },
            Reserve::ZeroKeep => Allocate::ZeroRange { keep_size: true },
        };
        self.within(|s| s.fallocate(ROOT_USER, fh, ino, offset, len, how))
    }

    pub fn copy(&self, from: usize, from_at: u64, to: usize, to_at: u64, len: u64) -> Result<u64> {
        let ((from_fh, from), (to_fh, to)) = (self.handle(from), self.handle(to));
        self.within(|s| s.copy_range(ROOT_USER, (from_fh, from, from_at), (to_fh, to, to_at), len))
    }

    pub fn flush(&self, slot: usize) -> Result<()> {
        let (fh, ino) = self.handle(slot);
        self.within(|s| s.flush(ROOT_USER, fh, ino))
    }

    pub fn fsync(&self, slot: usize) -> Result<()> {
        let (fh, ino) = self.handle(slot);
        self.within(|s| s.fsync(ROOT_USER, fh, ino))
    }

    pub fn close(&mut self, slot: usize) -> Result<()> {
        let Some((fh, ino)) = self.open[slot].take() else { return Ok(()) };
        let flushed = self.within(|s| s.flush(ROOT_USER, fh, ino));
        let _in = self.runtime.as_ref().expect("mounted").enter();
        self.session().release(fh);
        flushed
    }

    pub fn fsync_dir(&self, at: &Path) -> Result<()> {
        let ino = self.find(at)?;
        self.within(|s| s.fsyncdir(ROOT_USER, ino))
    }

    pub fn flush_all(&self) -> Result<()> {
        self.wait(self.session().flush_all(TIMEOUT)).map_err(|error| panic!("{error}"))
    }

    /// The whole tree, by path.
    pub fn tree(&self) -> BTreeMap<String, Found> {
        let mut tree = BTreeMap::new();
        self.walk(Ino::ROOT, "", &mut tree);
        tree
    }

    fn walk(&self, ino: Ino, path: &str, tree: &mut BTreeMap<String, Found>) {
        let session = self.session();
        let attr = session.getattr(ino).expect("getattr");
        tree.insert(path.to_string(), self.found(&attr));
        if attr.mode & libc::S_IFMT != libc::S_IFDIR {
            return;
        }
        let mut entries = Vec::new();
        let mut emit = |entry: &DirEntry| {
            entries.push((entry.name.clone(), entry.ino));
            true
        };
        session.readdir(ino, 0, false, &mut emit).expect("readdir");
        for (name, ino) in entries.into_iter().filter(|(name, _)| name != b"." && name != b"..") {
            let looked = self.look_ino(attr.ino, &name);
            assert_eq!(looked, ino, "lookup and readdir agree on {name:?}");
            self.walk(ino, &format!("{path}/{}", String::from_utf8_lossy(&name)), tree);
        }
    }

    fn look_ino(&self, parent: Ino, name: &[u8]) -> Ino {
        self.look(parent, name).expect("a listed name is there").ino
    }

    fn found(&self, attr: &Attr) -> Found {
        let session = self.session();
        let data = match attr.mode & libc::S_IFMT {
            libc::S_IFLNK => session.readlink(attr.ino).expect("readlink"),
            libc::S_IFREG => self.content(attr.ino),
            _ => Vec::new(),
        };
        let names = session.listxattr(ROOT_USER, attr.ino).expect("listxattr");
        let value = |name: &Vec<u8>| session.getxattr(attr.ino, name).expect("a listed xattr is there");
        Found {
            ino: attr.ino.0,
            mode: attr.mode,
            uid: attr.uid,
            gid: attr.gid,
            nlink: attr.nlink,
            mtime: attr.mtime.sec,
            data,
            xattrs: names.iter().map(|name| (name.clone(), value(name))).collect(),
        }
    }

    fn content(&self, ino: Ino) -> Vec<u8> {
        let flags = OpenFlags { read: true, ..OpenFlags::default() };
        let fh = self.within(|s| s.open(ROOT_USER, ino, flags)).expect("open").fh;
        let mut all = Vec::new();
        loop {
            let bytes = self.within(|s| s.read(fh, ino, all.len() as u64, 128 << 10)).expect("read");
            if bytes.is_empty() {
                break;
            }
            all.extend_from_slice(&bytes);
        }
        let _in = self.runtime.as_ref().expect("mounted").enter();
        self.session().release(fh);
        all
    }
}
