//! Sequential and random I/O of fio, on files that the kernel may have in its cache.

use super::{Cell, Work, one_of};
use crate::sample::{Sample, Unit};
use crate::shell;
use serde_json::Value;
use std::collections::BTreeMap;
use std::process::Command;

/// The work.
pub const WORK: Work = Work {
    name: "fio",
    title: "fio, warm",
    takes: |system, _| {
        one_of(system, &["local", "bare", "bare-passthrough", "cwdfs-fsync", "cwdfs-fsync-daemon"])
    },
    rounds: (1, 3),
    run,
};

/// A way to read or write.
#[derive(Debug, Clone, Copy)]
pub struct Job {
    /// `read`, `write`, `randread`, `randwrite`.
    pub rw: &'static str,
    /// Bytes of each: `4k` or `1m`.
    pub block: &'static str,
    /// `psync` or `mmap`.
    pub engine: &'static str,
    /// How many at once.
    pub jobs: u32,
}

impl Job {
    /// Its measure.
    pub fn name(self) -> String {
        format!("{} {}, {}, {} at once", self.rw, self.block, self.engine, self.jobs)
    }
}

/// Those of a quick run.
pub const QUICK: [Job; 4] = [
    Job { rw: "read", block: "1m", engine: "psync", jobs: 1 },
    Job { rw: "randread", block: "4k", engine: "psync", jobs: 1 },
    Job { rw: "write", block: "1m", engine: "psync", jobs: 1 },
    Job { rw: "randwrite", block: "4k", engine: "psync", jobs: 1 },
];

fn jobs(quick: bool) -> Vec<Job> {
    if quick {
        return QUICK.to_vec();
    }
    let mut all = Vec::new();
    for engine in ["psync", "mmap"] {
        for jobs in [1, 8] {
            for rw in ["read", "randread", "write", "randwrite"] {
                all.extend(["4k", "1m"].map(|block| Job { rw, block, engine, jobs }));
            }
        }
    }
    all
}

fn run(cell: &Cell<'_>, sample: &mut Sample) {
    let mounted = cell.mount("a", &["--no-publish"]);
    let (size, seconds) = cell.asked.size(("128m", "2"), ("256m", "5"));
    for (n, job) in jobs(cell.asked.quick).into_iter().enumerate() {
        // Files of its own: how a file is opened decides how it is opened next.
        let dir = mounted.root().join(format!("fio{n}"));
        std::fs::create_dir(&dir).expect("a directory");
        let opened = mounted.opens();
        let mut fio = Command::new("fio");
        fio.arg("--name=job").arg(format!("--directory={}", dir.display())).arg(format!("--rw={}", job.rw));
        fio.arg(format!("--bs={}", job.block)).arg(format!("--ioengine={}", job.engine));
        fio.arg(format!("--numjobs={}", job.jobs)).arg(format!("--size={}", share(size, job.jobs)));
        fio.args(["--group_reporting", "--output-format=json", "--invalidate=0", "--time_based"]);
        fio.arg(format!("--runtime={seconds}")).arg("--fallocate=none").args(["--ramp_time=1"]);
        let said = shell::run(&mut fio);
        let said: Value = serde_json::from_str(&said).unwrap_or_else(|e| panic!("fio said {said}: {e}"));
        let part = &said["jobs"][0][if job.rw.ends_with("read") { "read" } else { "write" }];
        let bytes = part["bw_bytes"].as_f64().unwrap_or_else(|| panic!("fio said no bandwidth: {said}"));
        assert_eq!(said["jobs"][0]["error"], 0, "fio's own check");
        sample.add(job.name(), Unit::MegabytesPerSecond, bytes / 1e6);
        mode(cell, job, &opened, &mounted.opens(), sample);
        std::fs::remove_dir_all(&dir).expect("take it away");
    }
    mounted.settle();
    sample.sure(mounted.made_sure());
    mounted.unmount();
}

/// Makes sure that cwdfs has opened the files in the mode that is measured, and says which that was.
fn mode(
    cell: &Cell<'_>,
    job: Job,
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
    sample: &mut Sample,
) {
    if !cell.is_ours() {
        return;
    }
    let opened = |mode: &str| {
        let count = |opens: &BTreeMap<String, u64>| opens.get(mode).copied().unwrap_or(0);
        count(after) - count(before)
    };
    let bypassed = opened("passthrough") + opened("passthrough_direct");
    match cell.system.name().as_str() {
        "cwdfs-fsync" if job.rw.ends_with("read") => {
            assert!(bypassed > 0, "{}: not opened in passthrough", job.name())
        }
        "cwdfs-fsync-daemon" => assert!(bypassed == 0, "{}: opened in passthrough", job.name()),
        _ => {}
    }
    let modes = after.keys().map(|mode| (mode, opened(mode))).filter(|(_, count)| *count > 0);
    let modes = modes.map(|(mode, count)| format!("{count} {mode}")).collect::<Vec<_>>().join(", ");
    sample.sure(format!("{}: opened {modes}", job.name()));
}

/// All jobs together have files of this size.
fn share(size: &str, jobs: u32) -> String {
    let megabytes: u32 = size.trim_end_matches('m').parse().expect("a size of ours");
    format!("{}m", megabytes / jobs)
}
