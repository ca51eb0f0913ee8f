//! Changing objects: unfinished files, conditional replacement, deletion.
//!
//! Invariant: an object changes by one rename, of a file already on disk, while its key's lock is held; the
//! lock is let go only when the folder is on disk too, so whoever loses a race reads something durable.

use super::fail::{Context, Fail, Try};
use super::files::{
    Stamp, hidden_folder, names, open_folder, remove_file, sync, type_of, walk, walk_or_create,
};
use super::find::{At, Found, check, find};
use super::lock::Locks;
use super::note::{Digest, Note, check_metadata};
use super::place::{Place, odd_name};
use crate::store::{Condition, ETag, Kind};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags};
use rustix::io::Errno;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// How often a place is tried again when others make and remove folders there.
const TRIES: u32 = 100;

/// A file that is not an object yet; removed if it never becomes one.
pub(super) struct Unfinished {
    folder: OwnedFd,
    name: String,
    pub file: File,
    done: bool,
}

impl Unfinished {
    /// A new empty file on the store's file system.
    pub fn new(root: impl AsFd) -> Try<Unfinished> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let folder = hidden_folder(root, "tmp", true)?.ok_or_else(vanished)?;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{count}-{:08x}", std::process::id(), rand::random::<u32>());
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, &name, flags, Mode::from_raw_mode(0o666))
            .because("make a file in", "the store's own folder")?;
        Ok(Unfinished { folder, name, file: File::from(file), done: false })
    }

    /// A file of these bytes.
    pub fn of(root: impl AsFd, bytes: &[u8]) -> Try<Unfinished> {
        let mut unfinished = Unfinished::new(root)?;
        unfinished.file.write_all(bytes).because("write to", "the store")?;
        Ok(unfinished)
    }

    /// Attaches a note, with the key where the file's name will not say it, and brings the file to the disk.
    pub fn seal(&self, digest: Digest, metadata: &BTreeMap<String, String>, key: Option<&str>) -> Try<()> {
        let stat = rustix::fs::fstat(&self.file).because("look at", "a new file")?;
        let (metadata, key) = (metadata.clone(), key.map(str::to_owned));
        Note { digest, stamp: Stamp::of(&stat), metadata, key }.write(&self.file)?;
        sync(&self.file, "a new file")
    }

    /// Gives the file its name, in place of what is there.
    pub fn rename(&mut self, folder: impl AsFd, name: &str) -> Result<(), Errno> {
        rustix::fs::renameat(&self.folder, &self.name, folder, name)?;
        self.done = true;
        Ok(())
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.done {
            // Nothing depends on it: what stays is swept away by a later writer.
            let _ = rustix::fs::unlinkat(&self.folder, &self.name, AtFlags::empty());
        }
    }
}

/// What an object becomes: a file on the disk with its note.
pub(super) struct New {
    digest: Digest,
    metadata: BTreeMap<String, String>,
    file: Unfinished,
}

impl New {
    /// Seals the file.
    pub fn seal(file: Unfinished, digest: Digest, metadata: BTreeMap<String, String>) -> Try<New> {
        check_metadata(&metadata)?;
        file.seal(digest, &metadata, None)?;
        Ok(New { digest, metadata, file })
    }
}

/// Makes `new` the object of `key`, under `condition`.
pub(super) fn put(root: BorrowedFd<'_>, locks: &Locks, key: &str, mut new: New, on: &Condition) -> Try<ETag> {
    let _held = locks.hold(root, key)?;
    let old = find(root, key)?;
    check(on, old.as_ref())?;
    let at = settle(root, key, &mut new)?;
    if old.is_some() {
        remove_other(root, key, at)?;
    }
    Ok(new.digest.etag())
}

/// Puts the new object in the place of its key, or among the odd keys if something is in its way.
fn settle(root: BorrowedFd<'_>, key: &str, new: &mut New) -> Try<At> {
    for _ in 0..TRIES {
        let settled = match Place::of(key) {
            Place::Odd => Settled::Blocked,
            Place::Marker { folders } => settle_marker(root, &folders, new)?,
            Place::File { parents, name } => settle_file(root, &parents, name, new)?,
        };
        match settled {
            Settled::Done => return Ok(At::Path),
            Settled::Again => {}
            Settled::Blocked => {
                new.file.seal(new.digest, &new.metadata, Some(key))?;
                let folder = hidden_folder(root, "odd", true)?.ok_or_else(vanished)?;
                new.file.rename(&folder, &odd_name(key)).because("name", "an object of an odd key")?;
                sync(&folder, "the folder of odd keys")?;
                return Ok(At::Odd);
            }
        }
    }
    Err(Fail::new(Kind::Conflict, "its folder keeps being removed by others"))
}

enum Settled {
    Done,
    /// A folder on the way went; look again.
    Again,
    /// Something that is no object has the name.
    Blocked,
}

