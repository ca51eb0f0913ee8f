//! Copying a set out: its files under their paths in `files/`, those without one in `lost+found/`, and a report.

use super::content::{Contents, Missing};
use super::report::{Entry, Report, is_file, kind, shown};
use super::{Result, SalvageError};
use crate::journal::salvage::{Item, Set, What};
use crate::log::row::{InodeRow, Time};
use rustix::fs::{AtFlags, CWD, Gid, Mode, OFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Where files go that have no path.
const LOST: &str = "lost+found";
const FILES: &str = "files";

/// A copy that is being made.
struct Copy<'c> {
    to: &'c Path,
    is_root: bool,
}

/// Copies everything of `set` into the empty or missing directory `to`, and returns what was done, which is in `to`
/// too: `REPORT.txt` and `report.json`.
pub async fn copy(set: &Set, contents: &Contents<'_>, to: &Path, mut report: Report) -> Result<Report> {
    make_empty(to)?;
    let copy = Copy { to, is_root: rustix::process::geteuid().is_root() };
    let mut items = set.items()?;
    // Where nothing is a symlink yet, none can be followed.
    items.sort_by_key(is_symlink);
    copy.directory(&[])?;
    report.entries.clear();
    for item in &items {
        report.entries.push(copy.item(item, contents).await?);
    }
    report.entries.sort_by(|a, b| a.path.cmp(&b.path));
    copy.finish_directories(set)?;
    report.copied_to = Some(to.display().to_string());
    let json = serde_json::to_vec_pretty(&report).map_err(|e| failed(to, e))?;
    let path = to.join("report.json");
    fs::write(&path, json).map_err(|e| failed(&path, e))?;
    let path = to.join("REPORT.txt");
    fs::write(&path, report.to_string()).map_err(|e| failed(&path, e))?;
    Ok(report)
}

fn failed(path: &Path, why: impl std::fmt::Display) -> SalvageError {
    SalvageError::Output { path: path.to_owned(), why: why.to_string() }
}

fn make_empty(to: &Path) -> Result<()> {
    match DirBuilder::new().recursive(true).mode(0o700).create(to) {
        Ok(()) => {}
        Err(e) => return Err(failed(to, e)),
    }
    match fs::read_dir(to).map_err(|e| failed(to, e))?.next() {
        None => Ok(()),
        Some(_) => Err(failed(to, "is not empty: give another directory, or one that does not exist")),
    }
}

fn is_symlink(item: &Item) -> bool {
    item.row.as_ref().is_some_and(|row| kind(row.mode) == "symlink")
}

/// Whether a name can be one of a file.
fn is_name(name: &[u8]) -> bool {
    !name.is_empty() && name != b"." && name != b".." && !name.iter().any(|b| matches!(b, b'/' | 0))
}

