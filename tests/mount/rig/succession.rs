//! Hosts that fight for one session: each term has one rightful writer, and ends in one of the ways there are.
//!
//! Every write that anybody was told is stored has to be there in the end, under a name of its own: a loser that
//! goes on to acknowledge shows as a loss. `CWDFS_TEST_TERMS` says how many terms there are.

use crate::support::mount::Mount;
use crate::support::network::{Network, Segment};
use crate::support::relay::Relay;
use crate::support::seaweed;
use crate::support::way::seed;
use crate::support::world::Host;
use crate::support::{World, eventually, full};
use crate::work::{noise, write_closed};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long anything may take that takes seconds on an idle machine.
const LIMIT: Duration = Duration::from_secs(90);
/// What all holders write over: the number of the term and of the write.
const COUNTER: &str = "counter";
/// What a loser has only in its cache.
const LONELY: &str = "lonely.lazy";

/// How a term ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    /// The holder unmounts, and the next mounts.
    Unmount,
    /// The holder is killed, and the next waits until its lease is over.
    Expiry,
    /// The next takes over from a holder that works.
    Takeover,
    /// The holder is stopped, succeeded, and wakes up.
    Paused,
    /// The holder is cut off, succeeded, and is back.
    Partitioned,
    /// The holder works, and two others take over at once.
    Race,
}

const ENDS: [End; 6] = [End::Unmount, End::Expiry, End::Takeover, End::Paused, End::Partitioned, End::Race];

const OPTIONS: [&str; 8] =
    ["--lease-ttl", "3s", "--park-after", "never", "--lazy", "*.lazy", "--timeout", "60s"];

/// A renewal that had reached the store may still be answered: whoever mounts in that moment sees a holder that renews.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

fn is_stale(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error())
}

fn terms() -> usize {
    match std::env::var("CWDFS_TEST_TERMS") {
        Ok(terms) => terms.parse().expect("CWDFS_TEST_TERMS is a number"),
        Err(_) if full() => 120,
        Err(_) => ENDS.len(),
    }
}

#[test]
fn hosts_that_fight_for_a_session_lose_no_acknowledged_write() {
    let network = Network::new();
    let world = World::over("duel", seaweed::shared(), &network);
    let mut random = StdRng::from_seed(*blake3::hash(format!("{} duel", seed()).as_bytes()).as_bytes());
    let mut duel = Duel::new(&world, &network);
    let mut holder = duel.mount(&[]);
    let mut ends: Vec<End> = Vec::new();
    for term in 0..terms() as u64 {
        // Each of them comes by in each six terms, in an order that is drawn.
        let left: Vec<End> = ENDS.into_iter().filter(|end| !ends.contains(end)).collect();
        let end = *left.choose(&mut random).expect("one is left");
        ends.push(end);
        if ends.len() == ENDS.len() {
            ends.clear();
        }
        let after = Duration::from_millis(random.random_range(300..900));
        holder = duel.term(term, end, after, holder);
        println!("term {term} ended by {end:?}; {} writes acknowledged", duel.record.count());
    }
    holder.unmount();
    let last = duel.mount(&[]);
    duel.check(&last);
    last.unmount();
}

/// What was written: by name, whether it was acknowledged.
#[derive(Default)]
struct Record(Mutex<BTreeMap<String, bool>>);

impl Record {
    fn note(&self, name: &str, acknowledged: bool) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), acknowledged);
    }

    fn all(&self) -> BTreeMap<String, bool> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn count(&self) -> usize {
        self.all().values().filter(|acknowledged| **acknowledged).count()
    }
}

/// What a write of this name has in it.
fn content(name: &str) -> Vec<u8> {
    let seed = name.bytes().fold(7, |seed: u64, b| seed.wrapping_mul(31).wrapping_add(b.into()));
    noise([90, 4000, 300_000][(seed % 3) as usize], seed)
}

struct Duel<'w> {
    world: &'w World,
    machines: Vec<(String, Segment)>,
    /// The next machine to mount.
    next: usize,
    record: Record,
}

