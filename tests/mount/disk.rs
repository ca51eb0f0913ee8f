//! The disk below the cache goes wrong: full, read-only, gone, with flipped bits. Errors are true, no byte is wrong,
//! status says why, and a mount afterwards has everything that was acknowledged.

use crate::support::mount::Mount;
use crate::support::{Disk, World, eventually, sh};
use crate::work::{noise, write_closed};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

type Right = BTreeMap<String, Vec<u8>>;

/// Small and large files, all acknowledged.
fn fill(mount: &Mount) -> Right {
    let mut right = Right::new();
    for n in 0..30u64 {
        right.insert(format!("small{n}"), noise(2_000 + n as usize, n));
    }
    for n in 0..3u64 {
        right.insert(format!("large{n}"), noise(2_500_000, 100 + n));
    }
    for (name, bytes) in &right {
        write_closed(&mount.path(name), bytes).expect("write");
    }
    mount.flush();
    right
}

/// Each file has the right bytes, or cannot be read; returns how many can.
fn right_or_error(mount: &Mount, right: &Right, when: &str) -> usize {
    let mut read = 0;
    for (name, bytes) in right {
        match fs::read(mount.path(name)) {
            Ok(got) => {
                assert!(got == *bytes, "{name} has wrong bytes {when}");
                read += 1;
            }
            Err(e) => {
                let eio = rustix::io::Errno::IO.raw_os_error();
                assert_eq!(e.raw_os_error(), Some(eio), "{name} {when}: {e}");
            }
        }
    }
    read
}

fn warns(mount: &Mount, of: &str) -> bool {
    mount.status()["warnings"].to_string().contains(of)
}

/// The one session's folder in a cache directory.
fn folder(cache: &Path) -> PathBuf {
    fs::read_dir(cache).expect("list").next().expect("a session").expect("an entry").path()
}

/// Flips a bit every so many bytes; at least one, in the middle.
fn flip(path: &Path, every: usize) {
    let mut bytes = fs::read(path).expect("read");
    let every = every.min(bytes.len().max(1));
    bytes.iter_mut().skip(every / 2).step_by(every).for_each(|byte| *byte ^= 0x04);
    let file = fs::OpenOptions::new().write(true).open(path).expect("open");
    file.write_all_at(&bytes, 0).expect("write");
}

/// The usual case of a small sandbox: its disk is smaller than what the cache may take.
#[test]
fn a_disk_smaller_than_the_cache_may_be_holds_what_it_can_and_nobody_sees_an_error() {
    const FILES: u64 = 40;
    const BYTES: usize = 3 << 20;
    let world = World::new("disk-small");
    let name = |n: u64| format!("f{n:02}");
    let mount = world.host("a").mount(&[]);
    for n in 0..FILES {
        fs::write(mount.path(name(n)), noise(BYTES, n)).expect("write");
    }
    mount.flush();
    mount.unmount();
    let disk = Disk::ext4(&world.local("small"), "90M");
    let mount = world.host("b").with_cache(disk.path().join("cache")).mount(&[]);
    for round in 0..2u64 {
        for n in 0..FILES {
            assert!(fs::read(mount.path(name(n))).expect("read") == noise(BYTES, n), "{} is wrong", name(n));
            let small = format!("small-{round}-{n}");
            write_closed(&mount.path(&small), small.as_bytes()).expect("a small file has room");
        }
        // As large as what was just read, so that something has to go.
        write_closed(&mount.path(format!("large{round}")), &noise(8 * BYTES, 900 + round))
            .expect("a large one too");
    }
    mount.unmount();
}

