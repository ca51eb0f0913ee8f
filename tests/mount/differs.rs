//! Where a mount differs from ext4: the README's table has a row for each of these tests.

use crate::support::user::as_user;
use crate::support::{Ran, World, sh};
use crate::twin::{capability, sys::Mapping};
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxFlags, XattrFlags, getxattr, setxattr};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::process::Command;
use std::time::{Duration, SystemTime};

#[test]
fn the_name_of_our_own_objects_is_taken_at_the_root_only() {
    let world = World::new("hidden-name");
    let mount = world.host("a").mount(&[]);
    assert_eq!(fs::metadata(mount.path(".cwdfs")).expect_err("hidden").kind(), ErrorKind::NotFound);
    for refused in [fs::create_dir(mount.path(".cwdfs")), fs::write(mount.path(".cwdfs"), "x")] {
        assert_eq!(refused.expect_err("it is ours").kind(), ErrorKind::PermissionDenied);
    }
    fs::create_dir_all(mount.path("below/.cwdfs")).expect("elsewhere it is a name like any other");
    mount.unmount();
    let mount = world.host("b").mount(&[]);
    assert!(fs::metadata(mount.path("below/.cwdfs")).expect("kept").is_dir());
    mount.unmount();
}

#[test]
fn an_access_time_is_kept_from_the_next_change_on() {
    let world = World::new("access-times");
    let mount = world.host("a").mount(&["--no-publish"]);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for name in ["read", "changed"] {
        fs::write(mount.path(name), "x").expect("write");
        let times = fs::FileTimes::new().set_accessed(old).set_modified(old);
        File::options().write(true).open(mount.path(name)).expect("open").set_times(times).expect("utimens");
    }
    mount.flush();
    mount.unmount();

    // A fresh mount, so that the bytes are not in the page cache.
    let mount = world.host("b").mount(&["--no-publish"]);
    for name in ["read", "changed"] {
        assert_eq!(fs::read(mount.path(name)).expect("read"), b"x");
    }
    assert!(fs::metadata(mount.path("read")).expect("stat").atime() > 1_000_000_000, "it was read");
    sh(mount.root(), "chmod 600 changed");
    mount.flush();
    mount.unmount();

    let mount = world.host("c").mount(&["--no-publish"]);
    let atime = |name: &str| fs::metadata(mount.path(name)).expect("stat").atime();
    assert_eq!(atime("read"), 1_000_000_000, "reading alone commits nothing");
    assert!(atime("changed") > 1_000_000_000, "the change took the access time along");
    mount.unmount();
}

#[test]
fn a_birth_time_is_not_shown() {
    let world = World::new("birth-time");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    let stat = rustix::fs::statx(CWD, mount.path("f"), AtFlags::empty(), StatxFlags::BTIME).expect("statx");
    assert_eq!(stat.stx_mask & StatxFlags::BTIME.bits(), 0, "the kernel does not ask a FUSE file system");
    let born = |root: &std::path::Path| {
        let mut value = [0; 64];
        let len = rustix::fs::getxattr(root.join("f"), "cwdfs.btime", &mut value[..])
            .expect("it is told otherwise");
        let text = String::from_utf8_lossy(&value[..len]).into_owned();
        let seconds: f64 = text.parse().expect("seconds");
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("now").as_secs_f64();
        assert!((now - 600.0..=now).contains(&seconds), "{text}");
        text
    };
    let at = born(mount.root());
    let set = rustix::fs::setxattr(mount.path("f"), "cwdfs.btime", b"1", rustix::fs::XattrFlags::empty());
    assert_eq!(set, Err(Errno::OPNOTSUPP));
    assert!(crate::support::tree::xattrs(&mount.path("f")).is_empty(), "it is in no list");
    sh(mount.root(), "echo more >> f && touch -d 2001-01-01 f && mv f g && mv g f");
    mount.unmount();
    let mount = world.host("b").mount(&[]);
    assert_eq!(born(mount.root()), at, "it stays, on another machine too");
    mount.unmount();
}

