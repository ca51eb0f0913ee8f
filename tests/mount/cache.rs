//! The local cache is bounded, and a full disk is an error to the caller that loses nothing.

use crate::support::{Disk, World, full, sh};
use crate::work::write_closed;
use std::fs;
use std::io::{Read, Write};
use std::path::Path;

const MIB: u64 = 1 << 20;

/// Bytes that a directory takes on the disk.
fn on_disk(dir: &Path) -> u64 {
    let said = sh(dir, "du -s --block-size=1 . | cut -f1");
    said.trim().parse().expect("a number")
}

/// A block of a large file: different for each place, cheap to make.
fn block(n: u64) -> Vec<u8> {
    let mut block = vec![(n % 251) as u8; MIB as usize];
    block[..8].copy_from_slice(&n.to_le_bytes());
    block
}

#[test]
fn a_file_larger_than_the_cache_passes_both_ways() {
    let (size, cache) = if full() { (10 * 1024, 1024) } else { (160, 32) };
    let world = World::new("large");
    let options = ["--cache-size".to_owned(), format!("{cache}MiB"), "--no-publish".to_owned()];
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let host = world.host("a");
    let mount = host.mount(&[&options[..], &["--timeout", "600s"]].concat());
    let mut file = fs::File::create(mount.path("large")).expect("create");
    let mut most = 0;
    for n in 0..size {
        file.write_all(&block(n)).unwrap_or_else(|e| panic!("MiB {n}: {e}"));
        if n % 16 == 0 {
            most = most.max(on_disk(&host.cache));
        }
    }
    file.sync_all().expect("fsync");
    drop(file);
    let bound = (cache + cache / 4 + 16) * MIB;
    assert!(most <= bound, "the cache took {} MiB of {cache} while writing", most / MIB);
    mount.unmount();

    let host = world.host("b");
    let mount = host.mount(&options);
    let mut file = fs::File::open(mount.path("large")).expect("open");
    let mut read = vec![0; MIB as usize];
    for n in 0..size {
        file.read_exact(&mut read).unwrap_or_else(|e| panic!("MiB {n}: {e}"));
        assert!(read == block(n), "MiB {n} differs");
        if n % 16 == 0 {
            most = most.max(on_disk(&host.cache));
        }
    }
    assert_eq!(file.read(&mut read).expect("read"), 0);
    drop(file);
    assert!(most <= bound, "the cache took {} MiB of {cache} while reading", most / MIB);
    mount.unmount();
}

#[test]
fn clean_content_is_evicted_and_unstored_content_never() {
    let world = World::with_relay("evict");
    let host = world.host("a");
    let mount = host.mount(&["--cache-size", "16MiB", "--durability", "fsync", "--no-publish"]);
    for n in 0..40 {
        write_closed(&mount.path(format!("f{n}")), &block(n)).expect("write");
    }
    mount.flush();
    assert!(on_disk(&host.cache) < 40 * MIB, "nothing was evicted: {} MiB", on_disk(&host.cache) / MIB);
    world.relay().cut();
    for n in 100..104 {
        write_closed(&mount.path(format!("f{n}")), &block(n)).expect("less than half of the cache");
    }
    for n in 100..104 {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == block(n), "f{n} was not kept");
    }
    world.relay().heal();
    for n in (0..40).chain(100..104) {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == block(n), "f{n} differs");
    }
    mount.unmount();
}

#[test]
fn small_content_that_is_not_stored_is_bounded_too() {
    let world = World::with_relay("small-bound");
    let options = ["--cache-size", "16MiB", "--durability", "fsync", "--no-publish", "--timeout", "2s"];
    let mount = world.host("a").mount(&options);
    mount.flush();
    world.relay().cut();
    let small = |n: u64| block(n)[..100_000].to_vec();
    let kept =
        (0..500).take_while(|n| write_closed(&mount.path(format!("f{n}")), &small(*n)).is_ok()).count();
    assert!((40..200).contains(&kept), "{kept} files of 100 kB were taken with 8 MiB for unstored content");
    let refused = write_closed(&mount.path("one-more"), &small(0)).expect_err("still no room");
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()), "{refused}");
    world.relay().heal();
    let again = || write_closed(&mount.path("one-more"), &small(0)).is_ok();
    crate::support::eventually("there is room again", std::time::Duration::from_secs(20), again);
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    for n in 0..kept as u64 {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == small(n), "f{n} differs");
    }
    mount.unmount();
}

#[test]
fn a_full_disk_is_enospc_and_loses_nothing() {
    let world = World::with_relay("full-disk");
    let disk = Disk::ext4(&world.local("disk"), "64M");
    let host = world.host("a");
    let mut command = world.command(["mount", "-f", "--durability", "fsync", "--no-publish", "--cache-dir"]);
    command.arg(disk.path().join("cache")).arg(&world.store).arg(&host.mountpoint);
    let mount = host.start(command).expect("mounts");
    write_closed(&mount.path("before"), &block(1)).expect("there is room");
    mount.flush();
    world.relay().cut();
    let mut kept = Vec::new();
    let mut refused = None;
    for n in 0..200 {
        let path = mount.path(format!("f{n}"));
        match write_closed(&path, &block(n)) {
            Ok(()) => kept.push(n),
            Err(error) => {
                refused = Some(error);
                break;
            }
        }
    }
    let refused = refused.expect("64 MiB of disk took 200 MiB");
    assert_eq!(refused.raw_os_error(), Some(rustix::io::Errno::NOSPC.raw_os_error()), "{refused}");
    assert!(kept.len() > 5, "only {} MiB fitted", kept.len());
    world.relay().heal();
    mount.flush();
    for n in &kept {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == block(*n), "f{n} differs");
    }
    mount.kill();
    let mount = world.host("b").mount(&["--takeover"]);
    for n in &kept {
        assert!(
            fs::read(mount.path(format!("f{n}"))).expect("read") == block(*n),
            "f{n} is not in the store"
        );
    }
    mount.unmount();
}
