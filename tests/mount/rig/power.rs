//! The power goes: the disk of the cache has only what was synced, or what the kernel has happened to write back; the
//! machine boots, and mounts the session again.
//!
//! The cache is on a file system in an image, which is copied right after the daemon was killed: what the file system
//! had not handed to its block device is not in the copy. That block writes themselves come out of order, or torn, is
//! not tested: ext4 orders those that matter by flushes.

use super::crew::{Crew, random};
use super::found::Shown;
use super::history::{History, Level};
use super::judge::judge;
use super::ops::now;
use crate::support::mount::Mount;
use crate::support::reboot::{LAZILY, after_a_reboot, sync_some};
use crate::support::way::seed;
use crate::support::world::Host;
use crate::support::{Disk, Tree, World, full};
use crate::work::{noise, write_closed};
use rand::Rng;
use rand::seq::IndexedRandom;
use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// A file whose content, read once, is in the cache.
const LARGE: usize = 3 << 20;

fn rounds() -> u64 {
    match std::env::var("CWDFS_TEST_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("CWDFS_TEST_ROUNDS is a number"),
        Err(_) if full() => 100,
        Err(_) => 6,
    }
}

#[test]
fn after_a_power_loss_nothing_wrong_is_served_and_everything_acknowledged_is_there() {
    let world = World::with_relay("power");
    // What the rounds leave stays in the session, and this is not about disks that are full.
    let mut disk =
        Disk::ext4_with(&world.local("disk-0"), if rounds() > 40 { "1500M" } else { "400M" }, LAZILY);
    let mut before = BTreeMap::new();
    for round in 1..=rounds() {
        let mut random = random(&format!("power {round}"));
        let level = *[Level::Close, Level::Fsync, Level::Sync].choose(&mut random).expect("there are some");
        let host = world.host("a").with_cache(disk.path().join("cache"));
        let synced = random.random_ratio(1, 2);
        let histories = work_until_the_power_goes(&world, &host, (round, level, synced), &before);
        let copy = disk.after_power_loss(&world.local(&format!("disk-{round}")));
        let unsynced = fs::read(copy.path().join("unsynced")).unwrap_or_default();
        assert!(
            unsynced != noise(9000, round),
            "what was not synced is on the disk: the round shows nothing"
        );
        let old = std::mem::replace(&mut disk, copy);
        drop(old);
        fs::remove_dir_all(world.local(&format!("disk-{}", round - 1))).expect("remove the old disk");
        let host = world.host("a").with_cache(disk.path().join("cache"));
        let tree = after_a_reboot(|| look(&host, (round, level), &histories, &before));
        before.insert(round, tree);
    }
    // What was replayed from the disk is in the store too.
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    same(&mount, &before);
    mount.unmount();
}

/// Processes at work until the daemon is killed, with the disk as it then is.
#[track_caller]
fn work_until_the_power_goes(
    world: &World,
    host: &Host<'_>,
    (round, level, synced): (u64, Level, bool),
    before: &BTreeMap<u64, Tree>,
) -> Vec<History> {
    let mut random = random(&format!("power work {round}"));
    let options =
        ["--takeover", "--timeout", "60s", "--lazy", "*.lazy", "--no-publish", "--durability", level.name()];
    let mount = host.mount(&options);
    same(&mount, before);
    write_closed(&mount.path(format!("large{round}")), &noise(LARGE, round)).expect("write");
    mount.flush();
    world
        .relay()
        .set_delay(Duration::from_millis(*[5, 30, 100].choose(&mut random).expect("there are some")));
    let crew = Crew::start(world, round, &mount.path(format!("r{round}")), || Command::new("env"));
    for _ in 0..3 {
        crew.wait_acknowledged(&mount, level, random.random_range(1..=4));
        if synced {
            sync_some(&host.cache, &mut || random.random_ratio(1, 3));
        }
    }
    std::thread::sleep(Duration::from_millis(random.random_range(0..200)));
    fs::write(host.cache.with_file_name("unsynced"), noise(9000, round)).expect("write");
    let killed = now();
    mount.kill_now();
    // The copy is taken once nobody is left who could sync.
    let histories = crew.end(killed);
    world.relay().set_delay(Duration::ZERO);
    mount.kill();
    histories
}

/// The session on the machine that has booted again; what this round left.
#[track_caller]
fn look(
    host: &Host<'_>,
    (round, level): (u64, Level),
    histories: &[History],
    before: &BTreeMap<u64, Tree>,
) -> Tree {
    let mount = host.mount(&["--takeover", "--no-publish"]);
    let shown = Shown::at(&mount.path(format!("r{round}")));
    let counts = judge(histories, level, &shown);
    let total: Vec<usize> = histories.iter().map(|history| history.0.len()).collect();
    println!(
        "power loss {round} of seed {} at level {}: back are {counts:?} of {total:?} operations; sets in salvage: {}",
        seed(),
        level.name(),
        mount.status()["salvage"].as_array().map_or(0, Vec::len),
    );
    same(&mount, before);
    let tree = Tree::of(&mount.path(format!("r{round}")));
    mount.unmount();
    tree
}

/// What earlier rounds left is what it was, large content in the cache too.
#[track_caller]
fn same(mount: &Mount<'_>, before: &BTreeMap<u64, Tree>) {
    for (round, tree) in before {
        tree.assert_same(&Tree::of(&mount.path(format!("r{round}"))), &format!("what round {round} left"));
        let large = fs::read(mount.path(format!("large{round}"))).expect("read");
        assert!(large == noise(LARGE, *round), "large{round} differs");
    }
}
