//! The mark on every object that we publish: of which session, path, inode and version, and checksums of the
//! content and the headers, so that an object whose ETag was never recorded is known to be ours.

use crate::log::ids::Ino;
use crate::log::lease::SessionId;
use crate::store::ObjectMeta;
use std::collections::BTreeMap;

/// The name of the mark in user metadata.
pub const NAME: &str = "cwdfs-tag";

/// What an object of ours shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tag {
    /// Its inode.
    pub ino: Ino,
    /// The version of it.
    pub version: u64,
    /// Bytes.
    pub size: u64,
    /// CRC-32C of the content.
    pub crc: u32,
}

impl Tag {
    /// The mark's text: `1-<session>-<hash of the key>-<inode>-<version>-<size>-<content>-<headers>`.
    pub fn encode(&self, session: SessionId, key: &str, headers: &BTreeMap<String, String>) -> String {
        format!(
            "1-{:032x}-{:016x}-{}-{}-{}-{:08x}-{:08x}",
            session.0,
            key_hash(key),
            self.ino,
            self.version,
            self.size,
            self.crc,
            headers_crc(headers)
        )
    }

    /// The mark of an object at `key`, when it is of this session, was made for this key, and size and
    /// headers are what it says. The content is still to be compared with [`Tag::crc`].
    pub fn of(session: SessionId, key: &str, object: &ObjectMeta) -> Option<Tag> {
        let mut fields = object.metadata.get(NAME)?.split('-');
        let mut next = || fields.next();
        if next()? != "1"
            || u128::from_str_radix(next()?, 16).ok()? != session.0
            || u64::from_str_radix(next()?, 16).ok()? != key_hash(key)
        {
            return None;
        }
        let tag = Tag {
            ino: Ino(next()?.parse().ok()?),
            version: next()?.parse().ok()?,
            size: next()?.parse().ok()?,
            crc: u32::from_str_radix(next()?, 16).ok()?,
        };
        let headers = u32::from_str_radix(next()?, 16).ok()?;
        let whole = next().is_none() && tag.size == object.size && headers == headers_crc(&object.metadata);
        whole.then_some(tag)
    }
}

fn key_hash(key: &str) -> u64 {
    let hash = blake3::hash(key.as_bytes());
    let head: [u8; 8] = *hash.as_bytes().first_chunk().expect("a hash has 32 bytes");
    u64::from_be_bytes(head)
}

fn headers_crc(headers: &BTreeMap<String, String>) -> u32 {
    let others = headers.iter().filter(|(name, _)| *name != NAME);
    others.fold(0, |crc, (name, value)| {
        let crc = crc32c::crc32c_append(crc, name.as_bytes());
        let crc = crc32c::crc32c_append(crc, b"\0");
        let crc = crc32c::crc32c_append(crc, value.as_bytes());
        crc32c::crc32c_append(crc, b"\0")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::ETag;
    use std::time::SystemTime;

    const SESSION: SessionId = SessionId(0xfeed);
    const TAG: Tag = Tag { ino: Ino(7), version: 3, size: 5, crc: 0xdead };

    fn object() -> ObjectMeta {
        let mut metadata = BTreeMap::from([("mode".to_owned(), "33188".to_owned())]);
        metadata.insert(NAME.to_owned(), TAG.encode(SESSION, "a/b", &metadata));
        ObjectMeta { size: 5, etag: ETag("e".into()), modified: SystemTime::UNIX_EPOCH, metadata }
    }

    #[test]
    fn our_mark_is_known_again() {
        assert_eq!(Tag::of(SESSION, "a/b", &object()), Some(TAG));
    }

    #[test]
    fn a_mark_that_was_carried_elsewhere_or_edited_around_is_not_ours() {
        assert_eq!(Tag::of(SessionId(1), "a/b", &object()), None, "another session");
        assert_eq!(Tag::of(SESSION, "a/c", &object()), None, "copied to another key");
        assert_eq!(Tag::of(SESSION, "a/b", &ObjectMeta { size: 6, ..object() }), None, "another size");
        let mut changed = object();
        changed.metadata.insert("mode".into(), "33261".into());
        assert_eq!(Tag::of(SESSION, "a/b", &changed), None, "a chmod that kept the mark");
        for bad in ["", "1", "2-0-0-0-0-0-0-0", "1-feed-zz-0-0-0-0-0"] {
            let mut bad_mark = object();
            bad_mark.metadata.insert(NAME.into(), bad.into());
            assert_eq!(Tag::of(SESSION, "a/b", &bad_mark), None, "{bad}");
        }
    }
}
