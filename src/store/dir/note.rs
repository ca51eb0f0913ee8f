//! What the store knows of an object beside its bytes, kept in an extended attribute of its file.
//!
//! Invariant: a note is believed only while the file has the size and mtime it had when the note was made,
//! so a file that a person wrote over has no note: its ETag is computed and its user metadata are gone, as
//! when an object is overwritten.

use super::fail::{Context, Fail, Try};
use super::files::Stamp;
use crate::store::{ETag, Kind};
use rustix::fd::AsFd;
use rustix::fs::XattrFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The attribute's name.
const NAME: &str = "user.cwdfs";

/// The most bytes of user metadata, as on S3.
const MAX_METADATA: usize = 2048;

/// A hash of an object's bytes, or of its parts' hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Digest {
    /// The first half of the BLAKE3 hash.
    pub hash: [u8; 16],
    /// How many parts were hashed; 0 for plain bytes.
    pub parts: u32,
}

impl Digest {
    pub fn of(bytes: &[u8]) -> Self {
        Digest::from_hash(&blake3::hash(bytes), 0)
    }

    pub fn from_hash(hash: &blake3::Hash, parts: u32) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&hash.as_bytes()[..16]);
        Digest { hash: half, parts }
    }

    pub fn etag(&self) -> ETag {
        let hex: String = self.hash.iter().map(|byte| format!("{byte:02x}")).collect();
        match self.parts {
            0 => ETag(format!("\"{hex}\"")),
            parts => ETag(format!("\"{hex}-{parts}\"")),
        }
    }
}

/// The attribute's value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Note {
    /// What the ETag is made of.
    pub digest: Digest,
    /// The file's size and mtime when the note was made; for a folder, when its marker was written.
    pub stamp: Stamp,
    /// User metadata.
    pub metadata: BTreeMap<String, String>,
    /// The key, where the file's path does not say it.
    pub key: Option<String>,
}

impl Note {
    /// The note of an open file or folder; `None` if it has none that we can read.
    pub fn read(fd: impl AsFd) -> Try<Option<Note>> {
        let mut buffer = [0u8; 4096];
        let length = match rustix::fs::fgetxattr(fd, NAME, &mut buffer[..]) {
            Ok(length) => length,
            // A note that is longer than any of ours is none of ours.
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::RANGE) => return Ok(None),
            Err(errno) => return Err(errno).because("read the attributes of", "an object's file"),
        };
        Ok(postcard::from_bytes(&buffer[..length]).ok())
    }

    /// Attaches the note; the caller syncs the file.
    pub fn write(&self, fd: impl AsFd) -> Try<()> {
        let bytes = postcard::to_stdvec(self).map_err(|e| Fail::new(Kind::Invalid, e.to_string()))?;
        rustix::fs::fsetxattr(fd, NAME, &bytes, XattrFlags::empty())
            .because("keep the metadata in attributes of", "an object's file")
    }

    /// Takes the note off an open file or folder; one that is not there is success.
    pub fn remove(fd: impl AsFd) -> Try<()> {
        match rustix::fs::fremovexattr(fd, NAME) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(errno) => Err(errno).because("remove the attributes of", "a folder"),
        }
    }
}

/// Refuses user metadata that S3 would refuse.
pub(super) fn check_metadata(metadata: &BTreeMap<String, String>) -> Try<()> {
    let size: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if size > MAX_METADATA {
        let message = format!("{size} bytes of user metadata, {MAX_METADATA} are allowed");
        return Err(Fail::new(Kind::Invalid, message));
    }
    Ok(())
}
