//! Opening: which way an open's reads and writes travel, and its end.
//!
//! Invariants (the kernel answers EIO where they are broken):
//! - while an inode has an open in passthrough, or may have a writable mapping of its backing file, every open
//!   of it is in a passthrough mode;
//! - passthrough begins only with an open that only reads, on an inode that has no other open, that holds no
//!   privilege, and that this mount has not seen opened for reading and writing;
//! - an open that only reads has no page of the kernel's while an open that only writes goes past them: the kernel
//!   would move the end of a growing file before it drops the page that holds the old one, with zeros behind it.

use super::{Handle, Slot};
use crate::content::File;
use crate::log::ids::Ino;
use crate::log::source::Seq;
use crate::session::api::*;
use crate::session::attr::now;
use crate::session::node::{Node, Use};
use crate::session::set_id::SET_ID;
use crate::session::{Durability, Session, SessionError};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Files from this size on are worth passthrough.
pub(in crate::session) const LARGE: u64 = 8 << 20;

/// Whether what is stored through a mapping of such an open stays in the kernel's pages for a while.
fn is_storable(mode: IoMode, flags: OpenFlags) -> bool {
    flags.read && flags.write && matches!(mode, IoMode::Cached { .. })
}

/// Opens of an inode by the way they travel.
#[derive(Default, PartialEq, Eq)]
pub(super) struct Modes {
    cached: u32,
    /// Directly, for writing.
    direct: u32,
    /// Directly, for reading only.
    direct_reads: u32,
    pass: u32,
    /// Those of the cached ones that may be mapped to be stored to.
    storable: u32,
    /// How many there ever were.
    pub begun: u64,
}

impl Modes {
    /// There is no open.
    pub fn is_idle(&self) -> bool {
        *self == Modes { begun: self.begun, ..Modes::default() }
    }

    /// Whether the kernel may have content that it has not written back.
    pub fn may_hide_content(&self) -> bool {
        self.storable > 0
    }

    fn begin(&mut self, mode: IoMode, flags: OpenFlags) {
        *self.count(mode, flags.write) += 1;
        self.storable += u32::from(is_storable(mode, flags));
        self.begun += 1;
    }

    /// One that was begun is over, unless all are.
    fn end(&mut self, mode: IoMode, flags: OpenFlags) {
        let count = self.count(mode, flags.write);
        *count = count.saturating_sub(1);
        self.storable = self.storable.saturating_sub(u32::from(is_storable(mode, flags)));
    }

    /// The kernel is gone, and its opens with it.
    pub fn end_all(&mut self) {
        *self = Modes { begun: self.begun, ..Modes::default() };
    }

    fn count(&mut self, mode: IoMode, write: bool) -> &mut u32 {
        match mode {
            IoMode::Cached { .. } => &mut self.cached,
            IoMode::Direct if write => &mut self.direct,
            IoMode::Direct => &mut self.direct_reads,
            IoMode::Passthrough | IoMode::PassthroughDirect => &mut self.pass,
        }
    }
}

/// What decides the way of an open.
struct Asked {
    flags: OpenFlags,
    /// In bytes.
    size: u64,
    /// Passthrough may begin.
    may_pass: bool,
    /// Passthrough has begun and cannot end.
    must_pass: bool,
    /// Each write has to reach us: it waits for the store, or is held against the quota.
    comes_by: bool,
    /// All content is here.
    whole: bool,
    /// The kernel's pages are as new as the file.
    fresh: bool,
    /// An open reads through the kernel's pages.
    has_pages: bool,
    /// An open writes past the kernel's pages.
    has_direct: bool,
}

/// The table of modes.
fn decide(asked: &Asked) -> IoMode {
    let OpenFlags { read, write, .. } = asked.flags;
    if asked.must_pass {
        // Not for an open that reads, unless its writes have to reach us: splice(2) and sendfile(2) on a direct one fill
        // the kernel's own pages, which know nothing of later stores to a mapping of the backing file.
        return match write && (asked.comes_by || !read) {
            true => IoMode::PassthroughDirect,
            false => IoMode::Passthrough,
        };
    }
    let large = asked.may_pass && asked.size >= LARGE;
    match (read, write) {
        (_, false) if large && asked.whole => IoMode::Passthrough,
        (_, false) if asked.has_direct => IoMode::Direct,
        (_, false) | (true, true) => IoMode::Cached { keep: asked.fresh },
        (false, true) if asked.has_pages => IoMode::Cached { keep: asked.fresh },
        (false, true) => IoMode::Direct,
    }
}

