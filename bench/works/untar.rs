//! A tar of 2,000 files, 11 MB: unpacked, read on another machine, read again, its directories renamed.

use super::{Cell, QUICK_PEERS, Work, one_of};
use crate::raw::Raw;
use crate::sample::{Sample, Unit, Usage};
use crate::sources::{self, TAR_FILES};
use crate::systems::{Kind, Mounted};
use crate::{shell, walk};
use std::path::Path;
use std::time::{Duration, Instant};

/// The work.
pub const WORK: Work = Work {
    name: "untar",
    title: "a tar of 2,000 files, 11 MB; then another machine reads it",
    takes: |system, quick| match system.kind() {
        Kind::Limit => system.name() != "bare-checked" && (!quick || system.name() != "bare-passthrough"),
        Kind::Raw => true,
        Kind::Ours => !quick || one_of(system, &["cwdfs-fsync", "cwdfs-close", "cwdfs-batch"]),
        Kind::Peer => !quick || one_of(system, &QUICK_PEERS),
    },
    rounds: (1, 3),
    run,
};

/// Its measures.
pub const CALLER: &str = "untar, the caller goes on";
/// Until the store has all.
pub const STORED: &str = "untar, all in the store";
/// The serial PUTs of the same files.
pub const PUTS: &str = "2,000 PUTs, one after another";
/// One GET of as many bytes.
pub const GET: &str = "one GET of the same bytes";
/// On another machine: the mount.
pub const MOUNT: &str = "cold: the mount answers";
/// On another machine: the mount, and all is read.
pub const COLD: &str = "cold: mounted, and all is read";
/// Again.
pub const WARM: &str = "read all, warm";
/// The names and attributes again.
pub const WALK: &str = "walk all, warm";
/// 20 directories, until the caller goes on.
pub const RENAME: &str = "rename 20 directories, the caller goes on";
/// 20 directories, until the store has it.
pub const RENAMED: &str = "rename 20 directories, all in the store";

/// How often what is warm is done, so that it takes long enough.
const WARM_PASSES: u32 = 5;

fn run(cell: &Cell<'_>, sample: &mut Sample) {
    if cell.system.kind() == Kind::Raw {
        return raw(cell, sample);
    }
    let tar = sources::tar();
    let mounted = cell.mount("a", &["--no-publish"]);
    let meter = cell.meter(mounted.as_ref());
    let start = Instant::now();
    let mut untar = mounted.command("tar");
    let caller = shell::timed(untar.arg("-C").arg(mounted.root()).arg("-xf").arg(&tar.archive));
    let stored = mounted.settle() - start;
    sample.add(CALLER, Unit::Seconds, caller.as_secs_f64());
    sample.add_with(STORED, Unit::Seconds, stored.as_secs_f64(), meter.read());
    cell.bytes_are_stored(sample, tar.bytes);
    sample.sure(mounted.made_sure());
    if cell.asked.quick && cell.system.name() == "rclone" {
        // Its cold read takes minutes.
        mounted.lose();
        return;
    }
    rename(cell, mounted.as_ref(), sample);
    if cell.is_bare() {
        // It keeps nothing: what is warm is read where it was written.
        walk::assert_same(&tar.tree, mounted.root());
        warm(mounted.as_ref(), sample);
        mounted.unmount();
    } else {
        mounted.lose();
        cold(cell, &tar.tree, sample);
    }
}

/// Renames 20 of its directories and back, 50 files in each.
fn rename(cell: &Cell<'_>, mounted: &dyn Mounted, sample: &mut Sample) {
    let meter = cell.meter(mounted);
    let (mut caller, mut stored) = (Duration::ZERO, Duration::ZERO);
    let mut usage = Usage::default();
    for (from, to) in [("d", "moved"), ("moved", "d")] {
        let start = Instant::now();
        for n in 0..20 {
            let path = |name: &str| mounted.root().join(format!("{name}{n:02}"));
            std::fs::rename(path(from), path(to)).expect("rename a directory");
        }
        if from == "d" {
            caller = start.elapsed();
            stored = mounted.settle() - start;
            usage = meter.read();
        } else {
            mounted.settle();
        }
    }
    sample.add(RENAME, Unit::Seconds, caller.as_secs_f64());
    sample.add_with(RENAMED, Unit::Seconds, stored.as_secs_f64(), usage);
}

/// Another machine mounts it and reads all.
fn cold(cell: &Cell<'_>, source: &Path, sample: &mut Sample) {
    cell.world.relay().reset();
    let mounted = cell.mount("b", &["--no-publish", "--takeover"]);
    let ready = mounted.ready_after();
    let start = Instant::now();
    let total = walk::read_all(mounted.root());
    let read = start.elapsed();
    let used = cell.used_since_reset(mounted.as_ref());
    assert_eq!(total.files, TAR_FILES, "the files that another machine sees");
    sample.add(MOUNT, Unit::Seconds, ready.as_secs_f64());
    sample.add_with(COLD, Unit::Seconds, (ready + read).as_secs_f64(), used);
    walk::assert_same(source, mounted.root());
    sample.sure(format!("all {TAR_FILES} files as written, on another machine"));
    warm(mounted.as_ref(), sample);
    mounted.unmount();
}

fn warm(mounted: &dyn Mounted, sample: &mut Sample) {
    let start = Instant::now();
    for _ in 0..WARM_PASSES {
        walk::read_all(mounted.root());
    }
    sample.add(WARM, Unit::Seconds, (start.elapsed() / WARM_PASSES).as_secs_f64());
    let start = Instant::now();
    for _ in 0..WARM_PASSES {
        walk::walk(mounted.root());
    }
    sample.add(WALK, Unit::Seconds, (start.elapsed() / WARM_PASSES).as_secs_f64());
}

/// The same bytes without a file system. A quick run sends every tenth file and counts it ten times.
fn raw(cell: &Cell<'_>, sample: &mut Sample) {
    let tar = sources::tar();
    let client = Raw::new(&cell.world);
    let files = walk::files(&tar.tree).expect("list the tree");
    let step = cell.asked.size(10, 1);
    let mut took = Duration::ZERO;
    for (n, (path, _)) in files.iter().enumerate().step_by(step) {
        took += client.put(&n.to_string(), std::fs::read(path).expect("a file of the tree"));
    }
    sample.add(PUTS, Unit::Seconds, took.as_secs_f64() * step as f64);
    let whole = sources::noise(1, tar.bytes as usize);
    client.put("whole", whole.clone());
    let (bytes, took) = client.get("whole");
    assert!(bytes == whole, "not the bytes that were written");
    sample.add(GET, Unit::Seconds, took.as_secs_f64());
}
