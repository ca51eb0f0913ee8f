//! stress-ng as root, with its own checks on: what passes on ext4 in the same run passes on a mount, some
//! stressors at once; nothing hangs, the daemon logs no error and stays as small as it was, and what is left
//! of stressors that are killed in the middle comes back after the machine was lost.

use super::ext4::Ext4;
use super::skips;
use super::stress_ng::{Run, STRESSORS, Said, Stressor, known};
use crate::support::mount::Mount;
use crate::support::way::{Way, comes_back, no_error_logged, seed};
use crate::support::{World, full};
use crate::work;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

/// How many stressors run at once, and instances of each: a short run shares the machine with other tests.
fn at_once() -> (usize, u32) {
    if full() { (9, 2) } else { (6, 1) }
}

/// Stressors that leave trees worth a comparison when they are killed, and none that takes long to read.
const KILLED: [&str; 12] = [
    "dentry", "dirdeep", "dirmany", "filename", "hdd", "iomix", "link", "mknod", "rename", "symlink",
    "utime", "xattr",
];

/// How long a group runs, and how often all groups do.
fn span() -> Duration {
    Duration::from_secs(if full() { 20 } else { 2 })
}
const ROUNDS: usize = 2;

/// How long stress-ng may take to end after that: it deletes what it made, on a slow machine one by one.
fn patience() -> Duration {
    span() + Duration::from_secs(if full() { 900 } else { 200 })
}

/// The groups that run at once: one that the seed draws for this way, at full size all there are.
fn groups(way: Way) -> Vec<Vec<Stressor>> {
    let known = known();
    let missing: Vec<_> =
        STRESSORS.iter().map(|(name, _)| *name).filter(|name| !known.contains(*name)).collect();
    println!("  not in this stress-ng: {missing:?}");
    assert!(missing.iter().all(|name| NEWER.contains(name)), "stress-ng lacks {missing:?}");
    let mut all: Vec<Stressor> =
        STRESSORS.iter().copied().filter(|(name, _)| known.contains(*name)).collect();
    all.sort_by_key(|(name, _)| *blake3::hash(format!("{} {way} {name}", seed()).as_bytes()).as_bytes());
    let groups = all.chunks(at_once().0).map(<[Stressor]>::to_vec);
    groups.take(if full() { usize::MAX } else { 1 }).collect()
}

/// Those that Debian 12's stress-ng, 0.15.06, does not have.
const NEWER: [&str; 1] = ["metamix"];

const LISTED: &str = include_str!("stress-skips.txt");
/// How the reason of one begins that is not skipped always.
const AT_TIMES: &str = "at times: ";

/// What a group did, over all rounds.
#[derive(Default)]
struct Counts {
    passed: BTreeMap<&'static str, u64>,
    not_on_ext4: BTreeMap<String, String>,
    skipped: BTreeMap<String, String>,
}

/// The stressors of a group that pass on ext4.
fn that_pass_on_ext4(ext4: &Ext4, group: &[Stressor], own: &Path, counts: &mut Counts) -> Vec<Stressor> {
    let span = Duration::from_secs(1);
    let said = Run::start(group, at_once().1, span, ext4.root(), own).finish(patience());
    let out = said.failed.into_iter().chain(said.skipped);
    counts.not_on_ext4.extend(out);
    group.iter().copied().filter(|(name, _)| !counts.not_on_ext4.contains_key(*name)).collect()
}

/// Runs a group on the mount, and panics when one fails that passed on ext4.
fn run(mount: &Mount<'_>, group: &[Stressor], span: Duration, own: &Path, counts: &mut Counts) {
    let said: Said = Run::start(group, at_once().1, span, mount.root(), own).finish(patience());
    assert!(said.failed.is_empty(), "these fail here and not on ext4: {:#?}", said.failed);
    let listed = skips(LISTED);
    for (name, _) in group {
        let done = said.operations.get(*name).copied().unwrap_or(0);
        match (said.skipped.get(*name), listed.get(name)) {
            (Some(why), None) => panic!("{name} is skipped here and not on ext4, and not listed: {why}"),
            (None, Some(why)) if done > 0 && why.starts_with(AT_TIMES) => {
                *counts.passed.entry(name).or_default() += done;
            }
            (None, Some(_)) if done > 0 => panic!("{name} is listed as skipped, and is not"),
            (_, Some(why)) => drop(counts.skipped.insert((*name).to_owned(), (*why).to_owned())),
            (None, None) => *counts.passed.entry(name).or_default() += done,
        }
    }
}

