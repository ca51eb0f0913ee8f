//! Whether files may be opened in passthrough mode, found out by trying it on a connection of its own whose
//! mount has no place.

use super::sys;
use fuser::{BackingId, Config, Filesystem, InitFlags, KernelConfig, Request, SessionACL};
use std::fmt;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

/// The type of a tmpfs, as statfs(2) shows it.
const TMPFS: rustix::fs::FsWord = 0x0102_1994;

/// Whether the kernel, our privileges and the cache's file system allow passthrough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passthrough {
    /// They do, with this stacking depth (2 on an overlay, else 1).
    Available { depth: u32 },
    /// They do not, and why.
    Unavailable(String),
}

impl Passthrough {
    /// The stacking depth to ask of the kernel; 0 without passthrough.
    pub fn depth(&self) -> u32 {
        match self {
            Passthrough::Available { depth } => *depth,
            Passthrough::Unavailable(_) => 0,
        }
    }
}

impl fmt::Display for Passthrough {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Passthrough::Available { .. } => write!(f, "on"),
            Passthrough::Unavailable(why) => write!(f, "off ({why})"),
        }
    }
}

/// Tries to register a file of `cache_dir` as a backing file.
pub fn passthrough(cache_dir: &Path) -> Passthrough {
    if !sys::is_privileged() {
        return Passthrough::Unavailable("it needs CAP_SYS_ADMIN".into());
    }
    match on_tmpfs(cache_dir) {
        Ok(false) => {}
        Ok(true) => return Passthrough::Unavailable("the cache directory is a tmpfs".into()),
        Err(error) => return Passthrough::Unavailable(format!("{}: {error}", cache_dir.display())),
    }
    let mut refused = String::new();
    for depth in [1, 2] {
        match attempt(cache_dir, depth) {
            Ok(()) => return Passthrough::Available { depth },
            Err(error) => refused = error.to_string(),
        }
    }
    Passthrough::Unavailable(format!("the kernel refuses it: {refused}"))
}

fn on_tmpfs(dir: &Path) -> io::Result<bool> {
    Ok(rustix::fs::statfs(dir)?.f_type == TMPFS)
}

fn attempt(cache_dir: &Path, depth: u32) -> io::Result<()> {
    let sys::Prepared { device, place } = sys::detached_for_probe()?;
    let session = fuser::Session::from_fd(Probe { depth }, device, SessionACL::All, Config::default())?;
    let file = tempfile::tempfile_in(cache_dir)?;
    // The number is not given back: the connection ends here, and with it all its numbers.
    BackingId::create_raw(session.as_fd(), &file)?;
    drop(session);
    drop(place);
    Ok(())
}

/// A file system that only says hello.
struct Probe {
    depth: u32,
}

impl Filesystem for Probe {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        let refused = |what: &str| io::Error::other(format!("no {what} in this kernel"));
        config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| refused("FUSE passthrough"))?;
        config.set_max_stack_depth(self.depth).map_err(|_| refused("stacking"))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tmpfs_is_refused_and_says_so() {
        let dir = Path::new("/dev/shm");
        let ready = sys::is_privileged() && on_tmpfs(dir).unwrap_or(false);
        assert!(ready, "this test needs root and a tmpfs at /dev/shm");
        assert_eq!(passthrough(dir), Passthrough::Unavailable("the cache directory is a tmpfs".into()));
    }

    #[test]
    fn the_probe_leaves_no_mount_behind() {
        let before = super::super::table::all().expect("the mount table").len();
        let dir = tempfile::tempdir().expect("a directory");
        let found = passthrough(dir.path());
        assert!(matches!(&found, Passthrough::Available { depth: 1 | 2 } | Passthrough::Unavailable(_)));
        let sources = super::super::table::all().expect("the mount table");
        assert!(sources.iter().all(|m| m.source != "cwdfs-probe"), "{before} mounts before: {sources:?}");
    }
}
