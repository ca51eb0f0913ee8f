//! A file system of its own on a file: an ext4 to compare with, or a disk that fills up.

use super::sh;
use rustix::mount::UnmountFlags;
use std::path::{Path, PathBuf};

/// A mounted ext4, unmounted when dropped.
pub struct Disk {
    image: PathBuf,
    at: PathBuf,
}

impl Disk {
    /// An ext4 of `size` (as truncate(1) takes it) in a local directory that nothing else uses.
    pub fn ext4(dir: &Path, size: &str) -> Disk {
        Disk::ext4_with(dir, size, "loop")
    }

    /// The same, mounted with these options.
    pub fn ext4_with(dir: &Path, size: &str, options: &str) -> Disk {
        sh(
            dir,
            &format!(
                "truncate -s {size} image && mkfs.ext4 -q -m 0 -I 256 -b 4096 image && mkdir at
                 mount -o {options} image at && rmdir at/lost+found"
            ),
        );
        Disk::mounted(dir)
    }

    /// The one whose image and mount point are in this directory.
    pub(super) fn mounted(dir: &Path) -> Disk {
        Disk { image: dir.join("image"), at: dir.join("at") }
    }

    /// The file that it lies in.
    pub fn image(&self) -> &Path {
        &self.image
    }

    /// Its root.
    pub fn path(&self) -> &Path {
        &self.at
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a daemon that the test has just killed may not be gone yet.
        let _ = rustix::mount::unmount(&self.at, UnmountFlags::DETACH);
    }
}
