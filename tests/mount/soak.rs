//! Hours of mixed work with kills and outages: what is bounded stays so, and nothing acknowledged is lost.
//!
//! `CWDFS_TEST_SECONDS` says for how long (a minute without it, an hour at full size).

use crate::support::mount::Mount;
use crate::support::way::seed;
use crate::support::{World, eventually, full};
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use rustix::process::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How many processes work at once.
const WORKERS: usize = 8;
/// How long anything may take that takes a second or two on an idle machine.
const LIMIT: Duration = Duration::from_secs(240);
/// Bounds that a leak passes in an hour, and honest work never does: the workers keep some 45 MB alive.
const MEMORY: u64 = 600 << 20;
const DESCRIPTORS: usize = 400;
const CACHE: u64 = 400 << 20;
const SEGMENTS: usize = 1500;
const OBJECTS: usize = 3000;

/// A worker: keeps 30 files of three sizes, each replaced as careful programs do it, and notes a version once it is
/// acknowledged; appends to a transcript, makes and removes trees, rewrites a block of a larger file, reads what
/// it has and compares it. It ends when a call fails: the rig says whether it may.
const WORKER: &str = r#"
import os, random, shutil, sys
root, notes, seed = sys.argv[1], sys.argv[2], sys.argv[3]
draw = random.Random(seed)
os.makedirs(root, exist_ok=True)
note = open(notes, "a", buffering=1)
# Whatever is written from here on has a higher number than all that was ever noted.
count = max((int(line.split()[1]) for line in open(notes)), default=0)
here = os.open(root, os.O_RDONLY)
def content(slot, version):
    return (f"{slot} {version}\n" * 2000)[:(90, 6000, 20000)[slot % 3]].encode() + b"." * ((0, 0, 300000)[slot % 3])
def at(*names): return os.path.join(root, *map(str, names))
def replace(slot, version):
    with open(at(f"{slot}.new"), "wb") as file: file.write(content(slot, version))
    os.rename(at(f"{slot}.new"), at(slot))
    os.fsync(here)
    note.write(f"{slot} {version}\n")
def compare(slot):
    try: found = open(at(slot), "rb").read()
    except FileNotFoundError: return
    assert found == content(slot, int(found.split(b"\n")[0].split()[1])), slot
def tree(version):
    os.makedirs(at("tree", version, "deep"))
    for n in range(10): open(at("tree", version, n), "w").write("x" * n)
    os.rename(at("tree", version), at("tree", f"moved{version}"))
    for n in range(10): os.unlink(at("tree", f"moved{version}", n))
    os.rmdir(at("tree", f"moved{version}", "deep")); os.rmdir(at("tree", f"moved{version}"))
def transcript(version):
    with open(at("transcript"), "a") as file:
        file.write(f"{version}\n")
        if file.tell() > 200000: file.truncate(0)
def block(version):
    with open(at("large"), "r+b" if os.path.exists(at("large")) else "w+b") as file:
        file.seek(draw.randrange(500) * 4096); file.write(bytes([version % 256]) * 4096); os.fsync(file.fileno())
work = tree
try:
    # What a kill left of earlier ones.
    if os.path.exists(at("tree")): shutil.rmtree(at("tree"))
    os.makedirs(at("tree"))
    while True:
        count += 1
        work = draw.choices([replace, compare, tree, transcript, block], [6, 4, 1, 3, 2])[0]
        if work is replace: replace(draw.randrange(30), count)
        elif work is compare: compare(draw.randrange(30))
        else: work(f"{os.getpid()}-{count}" if work is tree else count)
except OSError as error:
    print(f"{work.__name__}: {error}", file=sys.stderr)
    sys.exit(3)
"#;

fn length() -> Duration {
    let seconds = match std::env::var("CWDFS_TEST_SECONDS") {
        Ok(seconds) => seconds.parse().expect("CWDFS_TEST_SECONDS is a number"),
        Err(_) if full() => 3600,
        Err(_) => 60,
    };
    Duration::from_secs(seconds)
}

/// Processes at work, ended with this.
struct Crew(Vec<Child>);