impl Session {
    /// Opens a file.
    pub fn open(self: &Arc<Self>, caller: Caller, ino: Ino, flags: OpenFlags) -> Outcome<Opened> {
        match self.begin_open(caller, ino, flags) {
            Err(error) => Outcome::Ready(Err(error)),
            Ok((opened, false)) => Outcome::Ready(Ok(opened)),
            Ok((opened, true)) => {
                let session = self.clone();
                Outcome::Later(Box::pin(async move { session.prepare_backing(opened).await }))
            }
        }
    }

    /// Opens a file that was made by the change `seq`, which its first close waits for, even when nothing
    /// was written.
    pub(in crate::session) fn open_created(
        self: &Arc<Self>,
        node: Use,
        flags: OpenFlags,
        seq: Seq,
    ) -> Result<Opened> {
        let file = self.file_of(&node)?;
        file.made_by(seq);
        let mode = match flags.write && !flags.read {
            true => IoMode::Direct,
            false => IoMode::Cached { keep: false },
        };
        if flags.read && flags.write {
            self.data.saw_read_write(node.ino);
        }
        node.file.modes.lock().begin(mode, flags);
        Ok(self.opened(node, file, flags, mode))
    }

    /// The file behind an open in a passthrough mode.
    pub fn backing(&self, fh: Fh) -> Result<OwnedFd> {
        let handle = self.handle(fh)?;
        handle.file.backing_fd()?.ok_or(SessionError::Errno(libc::EIO))
    }

    /// The kernel did not take the backing file of an open: the daemon does its I/O instead, under another
    /// handle, and no other open of this mount begins passthrough.
    pub fn open_without_backing(self: &Arc<Self>, fh: Fh) -> Result<Opened> {
        if !self.data.refused.swap(true, Ordering::AcqRel) {
            self.notices.add("the kernel does not take backing files: passthrough is off from now on".into());
        }
        let handle = self.data.handles.remove(fh).ok_or(SessionError::Errno(libc::EBADF))?;
        let mode = match handle.flags.write && !handle.flags.read {
            true => IoMode::Direct,
            false => IoMode::Cached { keep: false },
        };
        {
            let mut modes = handle.node.file.modes.lock();
            modes.end(handle.mode, handle.flags);
            // Another open has its backing file: modes must not be mixed.
            if modes.pass > 0 {
                return Err(SessionError::Errno(libc::EIO));
            }
            modes.begin(mode, handle.flags);
        }
        handle.file.compare()?;
        handle.file.leave_backing();
        self.data.backed.lock().remove(&handle.node.ino);
        Ok(self.opened(self.nodes.hold(handle.node.ino), handle.file.clone(), handle.flags, mode))
    }

    /// The last reference to an open is gone: what it changed starts a commit that nobody waits for.
    pub fn release(self: &Arc<Self>, fh: Fh) {
        let Some(handle) = self.data.handles.remove(fh) else { return };
        handle.node.file.modes.lock().end(handle.mode, handle.flags);
        // The kernel may have forgotten the inode already: another thread may be faster than this one.
        self.forgotten(handle.node.ino);
        if handle.file.is_orphan() || !handle.file.is_changed() {
            return;
        }
        if let Err(e) = self.capture_unwaited(&handle.node) {
            // It stays changed, and the next commit interval tries again.
            tracing::warn!("cannot capture inode {} after its last close: {e}", handle.node.ino);
        }
    }

    fn begin_open(self: &Arc<Self>, caller: Caller, ino: Ino, flags: OpenFlags) -> Result<(Opened, bool)> {
        match flags.write || flags.truncate {
            true => drop(self.writer()?),
            false => self.alive()?,
        }
        let node = self.nodes.hold(ino);
        let file = self.file_of(&node)?;
        let mode = self.enter_mode(&node, &file, flags)?;
        if let Err(error) = self.truncate_at_open(caller, &node, &file, flags) {
            node.file.modes.lock().end(mode, flags);
            return Err(error);
        }
        let passing = matches!(mode, IoMode::Passthrough | IoMode::PassthroughDirect);
        Ok((self.opened(node, file, flags, mode), passing))
    }

    fn truncate_at_open(
        self: &Arc<Self>,
        caller: Caller,
        node: &Use,
        file: &Arc<File>,
        flags: OpenFlags,
    ) -> Result<()> {
        if !flags.truncate {
            return Ok(());
        }
        self.clear_set_id(caller, node.ino)?;
        self.clear_capability(node)?;
        file.truncate(0, now())?;
        self.note_changed(node);
        Ok(())
    }

