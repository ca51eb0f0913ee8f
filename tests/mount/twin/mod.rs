//! The file system's twin: random sequences of every operation, by several processes and users, applied to a
//! mount and to a local ext4 directory at once. Answers (errors included) are compared at each step, whole trees
//! every few and again after the mount ended: machine lost, daemon killed, or unmounted.
//!
//! The seed is printed, and `CWDFS_TEST_SEED` repeats it. What is found is shrunk, printed as the Rust that
//! makes it, and kept in `regressions.rs`. The order of steps is fixed: one is answered before the next begins.

mod answers;
mod apply;
mod compare;
mod jail;
mod ops;
mod regressions;
mod run;
mod shrink;
mod strategy;
pub mod sys;
mod worker;

pub use strategy::capability;

use crate::support::full;
use crate::support::way::{Way, seed};
use crate::support::world::World;
use answers::Answers;
use ops::Step;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use run::Rig;

/// Steps of the longest case.
const LONGEST: usize = 80;

/// How many cases are tried in each way; `CWDFS_TEST_CASES` says otherwise.
fn cases() -> usize {
    match std::env::var("CWDFS_TEST_CASES") {
        Ok(cases) => cases.parse().expect("CWDFS_TEST_CASES is a number"),
        Err(_) if full() => 1500,
        Err(_) => 60,
    }
}

/// Draws cases from the seed, another sequence in each way.
fn runner(way: Way) -> TestRunner {
    let bytes = blake3::hash(format!("{} {way}", seed()).as_bytes());
    TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, bytes.as_bytes()))
}

/// How many findings are collected before a run ends; `CWDFS_TEST_FINDINGS` says otherwise.
fn findings() -> usize {
    match std::env::var("CWDFS_TEST_FINDINGS") {
        Ok(findings) => findings.parse().expect("CWDFS_TEST_FINDINGS is a number"),
        Err(_) => 1,
    }
}

/// Runs all cases on one mount, and on another after each that fails.
fn twin(way: Way) {
    let strategy = strategy::case(LONGEST);
    let mut runner = runner(way);
    let mut cases = 1..=cases();
    let mut found = Vec::new();
    let (mut done, mut steps, mut ends) = (0, 0, 0);
    let mut answers = Answers::default();
    while found.len() < findings() && !cases.is_empty() {
        let world = World::with_relay(&format!("twin-{way}"));
        let mut rig = Rig::new(&world, way);
        let failed = cases.by_ref().find_map(|n| {
            done = n;
            let tree = strategy.new_tree(&mut runner).expect("a case");
            let wrong = shrink::attempt(&mut rig, &tree.current()).err()?;
            Some((format!("seed {}, {way}, case {n}: {}", seed(), wrong.what), tree))
        });
        (steps, ends) = (steps + rig.steps, ends + rig.ends);
        answers.add(&rig.answers);
        let Some((what, tree)) = failed else {
            rig.finish().unwrap_or_else(|wrong| found.push(format!("{way}, after all cases: {wrong}")));
            break;
        };
        drop(rig);
        eprintln!("{what}\nshrinking ...");
        let shrunk = match shrink::smallest(way, tree) {
            Some((steps, wrong)) => format!("smallest:\n{}{wrong}", shrink::listed(&steps)),
            None => "it does not happen to the case alone".to_owned(),
        };
        eprintln!("{shrunk}");
        found.push(format!("{what}\n{shrunk}"));
    }
    println!("seed {}, {way}: {} cases, {steps} steps, {ends} ends of the mount", seed(), done);
    println!("{answers}");
    assert!(found.is_empty(), "{} findings\n{}", found.len(), found.join("\n"));
    answers.check();
}

/// Runs what was found once, in the way the seed draws; in every way at full size.
#[track_caller]
fn again(name: &str, steps: &[Step]) {
    again_in(Way::drawn(name), name, steps);
}

/// The same with and without passthrough each time: what a kernel leaves to the daemon differs.
#[track_caller]
fn again_whoever_does_the_io(name: &str, steps: &[Step]) {
    let ways = Way::ALL.into_iter().filter(|way| full() || way.level == "fsync");
    again_in(ways.collect(), name, steps);
}

#[track_caller]
fn again_in(ways: Vec<Way>, name: &str, steps: &[Step]) {
    for way in ways {
        let world = World::with_relay(&format!("{name}-{way}"));
        let mut rig = Rig::new(&world, way);
        rig.case(steps).unwrap_or_else(|wrong| panic!("{way}: {wrong}"));
        rig.finish().unwrap_or_else(|wrong| panic!("{way}: {wrong}"));
    }
}

#[test]
fn close_waits_with_passthrough() {
    twin(Way { level: "close", passthrough: true });
}

#[test]
fn close_waits_and_the_daemon_does_all_io() {
    twin(Way { level: "close", passthrough: false });
}

#[test]
fn fsync_waits_with_passthrough() {
    twin(Way { level: "fsync", passthrough: true });
}

#[test]
fn fsync_waits_and_the_daemon_does_all_io() {
    twin(Way { level: "fsync", passthrough: false });
}
