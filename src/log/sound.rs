//! What a row of the store may say. Whoever can write the bucket can write any row under a right checksum: what
//! makes no sense is refused where rows come in, so that no room above has to expect it.
//!
//! Invariant: every row that this code writes is sound; the committer asserts it where assertions are on.

use super::ids::{Blob, Ino};
use super::row::{Cookie, DentryRow, ExtentRow, InodeRow, Key, MAX_PIECE, Record, Row, Time, ViewRow, meta};

/// The longest file, and the largest offset.
const MAX_OFFSET: u64 = i64::MAX as u64;
/// Above any inode number, version, slot or place in a blob that will ever be reached: sums of some do not overflow.
const MAX_COUNT: u64 = 1 << 61;
/// The most names of an inode that are counted.
const MAX_NLINK: u32 = 1 << 31;
/// Bytes of a name, of a directory entry or an extended attribute.
const MAX_NAME: usize = 255;
/// Bytes of a symlink's target.
const MAX_TARGET: usize = 4095;
/// Bytes of an extended attribute's value.
const MAX_XATTR: usize = 64 << 10;
/// Where the session's own objects lie, which are no content of files.
const OURS: &str = super::ids::keys::ROOT;

type Check = Result<(), &'static str>;

/// Fails with what is wrong with a row that the store told of.
pub(super) fn check(record: &Record) -> Check {
    let key = Key::decode(&record.key).ok_or("a record has a key of no known kind")?;
    check_key(&key)?;
    record.value.as_ref().map_or(Ok(()), |value| check_value(&key, value))
}

/// The same of many.
pub(super) fn check_all(records: &[Record]) -> Check {
    records.iter().try_for_each(check)
}

fn must(holds: bool, otherwise: &'static str) -> Check {
    holds.then_some(()).ok_or(otherwise)
}

fn check_key(key: &Key) -> Check {
    match key {
        Key::Meta { .. } => Ok(()),
        Key::Inode { ino } => inode_number(*ino),
        Key::Dentry { parent, cookie, name } => {
            inode_number(*parent).and(position(*cookie)).and(entry_name(name))
        }
        Key::Link { ino, parent, cookie, name } => {
            inode_number(*ino).and(inode_number(*parent)).and(position(*cookie)).and(entry_name(name))
        }
        Key::Xattr { ino, name } => {
            inode_number(*ino)?;
            must((1..=MAX_NAME).contains(&name.len()) && !name.contains(&0), "an attribute's name is none")
        }
        Key::Extent { ino, offset } => {
            inode_number(*ino).and(must(*offset < MAX_OFFSET, "content lies too far out"))
        }
        Key::View { key } => must(!key.is_empty() && !key.starts_with(OURS), "a plain object's key is none"),
    }
}

fn check_value(key: &Key, value: &[u8]) -> Check {
    const UNREAD: &str = "a record's value cannot be read";
    match key {
        Key::Meta { name } => meta(name, value),
        Key::Link { .. } => Ok(()),
        Key::Xattr { .. } => must(value.len() <= MAX_XATTR, "an attribute's value is too long"),
        Key::Inode { .. } => inode(&InodeRow::decode(value).map_err(|_| UNREAD)?),
        Key::Dentry { .. } => {
            let row = DentryRow::decode(value).map_err(|_| UNREAD)?;
            inode_number(row.ino).and(file_type(row.kind))
        }
        Key::View { .. } => {
            let row = ViewRow::decode(value).map_err(|_| UNREAD)?;
            inode_number(row.ino)?;
            // Its version is only compared.
            must(row.size <= MAX_OFFSET, "a plain object's row makes no sense")
        }
        Key::Extent { offset, .. } => extent(*offset, &ExtentRow::decode(value).map_err(|_| UNREAD)?),
    }
}

