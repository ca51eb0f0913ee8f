//! The rows a session is made of: one encoding for segments, checkpoints and the journal.
//!
//! Invariants:
//! - encoded keys sort by kind, then by owner, so that all rows of one inode lie together by kind and a
//!   directory's entries lie in the order of their cookies;
//! - a tombstone of an inode row also removes every extent, xattr and link row of that inode; inode numbers
//!   are never given out twice, so no such row can follow;
//! - a dentry row's inode exists, unless the inode row comes in the same commit.

use super::ids::{Blob, Ino};
use serde::{Deserialize, Serialize};
use siphasher::sip::SipHasher13;
use std::hash::Hasher;

/// The names of the meta rows.
pub mod meta {
    /// `u64`: every inode number below it may have been given out.
    pub const NEXT_INO: &[u8] = b"next-ino";
    /// `[u8; 16]`: keys the hash behind directory cookies, so that nobody can make names that collide.
    pub const COOKIE_KEY: &[u8] = b"cookie-key";
    /// `u64`: the slot up to which the view was known to equal the tree, imports included.
    pub const VIEW_SLOT: &[u8] = b"view-slot";
    /// Followed by the key of a plain object, `u64`: when (milliseconds since 1970) a DELETE of it was about to be sent,
    /// which may still be on its way.
    pub const DELETE: &[u8] = b"delete/";
}

/// A directory entry's place in its directory: a hash of the name, so stable for as long as the name is.
/// At least 4, and below 2^63 because the kernel's offsets are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Cookie(pub u64);

impl Cookie {
    /// The cookie of `name` in a session whose [`meta::COOKIE_KEY`] is `key`.
    pub fn of(key: &[u8; 16], name: &[u8]) -> Cookie {
        let mut hash = SipHasher13::new_with_key(key);
        hash.write(name);
        Cookie((hash.finish() >> 1).max(4))
    }
}

/// The key of a row.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Key {
    /// A value of the whole session; see [`meta`].
    Meta { name: Vec<u8> },
    /// [`InodeRow`].
    Inode { ino: Ino },
    /// [`DentryRow`]: `name` in directory `parent`.
    Dentry { parent: Ino, cookie: Cookie, name: Vec<u8> },
    /// Empty: a further name of an inode that has more than one (its first is [`InodeRow::home`]).
    Link { ino: Ino, parent: Ino, cookie: Cookie, name: Vec<u8> },
    /// The raw value of an extended attribute.
    Xattr { ino: Ino, name: Vec<u8> },
    /// [`ExtentRow`]: content from `offset`. Extents of an inode never overlap; what none covers is a hole.
    Extent { ino: Ino, offset: u64 },
    /// [`ViewRow`]: what we know of the plain object `key`.
    View { key: String },
}

mod tag {
    pub const META: u8 = 1;
    pub const INODE: u8 = 2;
    pub const DENTRY: u8 = 3;
    pub const LINK: u8 = 4;
    pub const XATTR: u8 = 5;
    pub const EXTENT: u8 = 6;
    pub const VIEW: u8 = 7;
}

/// An encoded [`Key`]; its byte order is the order of the rows.
pub type KeyBytes = Vec<u8>;

impl Key {
    /// The key's bytes.
    pub fn encode(&self) -> KeyBytes {
        match self {
            Key::Meta { name } => join(tag::META, &[], &[], name),
            Key::Inode { ino } => join(tag::INODE, &[ino.0], &[], b""),
            Key::Dentry { parent, cookie, name } => join(tag::DENTRY, &[parent.0, cookie.0], &[], name),
            Key::Link { ino, parent, cookie, name } => {
                join(tag::LINK, &[ino.0, parent.0, cookie.0], &[], name)
            }
            Key::Xattr { ino, name } => join(tag::XATTR, &[ino.0], &[], name),
            Key::Extent { ino, offset } => join(tag::EXTENT, &[ino.0, *offset], &[], b""),
            Key::View { key } => join(tag::VIEW, &[], key.as_bytes(), b""),
        }
    }

