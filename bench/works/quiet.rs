//! What a session costs that is not used, and what the store holds of one that is.

use super::{Cell, Work};
use crate::sample::{Sample, Unit, cpu_seconds, memory_mb};
use crate::support::World;
use crate::systems::Mounted;
use crate::{sources, walk};
use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

/// Requests and CPU of a session that nobody uses.
pub const IDLE: Work = Work {
    name: "idle",
    title: "a session of 100 files that nobody uses, parked",
    takes: |system, _| system.name() == "cwdfs-fsync",
    rounds: (1, 1),
    run: idle,
};

/// Bytes of the store after two further checkpoints.
pub const STORED: Work = Work {
    name: "bytes",
    title: "bytes in the store after two further checkpoints, per byte of content",
    takes: |system, _| system.name() == "cwdfs-fsync",
    rounds: (1, 1),
    run: stored,
};

/// Many mounts on one machine.
pub const CROWD: Work = Work {
    name: "crowd",
    title: "64 mounts on one machine",
    takes: |system, quick| !quick && system.name() == "cwdfs-fsync",
    rounds: (1, 1),
    run: crowd,
};

/// While parked.
pub const REQUESTS: &str = "requests a minute, parked";
/// While parked.
pub const CPU: &str = "CPU seconds a minute, parked";
/// Of an empty session.
pub const MEMORY: &str = "memory";
/// With and without the view.
pub const RATIO: &str = "bytes in the store, without the view";
/// See [`RATIO`].
pub const RATIO_VIEW: &str = "bytes in the store, with the view";
/// All of them.
pub const CROWD_ANSWERS: &str = "until all have answered, started at once";
/// All of them.
pub const CROWD_MEMORY: &str = "memory of all, idle";
/// All of them.
pub const CROWD_CPU: &str = "CPU seconds of all in 10 s of idleness";

fn idle(cell: &Cell<'_>, sample: &mut Sample) {
    let mounted = cell.mount("a", &[]);
    for n in 0..100 {
        fs::write(mounted.root().join(format!("f{n}")), format!("file {n}")).expect("make a file");
    }
    mounted.settle();
    mounted.publish();
    until("the session is parked", Duration::from_secs(120), || {
        mounted.status().is_some_and(|status| status["lease"]["state"] == "parked")
    });
    let minutes = cell.asked.size(1, 10);
    let meter = cell.meter(mounted.as_ref());
    std::thread::sleep(Duration::from_secs(60 * minutes));
    let used = meter.read();
    sample.add(CPU, Unit::Seconds, used.cpu_seconds / minutes as f64);
    sample.add(MEMORY, Unit::Megabytes, mounted.pids().iter().map(|pid| memory_mb(*pid, "VmRSS:")).sum());
    sample.add_with(REQUESTS, Unit::Count, used.total() as f64 / minutes as f64, used);
    sample.sure(mounted.made_sure());
    mounted.unmount();
}

fn stored(cell: &Cell<'_>, sample: &mut Sample) {
    let plain = ratio(cell, "plain", &["--no-publish"], sample);
    sample.add(RATIO, Unit::Times, plain);
    let view = ratio(cell, "view", &[], sample);
    sample.add(RATIO_VIEW, Unit::Times, view);
}

/// Bytes in the store for each byte of the tree's files, once two checkpoints were made after those and what is
/// dead is swept.
fn ratio(cell: &Cell<'_>, name: &str, options: &[&str], sample: &mut Sample) -> f64 {
    let world = World::with_relay(&format!("bench-bytes-{name}"));
    world.relay().set_delay(cell.asked.rtt);
    let mounted = cell.system.mount(&world, "a", options);
    let tar = sources::tar();
    crate::shell::run(Command::new("tar").arg("-C").arg(mounted.root()).arg("-xf").arg(&tar.archive));
    mounted.settle();
    checkpoint_made(&world, mounted.as_ref());
    for _ in 0..2 {
        checkpoint_made(&world, mounted.as_ref());
    }
    mounted.settle();
    if mounted.publishes(options) {
        mounted.publish();
    }
    still(&world);
    let content = walk::walk(mounted.root()).bytes;
    let held: u64 = world.witness.keys().values().sum();
    sample.sure(format!("{name}: {content} bytes of content, {held} in the store"));
    mounted.unmount();
    held as f64 / content as f64
}

/// Writes small changes until one more checkpoint is in the store.
fn checkpoint_made(world: &World, mounted: &dyn Mounted) {
    let checkpoints = || {
        let keys = world.witness.keys().into_keys();
        keys.filter(|key| key.starts_with(".cwdfs/checkpoint/")).collect::<BTreeSet<_>>()
    };
    let before = checkpoints();
    let mut file =
        OpenOptions::new().create(true).append(true).open(mounted.root().join("log")).expect("open it");
    // As many commits as are worth a checkpoint once the session is quiet.
    for n in 0..40 {
        writeln!(file, "change {n}").and_then(|()| file.sync_all()).expect("a change");
    }
    drop(file);
    until("one more checkpoint is made", Duration::from_secs(60), || !checkpoints().is_subset(&before));
}

/// Waits until nothing is written or deleted any more: what is dead is deleted some time after the checkpoint.
fn still(world: &World) {
    let (mut last, mut since, start) = (world.witness.keys(), Instant::now(), Instant::now());
    while since.elapsed() < Duration::from_secs(25) && start.elapsed() < Duration::from_secs(180) {
        std::thread::sleep(Duration::from_secs(1));
        let mut now = world.witness.keys();
        // It is renewed while the session is used.
        now.remove(".cwdfs/lease");
        if now != last {
            (last, since) = (now, Instant::now());
        }
    }
}

fn until(what: &str, limit: Duration, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(250));
    }
}

fn crowd(cell: &Cell<'_>, sample: &mut Sample) {
    let count = 64;
    let worlds: Vec<_> = (0..count).map(|n| World::with_relay(&format!("bench-crowd{n}"))).collect();
    worlds.iter().for_each(|world| world.relay().set_delay(cell.asked.rtt));
    let start = Instant::now();
    let all: Vec<_> = std::thread::scope(|scope| {
        let mounting = |world| scope.spawn(move || world_mounted(world));
        let mounting: Vec<_> = worlds.iter().map(mounting).collect();
        mounting.into_iter().map(|thread| thread.join().expect("a mount")).collect()
    });
    sample.add(CROWD_ANSWERS, Unit::Seconds, start.elapsed().as_secs_f64());
    for mount in &all {
        fs::write(mount.path("f"), "a file of each").expect("make a file");
        mount.flush();
    }
    std::thread::sleep(Duration::from_secs(3));
    let pids: Vec<_> = all.iter().map(|mount| mount.pid().as_raw_nonzero().get() as u32).collect();
    let before = cpu_seconds(&pids);
    std::thread::sleep(Duration::from_secs(10));
    sample.add(CROWD_CPU, Unit::Seconds, cpu_seconds(&pids) - before);
    sample.add(CROWD_MEMORY, Unit::Megabytes, pids.iter().map(|pid| memory_mb(*pid, "VmRSS:")).sum());
    all.into_iter().for_each(|mount| mount.unmount());
}

fn world_mounted(world: &World) -> crate::support::mount::Mount<'_> {
    world.host("a").mount(&["--durability", "fsync"])
}
