//! Mounting and unmounting.
//!
//! Three ways, tried in this order: a mount that exists before it has a place (`fsopen`, `fsmount`,
//! `move_mount`), so that nothing appears at the mount point before it is served; mount(2), where a sandbox
//! does not let the first through; `fusermount3`, for who is not root.

pub mod wrap;

use super::{table, utab};
use rustix::fs::CWD;
use rustix::io::{Errno, FdFlags};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, MoveMountFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount,
};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use rustix::thread::{CapabilitySet, LinkNameSpaceType, move_into_link_name_space};
use std::ffi::OsString;
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

const DEVICE: &str = "/dev/fuse";

/// What is to be mounted.
#[derive(Debug, Clone)]
pub struct MountSpec {
    /// What the mount table shows as the source: the store.
    pub source: String,
    /// Absolute, without symlinks.
    pub mountpoint: PathBuf,
    /// Other users may enter.
    pub allow_other: bool,
    /// Read-only, nosuid, nodev and the like.
    pub flags: MountFlags,
}

/// Why nothing could be mounted; says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// There is no FUSE here.
    #[error(
        "{DEVICE}: {0}; load the module (modprobe fuse), or run the container with --device {DEVICE} --cap-add SYS_ADMIN"
    )]
    Device(io::Error),
    /// We may not, and the helper is missing.
    #[error(
        "mounting needs root (CAP_SYS_ADMIN) or fusermount3: {0}; install fuse3, or run the container with --cap-add SYS_ADMIN"
    )]
    Privilege(io::Error),
    /// The helper refused.
    #[error("fusermount3: {said}{advice}", said = .0, advice = helper_advice(.0))]
    Helper(String),
    /// The kernel refused.
    #[error("cannot mount at {}: {error}", .mountpoint.display())]
    Kernel { mountpoint: PathBuf, error: io::Error },
}

/// What to do about a refusal whose own words do not say it.
fn helper_advice(said: &str) -> &'static str {
    if said.contains("failed to open /dev/fuse") {
        "; run as root, or let every user open it (chmod 666 /dev/fuse)"
    } else if said.contains("not permitted") {
        "; run as root, and a container with --device /dev/fuse --cap-add SYS_ADMIN"
    } else {
        ""
    }
}

/// A FUSE connection and its mount, which may have no place yet.
#[derive(Debug)]
pub struct Prepared {
    /// The connection.
    pub device: OwnedFd,
    /// Where its mount is.
    pub place: Place,
}

/// Where a mount is.
#[derive(Debug)]
pub enum Place {
    /// A mount without a place.
    Detached(OwnedFd),
    /// At its mount point already.
    Attached,
}

/// Whether this process has CAP_SYS_ADMIN.
pub fn is_privileged() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
}

/// Makes a connection and its mount; without a place, where that is possible.
pub fn prepare(spec: &MountSpec) -> Result<Prepared, MountError> {
    if !is_privileged() {
        return with_helper(spec);
    }
    open_device().map_err(|error| MountError::Device(error.into()))?;
    match detached(spec) {
        Err(Errno::NOSYS | Errno::PERM) => {}
        made => return made.map_err(|error| spec.refused(error)),
    }
    match directly(spec) {
        Err(Errno::PERM) => with_helper(spec),
        made => made.map_err(|error| spec.refused(error)),
    }
}

impl Place {
    /// Puts the mount at its mount point.
    pub fn attach(self, spec: &MountSpec) -> Result<(), MountError> {
        match self {
            Place::Attached => Ok(()),
            Place::Detached(mount) => {
                move_mount(mount, "", CWD, &spec.mountpoint, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
                    .map_err(|error| spec.refused(error))
            }
        }
    }
}

/// A mount that no path leads to; for probing.
pub fn detached_for_probe() -> io::Result<Prepared> {
    let spec = MountSpec {
        source: "cwdfs-probe".into(),
        mountpoint: PathBuf::from("/"),
        allow_other: false,
        flags: MountFlags::NOSUID | MountFlags::NODEV,
    };
    Ok(detached(&spec)?)
}

impl MountSpec {
    fn refused(&self, error: Errno) -> MountError {
        MountError::Kernel { mountpoint: self.mountpoint.clone(), error: error.into() }
    }

    /// Key and value of each option that has one, for the kernel.
    fn options(&self, device: &OwnedFd) -> Vec<(&'static str, String)> {
        vec![
            ("fd", device.as_raw_fd().to_string()),
            ("rootmode", "40000".into()),
            ("user_id", rustix::process::getuid().as_raw().to_string()),
            ("group_id", rustix::process::getgid().as_raw().to_string()),
        ]
    }

