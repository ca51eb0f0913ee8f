//! The works that are measured.

use crate::Asked;
use crate::report::{Figure, Report, percentile};
use crate::support::World;
use crate::support::mount::Mount;
use crate::support::relay::Relay;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// A work: measures, and adds its figures.
pub type Work = fn(&Asked, &mut Report);

/// All works, by name.
pub const ALL: &[(&str, Work)] = &[("close", close), ("untar", untar), ("memory", memory)];

const CLOSES: usize = 200;
const TAR_FILES: usize = 2_000;

/// close(2) of 4 KiB against a PUT of the same bytes, alternating.
fn close(asked: &Asked, report: &mut Report) {
    let world = World::with_relay("bench-close");
    let mount = world.host("a").mount(&["--no-publish"]);
    world.relay().set_delay(asked.rtt);
    let body = vec![7u8; 4096];
    let witness = world.relayed_witness();
    let (mut closes, mut puts) = (Vec::new(), Vec::new());
    for n in 0..CLOSES {
        let mut file = fs::File::create(mount.path(format!("f{n}"))).expect("create");
        file.write_all(&body).expect("write");
        closes.push(time(|| nix::unistd::close(file).expect("a close that is stored")));
        puts.push(time(|| witness.put(&format!("raw/{n}"), body.clone())));
    }
    let ratio = |share| percentile(&closes, share) / percentile(&puts, share);
    let note = format!("{:.2}x / {:.2}x a raw PUT (p50 / p99)", ratio(0.5), ratio(0.99));
    report.add(Figure {
        work: "close(2) of 4 KiB",
        system: "cwdfs close".into(),
        samples: closes,
        unit: "ms",
        note,
    });
    let note = String::new();
    report.add(Figure {
        work: "close(2) of 4 KiB",
        system: "raw PUT".into(),
        samples: puts,
        unit: "ms",
        note,
    });
    mount.unmount();
}

/// untar of 2,000 files at each level; then the machine is lost, and another one mounts and reads all.
fn untar(asked: &Asked, report: &mut Report) {
    for level in ["fsync", "close", "sync"] {
        let world = World::with_relay(&format!("bench-untar-{level}"));
        let source = world.local("source");
        make_tree(&source);
        let tar = world.local("tar").join("t.tar");
        run(Command::new("tar").arg("-C").arg(&source).arg("-cf").arg(&tar).arg("."));
        let local = world.local("target");
        let alone = time(|| run(Command::new("tar").arg("-C").arg(&local).arg("-xf").arg(&tar))) / 1e3;
        report.single("untar 2,000 files", "local disk", alone, "s", String::new());

        let mount = world.host("a").mount(&["--no-publish", "--durability", level]);
        world.relay().set_delay(asked.rtt);
        world.relay().reset();
        let start = Instant::now();
        run(Command::new("tar").arg("-C").arg(mount.root()).arg("-xf").arg(&tar));
        let caller = start.elapsed();
        mount.flush();
        let stored = start.elapsed();
        let note =
            format!("until all is in the store {:.2} s; {}", stored.as_secs_f64(), requests(world.relay()));
        report.single("untar 2,000 files", format!("cwdfs {level}"), caller.as_secs_f64(), "s", note);
        mount.lose_machine();
        cold(&world, level, &source, report);
    }
}

/// Mounts on a fresh machine and reads everything.
fn cold(world: &World, level: &str, source: &Path, report: &mut Report) {
    world.relay().reset();
    let host = world.host("b");
    let mount = host.mount(&["--takeover", "--no-publish"]);
    let mounted = mount.ready_after;
    let note = requests(world.relay());
    report.single(
        "cold mount",
        format!("cwdfs, written at {level}"),
        mounted.as_secs_f64() * 1e3,
        "ms",
        note,
    );
    world.relay().reset();
    let read = time(|| read_all(mount.root())) / 1e3;
    let note = requests(world.relay());
    report.single("read all 2,000 cold", format!("cwdfs, written at {level}"), read, "s", note);
    let warm = time(|| read_all(mount.root())) / 1e3;
    report.single("read all 2,000 warm", "cwdfs", warm, "s", String::new());
    run(Command::new("diff").arg("-r").arg("--exclude=.cwdfs").arg(source).arg(mount.root()));
    mount.unmount();
}

fn read_all(root: &Path) {
    let pipe = "find . -type f -print0 | xargs -0 cat > /dev/null";
    run(Command::new("sh").arg("-c").arg(pipe).current_dir(root));
}

/// Resident memory with many files, of the writer and of a fresh mount; the fresh mount's time.
fn memory(asked: &Asked, report: &mut Report) {
    let world = World::with_relay("bench-memory");
    let mount = world.host("a").mount(&["--no-publish", "--durability", "fsync"]);
    let empty = resident(&mount);
    let start = Instant::now();
    for n in 0..asked.files {
        let dir = mount.path(format!("d{:03}", n / 1000));
        if n % 1000 == 0 {
            fs::create_dir(&dir).expect("mkdir");
        }
        fs::write(dir.join(format!("f{n}")), format!("content of file {n}\n")).expect("write");
    }
    let rate = asked.files as f64 / start.elapsed().as_secs_f64();
    mount.flush();
    let note = format!("{empty:.0} MB when empty; {rate:.0} creates/s");
    report.single(
        "resident memory",
        format!("writer of {} files", asked.files),
        resident(&mount),
        "MB",
        note,
    );
    mount.unmount();
    world.relay().set_delay(asked.rtt);
    world.relay().reset();
    let mount = world.host("b").mount(&["--no-publish"]);
    let took = mount.ready_after.as_secs_f64() * 1e3;
    report.single("cold mount", format!("{} files", asked.files), took, "ms", requests(world.relay()));
    let walk = time(|| run(Command::new("find").arg(mount.root()).arg("-newer").arg("/proc/1"))) / 1e3;
    let note = format!("walk of all {walk:.2} s");
    report.single(
        "resident memory",
        format!("fresh mount of {} files", asked.files),
        resident(&mount),
        "MB",
        note,
    );
    mount.unmount();
}

fn make_tree(root: &Path) {
    for n in 0..TAR_FILES {
        let dir = root.join(format!("d{:02}", n / 50));
        if n % 50 == 0 {
            fs::create_dir(&dir).expect("mkdir");
        }
        // 11 MB in all; no two files alike, so that nothing can be shared.
        let size = 1_000 + (n * 7919) % 9_000;
        let bytes: Vec<u8> = (0..size).map(|i| ((i * 31 + n * 17) ^ (i >> 3) ^ n) as u8).collect();
        fs::write(dir.join(format!("f{n}")), bytes).expect("write");
    }
}

fn resident(mount: &Mount<'_>) -> f64 {
    let status = fs::read_to_string(format!("/proc/{}/status", mount.pid())).expect("the daemon's status");
    let line = status.lines().find(|l| l.starts_with("VmRSS:")).expect("VmRSS");
    let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
    kib / 1024.0
}

fn requests(relay: &Relay) -> String {
    let (up, down) = relay.bytes();
    let counts: Vec<String> = relay.counts().iter().map(|(kind, n)| format!("{n} {kind:?}")).collect();
    format!("{}; {:.1} MB up, {:.1} MB down", counts.join(", "), up as f64 / 1e6, down as f64 / 1e6)
}

/// Milliseconds that `work` takes.
fn time(work: impl FnOnce()) -> f64 {
    let start = Instant::now();
    work();
    let took: Duration = start.elapsed();
    took.as_secs_f64() * 1e3
}

fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}
