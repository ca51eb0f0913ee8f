//! What programs in the mount were told is stored, kept outside of it, and the loss of their machine while
//! they work.
//!
//! Invariant: a change is noted as begun before its program asks for it to be stored, and as done only after
//! it was told that it is. So after any loss `done` must be there, and nothing may be there but `begun`.

use crate::support::relay::{Fate, Seen};
use crate::support::way::{no_error_logged, seed};
use crate::support::{World, mount::Mount};
use rand::{Rng, SeedableRng, rngs::StdRng};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::thread::{Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

/// How long the relay holds each request back while the programs work.
const HOLD: Duration = Duration::from_millis(30);
/// How long a program may take for what takes it a second or two on an idle machine.
const LIMIT: Duration = Duration::from_secs(200);

/// One transaction of one writer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Change {
    /// The database it was made in.
    pub database: String,
    /// Which of its writers made it.
    pub writer: u64,
    /// Its number among the writer's, counted on through all rounds.
    pub n: u64,
}

/// Every change that was begun, and every one that was acknowledged, in the order of the acknowledgements.
#[derive(Default)]
pub struct Manifest {
    begun: BTreeSet<Change>,
    done: Vec<Change>,
    /// What the last program to end in this round complained of.
    gave_up: Option<String>,
}

/// A manifest that many write at once.
#[derive(Default)]
pub struct Record {
    manifest: Mutex<Manifest>,
    changed: Condvar,
}

impl Record {
    /// Notes a change that is about to be asked for.
    fn begun(&self, change: Change) {
        self.manifest.lock().expect("manifest").begun.insert(change);
    }

    /// Notes a change that was acknowledged.
    fn done(&self, change: Change) {
        self.manifest.lock().expect("manifest").done.push(change);
        self.changed.notify_all();
    }

    /// The number that this writer's next change has to have.
    fn next(&self, database: &str, writer: u64) -> u64 {
        let manifest = self.manifest.lock().expect("manifest");
        let own = manifest.begun.iter().filter(|c| c.database == database && c.writer == writer);
        own.map(|c| c.n + 1).max().unwrap_or(0)
    }

    /// How many were acknowledged in each database.
    fn counts(&self) -> BTreeMap<String, usize> {
        let mut counts = BTreeMap::new();
        for change in &self.manifest.lock().expect("manifest").done {
            *counts.entry(change.database.clone()).or_default() += 1;
        }
        counts
    }

    /// Waits until `count` more than now were acknowledged in each of the databases; the error says why not.
    fn wait(&self, databases: &[&str], count: usize) -> Result<(), String> {
        let (before, end) = (self.counts(), Instant::now() + LIMIT);
        let of = |counts: &BTreeMap<String, usize>, name: &str| counts.get(name).copied().unwrap_or(0);
        loop {
            let now = self.counts();
            if databases.iter().all(|name| of(&now, name) >= of(&before, name) + count) {
                return Ok(());
            }
            let manifest = self.manifest.lock().expect("manifest");
            if let Some(complaint) = &manifest.gave_up {
                return Err(format!("a program gave up: {complaint}"));
            }
            if Instant::now() > end {
                return Err(format!("{count} more of each not acknowledged within {LIMIT:?}: {now:?}"));
            }
            drop(self.changed.wait_timeout(manifest, Duration::from_millis(200)).expect("manifest"));
        }
    }

    /// Notes that a program has ended by itself, with what it complained of.
    fn gave_up(&self, complaint: String) {
        self.manifest.lock().expect("manifest").gave_up = Some(complaint);
    }

    /// Panics unless what is there of a database is everything acknowledged, and nothing that was not begun.
    /// `lacking` says how many of the last acknowledged may be missing. Returns how many are.
    #[track_caller]
    pub fn check(&self, database: &str, there: &BTreeSet<Change>, lacking: usize) -> usize {
        let mut manifest = self.manifest.lock().expect("manifest");
        let done: Vec<_> = manifest.done.iter().filter(|c| c.database == database).cloned().collect();
        assert!(!done.is_empty(), "nothing was acknowledged in {database}, so nothing is shown");
        let (must, may) = done.split_at(done.len().saturating_sub(lacking));
        let lost: Vec<_> = must.iter().filter(|c| !there.contains(c)).collect();
        assert!(lost.is_empty(), "acknowledged, but not in the store: {lost:?} of {} changes", done.len());
        let invented: Vec<_> = there.iter().filter(|c| !manifest.begun.contains(c)).collect();
        assert!(invented.is_empty(), "there, but never asked for: {invented:?}");
        let missing: Vec<_> = may.iter().filter(|c| !there.contains(c)).cloned().collect();
        // What is not there now must not come back, and what is there, though it was not acknowledged, stays.
        manifest.begun.retain(|c| c.database != database || there.contains(c));
        manifest.done.retain(|c| c.database != database || !missing.contains(c));
        let known: BTreeSet<_> = manifest.done.iter().cloned().collect();
        manifest.done.extend(there.iter().filter(|c| !known.contains(c)).cloned());
        missing.len()
    }
}

