//! Multipart uploads: a folder of parts in the store's own folder, put together when completed.

use super::fail::{Context, Fail, Try};
use super::files::{hidden_folder, make_folder, names, open_file, open_folder, remove_file, sync};
use super::find::{At, Found, clamp, find};
use super::lock::Locks;
use super::note::{Digest, check_metadata};
use super::write::{New, Unfinished, put, vanished};
use crate::store::{Condition, ETag, Kind, Part, UploadId};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::ops::Range;

/// The least size of a part that is not the last, as on S3.
const MIN_PART: u64 = 5 << 20;

/// The file of an upload's folder that says what it is for.
const ABOUT: &str = "about";

#[derive(Serialize, Deserialize)]
struct About {
    key: String,
    metadata: BTreeMap<String, String>,
}

pub(super) fn create(root: BorrowedFd<'_>, key: &str, metadata: &BTreeMap<String, String>) -> Try<UploadId> {
    check_metadata(metadata)?;
    let uploads = hidden_folder(root, "uploads", true)?.ok_or_else(vanished)?;
    let id = format!("{:032x}", rand::random::<u128>());
    let folder = make_folder(&uploads, &id).because("make a folder for", "an upload")?;
    let about = About { key: key.to_owned(), metadata: metadata.clone() };
    let bytes = postcard::to_stdvec(&about).map_err(|e| Fail::new(Kind::Invalid, e.to_string()))?;
    let mut file = Unfinished::of(root, &bytes)?;
    sync(&file.file, "an upload")?;
    file.rename(&folder, ABOUT).because("name", "an upload")?;
    sync(&folder, "an upload")?;
    Ok(UploadId(id))
}

pub(super) fn upload_part(
    root: BorrowedFd<'_>,
    key: &str,
    upload: &UploadId,
    number: u32,
    body: &[u8],
) -> Try<Part> {
    let (folder, _) = open_upload(root, key, upload)?;
    keep_part(&folder, number, Unfinished::of(root, body)?, Digest::of(body))
}

pub(super) fn upload_part_copy(
    root: BorrowedFd<'_>,
    (key, upload, number): (&str, &UploadId, u32),
    source: &str,
    range: Range<u64>,
) -> Try<Part> {
    let (folder, _) = open_upload(root, key, upload)?;
    let found = find(root, source)?
        .ok_or_else(|| Fail::new(Kind::NotFound, format!("there is no source {source}")))?;
    if range.end > found.stamp.size {
        let message = format!("the range {range:?} is past the source's {} bytes", found.stamp.size);
        return Err(Fail::new(Kind::InvalidRange, message));
    }
    let range = clamp(Some(range), found.stamp.size)?;
    let mut part = Unfinished::new(root)?;
    let digest = match &found.file {
        Some(file) => copy_range(file, range, &mut part.file)?,
        None => Digest::of(&[]),
    };
    found.check_unchanged()?;
    keep_part(&folder, number, part, digest)
}

fn copy_range(mut source: &File, range: Range<u64>, target: &mut File) -> Try<Digest> {
    source.seek(SeekFrom::Start(range.start)).because("read", "the source")?;
    let mut rest = range.end - range.start;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 18];
    while rest > 0 {
        let wanted = buffer.len().min(usize::try_from(rest).unwrap_or(usize::MAX));
        let length = source.read(&mut buffer[..wanted]).because("read", "the source")?;
        if length == 0 {
            return Err(Fail::new(Kind::Corrupt, "the source became shorter while it was read"));
        }
        hasher.update(&buffer[..length]);
        target.write_all(&buffer[..length]).because("write to", "the store")?;
        rest -= length as u64;
    }
    Ok(Digest::from_hash(&hasher.finalize(), 0))
}

fn keep_part(folder: &OwnedFd, number: u32, mut part: Unfinished, digest: Digest) -> Try<Part> {
    if !(1..=10_000).contains(&number) {
        return Err(Fail::new(Kind::Invalid, format!("a part's number is 1 to 10000, not {number}")));
    }
    part.seal(digest, &BTreeMap::new(), None)?;
    match part.rename(folder, &part_name(number)) {
        Err(Errno::NOENT) => return Err(no_upload()),
        other => other.because("name", "a part")?,
    }
    sync(folder, "an upload")?;
    Ok(Part { number, etag: digest.etag() })
}

