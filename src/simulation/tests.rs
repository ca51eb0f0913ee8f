//! The runs: few for each change, many for a night.

use super::run::{Outcome, run};
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Runs for each change; up to three times as many until everything was met.
const FEW: u64 = 300;

/// What each run of the small size has to meet, by name.
const FAULTS: [&str; 22] = [
    "acknowledged",
    "clock: jumps",
    "clock: stands",
    "clock: time of day jumps",
    "closed cleanly",
    "crash: killed",
    "disk: cloned",
    "disk: lost",
    "disk: rolled back",
    "fault: 409 before the effect",
    "fault: 429 before the effect",
    "fault: 403 before the effect",
    "fault: 500 before the effect",
    "fault: 503 before the effect",
    "fault: timeout before the effect",
    "fault: effect after the error",
    "fault: journal refuses",
    "fault: lost answer",
    "fault: sent twice",
    "fault: truncated body",
    "suspended: follower",
    "suspended: longer than a lease",
];

/// More of that, which is rarer.
const RARE: [&str; 4] = ["fault: partial delete", "parked", "rounds", "sweeps"];

/// Where processes die at the store: before each request, and after its effect.
const REQUESTS: [&str; 13] = [
    "delete_many data",
    "delete_many log",
    "delete_many checkpoint",
    "get checkpoint",
    "get lease",
    "get log",
    "list checkpoint",
    "list data",
    "list log",
    "list_multipart data",
    "put checkpoint",
    "put data",
    "put lease",
];

/// Where they die at a write of their journal.
const WRITES: [&str; 13] = [
    "bind",
    "checkpoint_loaded",
    "committed",
    "forget_blobs",
    "forget_changes",
    "keep_changes",
    "record",
    "relocate",
    "reset",
    "rows",
    "salvage",
    "seen_blobs",
    "segment",
];

pub fn must_be_well(outcome: &Outcome) {
    if let Some(what) = &outcome.violation {
        panic!("{}\n\nCWDFS_TEST_SEED={} repeats it: {what}", outcome.tail, outcome.seed);
    }
}

pub fn given_seed() -> Option<u64> {
    std::env::var("CWDFS_TEST_SEED").ok().and_then(|seed| seed.parse().ok())
}

/// What all runs together came to.
#[derive(Default)]
pub struct Sum {
    pub runs: u64,
    pub steps: u64,
    pub counts: BTreeMap<String, u64>,
}

impl Sum {
    fn add(&mut self, outcome: Outcome) {
        self.runs += 1;
        self.steps += outcome.steps;
        for (what, count) in outcome.counts {
            *self.counts.entry(what).or_insert(0) += count;
        }
    }

    /// Every kind of fault and every place to die was met.
    fn must_be_whole(&self) {
        let missing = self.missing();
        assert!(missing.is_empty(), "never met in {} runs: {missing:#?}", self.runs);
    }

    fn missing(&self) -> Vec<String> {
        let deaths = |place: &str| ["before", "after"].map(|when| format!("crash: {when} {place}"));
        let named = FAULTS.iter().chain(&RARE).map(|name| (*name).to_owned());
        let requests = REQUESTS.iter().chain(&["put log"]).flat_map(|place| deaths(place));
        let writes =
            WRITES.iter().chain(&["writing_as"]).flat_map(|place| deaths(&format!("journal {place}")));
        named.chain(requests).chain(writes).filter(|name| !self.counts.contains_key(name)).collect()
    }
}

/// Runs seeds from `first` on two threads until `enough` of what was done says so.
pub fn run_many(run: fn(u64) -> Outcome, first: u64, enough: impl Fn(&Sum) -> bool + Sync) -> Sum {
    let (next, sum) = (AtomicU64::new(first), Mutex::new(Sum::default()));
    std::thread::scope(|scope| {
        let work = || {
            // A failure on the other thread has poisoned it.
            while let Ok(now) = sum.lock()
                && !enough(&now)
            {
                drop(now);
                let outcome = run(next.fetch_add(1, Ordering::Relaxed));
                let mut sum = sum.lock().unwrap();
                must_be_well(&outcome);
                sum.add(outcome);
            }
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        for thread in threads {
            if let Err(panic) = thread.join() {
                std::panic::resume_unwind(panic);
            }
        }
    });
    sum.into_inner().unwrap()
}

/// Some seeds, each twice.
pub fn must_repeat(run: fn(u64) -> Outcome) {
    for seed in [1, 5, 14] {
        let (first, second) = (run(seed), run(seed));
        assert_eq!((first.hash, first.steps), (second.hash, second.steps), "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    must_repeat(run);
}

/// Seeds that once failed.
/// - 5: a process died after recovery had brought the rows forward, and before the changes that they left behind
///   were settled; the next one replayed those over another writer's commits.
/// - 335: a follower that had fallen below the floor, and whose loading anew failed once, went on as if it had not.
/// - 50: a commit was confirmed by a renewal whose answer came after the lease had run out.
#[test]
fn seeds_that_failed_once() {
    for seed in [5, 14, 50, 335] {
        must_be_well(&run(seed));
    }
}

#[test]
fn runs_by_the_dice() {
    if let Some(seed) = given_seed() {
        return must_be_well(&run(seed));
    }
    let begin = Instant::now();
    let sum = run_many(run, 0, |sum| sum.runs >= FEW && (sum.missing().is_empty() || sum.runs >= 3 * FEW));
    println!("{} runs, {} steps in {:?}: {:#?}", sum.runs, sum.steps, begin.elapsed(), sum.counts);
    sum.must_be_whole();
}

/// Which rules the dice alone find broken, within some runs; what they never meet is in `scenarios`.
#[cfg(feature = "broken-rules")]
#[test]
fn the_dice_find_broken_rules() {
    use crate::log::rules::{Rule, breaking};
    let rules = [
        Rule::SealFirst,
        Rule::SlotOrder,
        Rule::OwnEpoch,
        Rule::CommittedWhenLanded,
        Rule::ReplayOverOwn,
        Rule::FloorIsFallback,
        Rule::StrictlyAfter,
        Rule::EnsuredBeforeAck,
        Rule::PackBeforeRows,
    ];
    for rule in rules {
        let found = (0..60).find_map(|seed| Some((seed, breaking(Some(rule), || run(seed)).violation?)));
        let Some((seed, what)) = found else { panic!("no run notices that {rule:?} is broken") };
        println!("without {rule:?}, seed {seed}: {what}");
    }
}

/// For a night: `CWDFS_TEST_SECONDS=3600 cargo test --lib simulation::tests::runs_for_long -- --ignored --nocapture`,
/// or `CWDFS_TEST_SEEDS=1000` for so many runs; from another seed each time unless `CWDFS_TEST_SEED` says where to begin.
#[test]
#[ignore = "runs for an hour"]
fn runs_for_long() {
    run_long(run).must_be_whole();
}

/// As many seeds as `CWDFS_TEST_SEEDS` says, else for as long as `CWDFS_TEST_SECONDS` does.
pub fn run_long(run: fn(u64) -> Outcome) -> Sum {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let end = Instant::now() + Duration::from_secs(number("CWDFS_TEST_SECONDS").unwrap_or(3600));
    let first = given_seed().unwrap_or_else(|| u64::from(rand::random::<u32>()) << 16);
    println!("from seed {first}");
    let sum = match number("CWDFS_TEST_SEEDS") {
        Some(seeds) => run_many(run, first, |sum| sum.runs >= seeds),
        None => run_many(run, first, |_| Instant::now() >= end),
    };
    println!("{} runs from seed {first}, {} steps: {:#?}", sum.runs, sum.steps, sum.counts);
    sum
}
