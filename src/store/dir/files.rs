//! System calls on folders and files, with what failed in words.
//!
//! Invariant: nothing here follows a symbolic link below the store's directory.

use super::fail::{Context, Fail, Try};
use super::place::HIDDEN;
use crate::store::Kind;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Size and mtime: what tells whether a file is still as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stamp {
    pub size: u64,
    pub seconds: i64,
    pub nanoseconds: u32,
}

impl Stamp {
    pub fn of(stat: &Stat) -> Self {
        // The casts are to the types' own widths on every Linux; sizes are never negative.
        Stamp { size: stat.st_size as u64, seconds: stat.st_mtime, nanoseconds: stat.st_mtime_nsec as u32 }
    }

    pub fn now() -> Self {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Stamp { size: 0, seconds: now.as_secs() as i64, nanoseconds: now.subsec_nanos() }
    }

    pub fn modified(&self) -> SystemTime {
        let nanoseconds = Duration::from_nanos(self.nanoseconds.into());
        let seconds = Duration::from_secs(self.seconds.unsigned_abs());
        let whole = match self.seconds {
            0.. => SystemTime::UNIX_EPOCH.checked_add(seconds),
            _ => SystemTime::UNIX_EPOCH.checked_sub(seconds),
        };
        whole.and_then(|time| time.checked_add(nanoseconds)).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

/// The store's directory, opened anew for each operation so that removing and making it again is seen.
pub(super) struct Root {
    pub path: PathBuf,
}

impl Root {
    /// The directory, or `None` if it is not there but its parent is: an empty store.
    pub fn open(&self) -> Try<Option<OwnedFd>> {
        match open_folder_at(rustix::fs::CWD, &self.path, OFlags::empty()) {
            Ok(root) => Ok(Some(root)),
            Err(Errno::NOENT) => self.check_parent().map(|()| None),
            Err(Errno::NOTDIR) => Err(Fail::new(
                Kind::Invalid,
                format!("{} is not a directory: give the path of a directory", self.path.display()),
            )),
            Err(errno) => Err(errno).because("open", self.path.display()),
        }
    }

    /// The directory, made if it is not there.
    pub fn open_or_create(&self) -> Try<OwnedFd> {
        if let Some(root) = self.open()? {
            return Ok(root);
        }
        match rustix::fs::mkdir(&self.path, Mode::from_raw_mode(0o777)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(errno).because("make the directory", self.path.display()),
        }
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        let folder =
            open_folder_at(rustix::fs::CWD, parent, OFlags::empty()).because("open", parent.display())?;
        sync(&folder, parent.display())?;
        self.open()?.ok_or_else(|| Fail::new(Kind::Unavailable, "the directory vanished while it was made"))
    }

    fn check_parent(&self) -> Try<()> {
        let parent = self.path.parent().unwrap_or(Path::new("/"));
        match rustix::fs::stat(parent) {
            Ok(_) => Ok(()),
            Err(Errno::NOENT) => Err(Fail::new(
                Kind::NoSuchBucket,
                format!("there is no directory {}: make it first (mkdir -p)", parent.display()),
            )),
            Err(errno) => Err(errno).because("look at", parent.display()),
        }
    }
}

/// Opens a folder that is no symbolic link.
pub(super) fn open_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    open_folder_at(parent, name, OFlags::NOFOLLOW)
}

fn open_folder_at(parent: impl AsFd, path: impl rustix::path::Arg, extra: OFlags) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC | extra;
    rustix::fs::openat(parent, path, flags, Mode::empty())
}

/// Opens a folder of the store's own, making it and the hidden folder if asked.
pub(super) fn hidden_folder(root: impl AsFd, name: &str, create: bool) -> Try<Option<OwnedFd>> {
    let mut folder: Option<OwnedFd> = None;
    for part in [HIDDEN, name] {
        let parent = folder.as_ref().map_or(root.as_fd(), |folder| folder.as_fd());
        let next = match open_folder(parent, part) {
            Err(Errno::NOENT) if create => make_folder(parent, part),
            other => other,
        };
        folder = match next {
            Ok(next) => Some(next),
            Err(Errno::NOENT) if !create => return Ok(None),
            Err(errno) => return Err(errno).because("open the store's own folder", part),
        };
    }
    Ok(folder)
}

