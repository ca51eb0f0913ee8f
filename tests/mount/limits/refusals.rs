//! Sizes of extended attributes, mounts that may not be written, and descriptors that run out.

use crate::support::way::{Way, comes_back, no_error_logged};
use crate::support::{Disk, Story, World, full, same_as_ext4, sh};
use crate::work::noise;
use rustix::fs::{AtFlags, CWD, FileType, Mode, Timestamps, XattrFlags};
use rustix::process::{Resource, Rlimit};
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

fn set(path: &Path, name: &str, len: usize) -> rustix::io::Result<()> {
    rustix::fs::setxattr(path, name, &vec![b'v'; len], XattrFlags::empty())
}

#[test]
fn attributes_that_are_too_large_get_ext4s_errors() {
    let way = Way::drawn("xattr-sizes")[0];
    let world = World::with_relay("xattr-sizes");
    let options = way.options(&["--no-publish"]);
    let mount = same_as_ext4(&world, &options, |dir, story| {
        let path = dir.join("f");
        fs::write(&path, "x").expect("write");
        for len in [249, 250, 251, 4096] {
            story.call(&format!("a name of 5 + {len}"), set(&path, &format!("user.{}", "n".repeat(len)), 1));
        }
        story.call("a name of nothing", set(&path, "user.", 1));
        story.call("no name", set(&path, "", 1));
        story.call("a value of 1,000", set(&path, "user.v", 1000));
        story.call("a value of 65,537", set(&path, "user.large", 65537));
        for room in [0, 1, 999, 1000, 1001] {
            let mut value = vec![0; room];
            story.call(&format!("read into {room}"), rustix::fs::getxattr(&path, "user.v", &mut value[..]));
        }
        let mut names = [0; 100];
        story.call("a list that is too short", rustix::fs::listxattr(&path, &mut names[..]));
        let mut none = [0; 0];
        story.call("its length", rustix::fs::listxattr(&path, &mut none[..]));
    });
    // ext4 keeps 4 KiB in all; here a value has what the kernel takes, and the names what it can list.
    let path = mount.path("large");
    fs::write(&path, "x").expect("write");
    for n in 0..3 {
        set(&path, &format!("user.v{n}"), 65536).expect("64 KiB");
    }
    fs::write(mount.path("many"), "x").expect("write");
    let name = |n: usize| format!("user.{n:0>245}");
    let kept = (0..300).take_while(|n| set(&mount.path("many"), &name(*n), 1).is_ok()).count();
    assert_eq!(kept, 65536 / 251, "names of 250 bytes and their ends");
    let more = set(&mount.path("many"), &name(kept), 1).expect_err("a list of them would be too long");
    assert_eq!(more, rustix::io::Errno::NOSPC);
    set(&mount.path("many"), &name(0), 100).expect("one that is there can be changed");
    comes_back(&world, mount, "b", &options).unmount();
}

/// Every call that would change something.
fn change_everything(dir: &Path, story: &mut Story) {
    let at = |name: &str| dir.join(name);
    story.note("create", File::create_new(at("new")).map(drop));
    story.note("open to write", File::options().write(true).open(at("f")).map(drop));
    story.note("open to append", File::options().append(true).open(at("f")).map(drop));
    story.note("truncating open", File::create(at("f")).map(drop));
    story.call(
        "truncate",
        rustix::fs::open(at("f"), rustix::fs::OFlags::CLOEXEC, Mode::empty())
            .and_then(|f| rustix::fs::ftruncate(f, 0)),
    );
    story.note("mkdir", fs::create_dir(at("new")));
    story.note("mkdir of a name that is there", fs::create_dir(at("d")));
    story.call("mknod", rustix::fs::mknodat(CWD, at("new"), FileType::Fifo, Mode::RUSR, 0));
    story.note("symlink", symlink("x", at("new")));
    story.note("link", fs::hard_link(at("f"), at("new")));
    story.note("rename", fs::rename(at("f"), at("new")));
    story.note("unlink", fs::remove_file(at("f")));
    story.note("unlink of nothing", fs::remove_file(at("nothing")));
    story.note("rmdir", fs::remove_dir(at("d")));
    story.note("chmod", fs::set_permissions(at("f"), fs::Permissions::from_mode(0o600)));
    story.note("chown", std::os::unix::fs::chown(at("f"), Some(7), Some(7)));
    let time = rustix::fs::Timespec { tv_sec: 5, tv_nsec: 5 };
    let times = Timestamps { last_access: time, last_modification: time };
    story.call("utimens", rustix::fs::utimensat(CWD, at("f"), &times, AtFlags::empty()));
    story.call("setxattr", set(&at("f"), "user.a", 1));
    story.call("removexattr", rustix::fs::removexattr(at("f"), "user.there"));
    story.note("read", fs::read_to_string(at("f")));
    story.call("readable", rustix::fs::access(at("f"), rustix::fs::Access::READ_OK));
    story.call("writable", rustix::fs::access(at("f"), rustix::fs::Access::WRITE_OK));
}