    /// Decides an open's mode and counts it, as one step for its inode.
    fn enter_mode(&self, node: &Use, file: &Arc<File>, flags: OpenFlags) -> Result<IoMode> {
        if flags.read && flags.write {
            self.data.saw_read_write(node.ino);
        }
        // The size first: it spares most opens two looks at rows.
        let may = file.size() >= LARGE
            && self.data.passes()
            && self.writer.is_some()
            && !self.data.is_read_write(node.ino)
            && !self.is_privileged(node)?;
        let mut modes = node.file.modes.lock();
        let asked = Asked {
            flags,
            size: file.size(),
            may_pass: may && modes.is_idle(),
            must_pass: modes.pass > 0 || file.is_suspect(),
            comes_by: self.each_write_waits(flags) || self.quota().is_some(),
            whole: file.is_whole(),
            fresh: !self.data.stale.lock().contains(&node.ino),
            has_pages: modes.cached > 0,
            has_direct: modes.direct > 0,
        };
        let mode = decide(&asked);
        modes.begin(mode, flags);
        drop(modes);
        if let IoMode::Cached { keep: false } = mode {
            self.data.stale.lock().remove(&node.ino);
        }
        if !matches!(mode, IoMode::Cached { .. }) && flags.write {
            self.data.stale.lock().insert(node.ino);
        }
        Ok(mode)
    }

    /// Whether a write returns only when the store has it.
    pub(super) fn each_write_waits(&self, flags: OpenFlags) -> bool {
        flags.sync || self.options.durability == Durability::Sync
    }

    /// Whether a file has set-id bits or capabilities, which writes past us would not clear.
    fn is_privileged(&self, node: &Node) -> Result<bool> {
        Ok(self.row(node.ino)?.mode & SET_ID != 0 || self.has_capability(node)?)
    }

    fn opened(&self, node: Use, file: Arc<File>, flags: OpenFlags, mode: IoMode) -> Opened {
        let no_flush = !flags.write;
        let fh = self.data.handles.insert(Handle { node, file, flags, mode });
        Opened { fh, mode, no_flush }
    }

    /// Makes the backing file whole before the kernel gets it, off the kernel's loop.
    async fn prepare_backing(self: Arc<Self>, opened: Opened) -> Result<Opened> {
        let ready = self.backing_ready(opened.fh).await;
        if let Err(error) = ready {
            self.release(opened.fh);
            return Err(error);
        }
        Ok(opened)
    }

    async fn backing_ready(self: &Arc<Self>, fh: Fh) -> Result<()> {
        let handle = self.handle(fh)?;
        let file = handle.file.clone();
        // The cache may have evicted it since the mode was decided.
        while file.enter_backing()?.is_none() {
            file.fetch_whole().await?;
        }
        let again = self.nodes.hold(handle.node.ino);
        self.data.backed.lock().entry(handle.node.ino).or_insert(again);
        if handle.flags.write && handle.flags.read {
            let joined = self.runtime.spawn_blocking(move || file.suspect()).await;
            joined.map_err(|_| SessionError::Errno(libc::EIO))??;
            // No write tells of itself: it is looked at from now on.
            self.note_changed(&handle.node);
        }
        Ok(())
    }
}

