//! What an outside object says of its file besides the bytes, and the inode that makes.

use super::{Outside, UNREAD};
use crate::log::row::{InodeRow, Time, is_dir};
use crate::session::options::Untold;

/// What the metadata of a plain object says; what it does not say is `None`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Headers {
    /// `st_mode`, its type bits included where the writer gave them.
    pub mode: Option<u32>,
    /// Owner.
    pub uid: Option<u32>,
    /// Group.
    pub gid: Option<u32>,
    /// Content change.
    pub mtime: Option<Time>,
    /// Device number.
    pub rdev: Option<u32>,
    /// It is a symlink, to this.
    pub target: Option<Vec<u8>>,
    /// Full names (`user.…`) and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Outside {
    /// Whether it has no header about an inode.
    pub fn tells_nothing(&self) -> bool {
        self.headers.as_ref().is_none_or(|headers| *headers == Headers::default())
    }

    /// The inode that the object makes at `now`, still without a home. `old` is what it replaces: an owner
    /// or mode that the object does not tell stays; else it is what `untold` says.
    pub(super) fn inode(&self, old: Option<&InodeRow>, untold: Untold, now: Time) -> InodeRow {
        let none = Headers::default();
        let headers = self.headers.as_ref().unwrap_or(&none);
        let kind = self.kind(headers);
        let old = old.filter(|old| old.mode & libc::S_IFMT == kind);
        let default = if kind == libc::S_IFDIR { untold.modes.directory } else { untold.modes.file };
        let permissions = match kind {
            libc::S_IFLNK => 0o777,
            _ => headers.mode.or(old.map(|old| old.mode)).unwrap_or(default) & 0o7777,
        };
        let target = headers.target.clone().filter(|_| kind == libc::S_IFLNK).unwrap_or_default();
        let size = match kind {
            libc::S_IFREG => self.size,
            _ => target.len() as u64,
        };
        let modified = Time {
            sec: self.modified_ms.div_euclid(1000),
            // Below 1,000 milliseconds.
            nsec: self.modified_ms.rem_euclid(1000) as u32 * 1_000_000,
        };
        let mtime = headers.mtime.unwrap_or(modified);
        InodeRow {
            mode: kind | permissions,
            uid: headers.uid.or(old.map(|old| old.uid)).unwrap_or(untold.owner.0),
            gid: headers.gid.or(old.map(|old| old.gid)).unwrap_or(untold.owner.1),
            nlink: if is_dir(kind) { 2 } else { 1 },
            rdev: match kind {
                libc::S_IFCHR | libc::S_IFBLK => headers.rdev.unwrap_or(0),
                _ => 0,
            },
            size,
            allocated: if kind == libc::S_IFREG { size } else { 0 },
            atime: mtime,
            mtime,
            ctime: now,
            btime: now,
            version: if self.headers.is_some() { 1 } else { UNREAD },
            home: None,
            target,
        }
    }

    /// The inode that the object makes while its headers are not read.
    pub(super) fn guessed(&self, old: &InodeRow, untold: Untold) -> InodeRow {
        Outside { headers: None, ..self.clone() }.inode(None, untold, old.ctime)
    }

    /// The type bits: only an object without bytes can be anything but a file.
    fn kind(&self, headers: &Headers) -> u32 {
        if self.directory {
            return libc::S_IFDIR;
        }
        if self.size > 0 {
            return libc::S_IFREG;
        }
        if headers.target.is_some() {
            return libc::S_IFLNK;
        }
        match headers.mode.unwrap_or(0) & libc::S_IFMT {
            kind @ (libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK) => kind,
            _ => libc::S_IFREG,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::options::Modes;

    const UNTOLD: Untold = Untold { owner: (1, 2), modes: Modes { file: 0o604, directory: 0o705 } };

    fn object(size: u64, headers: Headers) -> Outside {
        Outside {
            key: "a".into(),
            path: "a".into(),
            directory: false,
            etag: "e".into(),
            size,
            modified_ms: -1,
            headers: Some(headers),
        }
    }

    #[test]
    fn only_an_empty_object_is_more_than_a_file() {
        let link = Headers { target: Some(b"t".to_vec()), mode: Some(0o120777), ..Headers::default() };
        let made = object(0, link.clone()).inode(None, UNTOLD, Time::default());
        assert_eq!((made.mode, made.size, made.target), (0o120777, 1, b"t".to_vec()));
        let made = object(5, link).inode(None, UNTOLD, Time::default());
        assert_eq!((made.mode, made.size), (libc::S_IFREG | 0o777, 5));
        let fifo = Headers { mode: Some(libc::S_IFIFO | 0o600), rdev: Some(9), ..Headers::default() };
        let made = object(0, fifo).inode(None, UNTOLD, Time::default());
        assert_eq!((made.mode, made.rdev), (libc::S_IFIFO | 0o600, 0));
    }

    #[test]
    fn a_mode_that_is_not_told_is_the_mounts() {
        let file = object(1, Headers::default()).inode(None, UNTOLD, Time::default());
        let directory = Outside { directory: true, ..object(0, Headers::default()) };
        let directory = directory.inode(None, UNTOLD, Time::default());
        assert_eq!((file.mode, directory.mode), (libc::S_IFREG | 0o604, libc::S_IFDIR | 0o705));
        assert_eq!((file.uid, file.gid), UNTOLD.owner);
    }

    #[test]
    fn what_an_edit_does_not_tell_stays() {
        let mode = Headers { mode: Some(libc::S_IFREG | 0o755), uid: Some(7), ..Headers::default() };
        let old = object(1, mode).inode(None, UNTOLD, Time::default());
        let new = object(2, Headers::default()).inode(Some(&old), UNTOLD, Time::default());
        assert_eq!((new.mode, new.uid, new.size), (libc::S_IFREG | 0o755, 7, 2));
        assert_eq!(new.mtime, Time { sec: -1, nsec: 999_000_000 });
    }
}