    /// The key that `bytes` encode; `None` when they encode none.
    pub fn decode(bytes: &[u8]) -> Option<Key> {
        let (&kind, rest) = bytes.split_first()?;
        Some(match kind {
            tag::META => Key::Meta { name: rest.to_vec() },
            tag::INODE => {
                let (ino, rest) = number(rest)?;
                rest.is_empty().then_some(Key::Inode { ino: Ino(ino) })?
            }
            tag::DENTRY => {
                let (parent, rest) = number(rest)?;
                let (cookie, name) = number(rest)?;
                Key::Dentry { parent: Ino(parent), cookie: Cookie(cookie), name: name.to_vec() }
            }
            tag::LINK => {
                let (ino, rest) = number(rest)?;
                let (parent, rest) = number(rest)?;
                let (cookie, name) = number(rest)?;
                Key::Link { ino: Ino(ino), parent: Ino(parent), cookie: Cookie(cookie), name: name.to_vec() }
            }
            tag::XATTR => {
                let (ino, name) = number(rest)?;
                Key::Xattr { ino: Ino(ino), name: name.to_vec() }
            }
            tag::EXTENT => {
                let (ino, rest) = number(rest)?;
                let (offset, rest) = number(rest)?;
                rest.is_empty().then_some(Key::Extent { ino: Ino(ino), offset })?
            }
            tag::VIEW => Key::View { key: String::from_utf8(rest.to_vec()).ok()? },
            _ => return None,
        })
    }

    /// The first key of the entries of `parent` whose cookie is at least `from`.
    pub fn dentries_from(parent: Ino, from: u64) -> KeyBytes {
        join(tag::DENTRY, &[parent.0, from], &[], b"")
    }

    /// The prefix that all rows of this kind and owner share: a directory's entries.
    pub fn dentries_of(parent: Ino) -> KeyBytes {
        join(tag::DENTRY, &[parent.0], &[], b"")
    }

    /// The prefix of an inode's further names.
    pub fn links_of(ino: Ino) -> KeyBytes {
        join(tag::LINK, &[ino.0], &[], b"")
    }

    /// The prefix of an inode's extended attributes.
    pub fn xattrs_of(ino: Ino) -> KeyBytes {
        join(tag::XATTR, &[ino.0], &[], b"")
    }

    /// The prefix of an inode's extents.
    pub fn extents_of(ino: Ino) -> KeyBytes {
        join(tag::EXTENT, &[ino.0], &[], b"")
    }

    /// The prefixes of the rows that go with an inode's own row: its further names, xattrs and extents.
    pub fn children_of(ino: Ino) -> [KeyBytes; 3] {
        [Key::links_of(ino), Key::xattrs_of(ino), Key::extents_of(ino)]
    }

    /// The inode whose own row an encoded key names.
    pub fn own_row_of(key: &[u8]) -> Option<Ino> {
        match key.split_first()? {
            (&tag::INODE, rest) => number(rest).map(|(ino, _)| Ino(ino)),
            _ => None,
        }
    }

    /// The inode that an encoded key of a further name, an xattr or an extent belongs to.
    pub fn child_of(key: &[u8]) -> Option<Ino> {
        match key.split_first()? {
            (&(tag::LINK | tag::XATTR | tag::EXTENT), rest) => number(rest).map(|(ino, _)| Ino(ino)),
            _ => None,
        }
    }

    /// The inode that an encoded key of an xattr belongs to.
    pub fn xattr_of(key: &[u8]) -> Option<Ino> {
        Key::child_of(key).filter(|_| key.first() == Some(&tag::XATTR))
    }

    /// Whether an encoded key is that of a row of the view.
    pub fn is_view(key: &[u8]) -> bool {
        key.first() == Some(&tag::VIEW)
    }

    /// Whether an encoded key is an extent's.
    pub fn is_extent(key: &[u8]) -> bool {
        key.first() == Some(&tag::EXTENT)
    }

    /// The prefix of all inode rows.
    pub fn inodes() -> KeyBytes {
        vec![tag::INODE]
    }

    /// The prefix of all extent rows.
    pub fn extents() -> KeyBytes {
        vec![tag::EXTENT]
    }

    /// The prefix of the view rows whose object key starts with `prefix`.
    pub fn views(prefix: &str) -> KeyBytes {
        join(tag::VIEW, &[], prefix.as_bytes(), b"")
    }
}

fn join(kind: u8, numbers: &[u64], middle: &[u8], name: &[u8]) -> KeyBytes {
    let mut out = Vec::with_capacity(1 + numbers.len() * 8 + middle.len() + name.len());
    out.push(kind);
    for n in numbers {
        out.extend_from_slice(&n.to_be_bytes());
    }
    out.extend_from_slice(middle);
    out.extend_from_slice(name);
    out
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*head), rest))
}