fn settle_file(root: BorrowedFd<'_>, parents: &[&str], name: &str, new: &mut New) -> Try<Settled> {
    let folder = match walk_or_create(root, parents) {
        Ok(Some(folder)) => folder,
        Ok(None) => return Ok(Settled::Blocked),
        Err(fail) if fail.kind == Kind::NotFound => return Ok(Settled::Again),
        Err(fail) => return Err(fail),
    };
    match type_of(&folder, name).because("look at", name)? {
        None | Some(FileType::RegularFile) => {}
        Some(_) => return Ok(Settled::Blocked),
    }
    match new.file.rename(&folder, name) {
        Ok(()) => sync(&folder, "a folder").map(|()| Settled::Done),
        Err(Errno::NOENT | Errno::ISDIR) => Ok(Settled::Again),
        Err(errno) => Err(errno).because("name", name),
    }
}

fn settle_marker(root: BorrowedFd<'_>, folders: &[&str], new: &New) -> Try<Settled> {
    if new.digest != Digest::of(&[]) {
        return Ok(Settled::Blocked);
    }
    let folder = match walk_or_create(root, folders) {
        Ok(Some(folder)) => folder,
        Ok(None) => return Ok(Settled::Blocked),
        Err(fail) if fail.kind == Kind::NotFound => return Ok(Settled::Again),
        Err(fail) => return Err(fail),
    };
    let note = Note { digest: new.digest, stamp: Stamp::now(), metadata: new.metadata.clone(), key: None };
    match note.write(&folder) {
        Err(fail) if fail.kind == Kind::NotFound => return Ok(Settled::Again),
        other => other?,
    }
    sync(&folder, "a folder")?;
    // Without a link the folder was removed under us, before it was a marker.
    let links = rustix::fs::fstat(&folder).because("look at", "a folder")?.st_nlink;
    Ok(if links == 0 { Settled::Again } else { Settled::Done })
}

/// Removes what the key had in the other place, now that the new object is in this one.
fn remove_other(root: BorrowedFd<'_>, key: &str, at: At) -> Try<()> {
    match at {
        At::Path => remove_odd(root, key),
        At::Odd => remove_at_path(root, key),
    }
}

fn remove_odd(root: BorrowedFd<'_>, key: &str) -> Try<()> {
    let Some(folder) = hidden_folder(root, "odd", false)? else {
        return Ok(());
    };
    let name = odd_name(key);
    if type_of(&folder, &name).because("look at", key)?.is_none() {
        return Ok(());
    }
    remove_file(&folder, &name)?;
    sync(&folder, "the folder of odd keys")
}

fn remove_at_path(root: BorrowedFd<'_>, key: &str) -> Try<()> {
    match Place::of(key) {
        Place::Odd => Ok(()),
        Place::Marker { folders } => match walk(root, &folders)? {
            Some(folder) => {
                Note::remove(&folder)?;
                sync(&folder, "a folder")
            }
            None => Ok(()),
        },
        Place::File { parents, name } => match walk(root, &parents)? {
            Some(folder)
                if type_of(&folder, name).because("look at", name)? == Some(FileType::RegularFile) =>
            {
                remove_file(&folder, name)?;
                sync(&folder, "a folder")
            }
            _ => Ok(()),
        },
    }
}

/// Deletes the object of `key`, under `condition`, and the folders that are left empty.
pub(super) fn delete(root: BorrowedFd<'_>, locks: &Locks, key: &str, on: &Condition) -> Try<()> {
    {
        let _held = locks.hold(root, key)?;
        let found: Option<Found> = find(root, key)?;
        check(on, found.as_ref())?;
        if found.is_none() {
            return Ok(());
        }
        remove_odd(root, key)?;
        remove_at_path(root, key)?;
    }
    prune(root, locks, key)
}

/// Removes the folders above `key` that hold nothing and are no markers.
fn prune(root: BorrowedFd<'_>, locks: &Locks, key: &str) -> Try<()> {
    let mut folders = match Place::of(key) {
        Place::Odd => return Ok(()),
        Place::Marker { folders } => folders,
        Place::File { parents, .. } => parents,
    };
    while let Some(name) = folders.pop() {
        let Some(parent) = walk(root, &folders)? else {
            return Ok(());
        };
        let mut marker: String = folders.iter().flat_map(|part| [*part, "/"]).collect();
        marker.extend([name, "/"]);
        // The marker's lock: nobody may make it one between the look and the removal.
        let _held = locks.hold(root, &marker)?;
        match open_folder(&parent, name) {
            Ok(folder) if Note::read(&folder)?.is_none() => {}
            _ => return Ok(()),
        }
        if rustix::fs::unlinkat(&parent, name, AtFlags::REMOVEDIR).is_err() {
            // Not empty, or gone: either way there is nothing more to remove.
            return Ok(());
        }
    }
    Ok(())
}

/// Removes unfinished files of writers that died more than a day ago.
pub(super) fn sweep(root: BorrowedFd<'_>) -> Try<()> {
    let folder = hidden_folder(root, "tmp", true)?.ok_or_else(vanished)?;
    let old = Stamp::now().seconds - 24 * 3600;
    for name in names(&folder)? {
        match rustix::fs::statat(&folder, &name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if stat.st_mtime < old => remove_file(&folder, &name)?,
            _ => {}
        }
    }
    Ok(())
}

pub(super) fn vanished() -> Fail {
    Fail::new(Kind::Unavailable, "the store's own folder vanished")
}