#[test]
fn what_is_refused_is_refused_with_the_errno_that_programs_fall_back_on() {
    let world = World::new("refused");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("f"), "content").expect("write");
    let unnamed = rustix::fs::open(mount.root(), OFlags::TMPFILE | OFlags::RDWR, Mode::RUSR);
    assert_eq!(unnamed.expect_err("O_TMPFILE").raw_os_error(), Errno::OPNOTSUPP.raw_os_error());
    let (from, to) =
        (File::open(mount.path("f")).expect("open"), File::create(mount.path("to")).expect("create"));
    assert_eq!(rustix::fs::ioctl_ficlone(&to, &from), Err(Errno::OPNOTSUPP), "FICLONE");
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(rustix::fs::fallocate(&to, mode, 0, 4096), Err(Errno::OPNOTSUPP), "{mode:?}");
    }
    drop((from, to));
    // cp falls back on copying by itself.
    sh(mount.root(), "cp --reflink=auto f copy && cmp f copy");
    let raw = r#"
import ctypes, errno, fcntl, os
libc = ctypes.CDLL(None, use_errno=True)
def refused(what, expected, call):
    try: result = call()
    except OSError as e: assert e.errno == expected, (what, e)
    else: assert result == -1 and ctypes.get_errno() == expected, (what, result, ctypes.get_errno())
here, f = os.open(".", os.O_RDONLY), os.open("swap", os.O_RDWR | os.O_CREAT, 0o600)
os.write(f, bytes(1 << 20))
refused("FIFREEZE", errno.EOPNOTSUPP, lambda: fcntl.ioctl(here, 0xC0045877, bytes(4)))
refused("FITRIM", errno.ENOTTY, lambda: fcntl.ioctl(here, 0xC0185879, bytes(24)))
refused("FIEMAP", errno.EOPNOTSUPP, lambda: fcntl.ioctl(f, 0xC020660B, bytes(32)))
refused("quotactl_fd", errno.ENOSYS, lambda: libc.syscall(443, here, 0x80000700, 0, 0))
os.system("mkswap swap > /dev/null 2>&1")
refused("swapon", errno.EINVAL, lambda: libc.swapon(b"swap", 0))
"#;
    fs::write(world.local("script").join("refused.py"), raw).expect("write");
    sh(mount.root(), &format!("python3 {}", world.local("script").join("refused.py").display()));
    mount.unmount();
}

#[test]
fn lsattr_shows_no_flags_and_chattr_can_set_none() {
    let world = World::new("chattr");
    let mount = world.host("a").mount(&[]);
    sh(mount.root(), "mkdir d && echo x > d/f && test \"$(lsattr d | tr -d -- '- ')\" = d/f");
    // Taking away what is not there is no error: scripts do that before they remove a tree.
    sh(mount.root(), "chattr -R -i -a d && lsattr -d d");
    let refused = Ran::of(Command::new("chattr").args(["+i", "d/f"]).current_dir(mount.root()));
    assert!(refused.code != Some(0) && refused.err.contains("not supported"), "{refused}");
    sh(mount.root(), "echo y >> d/f");
    mount.unmount();
}

/// What fallocate(2) reserves is still a hole: no promise that a later write fits.
#[test]
fn fallocate_reserves_nothing() {
    let world = World::new("reserve");
    let mount = world.host("a").mount(&[]);
    sh(mount.root(), "fallocate -l 5M f && test \"$(stat -c '%s %b' f)\" = '5242880 0'");
    mount.unmount();
}

#[test]
fn unaligned_direct_io_works() {
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    let world = World::new("direct");
    let mount = world.host("a").mount(&[]);
    let flags = OFlags::DIRECT.bits() as i32;
    let mut how = File::options();
    how.read(true).write(true).create(true).truncate(false).custom_flags(flags);
    let file = how.open(mount.path("f")).expect("open");
    file.write_all_at(b"three", 1).expect("no block of the disk has to be met");
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, 2).expect("read");
    assert_eq!(&bytes, b"hre");
    drop(file);
    mount.unmount();
}

