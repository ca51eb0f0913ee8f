//! An outside client deleted an object.

use super::super::remove::drop_directory;
use super::last_name;
use crate::log::row::{Key, Record, ViewRow};
use crate::log::source::Seq;
use crate::session::Session;
use crate::session::api::Result;

/// What became of an outside delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The name is gone from the tree; the change's number.
    Done(Seq),
    /// The tree had no such name any more; only the row of the view went.
    Noted,
    /// The tree keeps the name; the row of the view went, so the object is published again.
    PublishAgain,
    /// The row of the view has changed since: look again.
    Raced,
}

impl Session {
    /// Removes `path` because its object `key` is gone, if the row of the view is still `expect` and the
    /// tree has there what that row tells of: a directory with entries stays, and so does everything when
    /// the delete is not `trusted` to be an outside client's. Content that lay in the object is gone anyway.
    pub fn outside_delete(&self, key: &str, path: &str, expect: &ViewRow, trusted: bool) -> Result<Removed> {
        let mut change = self.change()?;
        if !self.row_is(key, Some(expect))? {
            return Ok(Removed::Raced);
        }
        change.record(Record::delete(&Key::View { key: key.to_owned() }));
        let marker = key.ends_with('/');
        let there = self.at_path(path)?.filter(|(_, _, row)| row.is_dir() == marker);
        let Some((parent, ino, row)) = there else {
            change.apply()?;
            return Ok(Removed::Noted);
        };
        let empty = !marker || self.journal.entries(ino, 0, 1)?.is_empty();
        let ours = !trusted || !empty || !self.is_as_published(ino, &row, Some(expect));
        if ours && !self.hangs_on(key, ino)? {
            change.apply()?;
            return Ok(Removed::PublishAgain);
        }
        let name = last_name(path).as_bytes();
        change.remove_entry(parent, name);
        match marker {
            true => drop_directory(&mut change, ino, row),
            false => self.drop_name(&mut change, ino, row, parent, name)?,
        }
        change.touch_directory(parent, -i64::from(marker))?;
        let seq = change.apply_named()?;
        self.forget_names([(parent, name.to_vec())]);
        self.forget_inode(ino);
        Ok(Removed::Done(seq))
    }
}
