//! Attributes: getattr, setattr, statfs.

use super::acl::{ACCESS, Acl};
use super::api::*;
use super::change::{Change, next_ino};
use super::level::Place;
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::Time;
use crate::log::source::Seq;
use std::sync::Arc;

/// What statfs shows where no quota is set: a store has no end.
const ROOM: u64 = 1 << 50;

/// The time of day.
pub(super) fn now() -> Time {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    // The kernel keeps nanoseconds below 10^9.
    Time { sec: t.tv_sec, nsec: t.tv_nsec as u32 }
}

impl Session {
    /// What stat shows; of an open or changed file, its newest state.
    pub fn getattr(&self, ino: Ino) -> Result<Attr> {
        self.alive()?;
        self.show(ino)
    }

    /// Changes attributes, the length included.
    pub fn setattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        fh: Option<Fh>,
        set: SetAttr,
    ) -> Outcome<Attr> {
        let Some(size) = set.size else { return self.set_row(caller, ino, &set) };
        if let Err(error) = self.may_resize(ino, size) {
            return Outcome::Ready(Err(error));
        }
        match self.set_size(caller, ino, fh, size) {
            Outcome::Ready(Ok(())) => self.after_resize(caller, ino, &set),
            Outcome::Ready(Err(error)) => Outcome::Ready(Err(error)),
            Outcome::Later(resized) => {
                let session = self.clone();
                Outcome::Later(Box::pin(async move {
                    resized.await?;
                    session.after_resize(caller, ino, &set).get().await
                }))
            }
        }
    }

    /// Sizes and counts: the quota and what is left of it, or, since a store has no end, [`ROOM`], all of it
    /// free. Inodes are those ever made.
    pub fn statfs(&self) -> Result<StatFs> {
        self.alive()?;
        let made = match &self.writer {
            Some(writer) => writer.numbers.lock().next,
            None => next_ino(&self.journal)?,
        };
        let (total, free) = match self.quota_status()? {
            Some(quota) => (quota.limit, quota.limit.saturating_sub(quota.used)),
            None => (ROOM, ROOM),
        };
        Ok(StatFs { total, free, files: made - 1 })
    }

    /// What is left to do once the length is set; mostly nothing, because the capture writes the row.
    fn after_resize(self: &Arc<Self>, caller: Caller, ino: Ino, set: &SetAttr) -> Outcome<Attr> {
        let only_size = SetAttr { size: set.size, ..SetAttr::default() } == *set;
        match self.row(ino) {
            Err(error) => Outcome::Ready(Err(error)),
            Ok(row) if only_size && row.mode == self.mode_after_setattr(caller, ino, &row, set) => {
                Outcome::Ready(self.attr(ino))
            }
            Ok(_) => self.set_row(caller, ino, set),
        }
    }

    fn may_resize(&self, ino: Ino, size: u64) -> Result<()> {
        self.writer()?;
        match self.row(ino)?.kind() {
            libc::S_IFREG if size > MAX_FILE => Err(SessionError::Errno(libc::EFBIG)),
            libc::S_IFREG => Ok(()),
            libc::S_IFDIR => Err(SessionError::Errno(libc::EISDIR)),
            _ => Err(SessionError::Errno(libc::EINVAL)),
        }
    }

    /// Everything of setattr but the length itself.
    fn set_row(self: &Arc<Self>, caller: Caller, ino: Ino, set: &SetAttr) -> Outcome<Attr> {
        match self.set_row_now(caller, ino, set) {
            Ok((seq, attr)) => self.settle(caller, seq, Place::Inode(ino), attr),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    fn set_row_now(&self, caller: Caller, ino: Ino, set: &SetAttr) -> Result<(Option<Seq>, Attr)> {
        let mut change = self.change()?;
        let mut row = change.inode(ino)?;
        if let Some(mode) = set.mode {
            row.mode = row.mode & libc::S_IFMT | mode & 0o7777;
            self.chmod_acl(&mut change, ino, row.mode)?;
        }
        row.mode = self.mode_after_setattr(caller, ino, &row, set);
        self.options.owners.chown(&mut row, set);
        let time = |time: SetTime| match time {
            SetTime::Now => change.now(),
            SetTime::To(time) => time,
        };
        if let Some(atime) = set.atime {
            self.reads.take(ino);
            row.atime = time(atime);
        }
        let mtime = set.mtime.map(time);
        if let Some(mtime) = mtime {
            row.mtime = mtime;
        }
        row.ctime = change.now();
        row.version += 1;
        change.put_inode(ino, row);
        // Before the lock of changes goes: a capture that writes its row next keeps this time.
        if let (Some(mtime), Some(node)) = (mtime, self.nodes.get(ino)) {
            self.set_live_mtime(&node, mtime);
        }
        let seq = change.apply()?;
        Ok((seq, self.attr(ino)?))
    }

    /// chmod of an inode with an access ACL changes the list too.
    fn chmod_acl(&self, change: &mut Change<'_>, ino: Ino, mode: u32) -> Result<()> {
        if mode & libc::S_IFMT == libc::S_IFLNK {
            return Err(SessionError::Errno(libc::EOPNOTSUPP));
        }
        let Some(value) = self.find_xattr(ino, ACCESS)? else { return Ok(()) };
        if let Some(mut acl) = Acl::decode(&value)? {
            acl.chmod(mode);
            change.put_xattr(ino, ACCESS, Some(acl.encode()));
        }
        Ok(())
    }
}

/// The longest file: what a signed 64-bit offset reaches.
pub(super) const MAX_FILE: u64 = i64::MAX as u64;