/// What came to the end of no turn beside the others gets the mount to itself, and more time on a busy machine; if it
/// does nothing then either, it was skipped without a word.
fn each_does_something(mount: &Mount<'_>, groups: &[Vec<Stressor>], own: &Path, counts: &mut Counts) {
    let idle: Vec<_> = counts.passed.iter().filter(|(_, done)| **done == 0).map(|(name, _)| *name).collect();
    if !full() || idle.is_empty() {
        return;
    }
    println!("  again, each alone: {idle:?}");
    for stressor in groups.iter().flatten().filter(|(name, _)| idle.contains(name)) {
        for times in [1, 4] {
            if counts.passed[stressor.0] > 0 {
                break;
            }
            run(mount, &[*stressor], span() * times, own, counts);
            healthy(mount);
        }
        assert!(counts.passed[stressor.0] > 0, "{} did nothing", stressor.0);
    }
}

/// Memory of the daemon that is resident, in KiB, once everything is in the store.
fn resident(mount: &Mount<'_>) -> u64 {
    mount.flush();
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid().as_raw_nonzero())).expect("read");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has a size");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Panics unless the session is as a session should be.
fn healthy(mount: &Mount<'_>) {
    no_error_logged(mount);
    let status = mount.wait_status("nothing uncommitted", Duration::from_secs(60), |status| {
        status["uncommitted"]["files"] == 0 && status["slots_in_flight"] == 0
    });
    assert_eq!(status["state"], "mounted", "{status:#}");
    // A loaded machine's store may be late; a request that fails in the end is another matter.
    for (name, requests) in status["requests"].as_object().expect("requests") {
        assert_eq!(requests["failures"], 0, "{name}: {status:#}");
    }
    assert_eq!(status["warnings"].as_array().map(Vec::len), Some(0), "{status:#}");
    assert_eq!(status["view"]["stopped"], serde_json::Value::Null, "{status:#}");
}

/// The first round may fill caches, the bounded ones; what later rounds add on top would be a leak. The bound
/// leaves room for what an allocator keeps of a peak: a group's files differ from round to round.
fn flat(sizes: &[u64]) {
    let (warm, end) = (sizes[0], sizes[sizes.len() - 1]);
    println!("  resident after each round, KiB: {sizes:?}");
    assert!(end < warm + warm / 2 + (64 << 10), "the daemon grew: {sizes:?} KiB");
}

fn report(way: Way, counts: &Counts, at_once: usize) {
    println!(
        "stress-ng in {way}, seed {}: {} stressors passed, 0 failed, {} skipped, {at_once} at most at once",
        seed(),
        counts.passed.len(),
        counts.skipped.len(),
    );
    for (name, why) in &counts.not_on_ext4 {
        println!("  {name}: not run, as ext4 says: {why}");
    }
    for (name, why) in &counts.skipped {
        println!("  {name}: skipped: {why}");
    }
    println!("  operations: {:?}", counts.passed);
}

/// Kills stressors in the middle and compares what they leave with what comes back.
fn what_is_left_comes_back(world: &World, mount: Mount<'_>, way: Way, own: &Path) {
    let stressors: Vec<_> = STRESSORS.into_iter().filter(|(name, _)| KILLED.contains(name)).collect();
    let run = Run::start(&stressors, 1, Duration::from_secs(600), mount.root(), own);
    thread::sleep(Duration::from_secs(if full() { 20 } else { 1 }));
    run.kill();
    work::one_of_everything(mount.root());
    let options = options(way);
    let mount = comes_back(world, mount, "b", &options);
    healthy(&mount);
    mount.unmount();
}

fn options(way: Way) -> Vec<&'static str> {
    way.options(&["-o", "suid,dev", "--allow-other"])
}

fn stressors_pass_as_on_ext4(way: Way) {
    let world = World::with_relay(&format!("stress-{way}"));
    let own = world.local("own");
    let mut counts = Counts::default();
    let ext4 = Ext4::new(&world, 4096);
    let groups: Vec<Vec<Stressor>> =
        groups(way).iter().map(|group| that_pass_on_ext4(&ext4, group, &own, &mut counts)).collect();
    drop(ext4);
    let mount = world.host("a").mount(&options(way));
    let mut sizes = Vec::new();
    for _ in 0..ROUNDS {
        for group in &groups {
            run(&mount, group, span(), &own, &mut counts);
            healthy(&mount);
        }
        sizes.push(resident(&mount));
    }
    each_does_something(&mount, &groups, &own, &mut counts);
    report(way, &counts, groups.iter().map(Vec::len).max().unwrap_or(0));
    flat(&sizes);
    what_is_left_comes_back(&world, mount, way, &own);
}

in_every_way!(stressors_pass_as_on_ext4);