/// Notes what a program says on its standard output: `begun DATABASE WRITER N` and `done DATABASE WRITER N`.
/// Its standard error goes to the file `errors`. The thread ends when the program does.
fn listen<'s>(
    scope: &'s Scope<'s, '_>,
    record: &'s Record,
    command: &mut Command,
    errors: &Path,
) -> ScopedJoinHandle<'s, ()> {
    let file = File::create(errors).expect("a file for what the program complains of");
    let errors = errors.to_owned();
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(file);
    let mut child: Child = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let said = child.stdout.take().expect("its output is a pipe");
    scope.spawn(move || {
        for line in BufReader::new(said).lines() {
            let line = line.expect("text");
            let words: Vec<&str> = line.split(' ').collect();
            let [what, database, writer, n] = words[..] else { panic!("what is {line:?}?") };
            let number = |word: &str| word.parse().unwrap_or_else(|e| panic!("{line:?}: {e}"));
            let change = Change { database: database.to_owned(), writer: number(writer), n: number(n) };
            match what {
                "begun" => record.begun(change),
                "done" => record.done(change),
                _ => panic!("what is {line:?}?"),
            }
        }
        let ended = child.wait().expect("reap the program");
        let complaint = std::fs::read_to_string(errors).expect("what it complained of");
        record.gave_up(format!("{ended}: {complaint}"));
    })
}

/// What is done in the mount until its machine is lost.
pub trait Work {
    /// The databases that are written.
    fn databases(&self) -> Vec<&'static str>;

    /// How many programs write to each.
    fn writers(&self) -> u64;

    /// A program that writes to a database, counting on from number `first`, until it cannot any more.
    fn start(&self, root: &Path, database: &str, writer: u64, first: u64) -> Command;

    /// Ends what is left of the machine: called right after the daemon was killed.
    fn killed(&self) {}

    /// Looks at every database, mounted elsewhere, with [`Record::check`]; returns the sum of what that does.
    fn check(&self, root: &Path, record: &Record) -> usize;
}

/// Loses the machine again and again in the middle of what programs do in the mount.
pub struct Losses<'w> {
    world: &'w World,
    options: Vec<&'w str>,
    random: StdRng,
    mounted: usize,
}

impl<'w> Losses<'w> {
    /// Of this world, mounted with these options each time; `name` is the test's, and tells its moments.
    pub fn new(world: &'w World, options: &[&'w str], name: &str) -> Losses<'w> {
        let hash = blake3::hash(format!("{} {name}", seed()).as_bytes());
        let options = [options, &["--takeover", "--timeout", "30s"]].concat();
        Losses { world, options, random: StdRng::from_seed(*hash.as_bytes()), mounted: 0 }
    }

    /// Mounts the session on a machine that has never seen it.
    pub fn mount_elsewhere(&mut self) -> Mount<'w> {
        self.mounted += 1;
        self.world.relay().set_delay(Duration::ZERO);
        self.world.host(&format!("machine-{}", self.mounted)).mount(&self.options)
    }

    /// Rounds of work, each ended by the loss of the machine and looked at on another. Returns the mount after
    /// the last, and how many acknowledged changes were missing where some may be.
    #[track_caller]
    pub fn rounds(&mut self, mut mount: Mount<'w>, rounds: usize, work: &impl Work) -> (Mount<'w>, usize) {
        mount.flush();
        let record = Record::default();
        let (mut counted, mut missing) = (0, 0);
        for round in 1..=rounds * 2 {
            let dropped = self.round(&mount, &record, round, work);
            no_error_logged(&mount);
            mount.lose_machine();
            mount = self.mount_elsewhere();
            missing += work.check(mount.root(), &record);
            counted += usize::from(dropped > 0);
            println!("round {round}: {dropped} requests dropped; acknowledged so far {:?}", record.counts());
            if counted == rounds {
                return (mount, missing);
            }
        }
        panic!("in only {counted} of {} rounds something was on its way to the store", rounds * 2);
    }

    /// The writers at work until the daemon is killed; returns when all of them have ended.
    #[track_caller]
    fn round(&mut self, mount: &Mount<'w>, record: &Record, round: usize, work: &impl Work) -> usize {
        record.manifest.lock().expect("manifest").gave_up = None;
        let writers = work.databases().into_iter().flat_map(|d| (0..work.writers()).map(move |w| (d, w)));
        std::thread::scope(|scope| {
            self.hold();
            for (database, writer) in writers {
                let mut command = work.start(mount.root(), database, writer, record.next(database, writer));
                let errors = self.world.local("errors").join(format!("{database}-{writer}-{round}"));
                listen(scope, record, &mut command, &errors);
            }
            let dropped = self.lose(mount, record, &work.databases());
            work.killed();
            dropped
        })
    }

    /// From now on every request is held back for a moment.
    fn hold(&self) {
        self.world.relay().reset();
        self.world.relay().set_delay(HOLD);
    }

    /// Lets the programs work until each database has had some changes acknowledged, and kills the daemon at
    /// a random moment after that, dropping what is on its way. Says how many requests that carry changes
    /// were dropped: with none, the round shows nothing and must not be counted.
    #[track_caller]
    fn lose(&mut self, mount: &Mount<'w>, record: &Record, databases: &[&str]) -> usize {
        let worked = record.wait(databases, self.random.random_range(2..=6));
        std::thread::sleep(Duration::from_millis(self.random.random_range(0..150)));
        let under_way = |seen: &Seen| seen.carries_changes() && seen.fate == Fate::UnderWay;
        let end = Instant::now() + LIMIT;
        while !self.world.relay().seen().iter().any(under_way) && worked.is_ok() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(1));
        }
        mount.kill_now();
        // After the kill, so that a failure does not leave anybody waiting.
        worked.unwrap_or_else(|why| panic!("{why}"));
        let seen = self.world.relay().seen();
        seen.iter().filter(|s| s.carries_changes() && s.is_unanswered()).count()
    }
}
