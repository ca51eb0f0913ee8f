//! What an outside client did to the view, applied to the tree: the session's side of import.
//!
//! Invariants:
//! - nothing is applied unless the row of the view is still the one that the difference was found against;
//! - an outside edit or delete touches a name only while the tree still has the version that the row tells
//!   of there, changes that are not captured included; everything else is kept;
//! - content that an outside edit brings stays in its object ([`Blob::Object`]); [`own`] copies it to where
//!   only we write, before it would be the only copy of what was closed here.

mod attrs;
mod own;
mod put;
mod remove;

pub use attrs::Headers;
pub(in crate::session) use own::is_imported;
pub use put::{Kept, Placed};
pub use remove::Removed;

use super::api::{Invalidation, Result};
use super::path::is_hidden;
use super::{Session, SessionError};
use crate::log::ids::{Blob, Ino};
use crate::log::row::{ExtentRow, InodeRow, Key, MAX_PIECE, ViewRow};

/// The version in a row of the view, and of the inode it tells of, whose headers were not read yet.
pub const UNREAD: u64 = 0;
/// The version in a row of the view whose object shows nothing of ours, so that ours is published over it.
const NOTHING_OF_OURS: u64 = u64::MAX;

/// A plain object as an outside client left it.
#[derive(Debug, Clone)]
pub struct Outside {
    /// Its key.
    pub key: String,
    /// Its path in the tree: components that are names, divided by single slashes.
    pub path: String,
    /// It marks a directory.
    pub directory: bool,
    /// Its ETag.
    pub etag: String,
    /// Bytes.
    pub size: u64,
    /// When it was written, milliseconds since 1970.
    pub modified_ms: i64,
    /// What its metadata says; `None`: not read yet, [`Session::outside_headers`] brings it later.
    pub headers: Option<Headers>,
}

impl Outside {
    /// The row of the view that says that this object shows `version` of `ino`.
    fn row(&self, ino: Ino, version: u64) -> ViewRow {
        ViewRow {
            ino,
            version,
            etag: self.etag.clone(),
            size: self.size,
            modified_ms: Some(self.modified_ms),
        }
    }

    fn view_key(&self) -> Key {
        Key::View { key: self.key.clone() }
    }

    /// The content, where it is, in pieces.
    fn extents(&self) -> Vec<(u64, ExtentRow)> {
        let blob = Blob::Object { key: self.key.clone(), etag: self.etag.clone() };
        let piece = u64::from(MAX_PIECE);
        let extent = |n: u64| {
            let offset = n * piece;
            let len = piece.min(self.size - offset);
            // At most a piece.
            let piece_len = len as u32;
            let row = ExtentRow { len, blob: blob.clone(), piece_off: offset, piece_len, skip: 0, crc: None };
            (offset, row)
        };
        (0..self.size.div_ceil(piece)).map(extent).collect()
    }
}

impl Session {
    /// Whether the row of the view is the one that a difference was found against.
    fn row_is(&self, key: &str, expect: Option<&ViewRow>) -> Result<bool> {
        let row: Option<ViewRow> = self.journal.get(&Key::View { key: key.to_owned() })?;
        Ok(row.as_ref() == expect)
    }

    /// Whether the tree has at an inode what the row of the view tells of.
    fn is_as_published(&self, ino: Ino, row: &InodeRow, view: Option<&ViewRow>) -> bool {
        view.is_some_and(|view| view.ino == ino && view.version == row.version) && !self.is_uncaptured(ino)
    }

    /// Whether content of an inode changed since its row was written.
    fn is_uncaptured(&self, ino: Ino) -> bool {
        self.nodes.get(ino).is_some_and(|node| self.live(&node).is_some())
    }

    /// Whether all content of a file is what the object `key` had when it was imported: with the object
    /// that content is gone, and there is nothing of ours to keep.
    fn hangs_on(&self, key: &str, ino: Ino) -> Result<bool> {
        let of_key = |blob: &Blob| matches!(blob, Blob::Object { key: k, .. } if k == key);
        let extents = self.journal.extents(ino, 0..u64::MAX)?;
        let all = !extents.is_empty() && extents.iter().all(|(_, extent)| of_key(&extent.blob));
        Ok(all && !self.is_uncaptured(ino))
    }

    /// The inode at `path` and its row.
    fn at_path(&self, path: &str) -> Result<Option<(Ino, Ino, InodeRow)>> {
        let (mut parent, mut at) = (Ino::ROOT, Ino::ROOT);
        for name in path.split('/') {
            if is_hidden(at, name.as_bytes()) {
                return Ok(None);
            }
            parent = at;
            match self.journal.dentry(parent, name.as_bytes())? {
                Some(entry) => at = entry.row.ino,
                None => return Ok(None),
            }
        }
        Ok(self.find_row(at)?.map(|row| (parent, at, row)))
    }

    /// Whether a directory has the name that `path` ends in.
    pub fn is_directory_at(&self, path: &str) -> Result<bool> {
        Ok(self.at_path(path)?.is_some_and(|(_, _, row)| row.is_dir()))
    }

    /// The kernel has to forget these; queued for the thread that tells it.
    fn forget_names(&self, names: impl IntoIterator<Item = (Ino, Vec<u8>)>) {
        for (parent, name) in names {
            self.forget_inode(parent);
            self.invalidate.push(Invalidation::Entry { parent, name });
        }
    }

    fn forget_inode(&self, ino: Ino) {
        self.invalidate.push(Invalidation::Inode(ino));
    }
}

fn last_name(path: &str) -> &str {
    path.rsplit_once('/').map_or(path, |(_, name)| name)
}

/// A name that cannot be in the tree; callers have checked that.
fn bad_path() -> SessionError {
    SessionError::Errno(libc::EINVAL)
}
