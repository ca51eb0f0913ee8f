//! Looking an object up: by its path, else among the odd keys.

use super::fail::{Context, Fail, Try};
use super::files::{Stamp, hidden_folder, open_file, walk};
use super::note::{Digest, Note};
use super::place::{Place, odd_name};
use crate::store::{Condition, ETag, Kind, MOST_WHOLE, Object, ObjectMeta};
use bytes::Bytes;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::Stat;
use std::collections::BTreeMap;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::time::{Duration, SystemTime};

/// Where an object was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum At {
    /// At the path of its key.
    Path,
    /// Among the odd keys.
    Odd,
}

/// An object and its open file.
pub(super) struct Found {
    pub at: At,
    /// `None` for a marker that is a folder.
    pub file: Option<File>,
    /// The file as it was opened; for a marker, as its note says.
    pub stamp: Stamp,
    pub digest: Digest,
    pub metadata: BTreeMap<String, String>,
    pub key: Option<String>,
}

/// How often a file that is being written by someone else is tried again.
const TRIES: u32 = 3;

/// A file changed less than this ago may change again without its mtime telling: its hash is not kept.
const SETTLED: Duration = Duration::from_secs(2);

/// Finds the object of `key`.
pub(super) fn find(root: impl AsFd, key: &str) -> Try<Option<Found>> {
    for look in [at_path, at_odd, at_path] {
        // At the path again: a writer may have moved the object there between the first two looks.
        if let Some(found) = look(root.as_fd(), key)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn at_path(root: rustix::fd::BorrowedFd<'_>, key: &str) -> Try<Option<Found>> {
    match Place::of(key) {
        Place::Odd => Ok(None),
        Place::Marker { folders } => match walk(root, &folders)? {
            Some(folder) => marker(folder),
            None => Ok(None),
        },
        Place::File { parents, name } => match walk(root, &parents)? {
            Some(folder) => match open_file(folder, name)? {
                Some((file, stat)) => Found::from_file(At::Path, file, &stat, name).map(Some),
                None => Ok(None),
            },
            None => Ok(None),
        },
    }
}

fn at_odd(root: rustix::fd::BorrowedFd<'_>, key: &str) -> Try<Option<Found>> {
    let Some(folder) = hidden_folder(root, "odd", false)? else {
        return Ok(None);
    };
    match open_file(folder, &odd_name(key))? {
        Some((file, stat)) => Found::from_file(At::Odd, file, &stat, key).map(Some),
        None => Ok(None),
    }
}

/// The marker that a folder is, if it is one.
pub(super) fn marker(folder: impl AsFd) -> Try<Option<Found>> {
    Ok(Note::read(folder)?.map(|note| Found {
        at: At::Path,
        file: None,
        stamp: note.stamp,
        digest: note.digest,
        metadata: note.metadata,
        key: note.key,
    }))
}

impl Found {
    /// What an open regular file is as an object; hashes it if it has no note that holds.
    pub fn from_file(at: At, file: OwnedFd, stat: &Stat, name: &str) -> Try<Found> {
        let file = File::from(file);
        let mut stamp = Stamp::of(stat);
        let note = Note::read(&file)?;
        let key = note.as_ref().and_then(|note| note.key.clone());
        if let Some(note) = note.filter(|note| note.stamp == stamp) {
            let Note { digest, metadata, .. } = note;
            return Ok(Found { at, file: Some(file), stamp, digest, metadata, key });
        }
        for _ in 0..TRIES {
            let hash = hash_file(&file, name)?;
            let after = stamp_of(&file, name)?;
            if after == stamp {
                let digest = Digest::from_hash(&hash, 0);
                let found = Found { at, file: Some(file), stamp, digest, metadata: BTreeMap::new(), key };
                found.keep_digest();
                return Ok(found);
            }
            stamp = after;
        }
        Err(Fail::new(Kind::Corrupt, format!("{name} is being written by someone else")))
    }

    /// Saves the next reader the hashing of a file that was put here by hand.
    fn keep_digest(&self) {
        let settled = SystemTime::now().duration_since(self.stamp.modified()).is_ok_and(|age| age > SETTLED);
        if let (true, Some(file)) = (settled, &self.file) {
            let note = Note {
                digest: self.digest,
                stamp: self.stamp,
                metadata: BTreeMap::new(),
                key: self.key.clone(),
            };
            if let Err(error) = note.write(file) {
                // Only a saving: without the right to write, or on a read-only file system, hash again.
                tracing::debug!("the hash of a file put in the store by hand is not kept: {}", error.message);
            }
        }
    }

    pub fn etag(&self) -> ETag {
        self.digest.etag()
    }

    pub fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            size: self.stamp.size,
            etag: self.etag(),
            modified: self.stamp.modified(),
            metadata: self.metadata.clone(),
        }
    }

    /// The bytes, or those of a range, of an object that does not change meanwhile.
    pub fn read(&self, range: Option<Range<u64>>) -> Try<Object> {
        if range.is_none() && self.stamp.size > MOST_WHOLE {
            let size = self.stamp.size;
            let message =
                format!("the object has {size} bytes: none that is read at once has over {MOST_WHOLE}");
            return Err(Fail::new(Kind::Invalid, message));
        }
        let range = clamp(range, self.stamp.size)?;
        let mut body = vec![0; (range.end - range.start) as usize];
        if let Some(file) = &self.file {
            file.read_exact_at(&mut body, range.start).map_err(|error| match error.kind() {
                std::io::ErrorKind::UnexpectedEof => torn(),
                _ => Fail::new(Kind::Unavailable, format!("cannot read: {error}")),
            })?;
            self.check_unchanged()?;
        }
        Ok(Object { body: Bytes::from(body), meta: self.meta() })
    }

    /// That nobody wrote into the file since it was opened; our own writers replace it instead.
    pub fn check_unchanged(&self) -> Try<()> {
        match &self.file {
            Some(file) if stamp_of(file, "an object")? != self.stamp => Err(torn()),
            _ => Ok(()),
        }
    }
}

