//! Moving names.

use super::api::*;
use super::change::Change;
use super::file::PendingCapture;
use super::level::Place;
use super::path::{check_name, check_new_name, check_old_name};
use super::remove::{drop_directory, link_gone, link_key};
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::{Home, InodeRow, Record};
use crate::log::source::Seq;
use std::sync::Arc;

/// A name of a directory.
type Name<'a> = (Ino, &'a [u8]);

/// What a name names.
struct Named {
    ino: Ino,
    row: InodeRow,
}

impl Named {
    fn is_dir(&self) -> bool {
        self.row.is_dir()
    }
}

impl Session {
    /// Moves a name, as one step.
    pub fn rename(
        self: &Arc<Self>,
        caller: Caller,
        from: (Ino, &[u8]),
        to: (Ino, &[u8]),
        mode: RenameMode,
    ) -> Outcome<()> {
        match self.rename_captured(caller, from, to, mode) {
            Ok(seq) => self.settle(caller, seq, Place::Name(to.0, to.1), ()),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    /// Captures what is moved first, so that its content goes with the name; until the names still mean the
    /// same once the lock is held.
    fn rename_captured(
        self: &Arc<Self>,
        caller: Caller,
        from: Name<'_>,
        to: Name<'_>,
        mode: RenameMode,
    ) -> Result<Option<Seq>> {
        check_names(from, to, mode)?;
        loop {
            let moved = self.moved(from, to, mode)?;
            let capture = self.capture_for_names(&moved)?;
            let change = self.change()?;
            if self.moved(from, to, mode)? == moved {
                return self.rename_now(caller, change, (from, to), mode, capture);
            }
        }
    }

    /// The inodes that a rename moves.
    fn moved(&self, from: Name<'_>, to: Name<'_>, mode: RenameMode) -> Result<Vec<Ino>> {
        let mut names = vec![from];
        names.extend((mode == RenameMode::Exchange).then_some(to));
        let mut moved = Vec::new();
        for (parent, name) in names {
            moved.extend(self.journal.dentry(parent, name)?.map(|entry| entry.row.ino));
        }
        Ok(moved)
    }

    fn rename_now(
        &self,
        caller: Caller,
        mut change: Change<'_>,
        (from, to): (Name<'_>, Name<'_>),
        mode: RenameMode,
        capture: Option<PendingCapture>,
    ) -> Result<Option<Seq>> {
        let source = named(&change, from)?;
        change.directory(to.0)?;
        let target = match change.entry(to.0, to.1)? {
            Some(entry) => Some(Named { ino: entry.row.ino, row: change.inode(entry.row.ino)? }),
            None => None,
        };
        self.check_loop(&source, target.as_ref(), from, to, mode)?;
        match (mode, target) {
            (RenameMode::NoReplace | RenameMode::Whiteout { replace: false }, Some(_)) => {
                return Err(SessionError::Errno(libc::EEXIST));
            }
            (RenameMode::Exchange, None) => return Err(SessionError::Errno(libc::ENOENT)),
            (_, Some(target)) if target.ino == source.ino => return Ok(None),
            (RenameMode::Exchange, Some(target)) => self.exchange(&mut change, source, target, from, to)?,
            (RenameMode::Replace | RenameMode::NoReplace, target) => {
                self.replace(&mut change, source, target, from, to)?;
            }
            (RenameMode::Whiteout { .. }, target) => {
                self.replace(&mut change, source, target, from, to)?;
                self.put_whiteout(&mut change, caller, from)?;
            }
        }
        change.apply_with(capture)
    }

    /// EINVAL for a directory moved into itself or below; ENOTEMPTY for one moved over a directory above it.
    fn check_loop(
        &self,
        source: &Named,
        target: Option<&Named>,
        from: Name<'_>,
        to: Name<'_>,
        mode: RenameMode,
    ) -> Result<()> {
        if from.0 == to.0 {
            return Ok(());
        }
        if source.is_dir() && self.is_below(to.0, source.ino)? {
            return Err(SessionError::Errno(libc::EINVAL));
        }
        let Some(target) = target.filter(|target| target.is_dir()) else { return Ok(()) };
        match (self.is_below(from.0, target.ino)?, mode) {
            (false, _) => Ok(()),
            (true, RenameMode::Exchange) => Err(SessionError::Errno(libc::EINVAL)),
            (true, RenameMode::Replace | RenameMode::Whiteout { replace: true }) => {
                Err(SessionError::Errno(libc::ENOTEMPTY))
            }
            (true, RenameMode::NoReplace | RenameMode::Whiteout { replace: false }) => {
                Err(SessionError::Errno(libc::EEXIST))
            }
        }
    }

    fn replace(
        &self,
        change: &mut Change<'_>,
        mut source: Named,
        target: Option<Named>,
        from: Name<'_>,
        to: Name<'_>,
    ) -> Result<()> {
        let is_dir = source.is_dir();
        // What the target's directory loses and gains in subdirectories.
        let mut gained = i64::from(is_dir);
        if let Some(target) = target {
            match (is_dir, target.is_dir()) {
                (true, false) => return Err(SessionError::Errno(libc::ENOTDIR)),
                (false, true) => return Err(SessionError::Errno(libc::EISDIR)),
                (true, true) => {
                    self.check_empty(target.ino, &target.row)?;
                    drop_directory(change, target.ino, target.row);
                    gained -= 1;
                }
                (false, false) => self.drop_name(change, target.ino, target.row, to.0, to.1)?,
            }
        }
        change.remove_entry(from.0, from.1);
        self.move_name(change, &mut source, from, to);
        change.put_inode(source.ino, source.row);
        change.touch_directory(from.0, -i64::from(is_dir))?;
        change.touch_directory(to.0, gained)
    }

    /// What overlays take for a removed name: it takes the place of the source, which is gone.
    fn put_whiteout(&self, change: &mut Change<'_>, caller: Caller, at: Name<'_>) -> Result<()> {
        let new = NewNode { mode: libc::S_IFCHR, umask: 0, rdev: 0, target: Vec::new() };
        let dir = change.directory(at.0)?;
        self.put_new(change, caller, (at.0, &dir), at.1, &new)?;
        Ok(())
    }

    fn exchange(
        &self,
        change: &mut Change<'_>,
        mut source: Named,
        mut target: Named,
        from: Name<'_>,
        to: Name<'_>,
    ) -> Result<()> {
        let gained = i64::from(source.is_dir()) - i64::from(target.is_dir());
        self.move_name(change, &mut source, from, to);
        self.move_name(change, &mut target, to, from);
        change.put_inode(source.ino, source.row);
        change.put_inode(target.ino, target.row);
        change.touch_directory(from.0, -gained)?;
        change.touch_directory(to.0, gained)
    }

    /// Gives the name `to` to what was `from`, and says so in its row or its row of that further name.
    fn move_name(&self, change: &mut Change<'_>, moved: &mut Named, from: Name<'_>, to: Name<'_>) {
        let old = Home { parent: from.0, cookie: change.cookie(from.1) };
        let new = change.put_entry(to.0, to.1, moved.ino, moved.row.mode);
        if moved.row.home == Some(old) {
            moved.row.home = Some(new);
        } else {
            change.record(link_gone(moved.ino, old, from.1));
            change.record(Record::put_raw(&link_key(moved.ino, new, to.1), Vec::new()));
        }
        moved.row.ctime = change.now();
    }
}

fn named(change: &Change<'_>, name: Name<'_>) -> Result<Named> {
    let (ino, row) = change.named(name.0, name.1)?;
    Ok(Named { ino, row })
}

fn check_names(from: Name<'_>, to: Name<'_>, mode: RenameMode) -> Result<()> {
    check_old_name(from.0, from.1)?;
    match mode {
        RenameMode::Exchange => check_old_name(to.0, to.1),
        RenameMode::NoReplace | RenameMode::Whiteout { replace: false } => check_new_name(to.0, to.1),
        RenameMode::Replace | RenameMode::Whiteout { replace: true } => {
            check_name(to.1)?;
            match to.1 {
                b"." | b".." => Err(SessionError::Errno(libc::ENOTEMPTY)),
                _ => check_new_name(to.0, to.1),
            }
        }
    }
}