fn meta(name: &[u8], value: &[u8]) -> Check {
    let number = || u64::decode(value).is_ok_and(|number| number < MAX_COUNT);
    match name {
        meta::COOKIE_KEY => must(value.len() == 16, "the key of the cookies is none"),
        meta::NEXT_INO | meta::VIEW_SLOT => must(number(), "a number of the session makes no sense"),
        name if name.starts_with(meta::DELETE) => {
            must(u64::decode(value).is_ok(), "the time of a DELETE cannot be read")
        }
        // A newer cwdfs may write others, which an older one ignores.
        _ => Ok(()),
    }
}

fn inode_number(ino: Ino) -> Check {
    must(ino.0 > 0 && ino.0 < MAX_COUNT, "an inode's number is none")
}

fn position(cookie: Cookie) -> Check {
    must(cookie.0 >= 4 && cookie.0 <= MAX_OFFSET, "a directory entry's place is none")
}

fn entry_name(name: &[u8]) -> Check {
    let fits = (1..=MAX_NAME).contains(&name.len()) && name != b"." && name != b"..";
    must(fits && !name.iter().any(|b| matches!(b, 0 | b'/')), "a directory entry's name is none")
}

fn file_type(mode: u32) -> Check {
    let types = [
        libc::S_IFREG,
        libc::S_IFDIR,
        libc::S_IFLNK,
        libc::S_IFCHR,
        libc::S_IFBLK,
        libc::S_IFIFO,
        libc::S_IFSOCK,
    ];
    must(types.contains(&(mode & libc::S_IFMT)) && mode <= 0o177_777, "an inode's type is none")
}

fn time(time: Time) -> Check {
    must(time.nsec < 1_000_000_000, "a time makes no sense")
}

fn inode(row: &InodeRow) -> Check {
    file_type(row.mode)?;
    [row.atime, row.mtime, row.ctime, row.btime].into_iter().try_for_each(time)?;
    must(row.size <= MAX_OFFSET && row.allocated <= MAX_OFFSET, "a file is longer than any can be")?;
    must(row.nlink <= MAX_NLINK && row.version < MAX_COUNT, "an inode's counts make no sense")?;
    if let Some(home) = row.home {
        inode_number(home.parent).and(position(home.cookie))?;
    }
    let symlink = row.kind() == libc::S_IFLNK;
    must(symlink || row.target.is_empty(), "a target that is no symlink's")?;
    must(row.target.len() <= MAX_TARGET && !row.target.contains(&0), "a symlink's target is none")
}

