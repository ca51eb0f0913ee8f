//! The processes of one round, from their start until they have noticed that the mount is dead.

use super::history::{History, Level};
use super::ops;
use super::worker::Task;
use crate::support::World;
use crate::support::mount::Mount;
use crate::support::way::seed;
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

/// How many processes work at once.
const WORKERS: u64 = 4;
/// How long anything may take that takes a second or two on an idle machine.
pub const LIMIT: Duration = Duration::from_secs(300);

/// A draw of its own for each purpose, from the run's seed.
pub fn random(of: &str) -> StdRng {
    StdRng::from_seed(*blake3::hash(format!("{} rig {of}", seed()).as_bytes()).as_bytes())
}

/// Processes at work; they end with this, whatever happens.
pub struct Crew {
    children: Vec<Child>,
    notes: Vec<PathBuf>,
}

impl Crew {
    /// Starts them in a round's directory; each is the last words of what `runner` makes.
    pub fn start(world: &World, round: u64, dir: &Path, runner: impl Fn() -> Command) -> Crew {
        std::fs::create_dir_all(dir.join("shared")).expect("the directory that they share");
        let task = |worker| {
            let mut seed = [0; 32];
            random(&format!("round {round} worker {worker}")).fill(&mut seed);
            let notes = world.local("notes").join(format!("r{round}-w{worker}"));
            let first = (round * WORKERS + worker) * 1_000_000;
            Task { seed, dir: dir.to_owned(), notes, worker, first }
        };
        let tasks: Vec<Task> = (0..WORKERS).map(task).collect();
        let children = tasks.iter().map(|task| task.start(runner())).collect();
        Crew { children, notes: tasks.into_iter().map(|task| task.notes).collect() }
    }

    /// What each has noted so far.
    pub fn histories(&self) -> Vec<History> {
        self.notes.iter().map(|notes| History::of(ops::read(notes))).collect()
    }

    /// Waits until so many more calls that wait have returned.
    #[track_caller]
    pub fn wait_acknowledged(&self, mount: &Mount<'_>, level: Level, more: usize) {
        let count =
            |histories: &[History]| histories.iter().map(|history| history.barriers(level).len()).sum();
        let (before, start): (usize, _) = (count(&self.histories()), Instant::now());
        loop {
            let histories = self.histories();
            if count(&histories) >= before + more {
                return;
            }
            let mut last = histories.iter().filter_map(|history| history.0.last());
            let failed = last.find(|entry| entry.failed.is_some());
            assert!(failed.is_none(), "{failed:?}; the daemon:\n{}", tail(&mount.log()));
            assert!(start.elapsed() < LIMIT, "not {more} more acknowledged within {LIMIT:?}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Waits until they have ended, which they do when the mount is dead; nothing may have failed before `killed`.
    #[track_caller]
    pub fn end(mut self, killed: u64) -> Vec<History> {
        let start = Instant::now();
        while self.children.iter_mut().any(|child| child.try_wait().expect("look at a process").is_none()) {
            assert!(start.elapsed() < LIMIT, "a process goes on without its mount");
            std::thread::sleep(Duration::from_millis(2));
        }
        let histories = self.histories();
        for entry in histories.iter().flat_map(|history| &history.0) {
            let too_early = entry.failed.filter(|(_, at)| *at < killed);
            assert!(too_early.is_none(), "it failed before the kill: {entry:?}");
        }
        histories
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in &mut self.children {
            // One that has ended already is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn tail(log: &str) -> &str {
    &log[log.ceil_char_boundary(log.len().saturating_sub(6000))..]
}
