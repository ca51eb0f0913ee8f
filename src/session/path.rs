//! Names and paths: what may be a name, what is hidden, and where an inode lies.

use super::api::Result;
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::{Home, InodeRow};
use crate::log::source::{LocalError, LocalKind};

/// The most bytes of a name.
pub(super) const MAX_NAME: usize = 255;

/// What the root never shows: our own folder in the store.
const HIDDEN: &[u8] = b".cwdfs";

/// More directories above one another than this are a cycle, which only damage can make.
const MAX_DEPTH: usize = 1 << 20;

/// Whether `name` of `parent` is ours.
pub(super) fn is_hidden(parent: Ino, name: &[u8]) -> bool {
    parent == Ino::ROOT && name == HIDDEN
}

/// Fails unless `name` can be looked for: ENAMETOOLONG, EINVAL.
pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > MAX_NAME {
        return Err(SessionError::Errno(libc::ENAMETOOLONG));
    }
    if name.is_empty() || name.iter().any(|b| matches!(b, 0 | b'/')) {
        return Err(SessionError::Errno(libc::EINVAL));
    }
    Ok(())
}

/// Fails unless `name` may be given to something in `parent`: as [`check_name`], EEXIST for the two names
/// that are always there, EPERM for ours.
pub(super) fn check_new_name(parent: Ino, name: &[u8]) -> Result<()> {
    check_name(name)?;
    if matches!(name, b"." | b"..") {
        return Err(SessionError::Errno(libc::EEXIST));
    }
    if is_hidden(parent, name) {
        return Err(SessionError::Errno(libc::EPERM));
    }
    Ok(())
}

/// Fails unless `name` of `parent` may be removed or moved: EINVAL for `.`, ENOTEMPTY for `..` as Linux has
/// it, ENOENT for ours.
pub(super) fn check_old_name(parent: Ino, name: &[u8]) -> Result<()> {
    check_name(name)?;
    match name {
        b"." => Err(SessionError::Errno(libc::EINVAL)),
        b".." => Err(SessionError::Errno(libc::ENOTEMPTY)),
        _ if is_hidden(parent, name) => Err(SessionError::Errno(libc::ENOENT)),
        _ => Ok(()),
    }
}

impl Session {
    /// The path of an inode's first name, from the root, without a leading slash; `None` once it has none.
    /// Of a session that changes meanwhile it may be a path that never was.
    pub fn path_of(&self, ino: Ino) -> Result<Option<Vec<u8>>> {
        let Some(row) = self.find_row(ino)? else { return Ok(None) };
        self.path_of_row(ino, &row)
    }

    /// The path of `name` in `parent`; `None` when the directory has none.
    pub(crate) fn path_in(&self, parent: Ino, name: &[u8]) -> Result<Option<Vec<u8>>> {
        let Some(mut path) = self.path_of(parent)? else { return Ok(None) };
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        Ok(Some(path))
    }

    /// The directory that holds `ino`'s first name; the root is its own.
    pub(super) fn parent_of(&self, ino: Ino) -> Result<Ino> {
        Ok(self.row(ino)?.home.map_or(Ino::ROOT, |home| home.parent))
    }

    /// Whether `ino` is `above` or lies below it.
    pub(super) fn is_below(&self, ino: Ino, above: Ino) -> Result<bool> {
        let mut at = ino;
        for _ in 0..MAX_DEPTH {
            if at == above {
                return Ok(true);
            }
            if at == Ino::ROOT {
                return Ok(false);
            }
            at = self.parent_of(at)?;
        }
        Err(cycle(ino))
    }

    fn path_of_row(&self, ino: Ino, row: &InodeRow) -> Result<Option<Vec<u8>>> {
        let (mut at, mut home) = (ino, row.home);
        let mut names = Vec::new();
        while at != Ino::ROOT {
            let Some(place) = home else { return Ok(None) };
            let Some(name) = self.name_at(place, at)? else { return Ok(None) };
            names.push(name);
            let Some(row) = self.find_row(place.parent)? else { return Ok(None) };
            (at, home) = (place.parent, row.home);
            if names.len() > MAX_DEPTH {
                return Err(cycle(ino));
            }
        }
        names.reverse();
        Ok(Some(names.join(&b'/')))
    }

    /// The name that `ino` has at `place`.
    fn name_at(&self, place: Home, ino: Ino) -> Result<Option<Vec<u8>>> {
        // Names share a cookie once in 2^63 pairs; a group of them still comes in one scan.
        let entries = self.journal.entries(place.parent, place.cookie.0, 8)?;
        let found = entries.into_iter().find(|entry| entry.cookie == place.cookie && entry.row.ino == ino);
        Ok(found.map(|entry| entry.name))
    }
}

fn cycle(ino: Ino) -> SessionError {
    SessionError::Local(LocalError::new(
        LocalKind::Damaged,
        format!("the directories above inode {ino} form a cycle"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn errno(result: Result<()>) -> i32 {
        result.map_or_else(|error| error.errno(), |()| 0)
    }

    #[test]
    fn names_follow_the_rules_of_linux() {
        assert_eq!(errno(check_name(&[b'a'; 255])), 0);
        assert_eq!(errno(check_name(&[b'a'; 256])), libc::ENAMETOOLONG);
        assert_eq!(errno(check_name(b"")), libc::EINVAL);
        assert_eq!(errno(check_name(b"a/b")), libc::EINVAL);
        assert_eq!(errno(check_name(b"a\0b")), libc::EINVAL);
        assert_eq!(errno(check_name(b"\xff\n\x01")), 0, "any other byte may be in a name");
        assert_eq!(errno(check_new_name(Ino::ROOT, b"..")), libc::EEXIST);
        assert_eq!(errno(check_old_name(Ino::ROOT, b".")), libc::EINVAL);
    }

    #[test]
    fn our_folder_is_hidden_at_the_root_only() {
        assert_eq!(errno(check_new_name(Ino::ROOT, b".cwdfs")), libc::EPERM);
        assert_eq!(errno(check_old_name(Ino::ROOT, b".cwdfs")), libc::ENOENT);
        assert_eq!(errno(check_new_name(Ino(5), b".cwdfs")), 0);
        assert_eq!(errno(check_new_name(Ino::ROOT, b".cwdfs2")), 0);
    }
}