fn extent(offset: u64, row: &ExtentRow) -> Check {
    let piece = u64::from(row.piece_len);
    must(row.len > 0 && row.len <= MAX_OFFSET - offset, "content has a length that it cannot have")?;
    must(
        row.piece_len <= MAX_PIECE && u64::from(row.skip) + row.len <= piece,
        "content is more than its piece",
    )?;
    must(row.piece_off < MAX_COUNT, "content lies too far out in its object")?;
    match &row.blob {
        Blob::Local(_) => Err("content lies in nobody's object"),
        Blob::Object { key, .. } => {
            must(!key.is_empty() && !key.starts_with(OURS), "content lies in no plain object")
        }
        Blob::Segment { .. } | Blob::Data { .. } => must(row.crc.is_some(), "content has no checksum"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::{Epoch, Slot};
    use crate::log::row::Home;

    fn file() -> InodeRow {
        let at = Time { sec: -1, nsec: 999_999_999 };
        InodeRow {
            mode: libc::S_IFREG | 0o7777,
            uid: u32::MAX,
            gid: 0,
            nlink: 0,
            rdev: u32::MAX,
            size: MAX_OFFSET,
            allocated: 0,
            atime: at,
            mtime: at,
            ctime: at,
            btime: at,
            version: 0,
            home: Some(Home { parent: Ino::ROOT, cookie: Cookie(4) }),
            target: Vec::new(),
        }
    }

    fn piece() -> ExtentRow {
        let blob = Blob::Segment { epoch: Epoch { counter: 1, nonce: 2 }, slot: Slot(1) };
        ExtentRow { len: 5, blob, piece_off: 24, piece_len: 10, skip: 5, crc: Some(0) }
    }

    fn is_sound<R: Row>(key: &Key, row: &R) -> bool {
        check(&Record::put(key, row)).is_ok()
    }

    #[test]
    fn inodes_at_the_borders_are_sound_and_beyond_them_not() {
        let key = Key::Inode { ino: Ino(1) };
        assert!(is_sound(&key, &file()));
        let link =
            |target: &[u8]| InodeRow { mode: libc::S_IFLNK | 0o777, target: target.to_vec(), ..file() };
        assert!(is_sound(&key, &link(&[b'x'; 4095])));
        let nsec = Time { sec: 0, nsec: 1_000_000_000 };
        let bad = [
            InodeRow { mode: 0o644, ..file() },
            InodeRow { mode: libc::S_IFREG | 1 << 16, ..file() },
            InodeRow { size: MAX_OFFSET + 1, ..file() },
            InodeRow { allocated: u64::MAX, ..file() },
            InodeRow { mtime: nsec, ..file() },
            InodeRow { nlink: u32::MAX, ..file() },
            InodeRow { version: u64::MAX, ..file() },
            InodeRow { home: Some(Home { parent: Ino(0), cookie: Cookie(4) }), ..file() },
            InodeRow { target: b"x".to_vec(), ..file() },
            link(&[b'x'; 4096]),
            link(b"a\0b"),
        ];
        for row in bad {
            assert!(!is_sound(&key, &row), "{row:?}");
        }
        assert!(
            !is_sound(&Key::Inode { ino: Ino(0) }, &file())
                && !is_sound(&Key::Inode { ino: Ino(u64::MAX) }, &file())
        );
    }

    #[test]
    fn content_lies_within_a_piece_and_within_a_file() {
        let at = |offset| Key::Extent { ino: Ino(2), offset };
        assert!(is_sound(&at(0), &piece()) && is_sound(&at(MAX_OFFSET - 5), &piece()));
        assert!(!is_sound(&at(MAX_OFFSET - 4), &piece()) && !is_sound(&at(u64::MAX), &piece()));
        let object = |key: &str| Blob::Object { key: key.into(), etag: "e".into() };
        assert!(is_sound(&at(0), &ExtentRow { blob: object("a"), crc: None, ..piece() }));
        let bad = [
            ExtentRow { len: 0, ..piece() },
            ExtentRow { len: 6, ..piece() },
            ExtentRow { skip: u32::MAX, ..piece() },
            ExtentRow { piece_len: MAX_PIECE + 1, ..piece() },
            ExtentRow { piece_off: u64::MAX, ..piece() },
            ExtentRow { crc: None, ..piece() },
            ExtentRow { blob: object(".cwdfs/lease"), ..piece() },
            ExtentRow { blob: Blob::Local(crate::log::ids::LocalId(1)), ..piece() },
        ];
        for row in bad {
            assert!(!is_sound(&at(0), &row), "{row:?}");
        }
    }

    #[test]
    fn names_are_names() {
        let sound = |name: &[u8]| {
            let key = Key::Dentry { parent: Ino::ROOT, cookie: Cookie(4), name: name.to_vec() };
            is_sound(&key, &DentryRow { ino: Ino(2), kind: libc::S_IFREG })
        };
        assert!(sound(b"a") && sound(&[0xff; 255]) && sound(b"...") && sound(b"\n"));
        for bad in [&b""[..], b".", b"..", b"a/b", b"../x", b"a\0", &[b'x'; 256]] {
            assert!(!sound(bad), "{bad:?}");
        }
    }

    #[test]
    fn numbers_of_the_session_are_numbers() {
        let sound = |name: &[u8], value: &[u8]| {
            check(&Record::put_raw(&Key::Meta { name: name.to_vec() }, value)).is_ok()
        };
        assert!(
            sound(meta::COOKIE_KEY, &[0; 16])
                && sound(meta::NEXT_INO, &7u64.encode())
                && sound(b"later", b"")
        );
        assert!(!sound(meta::COOKIE_KEY, &[0; 15]) && !sound(meta::NEXT_INO, &u64::MAX.encode()));
        assert!(!sound(meta::VIEW_SLOT, b""));
    }
}
