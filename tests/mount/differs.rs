//! Where a mount differs from ext4: the README's table has a row for each of these tests.

use crate::support::{World, sh};
use crate::twin::sys::Mapping;
use rustix::fs::{AtFlags, CWD, FallocateFlags, Mode, OFlags, StatxFlags};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
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
    let flags = rustix::fs::ioctl_getflags(&from).expect_err("chattr's flags");
    assert!([Errno::OPNOTSUPP, Errno::NOTTY].contains(&flags), "{flags}");
    for mode in [FallocateFlags::COLLAPSE_RANGE, FallocateFlags::INSERT_RANGE] {
        assert_eq!(rustix::fs::fallocate(&to, mode, 0, 4096), Err(Errno::OPNOTSUPP), "{mode:?}");
    }
    drop((from, to));
    // cp falls back on copying by itself.
    sh(mount.root(), "cp --reflink=auto f copy && cmp f copy");
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

#[test]
fn sync_and_syncfs_do_not_wait_for_the_store() {
    let world = World::new("syncfs");
    let mount = world.host("a").mount(&["--durability", "fsync", "--commit-interval", "1h"]);
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
