//! A machine whose power goes: a disk that has only what was synced, and the boot after that.

use super::Disk;
use super::user::in_thread;
use nix::sched::CloneFlags;
use rustix::mount::MountPropagationFlags;
use std::path::Path;

/// Where the kernel tells which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Runs `work` as if after a reboot: in mounts of its own, in which the kernel tells another boot id. Mounts made there
/// are seen by nobody else and end with it.
pub fn after_a_reboot<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("mounts of our own: run as root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("mounts of our own");
        let id = tempfile::NamedTempFile::new().expect("a file");
        let digits = format!("{:032x}\n", rand::random::<u128>());
        std::fs::write(id.path(), digits).expect("another boot id");
        rustix::mount::mount_bind(id.path(), BOOT_ID).expect("bind");
        work()
    })
}

/// Syncs some of the files below a directory to the disk, as the kernel does whenever it likes: those that `pick`
/// picks.
pub fn sync_some(dir: &Path, pick: &mut dyn FnMut() -> bool) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => sync_some(&path, pick),
            Ok(kind) if kind.is_file() && pick() => {
                // One that is gone meanwhile needs no sync.
                if let Ok(file) = std::fs::File::open(&path) {
                    let _ = file.sync_data();
                }
            }
            _ => {}
        }
    }
}

impl Disk {
    /// What would be left of this disk if the power went at this moment, as a disk of its own in another directory.
    ///
    /// What the file system has not handed to its block device is not in the image: with this disk's options, only
    /// what was synced, and what the kernel has written back in the meantime.
    pub fn after_power_loss(&self, dir: &Path) -> Disk {
        std::fs::create_dir_all(dir.join("at")).expect("a mount point");
        super::sh(
            dir,
            &format!("cp --sparse=always '{}' image && mount -o {LAZILY} image at", self.image().display()),
        );
        Disk::mounted(dir)
    }
}

/// Commits of the journal only where somebody syncs, and no help for programs that forget to.
pub const LAZILY: &str = "loop,commit=600,noauto_da_alloc";
