//! A short path to a mount: a socket's path has at most 107 bytes, a mount point of the tests is longer.

use rustix::mount::UnmountFlags;
use std::path::Path;
use tempfile::TempDir;

/// A directory of `/tmp` at which another one shows up too (a bind mount); taken away when dropped. Drop it
/// before what it shows is unmounted.
pub struct Short(TempDir);

impl Short {
    /// The path is 15 bytes long.
    pub fn of(path: &Path) -> Short {
        let dir = TempDir::new_in("/tmp").expect("a directory in /tmp");
        rustix::mount::mount_bind(path, dir.path()).expect("a bind mount");
        Short(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Short {
    fn drop(&mut self) {
        if let Err(e) = rustix::mount::unmount(self.0.path(), UnmountFlags::DETACH) {
            // Whatever deletes the directory must not get at what is mounted there.
            self.0.disable_cleanup(true);
            eprintln!("unmount {}: {e}", self.0.path().display());
        }
    }
}