    fn switches(&self) -> Vec<&'static str> {
        let other = self.allow_other.then_some("allow_other");
        std::iter::once("default_permissions").chain(other).collect()
    }
}

fn open_device() -> Result<OwnedFd, Errno> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(DEVICE, OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
}

fn detached(spec: &MountSpec) -> Result<Prepared, Errno> {
    let device = open_device()?;
    let config = fsopen("fuse", FsOpenFlags::FSOPEN_CLOEXEC)?;
    fsconfig_set_string(&config, "source", &spec.source)?;
    fsconfig_set_string(&config, "subtype", "cwdfs")?;
    for (key, value) in spec.options(&device) {
        fsconfig_set_string(&config, key, value)?;
    }
    for switch in spec.switches() {
        fsconfig_set_flag(&config, switch)?;
    }
    for (flag, name) in
        [(MountFlags::RDONLY, "ro"), (MountFlags::SYNCHRONOUS, "sync"), (MountFlags::DIRSYNC, "dirsync")]
    {
        if spec.flags.contains(flag) {
            fsconfig_set_flag(&config, name)?;
        }
    }
    fsconfig_create(&config)?;
    let mount = fsmount(&config, FsMountFlags::FSMOUNT_CLOEXEC, attributes(spec.flags))?;
    Ok(Prepared { device, place: Place::Detached(mount) })
}

/// The flags of one mount, as fsmount(2) takes them.
fn attributes(flags: MountFlags) -> MountAttrFlags {
    let pairs = [
        (MountFlags::RDONLY, MountAttrFlags::MOUNT_ATTR_RDONLY),
        (MountFlags::NOSUID, MountAttrFlags::MOUNT_ATTR_NOSUID),
        (MountFlags::NODEV, MountAttrFlags::MOUNT_ATTR_NODEV),
        (MountFlags::NOEXEC, MountAttrFlags::MOUNT_ATTR_NOEXEC),
        (MountFlags::NOATIME, MountAttrFlags::MOUNT_ATTR_NOATIME),
        (MountFlags::STRICTATIME, MountAttrFlags::MOUNT_ATTR_STRICTATIME),
        (MountFlags::NODIRATIME, MountAttrFlags::MOUNT_ATTR_NODIRATIME),
        (MountFlags::NOSYMFOLLOW, MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW),
    ];
    let wanted = pairs.into_iter().filter(|(flag, _)| flags.contains(*flag));
    wanted.fold(MountAttrFlags::empty(), |all, (_, attribute)| all | attribute)
}

fn directly(spec: &MountSpec) -> Result<Prepared, Errno> {
    let device = open_device()?;
    let pairs = spec.options(&device).into_iter().map(|(key, value)| format!("{key}={value}"));
    let switches = spec.switches().into_iter().map(str::to_owned);
    let data = pairs.chain(switches).collect::<Vec<_>>().join(",");
    let data = std::ffi::CString::new(data).map_err(|_| Errno::INVAL)?;
    rustix::mount::mount(&*spec.source, &spec.mountpoint, table::KIND, spec.flags, data.as_c_str())?;
    Ok(Prepared { device, place: Place::Attached })
}

/// Lets the set-uid helper mount and hand the connection over.
fn with_helper(spec: &MountSpec) -> Result<Prepared, MountError> {
    if !Path::new(DEVICE).exists() {
        return Err(MountError::Device(Errno::NOENT.into()));
    }
    let helper = |error: io::Error| MountError::Helper(error.to_string());
    let (ours, theirs) = UnixStream::pair().map_err(helper)?;
    // The helper's end travels as its standard input, so that no descriptor has to be made inheritable.
    let child = Command::new("fusermount3")
        .arg("-o")
        .arg(helper_options(spec))
        .arg("--")
        .arg(&spec.mountpoint)
        .env("_FUSE_COMMFD", "0")
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(MountError::Privilege)?;
    let device = receive(&ours);
    drop(ours);
    let output = child.wait_with_output().map_err(helper)?;
    match device {
        Ok(Some(device)) if output.status.success() => Ok(Prepared { device, place: Place::Attached }),
        Err(error) => Err(helper(error)),
        _ => {
            let said = String::from_utf8_lossy(&output.stderr);
            let said = said.trim().trim_start_matches("fusermount3: ");
            Err(MountError::Helper(said.to_owned()))
        }
    }
}