/// The first key that does not start with `prefix`; `None` when every later key does.
pub fn prefix_end(prefix: &[u8]) -> Option<KeyBytes> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return Some(end);
        }
    }
    None
}

/// Seconds and nanoseconds since 1970; before it, seconds are negative and nanoseconds still count up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Time {
    /// Seconds.
    pub sec: i64,
    /// 0 to 999,999,999.
    pub nsec: u32,
}

/// Where an inode's first name lies; its path is found by walking these to the root.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Home {
    /// The directory.
    pub parent: Ino,
    /// The entry in it; the name is in the dentry row's key.
    pub cookie: Cookie,
}

/// An inode, as of its last capture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InodeRow {
    /// `st_mode`: type and permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Names of a file; 2 + subdirectories of a directory.
    pub nlink: u32,
    /// Device number of a device node, else 0.
    pub rdev: u32,
    /// Bytes at the last capture.
    pub size: u64,
    /// Of these, bytes that are not holes.
    pub allocated: u64,
    /// Access time.
    pub atime: Time,
    /// Content change at the last capture.
    pub mtime: Time,
    /// Inode change.
    pub ctime: Time,
    /// Creation.
    pub btime: Time,
    /// Rises with every change that the view shows: content, type, mode, owner, a file's mtime, target, `user.`
    /// xattrs (not with the mtime that a directory gets from its entries). A new inode has 1; 0 is an imported
    /// file whose headers have not been read yet.
    pub version: u64,
    /// The first name; `None` for the root.
    pub home: Option<Home>,
    /// What a symlink points to; empty for the rest.
    #[serde(with = "serde_bytes_vec")]
    pub target: Vec<u8>,
}

impl InodeRow {
    /// Its type, as `S_IFMT` has it.
    pub fn kind(&self) -> u32 {
        self.mode & libc::S_IFMT
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        is_dir(self.mode)
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.kind() == libc::S_IFREG
    }
}

/// Whether a mode, or its type bits alone, are a directory's.
pub fn is_dir(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFDIR
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DentryRow {
    /// What it names.
    pub ino: Ino,
    /// The type bits of its mode (`S_IFMT`), for readdir.
    pub kind: u32,
}

impl DentryRow {
    /// Whether it names a directory.
    pub fn is_dir(&self) -> bool {
        is_dir(self.kind)
    }
}

/// Content: `len` bytes from the row's offset are bytes `skip..skip + len` of a piece.
///
/// A piece is the unit that is checksummed: `piece_len` bytes at `piece_off` of `blob`, at most
/// [`MAX_PIECE`]. An extent that was cut still names the whole piece, so that it can be verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExtentRow {
    /// Bytes of the file.
    pub len: u64,
    /// Where the piece lies.
    pub blob: Blob,
    /// The piece's offset in the blob.
    pub piece_off: u64,
    /// The piece's bytes.
    pub piece_len: u32,
    /// Bytes of the piece before this extent.
    pub skip: u32,
    /// CRC-32C of the whole piece; `None` only for [`Blob::Object`], which its ETag vouches for.
    pub crc: Option<u32>,
}

/// The most bytes of a piece.
pub const MAX_PIECE: u32 = 1 << 20;

/// A plain object of the view as we last saw or wrote it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewRow {
    /// What it shows.
    pub ino: Ino,
    /// The [`InodeRow::version`] it shows.
    pub version: u64,
    /// Its ETag; empty of the marker of a folder that is about to be written for the first time.
    pub etag: String,
    /// Its bytes.
    pub size: u64,
    /// `LastModified` in milliseconds since 1970, where a listing or HEAD told us; tells zero-byte objects
    /// apart, which share one ETag.
    pub modified_ms: Option<i64>,
}

impl ViewRow {
    /// Of a marker that is about to be written: if there is one, it is ours.
    pub fn about_to_be(ino: Ino) -> ViewRow {
        ViewRow { ino, version: u64::MAX, etag: String::new(), size: 0, modified_ms: None }
    }

    /// Whether the object may not be there yet.
    pub fn is_about_to_be(&self) -> bool {
        self.etag.is_empty()
    }
}

/// A row's value could not be read: the data is damaged or of another version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a {what} row cannot be read")]
pub struct BadRow {
    /// Which kind of row.
    pub what: &'static str,
}

/// A value that a row holds.
pub trait Row: Serialize + for<'de> Deserialize<'de> {
    /// The kind's name, for messages.
    const WHAT: &'static str;

