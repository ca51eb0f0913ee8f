//! A FUSE server that does nothing else: a tree in memory, every request answered at once by the thread that
//! read it, everything cached by the kernel for ever. What it reaches is what any FUSE file system can reach here.
//!
//! It runs as a process of its own (`bench bare`), so that a client never waits for itself and its CPU and memory
//! can be told. It uses nothing of cwdfs.

mod fs;
mod server;
mod tree;

use fuser::{Config, Session, SessionACL};
use rustix::mount::MountFlags;
use server::Bare;
use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Threads that read requests, as in the facts that the baseline is held against.
const THREADS: usize = 2;
/// The kernel's read-ahead, in KiB, as cwdfs has it.
const READ_AHEAD: u32 = 2048;

/// What kind of server.
pub struct Options {
    /// Contents are files of this directory, which the kernel reads and writes itself; in memory without one.
    pub passthrough: Option<PathBuf>,
    /// The kernel checks permissions (`default_permissions`), as it does for cwdfs.
    pub checked: bool,
}

/// Mounts and serves until somebody unmounts.
pub fn serve(mountpoint: &Path, options: Options) -> io::Result<()> {
    let device: OwnedFd = std::fs::OpenOptions::new().read(true).write(true).open("/dev/fuse")?.into();
    let checked = if options.checked { ",default_permissions" } else { "" };
    let data = format!("fd={},rootmode=40000,user_id=0,group_id=0,allow_other{checked}", device.as_raw_fd());
    let data = CString::new(data).map_err(io::Error::other)?;
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("bare", mountpoint, "fuse.bare", flags, data.as_c_str())?;
    let mut config = Config::default();
    config.n_threads = Some(THREADS);
    let session = Session::from_fd(Bare::new(options.passthrough)?, device, SessionACL::All, config)?;
    let place = mountpoint.to_owned();
    // Asks the mount for its number, which is answered by the loop below.
    std::thread::spawn(move || {
        if let Err(error) = raise_read_ahead(&place) {
            eprintln!("bare: the kernel's read-ahead stays as it is: {error}");
        }
    });
    session.run()
}

fn raise_read_ahead(mountpoint: &Path) -> io::Result<()> {
    let device = std::fs::metadata(mountpoint)?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    std::fs::write(format!("/sys/class/bdi/{major}:{minor}/read_ahead_kb"), READ_AHEAD.to_string())
}