impl Crew {
    fn start(root: &Path, notes: &Path, round: u64) -> Crew {
        let worker = |n: usize| {
            let mut command = Command::new("python3");
            command.args(["-c", WORKER]).arg(root.join(format!("w{n}"))).arg(notes.join(n.to_string()));
            command.arg(format!("{} {round} {n}", seed())).stdin(Stdio::null()).stdout(Stdio::null());
            command.stderr(Stdio::piped()).spawn().expect("python3")
        };
        Crew((0..WORKERS).map(worker).collect())
    }

    #[track_caller]
    fn all_work(&mut self) {
        for child in &mut self.0 {
            let ended = child.try_wait().expect("look");
            assert!(ended.is_none(), "a worker has ended though its mount lives: {ended:?}");
        }
    }

    /// The mount is dead: they end, each because a call failed and for no other reason.
    #[track_caller]
    fn end(mut self) {
        for child in std::mem::take(&mut self.0) {
            let output = child.wait_with_output().expect("its end");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(3), "a worker found something wrong: {said}");
        }
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        for child in &mut self.0 {
            // One that has ended already is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The highest figures there were.
#[derive(Debug, Default)]
struct Most {
    memory: u64,
    descriptors: usize,
    cache: u64,
    segments: usize,
    objects: usize,
}

impl Most {
    fn look(&mut self, world: &World, mount: &Mount<'_>) {
        let keys = world.witness.keys();
        self.memory = self.memory.max(memory(mount.pid()));
        let descriptors = format!("/proc/{}/fd", mount.pid().as_raw_nonzero());
        self.descriptors = self.descriptors.max(fs::read_dir(descriptors).expect("its descriptors").count());
        self.cache = self.cache.max(on_disk(mount.cache()));
        self.segments = self.segments.max(keys.keys().filter(|key| key.starts_with(".cwdfs/log/")).count());
        self.objects = self.objects.max(keys.len());
    }

    #[track_caller]
    fn is_bounded(&self) {
        assert!(self.memory < MEMORY, "bytes of memory: {self:?}");
        assert!(self.descriptors < DESCRIPTORS, "descriptors: {self:?}");
        assert!(self.cache < CACHE, "bytes of the cache: {self:?}");
        assert!(self.segments < SEGMENTS, "segments in the log: {self:?}");
        assert!(self.objects < OBJECTS, "objects in the store: {self:?}");
    }
}

fn memory(pid: Pid) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero())).expect("its status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// Bytes that a folder takes on the disk; a file that goes meanwhile takes none.
fn on_disk(dir: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => on_disk(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// What each worker was told is stored is there, or something newer, and whole.
#[track_caller]
fn acknowledged_is_there(root: &Path, notes: &Path) -> usize {
    let mut looked = 0;
    for worker in 0..WORKERS {
        let text = fs::read_to_string(notes.join(worker.to_string())).expect("its notes");
        let noted = text.lines().filter_map(|line| line.split_once(' '));
        let newest: BTreeMap<&str, u64> =
            noted.map(|(slot, version)| (slot, version.parse().expect("a version"))).collect();
        for (slot, version) in newest {
            let path: PathBuf = root.join(format!("w{worker}")).join(slot);
            let found = fs::read(&path)
                .unwrap_or_else(|error| panic!("acknowledged, but not there: {}: {error}", path.display()));
            let head = String::from_utf8_lossy(&found[..found.len().min(40)]).into_owned();
            let shown = head.lines().next().and_then(|line| line.split_once(' ')?.1.parse::<u64>().ok());
            assert!(
                shown.is_some_and(|shown| shown >= version),
                "{}: {version} was acknowledged, this is {head:?}",
                path.display()
            );
            looked += 1;
        }
    }
    looked
}

#[test]
fn what_is_bounded_stays_so_through_kills_and_outages() {
    let world = World::with_relay("soak");
    let notes = world.local("notes");
    let mut random = StdRng::seed_from_u64(seed());
    let end = Instant::now() + length();
    let (mut most, mut round, mut kills, mut outages, mut machine) = (Most::default(), 0, 0usize, 0, 0);
    let options = ["--takeover", "--keep-for-tests", "--cache-size", "64M", "--timeout", "120s"];
    world.relay().set_delay(Duration::from_millis(10));
    let mount = loop {
        round += 1;
        let mount = world.host(&format!("machine-{machine}")).mount(&options);
        if round > 1 {
            let looked = acknowledged_is_there(mount.root(), &notes);
            println!("round {round}: {looked} acknowledged files are there; {most:?}");
        }
        if Instant::now() >= end && kills > 0 && outages > 0 {
            break mount;
        }
        let mut crew = Crew::start(mount.root(), &notes, round);
        for _ in 0..random.random_range(2..5) {
            std::thread::sleep(Duration::from_secs(random.random_range(2..5)));
            crew.all_work();
            most.look(&world, &mount);
            most.is_bounded();
            outages += 1;
            let away = Duration::from_millis(random.random_range(200..3000));
            match ["cut", "hole", "slow"].choose(&mut random) {
                Some(&"cut") => world.relay().cut(),
                Some(&"hole") => world.relay().black_hole(),
                _ => world.relay().set_delay(Duration::from_millis(400)),
            }
            std::thread::sleep(away);
            world.relay().heal();
            world.relay().set_delay(Duration::from_millis(10));
        }
        crew.all_work();
        mount.kill_now();
        crew.end();
        kills += 1;
        // Else the next one goes on with what its machine has kept.
        if random.random() {
            mount.lose_machine();
            machine += 1;
        } else {
            mount.kill();
        }
    };
    mount.flush();
    // Little is done any more: what is behind the newest checkpoint but one is collected. Of each mount its seal stays.
    let short = 200 + kills;
    eventually("the log is short", LIMIT, || {
        for n in 0..40 {
            std::fs::write(mount.path(format!("last{n}")), "once more").expect("write");
        }
        std::thread::sleep(Duration::from_secs(7));
        world.witness.keys().keys().filter(|key| key.starts_with(".cwdfs/log/")).count() < short
    });
    most.look(&world, &mount);
    most.is_bounded();
    println!("soak: seed {}, {kills} kills, {outages} outages, at most {most:?}", seed());
    mount.unmount();
}

/// Many sandboxes on one machine: each has a daemon, and each is durable.
#[test]
fn sixty_four_sessions_are_mounted_at_once_and_all_are_durable() {
    const SESSIONS: usize = 64;
    const AT_ONCE: usize = 8;
    let worlds: Vec<World> = (0..SESSIONS).map(|n| World::with_relay(&format!("many{n}"))).collect();
    let mounts: Vec<Mount<'_>> = in_waves(&worlds, AT_ONCE, |_, world| world.host("a").mount(&[]));
    let sum: u64 = mounts.iter().map(|mount| memory(mount.pid())).sum();
    println!("{SESSIONS} daemons (of a build for tests) take {} MiB", sum >> 20);
    let written: Vec<()> = in_waves(&mounts, AT_ONCE, |n, mount| {
        fs::create_dir(mount.path("d")).expect("mkdir");
        for file in 0..4 {
            let text = format!("{n} {file}");
            crate::work::write_closed(&mount.path(format!("d/{file}")), text.as_bytes()).expect("closed");
        }
    });
    assert_eq!(written.len(), SESSIONS);
    // All at the same moment, with nothing flushed.
    mounts.iter().for_each(Mount::kill_now);
    mounts.into_iter().for_each(Mount::lose_machine);
    in_waves(&worlds, AT_ONCE, |n, world| {
        let mount = world.host("b").mount(&["--takeover"]);
        for file in 0..4 {
            let found = fs::read_to_string(mount.path(format!("d/{file}")));
            assert_eq!(found.expect("closed, so it is there"), format!("{n} {file}"));
        }
        mount.unmount();
    });
}

/// Does something with each, so many at once; the results in order.
fn in_waves<'t, T: Sync, R: Send>(
    things: &'t [T],
    at_once: usize,
    work: impl Fn(usize, &'t T) -> R + Sync,
) -> Vec<R> {
    let mut results = Vec::new();
    for (wave, chunk) in things.chunks(at_once).enumerate() {
        std::thread::scope(|threads| {
            let work = &work;
            let at = |(n, thing)| threads.spawn(move || work(wave * at_once + n, thing));
            let running: Vec<_> = chunk.iter().enumerate().map(at).collect();
            results.extend(running.into_iter().map(|run| run.join().expect("see its panic above")));
        });
    }
    results
}
