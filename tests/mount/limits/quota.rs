//! `--quota`: what counts is what du shows, what does not fit is EDQUOT, and what was accepted stays.

use crate::support::mount::Mount;
use crate::support::way::{Way, comes_back, no_error_logged};
use crate::support::{Ran, World, sh};
use crate::work::{noise, write_closed};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;

const MIB: u64 = 1 << 20;

/// What counts, as the status says.
fn used(mount: &Mount<'_>) -> u64 {
    mount.status()["quota"]["used"].as_u64().expect("a number")
}

/// The status, du and df say the same.
#[track_caller]
fn all_agree(mount: &Mount<'_>, limit: u64) {
    mount.flush();
    let du: u64 = sh(mount.root(), "du -s -B1 . | cut -f1").trim().parse().expect("a number");
    assert_eq!(du, used(mount), "du, and the status");
    assert_eq!(mount.status()["quota"]["limit"], limit);
    let space = rustix::fs::statvfs(mount.root()).expect("statfs");
    assert_eq!(space.f_blocks * space.f_frsize, limit, "df's size");
    assert_eq!(space.f_bavail * space.f_frsize, limit.saturating_sub(du), "df's free space");
}

#[track_caller]
fn refused<T: std::fmt::Debug>(result: std::io::Result<T>) {
    let error = result.expect_err("it does not fit");
    assert_eq!(error.raw_os_error(), Some(Errno::DQUOT.raw_os_error()), "{error}");
}

#[test]
fn a_quota_counts_what_du_shows_and_survives_a_remount() {
    for way in Way::drawn("quota-counts") {
        let world = World::with_relay(&format!("quota-counts-{way}"));
        let options = way.options(&["--quota", "40M", "--no-publish"]);
        let mount = world.host("a").mount(&options);
        all_agree(&mount, 40 * MIB);
        sh(
            mount.root(),
            "mkdir -p a/b/c && for i in $(seq 30); do head -c $((i * 777)) /dev/urandom > a/b/$i; done
             ln a/b/30 a/link && ln -s $(printf 't%.0s' $(seq 300)) a/symlink && mkfifo a/fifo
             head -c 9M /dev/urandom > large && truncate -s 1G sparse && printf x >> sparse
             cp --reflink=auto large copy && fallocate -p -o 1M -l 3M copy && truncate -s 2M large
             setfattr -n user.a -v b a/b/1 && mv a/b/2 a/moved && rm a/b/3 && rmdir a/b/c",
        );
        all_agree(&mount, 40 * MIB);
        let mount = comes_back(&world, mount, "b", &options);
        all_agree(&mount, 40 * MIB);
        sh(mount.root(), "rm -r a large sparse copy");
        all_agree(&mount, 40 * MIB);
        mount.unmount();
    }
}

#[test]
fn what_does_not_fit_is_edquot_and_nothing_accepted_is_lost() {
    for way in Way::drawn("quota-refuses") {
        let world = World::with_relay(&format!("quota-refuses-{way}"));
        let options = way.options(&["--quota", "8M", "--no-publish"]);
        let mount = world.host("a").mount(&options);
        let at = |name: &str| mount.path(name);
        write_closed(&at("kept"), &noise(5 << 20, 1)).expect("it fits");
        refused(write_closed(&at("too-large"), &noise(4 << 20, 2)));
        fs::remove_file(at("too-large")).expect("unlink");
        let both = File::options().read(true).write(true).open(at("kept")).expect("open");
        for n in 0..3 {
            both.write_all_at(&noise(5 << 20, 3 + n), 0).expect("an overwrite adds nothing");
        }
        // Replacing a file by truncation, as shells do, needs no room for both.
        write_closed(&at("again"), &noise(2 << 20, 7)).expect("it fits");
        write_closed(&at("again"), &noise(2 << 20, 8)).expect("it fits again");
        let reserve = rustix::fs::fallocate(&both, rustix::fs::FallocateFlags::empty(), 0, 9 << 20);
        refused(reserve.map_err(Into::into));
        let copy = Ran::of(std::process::Command::new("cp").args([at("kept"), at("copy")]));
        assert_ne!(copy.code, Some(0), "{copy}");
        copy.says(&["quota"]);
        fs::remove_file(at("copy")).expect("unlink");

        // To the brim: then only what adds nothing works.
        let mut brim = File::create(at("brim")).expect("create");
        while brim.write_all(&[5; 4096]).is_ok() {}
        drop(brim);
        refused(fs::create_dir(at("dir")));
        fs::write(at("empty"), "").expect("an empty file takes nothing");
        fs::rename(at("empty"), at("renamed")).expect("rename");
        let full = rustix::fs::statvfs(mount.root()).expect("statfs");
        assert_eq!(full.f_bavail, 0, "df shows that it is full");
        sh(mount.root(), "fallocate -p -o 0 -l 1M kept && mkdir dir && head -c 500K /dev/urandom > dir/f");
        all_agree(&mount, 8 * MIB);
        drop(both);
        let mount = comes_back(&world, mount, "b", &options);
        mount.unmount();

        // A smaller one refuses, and takes nothing away.
        let mount = world.host("b").mount(&way.options(&["-o", "quota=1M"]));
        assert!(used(&mount) > MIB);
        assert_eq!(rustix::fs::statvfs(mount.root()).expect("statfs").f_bavail, 0);
        assert!(fs::read(mount.path("again")).expect("read") == noise(2 << 20, 8));
        refused(write_closed(&mount.path("new"), b"x"));
        let file = File::options().write(true).open(mount.path("again")).expect("open");
        file.write_all_at(b"what is there can be changed", 100).expect("write");
        drop(file);
        sh(mount.root(), "rm kept again brim");
        write_closed(&mount.path("new"), b"x").expect("there is room again");
        no_error_logged(&mount);
        mount.unmount();
    }
}