impl Copy<'_> {
    async fn item(&self, item: &Item, contents: &Contents<'_>) -> Result<Entry> {
        let mut entry = Entry::of(item);
        if item.what == [What::Deleted] {
            return Ok(entry);
        }
        let what = kind(item.row.as_ref().map_or(0, |row| row.mode));
        if what == "directory" {
            if let Some(path) = item.names.first() {
                entry.written = self.directory(path)?.map(|dir| self.below(&dir));
            }
            return Ok(entry);
        }
        let Some(path) = self.place(item, &mut entry)? else { return Ok(entry) };
        if is_file(item) {
            let (path, file) = self.create(path, item, &mut entry)?;
            let missing = contents.write(item, &file).await;
            entry.lacks(missing.map_err(|e| at(e, &path))?);
            self.dress(&path, item, &mut entry)?;
            self.link(item, &path, &mut entry)?;
            entry.written = Some(self.below(&path));
        } else if self.special(&path, what, item, &mut entry)? {
            self.dress(&path, item, &mut entry)?;
            entry.written = Some(self.below(&path));
        }
        Ok(entry)
    }

    /// Where an item goes; its directory is made.
    fn place(&self, item: &Item, entry: &mut Entry) -> Result<Option<PathBuf>> {
        if let Some(path) = item.names.first()
            && let Some((name, parents)) = path.split_last()
            && is_name(name)
            && let Some(dir) = self.directory(parents)?
        {
            return Ok(Some(dir.join(OsStr::from_bytes(name))));
        }
        entry.notes.push(format!("its path cannot be made here: it is in {LOST}"));
        self.lost(item).map(Some)
    }

    fn lost(&self, item: &Item) -> Result<PathBuf> {
        let dir = self.to.join(LOST);
        mkdir(&dir)?;
        Ok(dir.join(format!("inode-{}", item.ino)))
    }

    /// Makes a directory below `files/`; `None` where a name or the file system does not let it be one.
    fn directory(&self, path: &[Vec<u8>]) -> Result<Option<PathBuf>> {
        let mut dir = self.to.join(FILES);
        mkdir(&dir)?;
        for name in path {
            dir.push(OsStr::from_bytes(name));
            if !is_name(name) || !is_or_becomes_dir(&dir)? {
                return Ok(None);
            }
        }
        Ok(Some(dir))
    }

    /// Makes a file that was not there; in `lost+found/` where its name cannot be made or is taken.
    fn create(&self, path: PathBuf, item: &Item, entry: &mut Entry) -> Result<(PathBuf, File)> {
        let new = |path: &Path| OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        match new(&path) {
            Ok(file) => Ok((path, file)),
            Err(e) if names_refused(&e) => {
                entry.notes.push(format!("{}: {e}: it is in {LOST}", path.display()));
                let path = self.lost(item)?;
                let file = new(&path).map_err(|e| failed(&path, e))?;
                Ok((path, file))
            }
            Err(e) => Err(failed(&path, e)),
        }
    }

    /// Makes what is no file and no directory; `false` where that is left out.
    fn special(&self, path: &Path, what: &str, item: &Item, entry: &mut Entry) -> Result<bool> {
        let target = item.row.as_ref().map(|row| row.target.clone()).unwrap_or_default();
        let made = match what {
            "symlink" => std::os::unix::fs::symlink(OsStr::from_bytes(&target), path),
            "fifo" => rustix::fs::mknodat(CWD, path, rustix::fs::FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
                .map_err(io::Error::from),
            _ => {
                entry.notes.push(format!("a {what} is not made here"));
                return Ok(false);
            }
        };
        match made {
            Ok(()) => Ok(true),
            // A target may be nothing, or hold a NUL.
            Err(e)
                if names_refused(&e)
                    || matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) =>
            {
                entry.notes.push(format!("not made: {e}"));
                entry.whole = false;
                Ok(false)
            }
            Err(e) => Err(failed(path, e)),
        }
    }

    /// Further names of a file.
    fn link(&self, item: &Item, first: &Path, entry: &mut Entry) -> Result<()> {
        for path in item.names.iter().skip(1) {
            let Some((name, parents)) = path.split_last() else { continue };
            let dir = if is_name(name) { self.directory(parents)? } else { None };
            let made = dir.map(|dir| fs::hard_link(first, dir.join(OsStr::from_bytes(name))));
            if !matches!(made, Some(Ok(()))) {
                entry.notes.push(format!("its further name {} is not made", shown(path).0));
            }
        }
        Ok(())
    }

    /// Owner, mode, extended attributes, times.
    fn dress(&self, path: &Path, item: &Item, entry: &mut Entry) -> Result<()> {
        let Some(row) = &item.row else { return Ok(()) };
        for (name, value) in &item.xattrs {
            // Others give power: a capability is as good as a set-id bit.
            if !name.starts_with(b"user.") && !name.starts_with(b"system.posix_acl_") {
                entry.notes.push(format!("extended attribute {} is left out", name.escape_ascii()));
                continue;
            }
            if let Err(e) = rustix::fs::lsetxattr(path, &name[..], value, XattrFlags::empty()) {
                entry.notes.push(format!("extended attribute {}: {e}", name.escape_ascii()));
            }
        }
        if row.mode & 0o6000 != 0 {
            entry.notes.push(format!("its mode was {:o}: set-id bits are left out", row.mode & 0o7777));
        }
        self.set(path, row).map_err(|e| failed(path, e))
    }

    fn set(&self, path: &Path, row: &InodeRow) -> io::Result<()> {
        let flags = AtFlags::SYMLINK_NOFOLLOW;
        if let Some((uid, gid)) = self.owner(row) {
            rustix::fs::chownat(CWD, path, Some(uid), Some(gid), flags)?;
        }
        if kind(row.mode) != "symlink" {
            fs::set_permissions(path, Permissions::from_mode(row.mode & 0o1777))?;
        }
        Ok(rustix::fs::utimensat(CWD, path, &times(row), flags)?)
    }

    /// What directories have of their own, once nothing is put into them any more, the deepest first.
    fn finish_directories(&self, set: &Set) -> Result<()> {
        let mut dirs = set.directories();
        dirs.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        for (path, row) in dirs {
            if let Some(dir) = self.open_directory(&path)? {
                self.set_directory(&dir, &row).map_err(|e| failed(self.to, e))?;
            }
        }
        Ok(())
    }

    /// A directory below `files/`; `None` where there is none. By now there are symlinks: none is followed on the way.
    fn open_directory(&self, path: &[Vec<u8>]) -> Result<Option<OwnedFd>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let files = self.to.join(FILES);
        let mut dir = rustix::fs::open(&files, flags, Mode::empty()).map_err(|e| failed(&files, e))?;
        for name in path {
            if !is_name(name) {
                return Ok(None);
            }
            dir = match rustix::fs::openat(&dir, OsStr::from_bytes(name), flags, Mode::empty()) {
                Ok(next) => next,
                Err(Errno::NOENT | Errno::LOOP) => return Ok(None),
                Err(e) if names_refused(&e.into()) => return Ok(None),
                Err(e) => return Err(failed(&files, e)),
            };
        }
        Ok(Some(dir))
    }

    fn set_directory(&self, dir: &OwnedFd, row: &InodeRow) -> io::Result<()> {
        if let Some((uid, gid)) = self.owner(row) {
            rustix::fs::fchown(dir, Some(uid), Some(gid))?;
        }
        rustix::fs::fchmod(dir, Mode::from_raw_mode(row.mode & 0o1777))?;
        Ok(rustix::fs::futimens(dir, &times(row))?)
    }

    /// The owner that a file gets, where one can be given.
    fn owner(&self, row: &InodeRow) -> Option<(Uid, Gid)> {
        let known = self.is_root && row.uid != u32::MAX && row.gid != u32::MAX;
        known.then(|| (Uid::from_raw(row.uid), Gid::from_raw(row.gid)))
    }

    fn below(&self, path: &Path) -> String {
        path.strip_prefix(self.to).unwrap_or(path).to_string_lossy().into_owned()
    }
}