/// What fills it can go, but the first to find it full is whoever writes a name, not whoever reads.
#[test]
fn a_small_file_has_room_on_a_disk_that_is_full_of_what_can_go() {
    const FILES: u64 = 16;
    const BYTES: usize = 3 << 20;
    let world = World::new("disk-brim");
    let mount = world.host("a").mount(&[]);
    for n in 0..FILES {
        fs::write(mount.path(format!("f{n}")), noise(BYTES, n)).expect("write");
    }
    mount.flush();
    mount.unmount();
    let disk = Disk::ext4(&world.local("brim"), "90M");
    let mount = world.host("b").with_cache(disk.path().join("cache")).mount(&[]);
    for n in 0..FILES {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(BYTES, n));
    }
    // Somebody else takes what is left.
    let other = disk.path().join("other");
    assert!(fs::write(&other, vec![1; 90 << 20]).is_err(), "the disk is full");
    for n in 0..60u64 {
        let (path, bytes) = (mount.path(format!("small{n}")), noise(30_000, n));
        write_closed(&path, &bytes).expect("a small file has room");
        assert!(fs::read(&path).expect("read") == bytes);
    }
    mount.unmount();
}

#[test]
fn a_cache_that_turns_read_only_is_an_error_and_status_says_so() {
    let world = World::new("disk-ro");
    let disk = Disk::ext4(&world.local("disk"), "128M");
    let host = world.host("a");
    let mut command = world.command(["mount", "-f", "--no-publish", "--timeout", "10s", "--cache-dir"]);
    command.arg(disk.path().join("cache")).arg(&world.store).arg(&host.mountpoint);
    let mount = host.start(command).unwrap_or_else(|ran| panic!("{ran}"));
    let right = fill(&mount);
    // Where files are open for writing, only as the kernel does it after an error of the disk.
    sh(disk.path(), "mount -o remount,ro . 2>/dev/null || mount -o remount,abort .");
    assert!(fs::write(disk.path().join("probe"), "x").is_err(), "the disk is read-only");
    let refused =
        (0..20u64).find_map(|n| write_closed(&mount.path(format!("new{n}")), &noise(300_000, n)).err());
    let refused = refused.expect("nothing can be kept on a read-only disk");
    let errno = refused.raw_os_error();
    let true_ones = [rustix::io::Errno::IO, rustix::io::Errno::ROFS, rustix::io::Errno::NOSPC];
    assert!(true_ones.iter().any(|e| errno == Some(e.raw_os_error())), "{refused}");
    eventually("status says so", Duration::from_secs(30), || warns(&mount, "cache folder"));
    right_or_error(&mount, &right, "on a read-only cache");
    mount.run("status", &["--check"]).exits(8).says(&["cache folder"]);
    mount.kill();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    assert_eq!(right_or_error(&mount, &right, "elsewhere"), right.len());
    mount.unmount();
}

#[test]
fn a_cache_that_is_removed_below_a_mount_loses_nothing_acknowledged() {
    let world = World::new("disk-gone");
    let host = world.host("a");
    let mount = host.mount(&["--no-publish", "--timeout", "10s"]);
    let mut right = fill(&mount);
    fs::remove_dir_all(&host.cache).expect("rm -r");
    for n in 0..10u64 {
        let (name, bytes) = (format!("after{n}"), noise(if n % 2 == 0 { 900 } else { 400_000 }, 500 + n));
        // Either it is acknowledged, and then it is in the store, or it is an error.
        if write_closed(&mount.path(&name), &bytes).is_ok() {
            right.insert(name, bytes);
        }
    }
    assert!(warns(&mount, "is gone"), "{:#}", mount.status());
    right_or_error(&mount, &right, "with the cache removed");
    mount.run("status", &["--check"]).exits(8).says(&["is gone"]);
    mount.kill();
    let mount = host.mount(&["--takeover", "--no-publish"]);
    assert_eq!(right_or_error(&mount, &right, "after a new mount"), right.len());
    mount.unmount();
}