/// What another machine changed is seen, but no watcher is told.
#[test]
fn inotify_is_silent_about_changes_by_others() {
    let world = World::new("inotify");
    let mount = world.host("a").mount(&["--no-publish"]);
    sh(mount.root(), "mkdir d && echo 1 > d/old");
    mount.flush();
    let follower = world.host("b").mount(&["--read-only"]);
    let script = r#"
import ctypes, os, select, struct, sys, time
ours, theirs = sys.argv[1:]
libc = ctypes.CDLL(None, use_errno=True)
def watch(root):
    fd = libc.inotify_init()
    assert libc.inotify_add_watch(fd, os.fsencode(root + "/d"), 0x100 | 0x40 | 0x80 | 0x200) > 0
    return fd
def names(fd):
    found = []
    while select.select([fd], [], [], 1)[0]:
        events, at = os.read(fd, 4096), 0
        while at < len(events):
            length = struct.unpack_from("iIII", events, at)[3]
            found.append(events[at + 16:at + 16 + length].rstrip(b"\0").decode())
            at += 16 + length
    return found
here, there = watch(ours), watch(theirs)
open(ours + "/d/new", "w").write("x")
os.rename(ours + "/d/old", ours + "/d/moved")
end = time.time() + 60
while not os.path.exists(theirs + "/d/moved"):
    assert time.time() < end, "the follower does not follow"
    time.sleep(0.2)
assert names(here) == ["new", "old", "moved"], "where it is done, a watcher is told"
assert names(there) == [], "elsewhere it is not"
"#;
    fs::write(world.local("script").join("watch.py"), script).expect("write");
    let mut watch = Command::new("python3");
    watch.arg(world.local("script").join("watch.py")).args([mount.root(), follower.root()]);
    Ran::of(&mut watch).ok();
    follower.unmount();
    mount.unmount();
}

/// The kernel hands the pages of such a mapping to the local file, and tells the daemon nothing.
#[test]
fn msync_of_a_file_that_is_being_read_past_the_daemon_does_not_wait() {
    let world = World::with_relay("msync");
    let mount = world.host("a").mount(&["--passthrough", "on", "--no-publish", "--timeout", "10m"]);
    crate::work::write_closed(&mount.path("f"), &crate::work::noise(9 << 20, 1)).expect("write");
    mount.flush();
    let reader = File::open(mount.path("f")).expect("open");
    world.relay().black_hole();
    let store = "import mmap, os; f = os.open('f', os.O_RDWR); m = mmap.mmap(f, 0); m[5000:5006] = b'mapped'; m.flush()
os.kill(os.getpid(), 9)";
    let mut command = Command::new("python3");
    let ended = command.args(["-c", store]).current_dir(mount.root()).status().expect("python3");
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&ended), Some(9), "msync returned");
    world.relay().heal();
    drop(reader);
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    assert_eq!(&fs::read(mount.path("f")).expect("read")[5000..5006], b"mapped", "but it commits soon");
    mount.unmount();
}

/// Handles of files (what NFS servers and backup programs keep) are good for the session's life, on every machine.
#[test]
fn file_handles_leases_and_watchers_are_as_on_a_local_disk() {
    let world = World::new("handles");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("f"), "by handle").expect("write");
    let script = r#"
import ctypes, fcntl, os, signal, sys
libc = ctypes.CDLL(None, use_errno=True)
kept, how = sys.argv[1:]
if how == "make":
    handle, mount = ctypes.create_string_buffer(136), ctypes.c_int()
    ctypes.c_uint.from_buffer(handle).value = 128
    assert libc.name_to_handle_at(-100, b"f", handle, ctypes.byref(mount), 0) == 0, ctypes.get_errno()
    open(kept, "wb").write(handle.raw)
    f = open("f")
    for kind in (fcntl.F_RDLCK, fcntl.F_WRLCK, fcntl.F_UNLCK): fcntl.fcntl(f, 1024, kind)
    signal.signal(signal.SIGIO, signal.SIG_IGN)
    fcntl.fcntl(os.open(".", os.O_RDONLY), 1026, 0x4)
    notes = libc.fanotify_init(0, 0)
    for flags in (1, 1 | 0x10, 1 | 0x100):
        assert libc.fanotify_mark(notes, flags, ctypes.c_ulonglong(0x20), -100, b"f") == 0, ctypes.get_errno()
    # By the file system's number, which a FUSE mount has none of.
    ids = libc.fanotify_init(0x200 | 0x400, 0)
    refused = libc.fanotify_mark(ids, 1 | 0x100, ctypes.c_ulonglong(0x100), -100, b"f")
    assert refused == -1 and ctypes.get_errno() == 19, ctypes.get_errno()
