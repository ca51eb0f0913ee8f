//! An ext4 to hold a mount against: made for the test in a file of the local disk, on a loop device.

use crate::support::World;
use rustix::mount::UnmountFlags;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::ran::Ran;

/// A mounted ext4, taken away when dropped; drop it before its world.
pub struct Ext4 {
    root: PathBuf,
}

impl Ext4 {
    /// Makes and mounts one of this many MiB. `world` has the directory that it lies in.
    pub fn new(world: &World, size: u64) -> Ext4 {
        let dir = world.local("ext4");
        let (image, root) = (dir.join("image"), dir.join("mnt"));
        fs::create_dir_all(&root).expect("a mount point");
        File::create(&image).and_then(|file| file.set_len(size << 20)).expect("an empty image");
        Ran::of(Command::new("mkfs.ext4").arg("-q").arg(&image).env("PATH", PATH)).ok();
        Ran::of(Command::new("mount").args(["-o", "loop"]).args([&image, &root])).ok();
        Ext4 { root }
    }

    /// Where it is mounted.
    pub fn root(&self) -> &Path {
        &self.root
    }
}

/// mkfs is where an ordinary user's PATH has no entry.
const PATH: &str = "/usr/sbin:/sbin:/usr/bin:/bin";

impl Drop for Ext4 {
    fn drop(&mut self) {
        if let Err(e) = rustix::mount::unmount(&self.root, UnmountFlags::DETACH) {
            eprintln!("unmount {}: {e}", self.root.display());
        }
    }
}