/// As the helper takes them; a comma in the source is escaped.
fn helper_options(spec: &MountSpec) -> OsString {
    let source = spec.source.replace('\\', "\\\\").replace(',', "\\,");
    let mut options = vec![format!("fsname={source}"), "subtype=cwdfs".into()];
    options.extend(spec.switches().into_iter().map(str::to_owned));
    let names = [
        (MountFlags::RDONLY, "ro"),
        (MountFlags::NOSUID, "nosuid"),
        (MountFlags::NODEV, "nodev"),
        (MountFlags::NOEXEC, "noexec"),
        (MountFlags::NOATIME, "noatime"),
        (MountFlags::SYNCHRONOUS, "sync"),
        (MountFlags::DIRSYNC, "dirsync"),
    ];
    let wanted = names.into_iter().filter(|(flag, _)| spec.flags.contains(*flag));
    options.extend(wanted.map(|(_, name)| name.to_owned()));
    options.join(",").into()
}

/// The descriptor that the helper sends; `None` when it ends without.
fn receive(socket: &UnixStream) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0_u8];
    loop {
        let flags = RecvFlags::CMSG_CLOEXEC;
        match recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, flags) {
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => break,
        }
    }
    Ok(control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    }))
}

/// How to take a mount away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// Fails with EBUSY while a process holds it.
    IfIdle,
    /// Away from the tree at once; those who hold it keep it until they let go.
    Detach,
}

/// Unmounts what is at `mountpoint`, if the mount table shows `device` (`major:minor`) topmost there; `false`
/// when it does not.
pub fn unmount(mountpoint: &Path, device: &str, how: Unmount) -> io::Result<bool> {
    if table::at(mountpoint)?.is_none_or(|m| m.device != device) {
        return Ok(false);
    }
    let flags = match how {
        Unmount::IfIdle => UnmountFlags::NOFOLLOW,
        Unmount::Detach => UnmountFlags::DETACH | UnmountFlags::NOFOLLOW,
    };
    match rustix::mount::unmount(mountpoint, flags) {
        Ok(()) => {
            if let Err(error) = utab::remove(mountpoint) {
                tracing::warn!(%error, "the table of mount(8) still has the mount");
            }
            Ok(true)
        }
        Err(Errno::PERM) => helper_unmount(mountpoint, how).map(|()| true),
        Err(error) => Err(error.into()),
    }
}

/// Takes away what is topmost at a mount point if it is the mount that `spec` asked for.
pub fn take_away_ours(spec: &MountSpec) -> io::Result<()> {
    let ours = |mounted: &table::Mounted| mounted.is_ours() && mounted.source == spec.source;
    match table::at(&spec.mountpoint)?.filter(ours) {
        Some(mounted) => unmount(&spec.mountpoint, &mounted.device, Unmount::Detach).map(drop),
        None => Ok(()),
    }
}

/// Gives a mount other flags, and its file system `ro` or `rw`. EBUSY where it shall be read-only and files are
/// open for writing.
pub fn remount(mountpoint: &Path, flags: MountFlags) -> io::Result<()> {
    Ok(rustix::mount::mount_remount(mountpoint, flags, c"")?)
}

/// Enters another mount namespace, given as a file such as `/proc/PID/ns/mnt`; nothing else may run yet.
pub fn enter_namespace(path: &Path) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    Ok(move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Mount))?)
}

/// Gives memory that is free in this process back to the system, where the allocator keeps it for itself.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it touches nothing but what is free, under the allocator's own locks.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Keeps the allocator from holding several times what is in use: all threads share a few arenas (by itself it makes
/// eight for each processor), and large buffers go back to the system when they are free. To be called before there are
/// threads.
pub fn keep_memory_together() {
    #[cfg(target_env = "gnu")]
    {
        // Above the 4 MiB that a cold read fetches at once: mapped anew, each would have all its pages faulted in.
        const LARGE: libc::c_int = (4 << 20) + (64 << 10);
        // What a reader has on its way, and a writer: given back each time, it would be faulted in for each buffer. A mount
        // that rests gives it back ([`give_memory_back`]).
        const FREE: libc::c_int = 32 << 20;
        // SAFETY: all set numbers in the allocator, and no other thread allocates yet.
        unsafe {
            libc::mallopt(libc::M_ARENA_MAX, 2);
            // Set by hand it stays: by itself it rises with each large buffer that is freed.
            libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
            libc::mallopt(libc::M_TRIM_THRESHOLD, FREE);
        }
    }
}

/// A descriptor that whoever started this program left open for it. To be called before anything else opens
/// descriptors, and once for each number.
pub fn inherited(number: RawFd) -> io::Result<OwnedFd> {
    // What it points to may have no name: the link itself is looked at.
    if std::fs::symlink_metadata(format!("/proc/self/fd/{number}")).is_err() {
        return Err(Errno::BADF.into());
    }
    // SAFETY: it is open, and as nothing was opened yet that stays open, nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(number) };
    rustix::io::fcntl_setfd(&fd, FdFlags::CLOEXEC)?;
    Ok(fd)
}