/// Makes a folder, durably, and opens it; one that is there already is success.
pub(super) fn make_folder(parent: impl AsFd, name: &str) -> Result<OwnedFd, Errno> {
    match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o777)) {
        Ok(()) => rustix::fs::fsync(&parent)?,
        Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    open_folder(parent, name)
}

/// Opens a regular file for reading; `None` if there is none of that name, or something else.
pub(super) fn open_file(parent: impl AsFd, name: &str) -> Try<Option<(OwnedFd, Stat)>> {
    // NONBLOCK: a FIFO that someone left there must not stop us.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::openat(parent, name, flags, Mode::empty()) {
        Ok(file) => file,
        Err(Errno::NOENT | Errno::LOOP | Errno::NXIO | Errno::NODEV) => return Ok(None),
        Err(errno) => return Err(errno).because("open", name),
    };
    let stat = rustix::fs::fstat(&file).because("look at", name)?;
    Ok((FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile).then_some((file, stat)))
}

/// What kind of thing has this name.
pub(super) fn type_of(parent: impl AsFd, name: &str) -> Result<Option<FileType>, Errno> {
    match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes a file; one that is not there is success.
pub(super) fn remove_file(parent: impl AsFd, name: &str) -> Try<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(errno) => Err(errno).because("remove", name),
    }
}

/// Brings a file or folder to the disk.
pub(super) fn sync(fd: impl AsFd, name: impl std::fmt::Display) -> Try<()> {
    rustix::fs::fsync(fd).because("sync", name)
}

/// Opens the folder at the end of `names`; `None` if there is none or a name on the way is no folder.
pub(super) fn walk(root: impl AsFd, names: &[&str]) -> Try<Option<OwnedFd>> {
    let mut folder = open_folder(&root, ".").because("open", "the store's directory")?;
    for name in names {
        folder = match open_folder(&folder, name) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno).because("open", name),
        };
    }
    Ok(Some(folder))
}

/// Like [`walk`], making the folders that are missing; `None` if something that is no folder is in the way.
pub(super) fn walk_or_create(root: impl AsFd, names: &[&str]) -> Try<Option<OwnedFd>> {
    let mut folder = open_folder(&root, ".").because("open", "the store's directory")?;
    for name in names {
        let next = match open_folder(&folder, name) {
            Err(Errno::NOENT) => make_folder(&folder, name),
            other => other,
        };
        folder = match next {
            Ok(next) => next,
            Err(Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno).because("make the folder", name),
        };
    }
    Ok(Some(folder))
}

/// The names in a folder that are text, in no order.
pub(super) fn names(folder: impl AsFd) -> Try<Vec<String>> {
    Ok(entries(folder)?.into_iter().map(|(name, _)| name).collect())
}

/// The regular files (`false`) and folders (`true`) of a folder whose names are text, in no order.
pub(super) fn entries(folder: impl AsFd) -> Try<Vec<(String, bool)>> {
    let mut found = Vec::new();
    for entry in rustix::fs::Dir::read_from(&folder).because("list", "a folder")? {
        let entry = entry.because("list", "a folder")?;
        let Ok(name) = entry.file_name().to_str() else {
            tracing::debug!("a name that is no text is no object: {:?}", entry.file_name());
            continue;
        };
        if name == "." || name == ".." {
            continue;
        }
        let kind = match entry.file_type() {
            FileType::Unknown => type_of(&folder, name).because("look at", name)?,
            known => Some(known),
        };
        match kind {
            Some(FileType::RegularFile) => found.push((name.to_owned(), false)),
            Some(FileType::Directory) => found.push((name.to_owned(), true)),
            _ => {}
        }
    }
    Ok(found)
}
