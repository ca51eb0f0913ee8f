//! Mounting again: nothing is different, and it does not take one request for each file.

use crate::support::relay::Kind;
use crate::support::{Tree, World};
use crate::work::{self, noise};
use std::fs;
use std::time::Duration;

#[test]
fn everything_is_the_same_after_each_way_of_coming_back() {
    let world = World::with_relay("coming-back");
    let host = world.host("a");
    let mount = host.mount(&[]);
    work::one_of_everything(mount.root());
    mount.flush();
    let before = Tree::of(mount.root());
    mount.unmount();

    let mount = host.mount(&[]);
    before.assert_same(&Tree::of(mount.root()), "same machine, clean unmount");
    mount.kill();

    let mount = host.mount(&[]);
    before.assert_same(&Tree::of(mount.root()), "same machine, SIGKILL");
    mount.lose_machine();

    let mount = host.mount(&["--takeover"]);
    before.assert_same(&Tree::of(mount.root()), "same machine, SIGKILL and cache wiped");
    mount.unmount();

    let mount = world.host("b").mount(&[]);
    before.assert_same(&Tree::of(mount.root()), "another machine");
    mount.unmount();
}

#[test]
fn after_a_kill_on_the_same_machine_nobody_waits_for_the_lease() {
    let world = World::new("own-lock");
    let host = world.host("a");
    let mount = host.mount(&["--lease-ttl", "30s"]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.kill();
    let mount = host.mount(&["--lease-ttl", "30s"]);
    assert!(mount.ready_after < Duration::from_secs(8), "it took {:?}", mount.ready_after);
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
    mount.unmount();
}

#[test]
fn a_cold_read_of_many_files_takes_a_few_large_reads() {
    let world = World::with_relay("cold-read");
    let mount = world.host("a").mount(&["--durability", "fsync"]);
    for dir in 0..10 {
        fs::create_dir(mount.path(format!("d{dir}"))).expect("mkdir");
        for n in 0..50 {
            let name = mount.path(format!("d{dir}/f{n}"));
            fs::write(name, noise(2000 + n * 40, (dir * 100 + n) as u64)).expect("write");
        }
    }
    mount.unmount();
    world.relay().reset();
    let mount = world.host("b").mount(&[]);
    let gets = |world: &World| world.relay().counts().get(&Kind::Get).copied().unwrap_or(0);
    let to_mount = gets(&world);
    for dir in 0..10 {
        for n in 0..50 {
            let bytes = fs::read(mount.path(format!("d{dir}/f{n}"))).expect("read");
            assert!(bytes == noise(2000 + n * 40, (dir * 100 + n) as u64), "d{dir}/f{n} differs");
        }
    }
    let to_read = gets(&world) - to_mount;
    assert!(to_read <= 40, "reading 500 files took {to_read} GETs (mounting {to_mount})");
    mount.unmount();
}

#[test]
fn what_was_closed_one_by_one_is_not_fetched_one_by_one() {
    let world = World::with_relay("closed-one-by-one");
    // Beyond what one round of packing and checkpoints covers.
    const FILES: u64 = 600;
    let mount = world.host("a").mount(&["--no-publish"]);
    for n in 0..FILES {
        work::write_closed(&mount.path(format!("f{n}")), &noise(3000, n)).expect("write");
    }
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    world.relay().reset();
    for n in 0..FILES {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(3000, n), "f{n} differs");
    }
    let gets = world.relay().counts().get(&Kind::Get).copied().unwrap_or(0);
    assert!(gets <= 30, "reading {FILES} files took {gets} GETs");
    mount.unmount();
}

#[test]
fn what_was_read_once_is_fetched_once_and_is_here_when_the_store_is_away() {
    let world = World::with_relay("read-once");
    let sizes = [3_000, 60_000, 300_000, 900_000, 3_000_000, 6_000_000];
    let mount = world.host("a").mount(&["--no-publish"]);
    for size in sizes {
        work::write_closed(&mount.path(size.to_string()), &noise(size, size as u64)).expect("write");
    }
    mount.unmount();
    let mount = world.host("b").mount(&["--no-publish", "--timeout", "5s"]);
    world.relay().reset();
    let all = |when: &str| {
        for size in sizes {
            let found =
                fs::read(mount.path(size.to_string())).unwrap_or_else(|e| panic!("{when}: {size}: {e}"));
            assert!(found == noise(size, size as u64), "{when}: the file of {size} bytes differs");
        }
    };
    all("cold");
    let (content, down) = (sizes.iter().sum::<usize>() as u64, world.relay().bytes().1);
    assert!(down < content * 3 / 2, "{down} bytes were fetched of {content}");
    world.relay().cut();
    fs::write("/proc/sys/vm/drop_caches", "1").expect("drop what the kernel has");
    all("without the store");
    world.relay().heal();
    mount.unmount();
}

#[test]
fn a_mount_takes_the_same_few_requests_however_many_files_there_are() {
    let world = World::with_relay("mount-requests");
    let mount = world.host("a").mount(&["--durability", "fsync"]);
    for n in 0..1500 {
        fs::write(mount.path(format!("f{n}")), "x").expect("write");
    }
    mount.flush();
    mount.unmount();
    world.relay().reset();
    let mount = world.host("b").mount(&["--no-publish"]);
    assert_eq!(fs::read_dir(mount.root()).expect("list").count(), 1500);
    let seen = world.relay().seen().len();
    assert!(seen <= 60, "mounting and listing took {seen} requests: {:?}", world.relay().counts());
    mount.unmount();
}
