//! Where a process works: as its user, with a case's directory as the root of all paths, so that no path of any
//! step leads out of what is compared.

use super::sys;
use rustix::fd::{AsRawFd, BorrowedFd, OwnedFd};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use std::path::Path;

/// The way in and out.
pub struct Jail {
    uid: u32,
    /// The machine's root directory.
    outside: OwnedFd,
    /// Its /proc.
    proc: OwnedFd,
}

impl Jail {
    /// For a user with these groups besides its own, which has its number.
    pub fn new(uid: u32, groups: &[u32]) -> Result<Jail, Errno> {
        let open = |path: &str| rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        sys::set_groups(groups)?;
        Ok(Jail { uid, outside: open("/")?, proc: open("/proc")? })
    }

    /// Works in `w` of `base`, which is the root from now on.
    pub fn enter(&self, base: &Path) -> Result<(), Errno> {
        sys::set_user(0, 0)?;
        rustix::process::fchdir(&self.outside)?;
        rustix::process::chroot(".")?;
        rustix::process::chdir(base)?;
        rustix::process::chroot(".")?;
        rustix::process::chdir("/w")?;
        sys::set_user(self.uid, self.uid)
    }

    /// A descriptor of the same file that does not count as an open one.
    pub fn unopened(&self, fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
        let itself = format!("self/fd/{}", fd.as_raw_fd());
        rustix::fs::openat(&self.proc, itself, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
    }
}