#[test]
fn bits_flipped_in_a_cache_between_mounts_are_never_served() {
    let world = World::new("disk-flip");
    let host = world.host("a");
    let mount = host.mount(&["--no-publish"]);
    let right = fill(&mount);
    mount.unmount();
    let kept = folder(&host.cache);
    let pristine = world.local("pristine").join("cache");
    sh(Path::new("/"), &format!("cp -a {} {}", host.cache.display(), pristine.display()));
    // Which file, how far apart the flipped bits are, and whether the database has to be given up.
    let cases = [
        ("journal.db", 4096, true),
        ("journal.db", 64, true),
        ("journal.db", usize::MAX, true),
        ("lock", 1, false),
        ("data", 100_000, false),
        ("data", 1, false),
    ];
    for (what, every, given_up) in cases {
        sh(Path::new("/"), &format!("rm -rf {0} && cp -a {1} {0}", host.cache.display(), pristine.display()));
        let target = kept.join(what);
        match target.is_dir() {
            true => fs::read_dir(&target)
                .expect("list")
                .for_each(|file| flip(&file.expect("an entry").path(), every)),
            false => flip(&target, every),
        }
        let mount = host.mount(&["--no-publish", "--takeover"]);
        let read = right_or_error(&mount, &right, &format!("with {what} flipped every {every} bytes"));
        assert_eq!(read, right.len(), "{what} {every}: the store has all of it:\n{}", mount.log());
        if given_up {
            assert!(warns(&mount, "journal.db is damaged"), "{what} {every}: {:#}", mount.status());
            assert!(mount.status()["salvage"].to_string().contains("damaged-"), "it is set aside");
        }
        write_closed(&mount.path("again"), b"x").expect("it works");
        mount.unmount();
    }
}

#[test]
fn what_was_not_stored_is_kept_or_said_to_be_lost_when_the_log_of_the_journal_is_damaged() {
    let world = World::with_relay("disk-wal");
    let host = world.host("a");
    let mount = host.mount(&["--no-publish", "--durability", "fsync"]);
    let right = fill(&mount);
    world.relay().cut();
    for n in 0..5u64 {
        write_closed(&mount.path(format!("lonely{n}")), &noise(3_000, 900 + n)).expect("level fsync");
    }
    std::thread::sleep(Duration::from_secs(2));
    mount.kill();
    world.relay().heal();
    flip(&folder(&host.cache).join("journal.db-wal"), 5_000);
    let mount = host.mount(&["--takeover", "--no-publish"]);
    assert_eq!(right_or_error(&mount, &right, "with the journal's log damaged"), right.len());
    for n in 0..5u64 {
        if let Ok(bytes) = fs::read(mount.path(format!("lonely{n}"))) {
            assert!(bytes == noise(3_000, 900 + n) || bytes.is_empty(), "lonely{n} has wrong bytes");
        }
    }
    mount.unmount();
}

#[test]
fn a_journal_that_is_overwritten_below_a_mount_gives_errors_and_no_wrong_bytes() {
    let world = World::new("disk-live");
    let host = world.host("a");
    let mount = host.mount(&["--no-publish", "--timeout", "10s"]);
    let mut right = fill(&mount);
    let journal = folder(&host.cache).join("journal.db");
    for name in [journal.clone(), journal.with_file_name("journal.db-wal")] {
        let len = fs::metadata(&name).map_or(0, |meta| meta.len());
        let file = fs::OpenOptions::new().write(true).open(&name).expect("open");
        file.write_all_at(&noise(len as usize, 77), 0).expect("overwrite");
    }
    right_or_error(&mount, &right, "with the journal overwritten");
    for n in 0..20u64 {
        let (name, bytes) = (format!("after{n}"), noise(5_000, 600 + n));
        if write_closed(&mount.path(&name), &bytes).is_ok() {
            right.insert(name, bytes);
        }
    }
    mount.kill();
    let mount = host.mount(&["--takeover", "--no-publish"]);
    assert_eq!(right_or_error(&mount, &right, "after a new mount"), right.len());
    assert!(warns(&mount, "damaged"), "{:#}", mount.status());
    mount.unmount();
}
