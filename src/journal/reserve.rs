//! A little disk space set aside, so that a full disk does not keep changes from reaching the store.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

const FILE: &str = "reserve";
/// In tests little: they open journals by the thousand.
const BYTES: u64 = if cfg!(test) { 64 << 10 } else { 4 << 20 };

/// The space; held while it can be had.
pub(super) struct Reserve {
    path: PathBuf,
    held: bool,
    /// It was given away because the disk was full, and could not be taken back yet.
    full: bool,
}

impl Reserve {
    pub fn take(dir: &Path) -> Reserve {
        let mut reserve = Reserve { path: dir.join(FILE), held: false, full: false };
        reserve.restore();
        reserve
    }

    /// Takes the space again, if it is not held and can be had.
    pub fn restore(&mut self) {
        if self.held {
            return;
        }
        match self.allocate() {
            Ok(()) => (self.held, self.full) = (true, false),
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => {}
            // This disk cannot set space aside, so there is nothing to wait for.
            Err(_) => self.full = false,
        }
    }

    /// Whether the disk is still as good as full.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Gives the space to whoever needs it now: the journal, which has failed for want of it.
    pub fn release(&mut self) {
        (self.held, self.full) = (false, true);
        if let Err(error) = std::fs::remove_file(&self.path)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%error, path = %self.path.display(), "reserved space could not be freed");
        }
    }

    fn allocate(&self) -> std::io::Result<()> {
        let file: File = OpenOptions::new().create(true).truncate(false).write(true).open(&self.path)?;
        let result = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, BYTES);
        if let Err(error) = result {
            // Half of it would be held by a file that counts as not held.
            std::fs::remove_file(&self.path)?;
            return Err(error.into());
        }
        Ok(())
    }
}
