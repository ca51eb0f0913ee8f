//! Removing names: unlink and rmdir.

use super::api::*;
use super::change::Change;
use super::level::Place;
use super::path::check_old_name;
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::{Home, InodeRow, Key, Record};
use crate::log::source::Seq;
use std::sync::Arc;

impl Session {
    /// Removes a name that is not a directory's.
    pub fn unlink(self: &Arc<Self>, caller: Caller, parent: Ino, name: &[u8]) -> Outcome<()> {
        match self.unlink_now(parent, name) {
            Ok(seq) => self.settle(caller, seq, Place::Name(parent, name), ()),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    /// Removes an empty directory.
    pub fn rmdir(self: &Arc<Self>, caller: Caller, parent: Ino, name: &[u8]) -> Outcome<()> {
        match self.rmdir_now(parent, name) {
            Ok(seq) => self.settle(caller, seq, Place::Name(parent, name), ()),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    fn unlink_now(&self, parent: Ino, name: &[u8]) -> Result<Option<Seq>> {
        check_old_name(parent, name)?;
        let mut change = self.change()?;
        let (ino, row) = change.named(parent, name)?;
        if row.is_dir() {
            return Err(SessionError::Errno(libc::EISDIR));
        }
        change.remove_entry(parent, name);
        self.drop_name(&mut change, ino, row, parent, name)?;
        change.touch_directory(parent, 0)?;
        change.apply()
    }

    fn rmdir_now(&self, parent: Ino, name: &[u8]) -> Result<Option<Seq>> {
        check_old_name(parent, name)?;
        let mut change = self.change()?;
        let (ino, row) = change.named(parent, name)?;
        self.check_empty(ino, &row)?;
        change.remove_entry(parent, name);
        drop_directory(&mut change, ino, row);
        change.touch_directory(parent, -1)?;
        change.apply()
    }

    /// Fails unless `row` is an empty directory's: ENOTDIR, ENOTEMPTY.
    pub(super) fn check_empty(&self, ino: Ino, row: &InodeRow) -> Result<()> {
        if !row.is_dir() {
            return Err(SessionError::Errno(libc::ENOTDIR));
        }
        match self.journal.entries(ino, 0, 1)?.is_empty() {
            true => Ok(()),
            false => Err(SessionError::Errno(libc::ENOTEMPTY)),
        }
    }

    /// Takes one name, whose entry is gone or another's, from an inode that is not a directory; with the
    /// last one the inode goes.
    pub(super) fn drop_name(
        &self,
        change: &mut Change<'_>,
        ino: Ino,
        mut row: InodeRow,
        parent: Ino,
        name: &[u8],
    ) -> Result<()> {
        row.nlink = row.nlink.saturating_sub(1);
        row.ctime = change.now();
        if row.nlink == 0 {
            change.remove_inode(ino, row);
            return Ok(());
        }
        let place = Home { parent, cookie: change.cookie(name) };
        if row.home == Some(place) {
            self.promote(change, ino, &mut row)?;
        } else {
            change.record(link_gone(ino, place, name));
        }
        change.put_inode(ino, row);
        Ok(())
    }

    /// Makes a further name of an inode its first: the last in order, since names are mostly removed in order.
    fn promote(&self, change: &mut Change<'_>, ino: Ino, row: &mut InodeRow) -> Result<()> {
        let Some((parent, cookie, name)) = self.journal.last_link(ino)? else {
            return Err(SessionError::Local(crate::log::source::LocalError::new(
                crate::log::source::LocalKind::Damaged,
                format!("inode {ino} has {} names more than are known", row.nlink),
            )));
        };
        let home = Home { parent, cookie };
        change.record(link_gone(ino, home, &name));
        row.home = Some(home);
        Ok(())
    }
}

/// Removes an empty directory whose entry is gone.
pub(super) fn drop_directory(change: &mut Change<'_>, ino: Ino, row: InodeRow) {
    let now = change.now();
    change.remove_inode(ino, InodeRow { mtime: now, ctime: now, ..row });
}

/// The further name of `ino` at `place` goes.
pub(super) fn link_gone(ino: Ino, place: Home, name: &[u8]) -> Record {
    Record::delete(&link_key(ino, place, name))
}

/// The row of a further name.
pub(super) fn link_key(ino: Ino, place: Home, name: &[u8]) -> Key {
    Key::Link { ino, parent: place.parent, cookie: place.cookie, name: name.to_vec() }
}