impl<'w> Duel<'w> {
    fn new(world: &'w World, network: &Network) -> Duel<'w> {
        let machines = (0..4).map(|n| (format!("host-{n}"), network.machine())).collect();
        Duel { world, machines, next: 0, record: Record::default() }
    }

    /// The next machine, which nobody uses.
    fn next_host(&mut self) -> (Host<'w>, Segment) {
        let (name, segment) = &self.machines[self.next % self.machines.len()];
        self.next += 1;
        (self.world.host(name).behind(segment.clone()), segment.clone())
    }

    fn relay(&self) -> &'w Relay {
        self.world.relay()
    }

    fn mount(&mut self, options: &[&str]) -> Mount<'w> {
        self.next_host().0.mount(&[&OPTIONS, options].concat())
    }

    /// The machine that has mounted last.
    fn segment(&self) -> Segment {
        self.machines[(self.next - 1) % self.machines.len()].1.clone()
    }

    /// One term of a holder that writes all the time, until another holds the session; returns that.
    #[track_caller]
    fn term(&mut self, term: u64, end: End, after: Duration, holder: Mount<'w>) -> Mount<'w> {
        let stop = AtomicBool::new(false);
        let (record, before) = (std::mem::take(&mut self.record), self.segment());
        let (holder, next) = std::thread::scope(|scope| {
            let root = holder.root().to_owned();
            let writer = scope.spawn(|| write_on(root, term, &record, &stop));
            let first = record.count();
            eventually("the holder writes", LIMIT, || record.count() > first + 3);
            std::thread::sleep(after);
            let (holder, next) = self.succeed(end, holder, &before, &stop);
            let last = writer.join().expect("the writer");
            self.lost(end, holder.as_ref(), last);
            (holder, next)
        });
        self.record = record;
        self.check(&next);
        if let Some(holder) = holder {
            self.kept(end, holder);
        }
        next
    }

    /// Ends a term; the holder is handed back when it lives and was succeeded.
    #[track_caller]
    fn succeed(
        &mut self,
        end: End,
        mut holder: Mount<'w>,
        link: &Segment,
        stop: &AtomicBool,
    ) -> (Option<Mount<'w>>, Mount<'w>) {
        match end {
            End::Unmount => {
                stop.store(true, Ordering::SeqCst);
                eventually("nobody works there", LIMIT, || holder.run("unmount", &[]).code == Some(0));
                holder.wait_end(LIMIT);
                (None, self.mount(&[]))
            }
            End::Expiry => {
                holder.kill();
                (None, self.mount(&[]))
            }
            End::Takeover => {
                let next = self.mount(&["--takeover"]);
                (Some(holder), next)
            }
            End::Paused => {
                holder.signal(Signal::STOP);
                std::thread::sleep(LAST_ANSWERS);
                let next = self.mount(&[]);
                holder.signal(Signal::CONT);
                (Some(holder), next)
            }
            End::Partitioned => {
                link.unplug();
                self.relay().drop_held();
                // At a lazy close nobody waits, so this is told to be written, and nowhere but here.
                write_closed(&holder.path(LONELY), &content(LONELY)).expect("a lazy close does not wait");
                std::thread::sleep(LAST_ANSWERS);
                let next = self.mount(&[]);
                link.plug();
                (Some(holder), next)
            }
            End::Race => (Some(holder), self.race()),
        }
    }

    /// Two take over at once: one has it in the end, the other is told that it has not.
    #[track_caller]
    fn race(&mut self) -> Mount<'w> {
        let options = [&OPTIONS[..], &["--takeover"]].concat();
        let ((first, at), (second, _)) = (self.next_host(), self.next_host());
        let start = |host: &Host<'w>| host.start(host.mount_command(&options));
        let (first, second) = std::thread::scope(|scope| {
            let one = scope.spawn(|| start(&first));
            let two = start(&second);
            (one.join().expect("a mount"), two)
        });
        drop(at);
        match (first, second) {
            (Ok(mount), Err(ran)) => {
                ran.exits(7);
                // The machine at hand is the one that has it.
                self.next -= 1;
                mount
            }
            (Err(ran), Ok(mount)) => {
                ran.exits(7);
                mount
            }
            (Ok(one), Ok(two)) => self.winner(one, two),
            (Err(one), Err(two)) => panic!("nobody has it: {one}\n{two}"),
        }
    }

    /// Both answered, one after the other: the one that was succeeded is told by its next write.
    #[track_caller]
    fn winner(&mut self, one: Mount<'w>, two: Mount<'w>) -> Mount<'w> {
        let tries = |mount: &Mount<'_>| write_closed(&mount.path("winner"), b"me");
        match (tries(&one), tries(&two)) {
            (Err(error), Ok(())) => {
                assert!(is_stale(&error), "{error}");
                two
            }
            (Ok(()), Err(error)) => {
                assert!(is_stale(&error), "{error}");
                self.next -= 1;
                one
            }
            // The first wrote before it was succeeded.
            (Ok(()), Ok(())) => {
                let again = tries(&one).expect_err("two writers at once");
                assert!(is_stale(&again), "{again}");
                two
            }
            (Err(one), Err(two)) => panic!("neither may write: {one}, {two}"),
        }
    }

    /// The loser's callers get ESTALE, from the first that failed on.
    #[track_caller]
    fn lost(&self, end: End, holder: Option<&Mount<'_>>, last: Option<std::io::Error>) {
        let Some(holder) = holder else { return };
        let last = last.expect("the writer ends by an error");
        assert!(is_stale(&last), "{end:?}: the loser's caller got {last}");
        let error = write_closed(&holder.path("never"), b"x").expect_err("it was succeeded");
        assert!(is_stale(&error), "{end:?}: a later caller got {error}");
        holder.wait_status("status says so", LIMIT, |status| status["state"] == "fenced");
    }

    /// What the loser had not stored is in its cache, and can be copied out of it.
    #[track_caller]
    fn kept(&self, end: End, holder: Mount<'w>) {
        let cache = holder.cache().to_owned();
        holder.run("unmount", &["--force"]).exits(7);
        drop(holder);
        if end == End::Partitioned {
            self.world.run(["salvage", "--list", &cache.display().to_string()]).says(&[LONELY]);
            let to = cache.with_file_name(format!("rescued-{}", self.next));
            let args = ["salvage", "--to", &to.display().to_string(), &cache.display().to_string()];
            let ran = self.world.run(args);
            let rescued =
                find(&to, LONELY).unwrap_or_else(|| panic!("{LONELY} is not in {}: {ran}", to.display()));
            assert!(fs::read(&rescued).expect("read") == content(LONELY), "{} differs", rescued.display());
        }
        // The machine is new when it is used again.
        fs::remove_dir_all(&cache).expect("wipe");
    }

    /// Everything acknowledged is there, whoever wrote it, and nothing has bytes that nobody wrote.
    #[track_caller]
    fn check(&self, mount: &Mount<'_>) {
        for (name, acknowledged) in self.record.all() {
            match fs::read(mount.path(&name)) {
                Ok(found) if found == content(&name) => {}
                Ok(found) if found.is_empty() && !acknowledged => {}
                Ok(found) => panic!("{name} has {} bytes that nobody wrote", found.len()),
                Err(error) => assert!(!acknowledged, "acknowledged, but not in the store: {name}: {error}"),
            }
        }
    }
}

/// Writes new files, and over one that all holders write, until told to stop or refused. Returns the refusal.
fn write_on(
    root: std::path::PathBuf,
    term: u64,
    record: &Record,
    stop: &AtomicBool,
) -> Option<std::io::Error> {
    for n in 0.. {
        if stop.load(Ordering::SeqCst) {
            return None;
        }
        let name = format!("t{term}-{n}");
        record.note(&name, false);
        if let Err(error) = write_closed(&root.join(&name), &content(&name)) {
            return Some(error);
        }
        record.note(&name, true);
        if n % 4 == 0
            && let Err(error) = write_closed(&root.join(COUNTER), format!("{term} {n}").as_bytes())
        {
            return Some(error);
        }
    }
    None
}

/// The first file of this name below a directory.
fn find(dir: &Path, name: &str) -> Option<std::path::PathBuf> {
    for entry in fs::read_dir(dir).ok()?.flatten() {
        let path = entry.path();
        if path.is_dir() {
            if let Some(found) = find(&path, name) {
                return Some(found);
            }
        } else if path.file_name().is_some_and(|file| file == name) {
            return Some(path);
        }
    }
    None
}