fn helper_unmount(mountpoint: &Path, how: Unmount) -> io::Result<()> {
    let lazy = (how == Unmount::Detach).then_some("-z");
    let output = Command::new("fusermount3").arg("-u").args(lazy).arg("--").arg(mountpoint).output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    // The helper says so in words only.
    let busy = said.contains("busy");
    Err(if busy { Errno::BUSY.into() } else { io::Error::other(format!("fusermount3: {said}")) })
}

/// Raises how far the kernel reads ahead on the device `major:minor`, in KiB; needs root.
pub fn raise_read_ahead(device: &str, kib: u32) -> io::Result<()> {
    std::fs::write(format!("/sys/class/bdi/{device}/read_ahead_kb"), kib.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Empty;
    impl fuser::Filesystem for Empty {}

    /// A test that cannot mount has not passed.
    fn needs_mounts() {
        assert!(is_privileged() && Path::new(DEVICE).exists(), "this test needs root and {DEVICE}");
    }

    fn spec(mountpoint: &Path) -> MountSpec {
        MountSpec {
            source: "file:///a, b".into(),
            mountpoint: mountpoint.canonicalize().expect("it is there"),
            allow_other: true,
            flags: MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME,
        }
    }

    /// Tries again for a moment while it is busy: a program that another test starts has this one's descriptors too,
    /// that of the mount among them, until its execve(2).
    fn idle(unmount: impl Fn() -> io::Result<bool>) -> io::Result<bool> {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(10);
        loop {
            match unmount() {
                Err(error)
                    if error.raw_os_error() == Some(libc::EBUSY) && std::time::Instant::now() < end =>
                {
                    std::thread::sleep(std::time::Duration::from_millis(5));
                }
                done => return done,
            }
        }
    }

    /// Mounts with `way`, shows that it is there under its name, unmounts and shows that it is gone.
    fn comes_and_goes(way: fn(&MountSpec) -> Result<Prepared, MountError>, appears_at_once: bool) {
        let dir = tempfile::tempdir().expect("a directory");
        let spec = spec(dir.path());
        let at = || table::at(&spec.mountpoint).expect("the mount table");
        let Prepared { device, place } = way(&spec).expect("a mount");
        assert_eq!(at().is_some(), appears_at_once);
        let config = fuser::Config::default();
        let session = fuser::Session::from_fd(Empty, device, fuser::SessionACL::All, config).expect("hello");
        let served = std::thread::spawn(move || session.run());
        place.attach(&spec).expect("it gets its place");
        let mounted = at().expect("it is mounted");
        assert_eq!((mounted.kind.as_str(), mounted.source.as_str()), (table::KIND, spec.source.as_str()));
        assert!(!unmount(&spec.mountpoint, "0:0", Unmount::IfIdle).expect("asks only the table"), "not ours");
        assert!(idle(|| unmount(&spec.mountpoint, &mounted.device, Unmount::IfIdle)).expect("it is idle"));
        assert_eq!(at(), None);
        served.join().expect("no panic").expect("the loop ends well");
        assert!(!unmount(&spec.mountpoint, &mounted.device, Unmount::IfIdle).expect("asks only the table"));
    }

    #[test]
    fn a_mount_appears_only_when_it_gets_its_place() {
        needs_mounts();
        comes_and_goes(|spec| detached(spec).map_err(|e| spec.refused(e)), false);
    }

    #[test]
    fn the_older_system_call_works_too() {
        needs_mounts();
        comes_and_goes(|spec| directly(spec).map_err(|e| spec.refused(e)), true);
    }

    #[test]
    fn the_helper_hands_the_connection_over() {
        needs_mounts();
        comes_and_goes(with_helper, true);
    }

    #[test]
    fn the_helpers_refusal_is_passed_on() {
        needs_mounts();
        let spec = MountSpec { mountpoint: PathBuf::from("/no/such/place"), ..spec(Path::new("/")) };
        let error = with_helper(&spec).expect_err("there is no such directory").to_string();
        assert!(error.contains("/no/such/place"), "{error}");
        assert!(!error.contains("fusermount3: fusermount3"), "{error}");
        let closed = MountError::Helper("failed to open /dev/fuse: Permission denied".into()).to_string();
        assert!(closed.contains("chmod 666 /dev/fuse"), "{closed}");
    }
}
