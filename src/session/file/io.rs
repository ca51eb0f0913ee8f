//! Reading, writing, resizing, holes.

use super::super::api::*;
use super::super::attr::{MAX_FILE, now};
use super::super::node::Node;
use super::super::set_id::after_content;
use super::super::xattr::CAPABILITY;
use super::super::{Durability, Session, SessionError};
use super::Handle;
use super::capture::Captured;
use crate::content::Place;
use crate::log::ids::Ino;
use crate::log::row::InodeRow;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// Changed content of one file is captured early from this size on.
const EARLY: u64 = 128 << 20;

impl Session {
    /// Reads up to `size` bytes; fewer only at the end.
    pub fn read(self: &Arc<Self>, fh: Fh, ino: Ino, offset: u64, size: u32) -> Outcome<ReadBytes> {
        let handle = match self.alive().and_then(|()| self.handle(fh)) {
            Ok(handle) => handle,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        // A file is read from its start: one look at its row for each reading is enough.
        if offset == 0
            && let Ok(row) = self.row(ino)
        {
            self.reads.note(ino, &row, now());
        }
        match handle.file.read_here(offset, size) {
            Err(error) => Outcome::Ready(Err(error.into())),
            Ok(Some(bytes)) => Outcome::Ready(Ok(bytes)),
            Ok(None) => {
                let (file, timeout) = (handle.file.clone(), self.options.timeout);
                Outcome::Later(Box::pin(async move {
                    let read = tokio::time::timeout(timeout, file.read(offset, size)).await;
                    Ok(read.map_err(|_| SessionError::Errno(libc::EIO))??)
                }))
            }
        }
    }

    /// Writes all of `data`. EDQUOT where not all of it fits the quota.
    pub fn write(
        self: &Arc<Self>,
        caller: Caller,
        fh: Fh,
        _ino: Ino,
        offset: u64,
        data: &[u8],
        how: WriteHow,
    ) -> Outcome<u32> {
        let handle = match self.may_write(fh, offset, data.len() as u64) {
            Ok(handle) => handle,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        if !handle.file.is_orphan() && self.is_crowded() {
            let (session, data) = (self.clone(), Bytes::copy_from_slice(data));
            return Outcome::Later(Box::pin(async move {
                session.until_room().await?;
                session.write_now(caller, &handle, offset, &data, how).get().await
            }));
        }
        self.write_now(caller, &handle, offset, data, how)
    }

    /// Reserves, punches or zeroes a range.
    pub fn fallocate(
        self: &Arc<Self>,
        caller: Caller,
        fh: Fh,
        _ino: Ino,
        offset: u64,
        len: u64,
        how: Allocate,
    ) -> Outcome<()> {
        let changed = self.may_write(fh, offset, len).and_then(|handle| {
            let (file, range) = (&handle.file, offset..offset + len);
            match how {
                // A store has no end, so nothing is reserved; but what could never be written is refused.
                Allocate::Grow => {
                    let _turn = self.room_for(&handle.node, file, range.clone())?;
                    file.grow(range.end, now())?;
                }
                Allocate::KeepSize => drop(self.room_for(&handle.node, file, range)?),
                Allocate::PunchHole | Allocate::ZeroRange { keep_size: true } => file.punch(range, now())?,
                Allocate::ZeroRange { keep_size: false } => file.zero(range, now())?,
            }
            // Older kernels do not see to it.
            self.clear_set_id(caller, handle.node.ino)?;
            // As on ext4, the times move even where the range lies behind the end or was reserved before.
            file.touch(now());
            self.changed(&handle.node)?;
            self.attributes_changed(handle.node.ino, false);
            Ok(handle)
        });
        match changed {
            Err(error) => Outcome::Ready(Err(error)),
            Ok(handle) => self.after_write(caller, &handle, ()),
        }
    }

    /// The next data (`hole` false) or hole from `offset` on; ENXIO at or past the end.
    pub fn seek(self: &Arc<Self>, ino: Ino, offset: u64, hole: bool) -> Outcome<u64> {
        let node = self.nodes.hold(ino);
        if !node.file.modes.lock().may_hide_content() {
            return Outcome::Ready(self.seek_now(&node, offset, hole));
        }
        // A page that is to be forgotten is written back first; the kernel does not do so by itself for a seek.
        self.invalidate.push(Invalidation::Inode(ino));
        let session = self.clone();
        Outcome::Later(Box::pin(async move {
            session.invalidated().await;
            session.seek_now(&node, offset, hole)
        }))
    }

    fn seek_now(&self, node: &Node, offset: u64, hole: bool) -> Result<u64> {
        self.alive()?;
        let found = self.file_of(node)?.seek(offset, hole)?;
        found.ok_or(SessionError::Errno(libc::ENXIO))
    }

    /// Sets a regular file's length (its permission is checked, its set-id bits are cleared by the caller).
    /// Under the level `sync` the answer waits.
    pub(in crate::session) fn set_size(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        fh: Option<Fh>,
        size: u64,
    ) -> Outcome<()> {
        let node = self.nodes.hold(ino);
        let resized = self.file_of(&node).and_then(|file| {
            file.truncate(size, now())?;
            self.changed(&node)
        });
        if let Err(error) = resized {
            return Outcome::Ready(Err(error));
        }
        let goes_on = self.batches_of(caller).take(Some(ino));
        if goes_on {
            node.file.unhurried.store(true, Ordering::Release);
        } else if self.options.durability == Durability::Sync && !node.is_orphan() {
            return self.barrier(&node, false);
        }
        // Without an open, no close follows that would capture it.
        match fh.is_none() && !node.file.is_open() && !node.is_orphan() {
            true => Outcome::Ready(self.capture_unwaited(&node)),
            false => Outcome::Ready(Ok(())),
        }
    }

    /// Clears what a change of content by this caller clears of set-user-id and set-group-id; whether it is anything.
    pub(super) fn clear_set_id(&self, caller: Caller, ino: Ino) -> Result<bool> {
        let left = |row: &InodeRow| after_content(caller, row.mode, self.options.owners.shown(row).1);
        let row = self.row(ino)?;
        if left(&row) == row.mode {
            return Ok(false);
        }
        let mut change = self.change()?;
        let mut row = change.inode(ino)?;
        row.mode = left(&row);
        row.ctime = change.now();
        row.version += 1;
        change.put_inode(ino, row);
        change.apply().map(|_| true)
    }

    /// Answers once the kernel has forgotten the mode of a file: it looks at none when it runs a program.
    fn once_mode_is_forgotten<T: Send + 'static>(
        self: &Arc<Self>,
        ino: Ino,
        answer: Outcome<T>,
    ) -> Outcome<T> {
        self.invalidate.push(Invalidation::Attributes(ino));
        let session = self.clone();
        Outcome::Later(Box::pin(async move {
            session.invalidated().await;
            answer.get().await
        }))
    }

    /// Removes the capabilities of a file whose content anybody changes, root included.
    pub(super) fn clear_capability(&self, node: &Node) -> Result<()> {
        if !self.has_capability(node)? {
            return Ok(());
        }
        match self.removexattr_now(node.ino, CAPABILITY) {
            Ok(_) | Err(SessionError::Errno(libc::ENODATA)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn may_write(&self, fh: Fh, offset: u64, len: u64) -> Result<Arc<Handle>> {
        self.writer()?;
        let handle = self.handle(fh)?;
        if !handle.flags.write {
            return Err(SessionError::Errno(libc::EBADF));
        }
        match offset.checked_add(len) {
            Some(end) if end <= MAX_FILE => Ok(handle),
            _ => Err(SessionError::Errno(libc::EFBIG)),
        }
    }

    fn write_now(
        self: &Arc<Self>,
        caller: Caller,
        handle: &Arc<Handle>,
        offset: u64,
        data: &[u8],
        how: WriteHow,
    ) -> Outcome<u32> {
        // Through the page cache the kernel gives the place; a page written back is no append.
        let direct = matches!(handle.mode, IoMode::Direct | IoMode::PassthroughDirect);
        let place = if direct && handle.flags.append { Place::End } else { Place::At(offset) };
        let written = || -> Result<bool> {
            let cleared = how.kills_set_id && self.clear_set_id(caller, handle.node.ino)?;
            // Elsewhere the kernel sees to it.
            if direct {
                self.clear_capability(&handle.node)?;
            }
            self.write_within_quota(handle, place, data, how)?;
            self.changed(&handle.node)?;
            Ok(cleared)
        };
        // A request is at most a few MiB.
        let len = data.len() as u32;
        match written() {
            Err(error) => Outcome::Ready(Err(error)),
            // Before one through its pages, the kernel has the bits cleared by a setattr, and learns what is left.
            Ok(true) if direct => {
                self.once_mode_is_forgotten(handle.node.ino, self.after_write(caller, handle, len))
            }
            Ok(_) => self.after_write(caller, handle, len),
        }
    }

    fn write_within_quota(&self, handle: &Handle, place: Place, data: &[u8], how: WriteHow) -> Result<()> {
        let file = &handle.file;
        // What was stored through a mapping was accepted then.
        let _turn = match how.mapped {
            true => None,
            false => {
                let start = if let Place::At(at) = place { at } else { file.size() };
                self.room_for(&handle.node, file, start..start + data.len() as u64)?
            }
        };
        file.write(place, data, now())?;
        Ok(())
    }

    /// A file's content changed: large content is captured early, so that it can be evicted.
    pub(super) fn changed(self: &Arc<Self>, node: &Arc<Node>) -> Result<()> {
        self.note_changed(node);
        let file = self.file_of(node)?;
        let early = EARLY.min(self.options.cache_size / 8).max(crate::content::SMALL + 1);
        if !file.is_orphan() && file.dirty() >= early {
            self.start_capture(node);
        }
        Ok(())
    }

    /// The answer to a caller's write: waits where each write waits.
    pub(super) fn after_write<T: Send + 'static>(
        self: &Arc<Self>,
        caller: Caller,
        handle: &Arc<Handle>,
        value: T,
    ) -> Outcome<T> {
        let waits = self.each_write_waits(handle.flags);
        if handle.file.is_orphan() {
            return Outcome::Ready(Ok(value));
        }
        if (waits || self.options.commit_interval.is_zero()) && self.write_goes_on(caller, handle) {
            return Outcome::Ready(Ok(value));
        }
        if !waits {
            if self.options.commit_interval.is_zero()
                && let Err(error) = self.capture_unwaited(&handle.node)
            {
                return Outcome::Ready(Err(error));
            }
            return Outcome::Ready(Ok(value));
        }
        match self.barrier(&handle.node, false) {
            Outcome::Ready(done) => Outcome::Ready(done.map(|()| value)),
            Outcome::Later(done) => Outcome::Later(Box::pin(async move { done.await.map(|()| value) })),
        }
    }

    /// Whether a batch has the caller go on where each write would wait, or start a commit.
    fn write_goes_on(&self, caller: Caller, handle: &Handle) -> bool {
        let within = self.batches_of(caller);
        // Who opened it so asks for the store with each write, as fsync does.
        let may = within.with_fsync() || (within.any() && !handle.flags.sync);
        may && within.take(Some(handle.node.ino))
    }

    /// So much is unstored that writers have to wait.
    pub(in crate::session) fn is_crowded(&self) -> bool {
        self.data.content.is_crowded(self.journal.uncommitted().bytes)
    }

    /// Returns once less is unstored. ENOSPC when that takes longer than the timeout, and at once after that
    /// until it falls.
    pub(super) async fn until_room(self: &Arc<Self>) -> Result<()> {
        let full = || SessionError::CacheFull(self.options.cache_dir.display().to_string());
        let end = Instant::now() + self.options.timeout;
        while self.is_crowded() {
            if self.is_stalled() || Instant::now() >= end {
                self.stall();
                self.capture_changed()?;
                return Err(full());
            }
            self.capture_changed()?;
            self.data.content.until_less().await;
        }
        Ok(())
    }

    /// Starts the captures of all changed files.
    fn capture_changed(self: &Arc<Self>) -> Result<()> {
        let changed = self.changed_nodes();
        for node in &changed {
            if let Captured::Later = self.capture(node)? {
                self.start_capture(node);
            }
        }
        if let Some(writer) = &self.writer {
            writer.committer.kick(Duration::ZERO);
        }
        Ok(())
    }
}