    /// The value's bytes (postcard: little-endian varints, in the order of the fields).
    fn encode(&self) -> Vec<u8> {
        // Serialising these types into a growing Vec has no failing path: no map, no unsized sequence.
        postcard::to_stdvec(self).expect("rows serialise")
    }

    /// The value that `bytes` encode, all of them.
    fn decode(bytes: &[u8]) -> Result<Self, BadRow> {
        match postcard::take_from_bytes(bytes) {
            Ok((row, [])) => Ok(row),
            _ => Err(BadRow { what: Self::WHAT }),
        }
    }
}

impl Row for InodeRow {
    const WHAT: &'static str = "inode";
}
impl Row for DentryRow {
    const WHAT: &'static str = "dentry";
}
impl Row for ExtentRow {
    const WHAT: &'static str = "extent";
}
impl Row for ViewRow {
    const WHAT: &'static str = "view";
}
impl Row for u64 {
    const WHAT: &'static str = "number";
}

/// One change of one row: an upsert, or (`None`) a tombstone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// An encoded [`Key`].
    #[serde(with = "serde_bytes_vec")]
    pub key: KeyBytes,
    /// The encoded value.
    pub value: Option<Vec<u8>>,
}

impl Record {
    /// An upsert.
    pub fn put<R: Row>(key: &Key, row: &R) -> Record {
        Record { key: key.encode(), value: Some(row.encode()) }
    }

    /// An upsert of a row whose value is raw bytes (xattrs, links, some meta rows).
    pub fn put_raw(key: &Key, value: impl Into<Vec<u8>>) -> Record {
        Record { key: key.encode(), value: Some(value.into()) }
    }

    /// A tombstone.
    pub fn delete(key: &Key) -> Record {
        Record { key: key.encode(), value: None }
    }
}

/// Serialises a `Vec<u8>` as one run of bytes instead of element by element.
mod serde_bytes_vec {
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(bytes)
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        <&[u8]>::deserialize(d).map(<[u8]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = Key> {
        let name = proptest::collection::vec(any::<u8>(), 0..20);
        let n = any::<u64>();
        prop_oneof![
            name.clone().prop_map(|name| Key::Meta { name }),
            n.prop_map(|i| Key::Inode { ino: Ino(i) }),
            (n, n, name.clone()).prop_map(|(p, c, name)| Key::Dentry {
                parent: Ino(p),
                cookie: Cookie(c),
                name
            }),
            (n, n, n, name.clone()).prop_map(|(i, p, c, name)| Key::Link {
                ino: Ino(i),
                parent: Ino(p),
                cookie: Cookie(c),
                name
            }),
            (n, name).prop_map(|(i, name)| Key::Xattr { ino: Ino(i), name }),
            (n, n).prop_map(|(i, offset)| Key::Extent { ino: Ino(i), offset }),
            ".*".prop_map(|key| Key::View { key }),
        ]
    }

    proptest! {
        #[test]
        fn keys_come_back(key in keys()) {
            prop_assert_eq!(Key::decode(&key.encode()), Some(key));
        }

        #[test]
        fn any_bytes_decode_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Key::decode(&bytes);
            let _ = InodeRow::decode(&bytes);
            let _ = ExtentRow::decode(&bytes);
            let _ = ViewRow::decode(&bytes);
        }
    }

    #[test]
    fn rows_come_back_and_a_longer_one_is_refused() {
        let row = ExtentRow {
            len: 10,
            blob: Blob::Object { key: "a".into(), etag: "\"e\"".into() },
            piece_off: 5,
            piece_len: 100,
            skip: 3,
            crc: None,
        };
        let mut bytes = row.encode();
        assert_eq!(ExtentRow::decode(&bytes), Ok(row));
        bytes.push(0);
        assert_eq!(ExtentRow::decode(&bytes), Err(BadRow { what: "extent" }));
    }

    #[test]
    fn the_end_of_a_prefix_is_behind_all_that_starts_with_it() {
        assert_eq!(prefix_end(&[1, 0xff, 0xff]), Some(vec![2]));
        assert_eq!(prefix_end(&[0xff]), None);
        assert!(Key::dentries_of(Ino(5)) < Key::dentries_from(Ino(5), 0));
        assert!(Key::dentries_from(Ino(5), u64::MAX) < prefix_end(&Key::dentries_of(Ino(5))).unwrap());
    }
}
