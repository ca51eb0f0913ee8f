//! Machines' disks: folders with a journal, copied as a crash, a clone or a snapshot of a machine leaves them.
//!
//! Invariant: what a crash leaves is what was waited for, and a seeded part of what was to be written behind.

use crate::journal::Journal;
use crate::log::source::Seq;
use rusqlite::Connection;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use tempfile::TempDir;

/// Folders for one run; gone with it.
pub struct Disks {
    dir: TempDir,
    next: AtomicU64,
}

impl Disks {
    pub fn new() -> Disks {
        let memory = Path::new("/dev/shm");
        let dir = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() };
        Disks { dir: dir.expect("a folder for the run"), next: AtomicU64::new(0) }
    }

    /// A new, empty one.
    pub fn blank(&self) -> PathBuf {
        let dir = self.dir.path().join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        std::fs::create_dir(&dir).expect("a folder for a machine");
        dir
    }

    /// A copy of a folder that nobody writes at this moment.
    pub fn copy(&self, from: &Path) -> PathBuf {
        let to = self.blank();
        for name in ["journal.db", "journal.db-wal"] {
            if from.join(name).exists() {
                std::fs::copy(from.join(name), to.join(name)).expect("copying a journal");
            }
        }
        to
    }

    /// A copy of a folder in use, with all that was changed there.
    pub fn snapshot(&self, journal: &Journal, from: &Path) -> PathBuf {
        journal.settle().expect("the journal writes what it has");
        self.copy(from)
    }

    /// What the end of a process leaves: the changes up to one of `steps` (the ends of steps that nobody waited
    /// for are all the same to it), as `choose` picks.
    pub fn after_crash(&self, journal: &Journal, from: &Path, kept: Seq) -> PathBuf {
        let to = self.snapshot(journal, from);
        let conn = Connection::open(to.join("journal.db")).expect("opening a copied journal");
        conn.execute("DELETE FROM change WHERE step > ?", [kept as i64])
            .expect("dropping what was not written");
        to
    }
}

/// A folder is not needed any more.
pub fn discard(dir: &Path) {
    // What is left goes with the run.
    let _ = std::fs::remove_dir_all(dir);
}