/// Stores through a mapping cannot be refused, and are not dropped; and a file that was deleted is not the session's.
#[test]
fn mapped_pages_and_deleted_files_are_not_lost_to_a_quota() {
    let world = World::with_relay("quota-mapped");
    let mount = world.host("a").mount(&["--quota", "1M", "--no-publish"]);
    let script = r#"
import mmap, os
f = os.open("m", os.O_RDWR | os.O_CREAT)
os.ftruncate(f, 4 << 20)
m = mmap.mmap(f, 4 << 20)
for page in range(0, 4 << 20, 4096): m[page:page + 6] = b"stored"
m.flush()
d = os.open("d", os.O_RDWR | os.O_CREAT)
os.unlink("d")
assert os.pwrite(d, b"x" * (2 << 20), 0) == 2 << 20
try: os.write(os.open("w", os.O_RDWR | os.O_CREAT), b"x")
except OSError as e: assert e.errno == 122, e
else: raise SystemExit("a write beyond the quota was taken")
"#;
    fs::write(world.local("script").join("m.py"), script).expect("write");
    sh(mount.root(), &format!("python3 {}", world.local("script").join("m.py").display()));
    let mount = comes_back(&world, mount, "b", &["--quota", "1M", "--no-publish"]);
    let bytes = fs::read(mount.path("m")).expect("read");
    assert!(bytes.chunks(4096).all(|page| page.starts_with(b"stored")), "a mapped page was dropped");
    assert!(used(&mount) >= 4 * MIB);
    mount.unmount();
}

/// Several writers at once take exactly what there is.
#[test]
fn writers_at_once_share_what_is_left() {
    let world = World::with_relay("quota-writers");
    let options = ["--quota", "6M", "--no-publish", "--durability", "fsync", "--commit-interval", "100ms"];
    let mount = world.host("a").mount(&options);
    let taken: u64 = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..6)
            .map(|w| {
                let path = mount.path(format!("f{w}"));
                scope.spawn(move || {
                    let mut file = File::create(path).expect("create");
                    let mut taken = 0;
                    loop {
                        match file.write_all(&noise(65536, w)) {
                            Ok(()) => taken += 65536,
                            Err(error) => {
                                refused::<()>(Err(error));
                                return taken;
                            }
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().map(|w| w.join().expect("a writer")).sum()
    });
    all_agree(&mount, 6 * MIB);
    assert!(used(&mount) <= 6 * MIB, "{} bytes were taken", used(&mount));
    assert!(taken > 5 * MIB, "only {taken} bytes were taken");
    comes_back(&world, mount, "b", &options).unmount();
}

#[test]
fn a_quota_comes_from_the_command_line_the_environment_and_o() {
    let world = World::new("quota-options");
    let host = world.host("a");
    let mut command = host.mount_command(&[]);
    command.env("CWDFS_QUOTA", "2G");
    let mount = host.start(command).expect("mounts");
    assert_eq!(mount.status()["quota"]["limit"], 2_u64 << 30);
    mount.run("status", &[]).ok().says(&["quota", "of 2 GiB used"]);
    mount.unmount();
    let mount = host.mount(&["--quota", "1.5G"]);
    assert_eq!(mount.status()["quota"]["limit"], 3_u64 << 29);
    mount.unmount();
    let mount = host.mount(&[]);
    assert!(mount.status()["quota"].is_null(), "none is the default");
    mount.unmount();
    for wrong in ["0", "much"] {
        host.run_mount(&["--quota", wrong]).exits(2).says(&["--quota", wrong]).plainly();
    }
}