#[test]
fn on_a_mount_that_is_read_only_every_change_is_erofs_as_on_ext4() {
    let world = World::new("erofs");
    let disk = Disk::ext4(&world.local("ext4"), "16M");
    let mount = world.host("a").mount(&[]);
    for dir in [disk.path(), mount.root()] {
        fs::write(dir.join("f"), "content").expect("write");
        fs::create_dir(dir.join("d")).expect("mkdir");
        set(&dir.join("f"), "user.there", 3).expect("setxattr");
    }
    mount.unmount();
    sh(disk.path(), "mount -o remount,ro .");
    let (mut theirs, mut ours) = (Story::default(), Story::default());
    change_everything(disk.path(), &mut theirs);
    let mount = world.host("b").mount(&["--read-only"]);
    change_everything(mount.root(), &mut ours);
    mount.unmount();
    assert_eq!(theirs, ours, "left: ext4, right: a follower");

    // A writer's mount that mount(8) makes read-only afterwards.
    let mount = world.host("c").mount(&[]);
    let mut ours = Story::default();
    rustix::mount::mount_remount(
        mount.root(),
        rustix::mount::MountFlags::BIND | rustix::mount::MountFlags::RDONLY,
        "",
    )
    .expect("remount");
    change_everything(mount.root(), &mut ours);
    assert_eq!(theirs, ours, "left: ext4, right: remounted");
    mount.unmount();
}

#[test]
fn a_thousand_files_are_open_at_once() {
    let count = if full() { 10_000 } else { 1000 };
    for way in Way::drawn("open-files") {
        let world = World::with_relay(&format!("open-files-{way}"));
        let options = way.options(&["--no-publish"]);
        let mount = world.host("a").mount(&options);
        let path = |n: usize| mount.path(format!("f{n}"));
        // Every tenth is too large for memory.
        let content = |n: usize| noise(if n.is_multiple_of(10) { 300_000 } else { 1000 + n }, n as u64);
        let files: Vec<File> = (0..count)
            .map(|n| {
                let file =
                    File::options().read(true).write(true).create_new(true).open(path(n)).expect("create");
                file.write_all_at(&content(n), 0).expect("write");
                file
            })
            .collect();
        for (n, file) in files.iter().enumerate().rev() {
            let mut bytes = vec![0; content(n).len()];
            file.read_exact_at(&mut bytes, 0).expect("read");
            assert!(bytes == content(n), "file {n} differs");
            if n % 3 == 0 {
                fs::remove_file(path(n)).expect("unlink");
                file.write_all_at(b"still there", 7).expect("write to a deleted file");
            }
        }
        drop(files);
        let mount = comes_back(&world, mount, "b", &options);
        assert_eq!(fs::read_dir(mount.root()).expect("list").count(), count - count.div_ceil(3));
        mount.unmount();
    }
}

/// Large files have a file of their own in the cache, each with a descriptor of the daemon's.
#[test]
fn a_daemon_without_descriptors_refuses_what_it_cannot_keep_and_loses_nothing() {
    let world = World::with_relay("descriptors");
    let options = ["--no-publish", "--durability", "fsync", "--commit-interval", "1h"];
    let mount = world.host("a").mount(&options);
    let used =
        fs::read_dir(format!("/proc/{}/fd", mount.pid().as_raw_nonzero())).expect("list").count() as u64;
    let limit = |most: u64| {
        let old = rustix::process::getrlimit(Resource::Nofile);
        let new = Rlimit { current: Some(most), maximum: old.maximum };
        rustix::process::prlimit(Some(mount.pid()), Resource::Nofile, new).expect("prlimit");
    };
    limit(used + 30);
    let path = |n: u64| mount.path(format!("f{n}"));
    let mut kept = Vec::new();
    let mut refused = Vec::new();
    let mut open = Vec::new();
    for n in 0..100 {
        let done = File::create(path(n)).and_then(|file| {
            file.write_all_at(&noise(400_000, n), 0)?;
            open.push(file);
            Ok(())
        });
        match done {
            Ok(()) => kept.push(n),
            Err(error) => refused.push(error.raw_os_error().expect("a number")),
        }
    }
    println!("{} files were taken, {} refused with {:?}", kept.len(), refused.len(), refused.first());
    let allowed = [rustix::io::Errno::NFILE, rustix::io::Errno::MFILE].map(|errno| errno.raw_os_error());
    assert!(refused.iter().all(|errno| allowed.contains(errno)), "refused with {refused:?}");
    assert!(kept.len() >= 10, "only {} files were taken", kept.len());
    fs::write(mount.path("small"), "what needs no descriptor works").expect("write");
    drop(open);
    limit(4096);
    mount.wait_status("the daemon answers again", Duration::from_secs(30), |_| true);
    fs::write(path(1000), noise(400_000, 1000)).expect("there are descriptors again");
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    for n in kept.into_iter().chain([1000]) {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(400_000, n), "f{n} differs");
    }
    no_error_logged(&mount);
    mount.unmount();
}
