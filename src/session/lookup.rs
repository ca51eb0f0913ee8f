//! Finding things: lookup, readlink, forget, and the attributes that every answer carries.

use super::api::*;
use super::attr::now;
use super::node::Node;
use super::path::{check_name, is_hidden};
use super::quota::in_blocks;
use super::{Session, SessionError};
use crate::content::Live;
use crate::log::ids::Ino;
use crate::log::row::InodeRow;
use std::sync::Arc;

/// What a directory shows as its size, as ext4 does for a small one.
const DIRECTORY_SIZE: u64 = 4096;

impl Session {
    /// The entry `name` of `parent`, or `None` (which the kernel may cache). Each inode that this, `make`,
    /// `create`, `link` or a `readdir` with attributes hands out counts as one lookup, until `forget`.
    pub fn lookup(self: &Arc<Self>, parent: Ino, name: &[u8]) -> Result<Option<Attr>> {
        self.alive()?;
        check_name(name)?;
        if is_hidden(parent, name) {
            return Ok(None);
        }
        let ino = match name {
            b"." => parent,
            b".." => self.parent_of(parent)?,
            _ => match self.journal.dentry(parent, name)? {
                Some(entry) => entry.row.ino,
                None => return self.no_entry(parent),
            },
        };
        match self.hand_out(ino)? {
            Some(attr) => Ok(Some(attr)),
            None => self.lookup_again(parent, name),
        }
    }

    /// A symlink's target. EINVAL for anything else.
    pub fn readlink(&self, ino: Ino) -> Result<Vec<u8>> {
        self.alive()?;
        let row = self.row(ino)?;
        match row.kind() {
            libc::S_IFLNK => {
                self.reads.note(ino, &row, now());
                Ok(row.target)
            }
            _ => Err(SessionError::Errno(libc::EINVAL)),
        }
    }

    /// The kernel forgot `lookups` of an inode's lookups.
    pub fn forget(self: &Arc<Self>, ino: Ino, lookups: u64) {
        self.nodes.forget(ino, lookups);
        self.forgotten(ino);
    }

    /// What an answer shows of an inode that it tells the kernel of; `None` where there is none.
    pub(super) fn hand_out(self: &Arc<Self>, ino: Ino) -> Result<Option<Attr>> {
        // Told of before it is looked at: a change after the look finds it shown.
        let node = self.nodes.show_looked_up(ino);
        let found = self.attr_with(ino, node);
        if !matches!(found, Ok(Some(_))) {
            self.forget(ino, 1);
        }
        found
    }

    /// What an answer shows of an inode that the kernel knows.
    pub(super) fn show(&self, ino: Ino) -> Result<Attr> {
        let node = self.nodes.show(ino);
        self.attr_with(ino, node)?.ok_or(SessionError::Errno(libc::ESTALE))
    }

    /// What stat shows of an inode; `None` where there is none. The live state is looked at first: what is
    /// captured after that look is in the row, which is read then.
    fn attr_with(&self, ino: Ino, node: Option<Arc<Node>>) -> Result<Option<Attr>> {
        let live = node.and_then(|node| self.live(&node));
        Ok(self.find_row(ino)?.map(|row| self.attr_of(ino, row, live)))
    }

    /// What stat shows of an inode that the kernel has us change: it takes the answer as newer than any other.
    pub(super) fn attr(&self, ino: Ino) -> Result<Attr> {
        self.attr_with(ino, self.nodes.get(ino))?.ok_or(SessionError::Errno(libc::ESTALE))
    }

    /// The attributes that a row and the state of changed content make.
    pub(super) fn attr_of(&self, ino: Ino, mut row: InodeRow, live: Option<Live>) -> Attr {
        let bytes = live.map_or(row.allocated, |live| {
            (row.size, row.mtime, row.ctime) = (live.size, live.mtime, row.ctime.max(live.ctime));
            row.allocated.saturating_add(live.dirty).min(live.size)
        });
        let (size, bytes) = match row.kind() {
            libc::S_IFDIR => (DIRECTORY_SIZE, DIRECTORY_SIZE),
            libc::S_IFLNK => (row.target.len() as u64, 0),
            libc::S_IFREG => (row.size, bytes),
            _ => (0, 0),
        };
        let (uid, gid) = self.options.owners.shown(&row);
        Attr {
            ino,
            mode: row.mode,
            nlink: row.nlink,
            uid,
            gid,
            rdev: row.rdev,
            size,
            // In whole blocks of 4 KiB, as programs expect.
            blocks: in_blocks(bytes) / 512,
            atime: self.reads.newest(ino, &row),
            mtime: row.mtime,
            ctime: row.ctime,
            btime: row.btime,
        }
    }

    /// There is no such entry: fine in a directory, an error where there is none.
    fn no_entry(&self, parent: Ino) -> Result<Option<Attr>> {
        match self.row(parent)?.kind() {
            libc::S_IFDIR => Ok(None),
            _ => Err(SessionError::Errno(libc::ENOTDIR)),
        }
    }

    /// The entry was there but its inode was not: it was removed between the two looks, so under the lock
    /// of changes the answer is exact.
    fn lookup_again(self: &Arc<Self>, parent: Ino, name: &[u8]) -> Result<Option<Attr>> {
        let _still = self.writer.as_ref().map(|writer| writer.numbers.lock());
        let Some(entry) = self.journal.dentry(parent, name)? else { return Ok(None) };
        self.hand_out(entry.row.ino)?.map(Some).ok_or(SessionError::Errno(libc::ESTALE))
    }
}