/// Refuses unless `condition` holds for what was found.
pub(super) fn check(condition: &Condition, found: Option<&Found>) -> Try<()> {
    let refuse = |message: String| Err(Fail::new(Kind::Precondition, message));
    match (condition, found) {
        (Condition::None, _) | (Condition::Absent, None) => Ok(()),
        (Condition::Absent, Some(_)) => refuse("there is an object of this key".into()),
        (Condition::Match(etag), Some(found)) if found.etag() == *etag => Ok(()),
        (Condition::Match(etag), Some(found)) => {
            refuse(format!("the object is {}, not {}", found.etag().0, etag.0))
        }
        (Condition::Match(_), None) => refuse("there is no object of this key".into()),
    }
}

/// The part of `range` that an object of `size` bytes has.
pub(super) fn clamp(range: Option<Range<u64>>, size: u64) -> Try<Range<u64>> {
    match range {
        None => Ok(0..size),
        Some(range) if range.start >= range.end => {
            Err(Fail::new(Kind::Invalid, format!("the range {range:?} is empty")))
        }
        Some(range) if range.start >= size => {
            Err(Fail::new(Kind::InvalidRange, format!("the range {range:?} is past the {size} bytes")))
        }
        Some(range) => Ok(range.start..range.end.min(size)),
    }
}

fn hash_file(file: &File, name: &str) -> Try<blake3::Hash> {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 16];
    let mut offset = 0;
    loop {
        let length = file.read_at(&mut buffer, offset).because("read", name)?;
        if length == 0 {
            return Ok(hasher.finalize());
        }
        hasher.update(&buffer[..length]);
        offset += length as u64;
    }
}

fn stamp_of(file: &File, name: &str) -> Try<Stamp> {
    rustix::fs::fstat(file).map(|stat| Stamp::of(&stat)).because("look at", name)
}

fn torn() -> Fail {
    Fail::new(Kind::Corrupt, "the file was changed by someone else while it was read")
}
