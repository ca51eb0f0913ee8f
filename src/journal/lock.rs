//! One process at a time has a journal's folder; and what to do with a journal that is damaged.

use super::db::FILE;
use super::{Result, salvage};
use crate::log::source::{LocalError, LocalKind};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";

/// The folder is ours until this is dropped or the process ends.
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the folder `dir`, which must exist. [`LocalKind::Busy`] when another process has it.
    pub fn take(dir: &Path) -> Result<Lock> {
        let path = dir.join(LOCK);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path);
        Lock::of(dir, file.map_err(|e| unusable(dir, e))?)
    }

    /// The same without writing anything: `None` where no process has ever taken the folder.
    pub fn take_existing(dir: &Path) -> Result<Option<Lock>> {
        match File::open(dir.join(LOCK)) {
            Ok(file) => Lock::of(dir, file).map(Some),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(unusable(dir, e)),
        }
    }

    fn of(dir: &Path, file: File) -> Result<Lock> {
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Lock { _file: file }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(LocalError::new(
                LocalKind::Busy,
                format!(
                    "another process uses {}: unmount it there, or use another --cache-dir",
                    dir.display()
                ),
            )),
            Err(e) => Err(unusable(dir, e.into())),
        }
    }
}

fn unusable(dir: &Path, error: std::io::Error) -> LocalError {
    LocalError::failed(format!("{}: {error}", dir.join(LOCK).display()))
}

/// Moves a damaged database, and the local files that may hold content of it that is not stored, into a new folder
/// `damaged-<time>` beside it, which is returned; nothing is deleted. The store is the truth: a new journal takes
/// its place, and the tree is loaded anew.
pub(super) fn set_aside(dir: &Path, why: &str) -> Result<PathBuf> {
    let _lock = Lock::take(dir)?;
    let aside = fresh_folder(dir, "damaged")?;
    salvage::note_damage(dir, &aside, why)?;
    for suffix in ["-wal", "-shm", ""] {
        let name = format!("{FILE}{suffix}");
        match std::fs::rename(dir.join(&name), aside.join(&name)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(LocalError::failed(format!("moving {name} to {}: {e}", aside.display())));
            }
            _ => {}
        }
    }
    Ok(aside)
}

/// Makes `dir/<what>-<time>`, with a number behind it if that is taken.
pub(super) fn fresh_folder(dir: &Path, what: &str) -> Result<PathBuf> {
    let format = time::macros::format_description!("[year][month][day]T[hour][minute][second]");
    let now = time::OffsetDateTime::now_utc().format(&format);
    // The format has only fields that every time has.
    let now = now.map_err(|e| LocalError::failed(format!("telling the time: {e}")))?;
    for n in 0..1000 {
        let path = match n {
            0 => dir.join(format!("{what}-{now}")),
            n => dir.join(format!("{what}-{now}-{n}")),
        };
        match std::fs::create_dir(&path) {
            Ok(()) => return Ok(path),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(LocalError::failed(format!("{}: {e}", path.display()))),
        }
    }
    Err(LocalError::failed(format!("{}: too many folders {what}-{now}", dir.display())))
}