fn at(error: SalvageError, path: &Path) -> SalvageError {
    match error {
        SalvageError::Output { why, .. } => failed(path, why),
        other => other,
    }
}

fn mkdir(dir: &Path) -> Result<()> {
    match is_or_becomes_dir(dir)? {
        true => Ok(()),
        false => Err(failed(dir, "something else is there")),
    }
}

/// Makes a directory, or finds that it is one already; a symlink is none.
fn is_or_becomes_dir(dir: &Path) -> Result<bool> {
    match DirBuilder::new().mode(0o700).create(dir) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            Ok(fs::symlink_metadata(dir).map_err(|e| failed(dir, e))?.is_dir())
        }
        Err(e) if names_refused(&e) => Ok(false),
        Err(e) => Err(failed(dir, e)),
    }
}

/// Whether it is the name that a file system does not take.
fn names_refused(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EILSEQ | libc::EINVAL | libc::ENAMETOOLONG | libc::EEXIST | libc::ENOTDIR | libc::EISDIR)
    )
}

fn times(row: &InodeRow) -> Timestamps {
    Timestamps { last_access: timespec(row.atime), last_modification: timespec(row.mtime) }
}

fn timespec(time: Time) -> Timespec {
    Timespec { tv_sec: time.sec, tv_nsec: time.nsec.min(999_999_999).into() }
}

/// What a caller of [`copy`] has to tell.
impl Report {
    /// Everything that is missing, with its path.
    pub fn missing(&self) -> impl Iterator<Item = (&Entry, &Missing)> {
        self.entries.iter().flat_map(|entry| entry.missing.iter().map(move |missing| (entry, missing)))
    }
}
