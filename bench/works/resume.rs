//! Sessions of many files, mounted on another machine: until it answers, and until more and more was read; what
//! memory and CPU they need.

use super::{Cell, Work};
use crate::raw::Raw;
use crate::sample::{Sample, Unit, Usage, cpu_seconds, memory_mb};
use crate::sources;
use crate::systems::{Kind, Mounted, System};
use crate::walk;
use std::path::Path;
use std::time::{Duration, Instant};

const fn work(name: &'static str, title: &'static str, run: fn(&Cell<'_>, &mut Sample)) -> Work {
    Work { name, title, takes, rounds: (1, 3), run }
}

/// The works, one for each number of files.
pub const SMALL: Work =
    work("resume-100", "100 files, resumed on another machine", |cell, sample| run(cell, 100, sample));
/// See [`SMALL`].
pub const MIDDLE: Work = work("resume-10000", "10,000 files, resumed on another machine", |cell, sample| {
    run(cell, 10_000, sample)
});
/// See [`SMALL`].
pub const LARGE: Work = Work {
    takes: ours,
    ..work("resume-100000", "100,000 files, resumed on another machine", |cell, sample| {
        run(cell, LARGE_FILES, sample)
    })
};
/// As many as were asked for.
pub const ASKED: Work = Work {
    takes: ours,
    ..work("resume-asked", "as many files as --files says, resumed on another machine", |cell, sample| {
        if let Some(files) = cell.asked.files {
            run(cell, files, sample);
        }
    })
};

fn ours(system: &dyn System, _quick: bool) -> bool {
    system.name() == "cwdfs-fsync"
}

fn takes(system: &dyn System, quick: bool) -> bool {
    ours(system, quick) || (!quick && system.kind() == Kind::Peer)
}

/// Until the mount answers.
pub const ANSWERS: &str = "the mount answers";
/// A small GET.
pub const ROUND_TRIP: &str = "a round trip";
/// The GETs of the checkpoints.
pub const CHECKPOINT: &str = "the checkpoints' raw GETs";
/// All is listed and looked at.
pub const WALK: &str = "walk, cold";
/// The same again.
pub const WALK_WARM: &str = "walk, warm";
/// One of 100 is read.
pub const SUBSET: &str = "read one file of 100";
/// All is read.
pub const ALL: &str = "read all";
/// Resident when nothing happens.
pub const IDLE: &str = "memory, idle";
/// The same once every file was read.
pub const IDLE_READ: &str = "memory, idle, all was read";
/// The most while the files were made.
pub const LOAD: &str = "memory, most under load";
/// While nothing happens.
pub const IDLE_CPU: &str = "CPU in 10 s of idleness";
/// Making them.
pub const MADE: &str = "files made, a second";
/// One commit.
pub const RENAME: &str = "commits for the rename of all, in one directory";

const LARGE_FILES: usize = 100_000;
const SIZE: usize = 1024;
const IN_A_DIRECTORY: usize = 1000;

fn run(cell: &Cell<'_>, files: usize, sample: &mut Sample) {
    let mounted = cell.mount("a", &["--no-publish"]);
    let meter = cell.meter(mounted.as_ref());
    let top = mounted.root().join("top");
    let start = Instant::now();
    make(&top, files);
    sample.add(MADE, Unit::PerSecond, files as f64 / start.elapsed().as_secs_f64());
    mounted.settle();
    let used = meter.read();
    sample.add_with(LOAD, Unit::Megabytes, used.peak_mb, used);
    cell.bytes_are_stored(sample, (files * SIZE) as u64);
    sample.sure(mounted.made_sure());
    rename(mounted.as_ref(), sample);
    mounted.unmount();
    raw(cell, sample);
    cold(cell, files, sample);
}

fn name(top: &Path, n: usize) -> std::path::PathBuf {
    top.join(format!("d{}", n / IN_A_DIRECTORY)).join(format!("f{n}"))
}

/// Two threads make so many files.
fn make(top: &Path, files: usize) {
    for dir in 0..=files / IN_A_DIRECTORY {
        std::fs::create_dir_all(name(top, dir * IN_A_DIRECTORY).parent().expect("it has one"))
            .expect("a directory");
    }
    let noise = sources::noise(9, SIZE + files);
    std::thread::scope(|scope| {
        for half in 0..2 {
            let noise = &noise;
            scope.spawn(move || {
                for n in (half..files).step_by(2) {
                    std::fs::write(name(top, n), &noise[n..n + SIZE]).expect("make a file");
                }
            });
        }
    });
}

/// How many commits the rename of a directory is, whatever is in it.
fn rename(mounted: &dyn Mounted, sample: &mut Sample) {
    let slot = || mounted.status().and_then(|status| status["last_slot"].as_u64());
    let Some(before) = slot() else { return };
    for (from, to) in [("top", "renamed"), ("renamed", "top")] {
        std::fs::rename(mounted.root().join(from), mounted.root().join(to)).expect("rename a directory");
        mounted.settle();
    }
    let commits = (slot().unwrap_or(before) - before) as f64 / 2.0;
    sample.add(RENAME, Unit::Count, commits);
}

/// What the store needs for a mount at the least.
fn raw(cell: &Cell<'_>, sample: &mut Sample) {
    if !cell.is_ours() {
        return;
    }
    let client = Raw::new(&cell.world);
    sample.add(ROUND_TRIP, Unit::Seconds, client.round_trip().as_secs_f64());
    let keys = cell.world.witness.keys();
    let checkpoints = keys.iter().filter(|(key, _)| key.starts_with(".cwdfs/checkpoint/"));
    let mut took = Duration::ZERO;
    let mut held = 0;
    for (key, size) in checkpoints {
        took += client.get_at(&format!("{}/{key}", cell.world.prefix)).1;
        held += size;
    }
    let usage = Usage { down: held, ..Usage::default() };
    sample.add_with(CHECKPOINT, Unit::Seconds, took.as_secs_f64(), usage);
}

fn cold(cell: &Cell<'_>, files: usize, sample: &mut Sample) {
    cell.world.relay().reset();
    let mounted = cell.mount("b", &["--no-publish"]);
    let used = cell.used_since_reset(mounted.as_ref());
    sample.add_with(ANSWERS, Unit::Seconds, mounted.ready_after().as_secs_f64(), used);
    let top = mounted.root().join("top");
    let step = |measure: &str, sample: &mut Sample, step: &mut dyn FnMut() -> walk::Total| {
        let meter = cell.meter(mounted.as_ref());
        let start = Instant::now();
        let total = step();
        sample.add_with(measure, Unit::Seconds, start.elapsed().as_secs_f64(), meter.read());
        assert_eq!(total.bytes, (total.files * SIZE) as u64, "bytes that another machine sees");
        total
    };
    let total = step(WALK, sample, &mut || walk::walk(&top));
    assert_eq!(total.files, files, "files that another machine sees");
    step(WALK_WARM, sample, &mut || walk::walk(&top));
    std::thread::sleep(Duration::from_secs(3));
    sample.add(IDLE, Unit::Megabytes, resident(mounted.as_ref()));
    let some: Vec<_> = (0..files).step_by(100).map(|n| name(&top, n)).collect();
    step(SUBSET, sample, &mut || walk::read(some.iter().map(|path| path.as_path())));
    step(ALL, sample, &mut || walk::read_all(&top));
    verify(&top, files);
    sample.sure(format!("all {files} files as written, on another machine"));
    if files >= LARGE_FILES || !cell.asked.quick {
        idle(mounted.as_ref(), sample);
    }
    mounted.unmount();
}

fn resident(mounted: &dyn Mounted) -> f64 {
    mounted.pids().iter().map(|pid| memory_mb(*pid, "VmRSS:")).sum()
}

/// What it needs while nothing happens.
fn idle(mounted: &dyn Mounted, sample: &mut Sample) {
    std::thread::sleep(Duration::from_secs(5));
    let pids = mounted.pids();
    let cpu = cpu_seconds(&pids);
    std::thread::sleep(Duration::from_secs(10));
    sample.add(IDLE_CPU, Unit::Seconds, cpu_seconds(&pids) - cpu);
    sample.add(IDLE_READ, Unit::Megabytes, resident(mounted));
}

fn verify(top: &Path, files: usize) {
    let noise = sources::noise(9, SIZE + files);
    for n in 0..files {
        let got = std::fs::read(name(top, n)).expect("read a file");
        assert!(got == noise[n..n + SIZE], "file {n}: not the bytes that were written");
    }
}