here = os.open(".", os.O_RDONLY)
fd = libc.open_by_handle_at(here, ctypes.create_string_buffer(open(kept, "rb").read()), os.O_RDONLY)
if how == "gone": assert fd == -1 and ctypes.get_errno() == 116, (fd, ctypes.get_errno())
else: assert os.read(fd, 100) == b"by handle", (fd, ctypes.get_errno())
"#;
    let local = world.local("script");
    fs::write(local.join("handles.py"), script).expect("write");
    let run = |root: &std::path::Path, how: &str| {
        sh(root, &format!("python3 {0}/handles.py {0}/handle {how}", local.display()));
    };
    run(mount.root(), "make");
    mount.unmount();
    let mount = world.host("b").mount(&[]);
    run(mount.root(), "open");
    fs::rename(mount.path("f"), mount.path("renamed")).expect("rename");
    run(mount.root(), "open");
    fs::remove_file(mount.path("renamed")).expect("unlink");
    fs::write(mount.path("f"), "another").expect("write");
    run(mount.root(), "gone");
    mount.unmount();
}

#[test]
fn set_id_bits_and_devices_are_kept_and_work_where_asked_for() {
    let world = World::new("suid-dev");
    let mount = world.host("a").mount(&[]);
    sh(mount.root(), "mknod null c 1 3 && chmod 666 null && cp /usr/bin/id id && chmod 4755 id");
    let refused = File::open(mount.path("null")).expect_err("nodev is the default");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    mount.flush();
    mount.unmount();
    let mount = world.host("b").mount(&["-o", "suid,dev", "--allow-other"]);
    fs::write(mount.path("null"), "gone").expect("the device works");
    let effective = sh(mount.root(), "setpriv --reuid 1234 --clear-groups ./id -u");
    assert_eq!(effective.trim(), "0", "the set-id bit works");
    mount.unmount();
}

/// The kernel sends the daemon what it sends before a write by that user: a setattr of nothing.
#[test]
fn a_chown_to_nobody_by_a_stranger_is_answered_though_it_would_take_set_gid() {
    use std::os::unix::fs::{PermissionsExt, chown};
    let world = World::new("chown-to-nobody");
    let mount = world.host("a").mount(&["--allow-other"]);
    let mode = |path: &std::path::Path| fs::metadata(path).expect("stat").mode() & 0o7777;
    let set_gid = |path: &std::path::Path| {
        fs::write(path, "x").expect("write");
        fs::set_permissions(path, fs::Permissions::from_mode(0o2644)).expect("chmod");
    };
    let (file, local) = (mount.path("f"), world.local("disk").join("f"));
    set_gid(&file);
    set_gid(&local);
    let refused = as_user(1001, || chown(&local, None, None)).expect_err("it would take set-gid");
    assert_eq!(refused.kind(), ErrorKind::PermissionDenied);
    as_user(1001, || chown(&file, None, None)).expect("it cannot be told from a write");
    assert_eq!(mode(&file), 0o2644, "but this is no write: nobody has it open");
    let open = File::open(&file).expect("open");
    as_user(1001, || chown(&file, None, None)).expect("it cannot be told from a write");
    assert_eq!(mode(&file), 0o644, "a bit without effect, as the group may not execute");
    drop(open);
    mount.unmount();
}

/// The kernel sends the daemon what it sends before a write that takes capabilities: their removal, a setattr of nothing.
#[test]
fn a_chown_to_nobody_by_root_of_an_open_file_takes_its_capabilities_only() {
    use std::os::unix::fs::{PermissionsExt, chown};
    const CAPABILITY: &str = "security.capability";
    let world = World::new("chown-to-nobody-by-root");
    let mount = world.host("a").mount(&[]);
    let local = world.local("disk");
    for (top, left) in [(local.as_path(), 0o755), (mount.root(), 0o6755)] {
        let path = top.join("f");
        let open = File::create(&path).expect("create");
        let mode = || fs::metadata(&path).expect("stat").mode() & 0o7777;
        let give = || {
            setxattr(&path, CAPABILITY, &capability(), XattrFlags::empty()).expect("set capabilities");
            fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).expect("chmod");
        };
        give();
        chown(&path, None, None).expect("a chown to nobody");
        assert_eq!(mode(), left);
        assert_eq!(getxattr(&path, CAPABILITY, &mut [0; 99]), Err(Errno::NODATA));
        // Without capabilities, or an open, it can be told.
        fs::set_permissions(&path, fs::Permissions::from_mode(0o6755)).expect("chmod");
        chown(&path, None, None).expect("a chown to nobody");
        assert_eq!(mode(), 0o755);
        drop(open);
        give();
        chown(&path, None, None).expect("a chown to nobody");
        assert_eq!(mode(), 0o755);
    }
    mount.unmount();
}