pub(super) fn complete(
    root: BorrowedFd<'_>,
    locks: &Locks,
    (key, upload): (&str, &UploadId),
    parts: &[Part],
    condition: &Condition,
) -> Try<ETag> {
    let (folder, about) = open_upload(root, key, upload)?;
    check_order(parts)?;
    let mut whole = Unfinished::new(root)?;
    let mut hashes = blake3::Hasher::new();
    for (index, part) in parts.iter().enumerate() {
        let found = open_part(&folder, part)?;
        if found.stamp.size < MIN_PART && index + 1 < parts.len() {
            let message = format!("part {} has only {} bytes", part.number, found.stamp.size);
            return Err(Fail::new(Kind::Invalid, message));
        }
        if let Some(mut file) = found.file {
            std::io::copy(&mut file, &mut whole.file).because("put together", "an upload")?;
        }
        hashes.update(&found.digest.hash);
    }
    // At most 10,000 parts passed the check.
    let digest = Digest::from_hash(&hashes.finalize(), parts.len() as u32);
    let etag = put(root, locks, key, New::seal(whole, digest, about.metadata)?, condition)?;
    if let Err(error) = abort(root, upload) {
        // The object is there; the parts are only in the way of space, and `abort` can be called again.
        tracing::warn!("the parts of the completed upload of {key} stay: {}", error.message);
    }
    Ok(etag)
}

fn check_order(parts: &[Part]) -> Try<()> {
    if parts.is_empty() || !parts.is_sorted_by(|a, b| a.number < b.number) {
        return Err(Fail::new(Kind::Invalid, "the parts must be some, in ascending order"));
    }
    Ok(())
}

fn open_part(folder: &OwnedFd, part: &Part) -> Try<Found> {
    let name = part_name(part.number);
    if let Some((file, stat)) = open_file(folder, &name)? {
        let found = Found::from_file(At::Odd, file, &stat, &name)?;
        if found.etag() == part.etag {
            return Ok(found);
        }
    }
    Err(Fail::new(Kind::Invalid, format!("part {} with ETag {} was not uploaded", part.number, part.etag.0)))
}

pub(super) fn abort(root: BorrowedFd<'_>, upload: &UploadId) -> Try<()> {
    let Some(uploads) = hidden_folder(root, "uploads", false)? else {
        return Ok(());
    };
    let Some(folder) = upload_folder(&uploads, upload)? else {
        return Ok(());
    };
    // First what makes it an upload, so that no half of one is ever listed.
    remove_file(&folder, ABOUT)?;
    for name in names(&folder)? {
        remove_file(&folder, &name)?;
    }
    match rustix::fs::unlinkat(&uploads, &upload.0, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => sync(&uploads, "the uploads"),
        Err(errno) => Err(errno).because("remove", "an upload"),
    }
}

pub(super) fn list(root: BorrowedFd<'_>, prefix: &str) -> Try<Vec<(String, UploadId)>> {
    let Some(uploads) = hidden_folder(root, "uploads", false)? else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for id in names(&uploads)? {
        let upload = UploadId(id);
        if let Some(folder) = upload_folder(&uploads, &upload)? {
            match read_about(&folder)? {
                Some(about) if about.key.starts_with(prefix) => found.push((about.key, upload)),
                _ => {}
            }
        }
    }
    found.sort_by(|(a, x), (b, y)| (a, &x.0).cmp(&(b, &y.0)));
    Ok(found)
}

fn open_upload(root: BorrowedFd<'_>, key: &str, upload: &UploadId) -> Try<(OwnedFd, About)> {
    let uploads = hidden_folder(root, "uploads", false)?.ok_or_else(no_upload)?;
    let folder = upload_folder(&uploads, upload)?.ok_or_else(no_upload)?;
    let about = read_about(&folder)?.filter(|about| about.key == key).ok_or_else(no_upload)?;
    Ok((folder, about))
}

fn upload_folder(uploads: &OwnedFd, upload: &UploadId) -> Try<Option<OwnedFd>> {
    if upload.0.len() != 32 || !upload.0.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(None);
    }
    match open_folder(uploads, &upload.0) {
        Ok(folder) => Ok(Some(folder)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno).because("open", "an upload"),
    }
}

fn read_about(folder: &OwnedFd) -> Try<Option<About>> {
    let Some((file, _)) = open_file(folder.as_fd(), ABOUT)? else {
        return Ok(None);
    };
    let mut bytes = Vec::new();
    File::from(file).read_to_end(&mut bytes).because("read", "an upload")?;
    Ok(postcard::from_bytes(&bytes).ok())
}

fn part_name(number: u32) -> String {
    format!("{number:05}")
}

fn no_upload() -> Fail {
    Fail::new(Kind::NotFound, "there is no such upload of this key")
}