impl Slot {
    /// Whether it has an open.
    pub(in crate::session) fn is_open(&self) -> bool {
        !self.modes.lock().is_idle()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{BOTH, READ, ROOT, WRITE, large, options};

    fn mode(flags: OpenFlags, size: u64, may_pass: bool, must_pass: bool, whole: bool) -> IoMode {
        decide(&Asked { flags, size, may_pass, must_pass, comes_by: flags.sync, whole, ..idle() })
    }

    /// Of a small file that nobody has open.
    fn idle() -> Asked {
        Asked {
            flags: READ,
            size: 1,
            may_pass: true,
            must_pass: false,
            comes_by: false,
            whole: true,
            fresh: true,
            has_pages: false,
            has_direct: false,
        }
    }

    #[test]
    fn readers_have_no_pages_beside_a_writer_past_them() {
        let cached = IoMode::Cached { keep: true };
        let after_a_reader = |flags| decide(&Asked { flags, may_pass: false, has_pages: true, ..idle() });
        let after_a_writer = |flags| decide(&Asked { flags, may_pass: false, has_direct: true, ..idle() });
        for flags in [WRITE, READ, BOTH] {
            assert_eq!(after_a_reader(flags), cached, "{flags:?}");
        }
        for flags in [WRITE, READ] {
            assert_eq!(after_a_writer(flags), IoMode::Direct, "{flags:?}");
        }
        assert_eq!(after_a_writer(BOTH), cached, "it may be mapped to be stored to");
    }

    #[test]
    fn direct_readers_alone_are_no_writers() {
        let mut modes = Modes::default();
        modes.begin(IoMode::Direct, WRITE);
        modes.begin(IoMode::Direct, READ);
        modes.end(IoMode::Direct, WRITE);
        assert!(modes.direct == 0 && !modes.is_idle());
        modes.end(IoMode::Direct, READ);
        assert!(modes.is_idle() && modes.begun == 2);
    }

    #[test]
    fn the_table_of_modes() {
        let cached = IoMode::Cached { keep: true };
        assert_eq!(mode(READ, LARGE, true, false, true), IoMode::Passthrough);
        assert_eq!(mode(READ, LARGE, true, false, false), cached, "not all of it is here");
        assert_eq!(mode(READ, LARGE - 1, true, false, true), cached);
        assert_eq!(mode(READ, LARGE, false, false, true), cached, "not idle, or not allowed");
        assert_eq!(mode(WRITE, LARGE, true, false, true), IoMode::Direct);
        assert_eq!(mode(BOTH, LARGE, true, false, true), cached, "never begins with O_RDWR");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_open_whose_backing_is_refused_goes_on_without() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(crate::store::DirStore::new(dir.path()));
        let session = Session::start(store, options(cache.path())).await.unwrap();
        let ino = large(&session).await;
        let passing = session.open(ROOT, ino, READ).get().await.unwrap();
        assert_eq!(passing.mode, IoMode::Passthrough);
        let instead = session.open_without_backing(passing.fh).unwrap();
        assert_eq!(instead.mode, IoMode::Cached { keep: false });
        assert!(session.backing(passing.fh).is_err(), "the refused handle is gone");
        let bytes = session.read(instead.fh, ino, LARGE - 10, 100).get().await.unwrap();
        assert_eq!(&bytes[..], &[7; 10]);
        session.release(instead.fh);
        let later = session.open(ROOT, ino, READ).get().await.unwrap();
        assert!(matches!(later.mode, IoMode::Cached { .. }), "passthrough is off: {:?}", later.mode);
        assert!(!session.status().passthrough);
        session.release(later.fh);
        assert!(session.close(std::time::Duration::from_secs(20)).await.is_clean());
    }

    /// A capture between the look at the row and the one at the live state left neither with the truth.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn stat_is_never_older_than_what_was_written() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(crate::store::DirStore::new(dir.path()));
        let session = Session::start(store, options(cache.path())).await.unwrap();
        let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let made = session.create(ROOT, Ino::ROOT, b"grows", new, BOTH).get().await.unwrap();
        let (ino, fh) = (made.0.ino, made.1.fh);
        let ended = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let node = session.nodes.hold(ino);
                while !ended.load(Ordering::SeqCst) {
                    session.capture(&node).map(|_| ()).unwrap();
                }
            });
            for n in 0..20_000 {
                assert!(matches!(
                    session.write(ROOT, fh, ino, n, b"x", WriteHow::default()),
                    Outcome::Ready(Ok(1))
                ));
                let size = session.getattr(ino).unwrap().size;
                if size != n + 1 {
                    ended.store(true, Ordering::SeqCst);
                    panic!("{size} bytes after {} were written", n + 1);
                }
            }
            ended.store(true, Ordering::SeqCst);
        });
        session.release(fh);
        assert!(session.close(std::time::Duration::from_secs(20)).await.is_clean());
    }

    #[test]
    fn an_inode_in_passthrough_stays_in_it() {
        assert_eq!(mode(READ, 1, false, true, false), IoMode::Passthrough);
        assert_eq!(mode(WRITE, 1, false, true, false), IoMode::PassthroughDirect);
        assert_eq!(mode(BOTH, 1, false, true, false), IoMode::Passthrough);
        for flags in [WRITE, BOTH] {
            let synced = OpenFlags { sync: true, ..flags };
            assert_eq!(mode(synced, 1, false, true, false), IoMode::PassthroughDirect);
        }
    }

    #[test]
    fn with_a_quota_every_write_comes_by() {
        let counted = |must_pass: bool| Asked {
            flags: BOTH,
            size: LARGE,
            comes_by: true,
            may_pass: !must_pass,
            must_pass,
            ..idle()
        };
        assert_eq!(decide(&counted(false)), IoMode::Cached { keep: true });
        assert_eq!(decide(&counted(true)), IoMode::PassthroughDirect);
    }
}