#[test]
fn a_whiteout_that_is_refused_moves_no_times() {
    let world = World::new("refused-whiteout");
    let (mount, local) = (world.host("a").mount(&[]), world.local("disk"));
    for (top, moves) in [(local.as_path(), true), (mount.root(), false)] {
        fs::create_dir_all(top.join("full/f")).expect("mkdir");
        fs::create_dir(top.join("moved")).expect("mkdir");
        let times = || fs::metadata(top).map(|m| (m.mtime(), m.mtime_nsec())).expect("stat");
        let before = times();
        // Longer than a tick of the clock that stamps files.
        std::thread::sleep(Duration::from_millis(20));
        let root = File::open(top).expect("open");
        let flags = rustix::fs::RenameFlags::WHITEOUT;
        let refused =
            rustix::fs::renameat_with(&root, "moved", &root, "full", flags).expect_err("it is not empty");
        assert_eq!(refused, rustix::io::Errno::NOTEMPTY);
        assert_eq!(times() != before, moves, "{}", top.display());
    }
    mount.unmount();
}

#[test]
fn sync_and_syncfs_do_not_wait_for_the_store() {
    let world = World::new("syncfs");
    let mount = world.host("a").mount(&["--durability", "fsync", "--commit-interval", "1h"]);
    // A new session's first commit may still be on its way, and would take the file along.
    mount.flush();
    fs::write(mount.path("f"), "x").expect("write");
    let root = File::open(mount.root()).expect("open");
    rustix::fs::syncfs(&root).expect("syncfs");
    let uncommitted = mount.status()["uncommitted"]["files"].as_u64().expect("a number");
    assert!(uncommitted > 0, "the kernel tells no FUSE daemon of a syncfs");
    drop(root);
    mount.flush();
    mount.unmount();
}

#[test]
fn a_store_through_a_mapping_moves_the_times_when_it_is_written_back() {
    let world = World::new("mapped-times");
    let mount = world.host("a").mount(&[]);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    let file = File::options().read(true).write(true).create_new(true).open(mount.path("f")).expect("create");
    file.set_len(4096).expect("truncate");
    let mapping = Mapping::new(file.as_fd(), 0, 4096, true).expect("map");
    file.set_times(fs::FileTimes::new().set_modified(old)).expect("utimens");
    mapping.store(0, b"stored").expect("store");
    let mtime = || fs::metadata(mount.path("f")).expect("stat").mtime();
    assert_eq!(mtime(), 1_000_000_000, "the kernel tells of a store when it writes the page back");
    mapping.sync().expect("msync");
    assert!(mtime() > 1_000_000_000, "msync wrote it back");
    drop((mapping, file));
    mount.unmount();
}

#[test]
fn a_write_to_a_fifo_moves_none_of_its_times() {
    let world = World::new("fifo-times");
    let mount = world.host("a").mount(&[]);
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    for (root, moves) in [(world.local("fifo"), true), (mount.root().to_owned(), false)] {
        let path = root.join("fifo");
        Ran::of(Command::new("mkfifo").arg(&path)).ok();
        let mut fifo = File::options().read(true).write(true).open(&path).expect("open");
        fifo.set_times(fs::FileTimes::new().set_modified(old)).expect("utimens");
        std::io::Write::write_all(&mut fifo, b"x").expect("write");
        assert_eq!(fs::metadata(&path).expect("stat").mtime() > 1_000_000_000, moves, "{}", path.display());
    }
    mount.unmount();
}
