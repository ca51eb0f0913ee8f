//! Other users, on a machine of their own: a private mount namespace in which /dev/fuse is open to everybody
//! and /etc/fuse.conf is the test's, and threads in it that have given up being root.
//!
//! The thread that makes the namespace, those it starts and their programs are in it, the rest of the test
//! program is not: mounts made there are seen by nobody else and end with it.

use nix::sched::CloneFlags;
use rustix::fs::{CWD, FileType, Gid, Mode, Uid};
use rustix::mount::MountPropagationFlags;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::thread;

/// Whom the tests take for ordinary users.
const USERS: std::ops::RangeInclusive<u32> = 1000..=1010;

/// A machine that several users share: a directory that each of them may enter, with the program under test.
pub struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    /// The program under test, where every user can run it.
    pub fn program(&self) -> PathBuf {
        self.dir.path().join("cwdfs")
    }

    /// A user's home.
    pub fn home(&self, uid: u32) -> PathBuf {
        let home = self.dir.path().join(format!("home-{uid}"));
        if !home.exists() {
            fs::create_dir(&home).expect("a home");
            chown(&home, Some(uid), Some(uid)).expect("chown");
        }
        home
    }
}

/// Runs `work` on a machine of its own, as root; `fuse_conf` is what its /etc/fuse.conf says.
pub fn on_own_machine<T: Send>(fuse_conf: &str, work: impl FnOnce(&Machine) -> T + Send) -> T {
    in_thread(|| {
        nix::sched::unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace: run as root");
        let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
        rustix::mount::mount_change("/", private).expect("mounts of our own");
        // Not below the repository, which may lie where other users cannot go.
        let dir = tempfile::Builder::new().prefix("cwdfs-machine-").tempdir_in("/tmp").expect("a directory");
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let machine = Machine { dir };
        let at = |name: &str| machine.dir.path().join(name);
        let device = fs::metadata("/dev/fuse").expect("/dev/fuse");
        let number = std::os::unix::fs::MetadataExt::rdev(&device);
        rustix::fs::mknodat(CWD, at("fuse"), FileType::CharacterDevice, Mode::empty(), number)
            .expect("mknod");
        fs::set_permissions(at("fuse"), fs::Permissions::from_mode(0o666)).expect("chmod");
        rustix::mount::mount_bind(at("fuse"), "/dev/fuse").expect("bind");
        fs::write(at("fuse.conf"), fuse_conf).expect("write");
        rustix::mount::mount_bind(at("fuse.conf"), "/etc/fuse.conf").expect("bind: fuse3 is installed?");
        fs::write(at("passwd"), accounts()).expect("write");
        rustix::mount::mount_bind(at("passwd"), "/etc/passwd").expect("bind");
        fs::write(machine.program(), "").expect("write");
        rustix::mount::mount_bind(super::world::binary(), machine.program()).expect("bind");
        let result = work(&machine);
        rustix::mount::unmount(machine.program(), rustix::mount::UnmountFlags::DETACH).expect("unmount");
        result
    })
}

/// The machine's accounts, and one for each user of the tests that has none: fusermount3 asks for the name.
fn accounts() -> String {
    let mut accounts = fs::read_to_string("/etc/passwd").expect("the accounts of this machine");
    for uid in USERS {
        let numbered = |line: &str| line.split(':').nth(2) == Some(&uid.to_string());
        if !accounts.lines().any(numbered) {
            accounts.push_str(&format!("cwdfs-{uid}:x:{uid}:{uid}::/:/bin/sh\n"));
        }
    }
    accounts
}

/// Runs `work` as this user and the group of its number, in the namespace of the caller.
pub fn as_user<T: Send>(uid: u32, work: impl FnOnce() -> T + Send) -> T {
    in_thread(|| {
        let (user, group) = (Uid::from_raw(uid), Gid::from_raw(uid));
        rustix::thread::set_thread_groups(&[]).expect("setgroups: run as root");
        rustix::thread::set_thread_res_gid(group, group, group).expect("setresgid");
        rustix::thread::set_thread_res_uid(user, user, user).expect("setresuid");
        work()
    })
}

/// On a thread of its own, whose credentials and mounts are its own; its panic is the caller's.
pub(super) fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let result = thread::scope(|scope| scope.spawn(work).join());
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Whether this path is on a file system that lets nobody see more than its mounting user.
pub fn is_closed(path: &Path) -> bool {
    fs::metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}
