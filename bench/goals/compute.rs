//! How each goal's figures come from those of the works.

use super::Bound::{AtLeast, AtMost, Told};
use super::{Bound, Check, Goal};
use crate::client::rates::Phase;
use crate::runner::Results;
use crate::systems::Kind;
use crate::works::{close, fio, large, mount, quiet, rates, resume, sqlite, tools, untar};

const FSYNC: &str = "cwdfs-fsync";
const CLOSE: &str = "cwdfs-close";
const BATCH: &str = "cwdfs-batch";
const BARE: &str = "bare";
const LOCAL: &str = "local";
const RAW: &str = "raw";

fn check(what: impl Into<String>, value: Option<f64>, bound: Bound, unit: &'static str) -> Check {
    Check { what: what.into(), value, bound, unit }
}

fn ratio(over: Option<f64>, under: Option<f64>) -> Option<f64> {
    Some(over? / under?)
}

/// All of them, in the order in which they were set.
pub fn all(r: &Results) -> Vec<Goal> {
    let mut all =
        vec![closes(r), closers(r), untar_fast(r), untar_strict(r), cold(r), answers(r), warm(r), creates(r)];
    all.extend([
        io(r),
        large_file(r),
        edits(r),
        rename(r),
        tools_of(r),
        commit(r),
        requests(r),
        bytes(r),
        memory(r),
        start(r),
    ]);
    all
}

fn closes(r: &Results) -> Goal {
    let to_put = |percent| {
        let of = |what| r.median("close", &close::latency(what, 1, percent), CLOSE);
        ratio(of(close::CLOSE), of(close::PUT))
    };
    let checks = vec![check("p50", to_put(50), AtMost(1.1), "x"), check("p99", to_put(99), AtMost(2.0), "x")];
    Goal { work: "strict close of 4 KiB, p50 / p99", goal: "1.1x / 2x a raw PUT", checks }
}

fn closers(r: &Results) -> Goal {
    let of = |what, writers| r.median("close", &close::rate(what, writers), CLOSE);
    let gain = |what, alone, writers| ratio(of(what, writers), of(alone, 1));
    let mut checks = Vec::new();
    for (writers, goal) in [(16, 15.0), (64, 50.0)] {
        let close = gain(close::CLOSE, close::CLOSE, writers);
        let apart = gain(close::CLOSE_APART, close::CLOSE, writers);
        let puts = gain(close::PUT, close::PUT, writers);
        checks.push(check(format!("{writers}:"), close, AtLeast(goal), "x"));
        checks.push(check(format!("{writers}, in directories of their own:"), apart, Told, "x"));
        checks.push(check(format!("PUTs by {writers}:"), puts, Told, "x"));
    }
    Goal { work: "16 / 64 strict closers", goal: "15x / 50x the rate of one", checks }
}

/// The least median of all peers.
fn best_peer(r: &Results, work: &str, measure: &str) -> Option<f64> {
    let peers = r.parts.iter().filter(|part| part.kind == Kind::Peer);
    peers.filter_map(|part| r.median(work, measure, &part.name)).min_by(f64::total_cmp)
}

fn untar_fast(r: &Results) -> Goal {
    let peer = best_peer(r, "untar", untar::STORED);
    let mut checks = Vec::new();
    for system in [FSYNC, BATCH] {
        let part = ratio(peer, r.median("untar", untar::STORED, system));
        checks.push(check(format!("{system}: the fastest peer takes"), part, AtLeast(8.0), "x"));
        let requests = r.requests("untar", untar::STORED, system);
        checks.push(check(system, requests, AtMost(60.0), " requests"));
    }
    let work = "untar at `fsync` and in `batch`, until all is in the store";
    Goal { work, goal: "1/8 of the fastest peer; at most 60 requests before it is durable", checks }
}

fn untar_strict(r: &Results) -> Goal {
    let to_puts = ratio(r.median("untar", untar::STORED, CLOSE), r.median("untar", untar::PUTS, RAW));
    let checks = vec![check("", to_puts, AtMost(1.15), "x")];
    Goal { work: "untar strictly, one writer", goal: "1.15 x 2,000 raw PUTs", checks }
}

/// What a mount may take, in seconds, with a checkpoint whose GET takes so long.
fn budget(r: &Results, files: f64, checkpoint: f64) -> Option<f64> {
    let round_trip = r.median("mount", mount::ROUND_TRIP, CLOSE).map(|ms| ms / 1e3);
    let round_trip = round_trip.or(r.median("resume-10000", resume::ROUND_TRIP, FSYNC))?;
    Some(6.0 * round_trip + checkpoint + 0.05 + 2e-6 * files)
}

fn cold(r: &Results) -> Goal {
    let ours = r.median("untar", untar::COLD, FSYNC);
    let geesefs = ratio(r.median("untar", untar::COLD, "geesefs"), ours);
    // Without the checkpoint's GET, which is small against the rest.
    let allowed =
        budget(r, 2000.0, 0.0).zip(r.median("untar", untar::GET, RAW)).map(|(b, get)| b + 2.0 * get);
    let bound = allowed.map_or(Told, AtMost);
    let checks = vec![
        check("geesefs takes", geesefs, AtLeast(50.0), "x"),
        check("ours", ours.filter(|_| allowed.is_some()), bound, " s"),
    ];
    let goal = "1/50 of geesefs; at most the mount's budget + 2x one raw GET of the same bytes";
    Goal { work: "cold mount + read all 2,000", goal, checks }
}

fn answers(r: &Results) -> Goal {
    let sizes = [("resume-100", 100.0), ("resume-10000", 1e4), ("resume-100000", 1e5)];
    let checks = sizes.map(|(work, files)| {
        let checkpoint = r.median(work, resume::CHECKPOINT, FSYNC);
        let round_trip = r.median(work, resume::ROUND_TRIP, FSYNC);
        let allowed = round_trip.zip(checkpoint).map(|(rt, get)| 6.0 * rt + get + 0.05 + 2e-6 * files);
        let ours = r.median(work, resume::ANSWERS, FSYNC);
        check(format!("{files} files:"), ours, allowed.map_or(Told, AtMost), " s")
    });
    let work = "cold mount that answers, at any number of files up to 100,000";
    Goal {
        work,
        goal: "6 round trips + the checkpoint's raw GET + 50 ms + 2 us a file",
        checks: checks.into(),
    }
}

fn rate_to_bare(r: &Results, ours: &str, bare: &str, clients: &str) -> Option<f64> {
    let of = |what: &str, system| r.median("rates", &format!("{what}, {clients}"), system);
    ratio(of(ours, FSYNC), of(bare, BARE))
}

const CLIENTS: [&str; 2] = ["1 client", "4 clients"];

fn warm(r: &Results) -> Goal {
    let faster = |measure| ratio(r.median("untar", measure, BARE), r.median("untar", measure, FSYNC));
    let mut checks = vec![
        check("walk", faster(untar::WALK), AtLeast(0.9), ""),
        check("read all", faster(untar::WARM), AtLeast(0.9), ""),
    ];
    for phase in [Phase::Stat, Phase::List, Phase::Read] {
        for clients in CLIENTS {
            let value = rate_to_bare(r, phase.name(), phase.name(), clients);
            checks.push(check(format!("{}, {clients},", phase.name()), value, AtLeast(0.9), ""));
        }
    }
    let work = "walk / read all warm; stat, readdir, open-read-close rates";
    Goal { work, goal: "0.9 of the bare FUSE", checks }
}

fn creates(r: &Results) -> Goal {
    let create = Phase::Create.name();
    let mut checks = Vec::new();
    for clients in CLIENTS {
        checks.push(check(clients, rate_to_bare(r, rates::PAUSED, create, clients), AtLeast(0.7), ""));
        checks.push(check("full pipeline", rate_to_bare(r, create, create, clients), Told, ""));
        let bare = r.median("rates", &format!("{create}, {clients}"), BARE);
        checks.push(check("bare", bare, Told, "/s"));
    }
    let work = "create + write 4 KiB + close, `fsync` level, 1 and 4 clients";
    Goal {
        work,
        goal: "0.7 of the bare FUSE server with the store paused; the full pipeline beside it",
        checks,
    }
}

fn io(r: &Results) -> Goal {
    let of = |job: fio::Job, system| r.median("fio", &job.name(), system);
    let mut checks = Vec::new();
    for job in fio::QUICK {
        let value = ratio(of(job, "cwdfs-fsync-daemon"), of(job, BARE));
        checks.push(check(format!("{} {} to bare", job.rw, job.block), value, AtLeast(0.95), ""));
    }
    for job in fio::QUICK.into_iter().filter(|job| job.rw.ends_with("read")) {
        let value = ratio(of(job, FSYNC), of(job, LOCAL));
        checks.push(check(
            format!("{} {}, passthrough, to local", job.rw, job.block),
            value,
            AtLeast(0.9),
            "",
        ));
    }
    let goal = "0.95 of the bare FUSE in the same mode; passthrough 0.9 of local";
    Goal { work: "sequential and random I/O, warm", goal, checks }
}

fn large_file(r: &Results) -> Goal {
    let faster = |measure| ratio(r.median("large", measure, RAW), r.median("large", measure, FSYNC));
    let checks = vec![
        check("written", faster(large::WRITTEN), AtLeast(0.9), ""),
        check("read", faster(large::COLD), AtLeast(0.9), ""),
    ];
    Goal {
        work: "write 256 MiB durable / read cold",
        goal: "0.9 of raw multipart / raw parallel GET",
        checks,
    }
}

fn edits(r: &Results) -> Goal {
    let mut checks = Vec::new();
    for (what, measure) in [("append", large::APPEND), ("rewrite", large::REWRITE)] {
        let puts = ratio(r.median("edit", measure, FSYNC), r.median("edit", large::PUT, FSYNC));
        checks.push(check(what, puts, AtMost(2.0), " PUTs"));
        let shipped = r.median("edit", &format!("{}: {measure}", large::SHIPPED), FSYNC);
        checks.push(check("", shipped, AtMost(65536.0), " bytes"));
    }
    let work = "append a line, or rewrite 4 KiB, in 1 GiB + fsync";
    Goal { work, goal: "2 raw PUTs, under 64 KiB shipped", checks }
}

fn rename(r: &Results) -> Goal {
    let of = |(work, files)| {
        check(format!("{files} files:"), r.median(work, resume::RENAME, FSYNC), AtMost(1.0), "")
    };
    let sizes = [("resume-100", "100"), ("resume-10000", "10,000"), ("resume-100000", "100,000")];
    Goal { work: "rename of a directory, any size", goal: "one commit", checks: sizes.map(of).into() }
}

fn tools_of(r: &Results) -> Goal {
    let steps = [
        ("git", "git clone"),
        ("git", "git status"),
        ("cargo", "cargo build"),
        ("npm", "npm ci"),
        ("pnpm", "pnpm install"),
    ];
    let of = |(work, step)| {
        let local = r.median(work, &tools::ended(step), LOCAL);
        check(step, ratio(r.median(work, &tools::stored(step), FSYNC), local), AtMost(1.3), "x")
    };
    let work = "git clone, git status, cargo build, npm and pnpm install at `fsync`, barrier included";
    Goal { work, goal: "1.3x local", checks: steps.map(of).into() }
}

fn commit(r: &Results) -> Goal {
    let of = |measure| r.median("sqlite", measure, FSYNC);
    let checks = vec![check("", ratio(of(sqlite::COMMIT), of(sqlite::PUT)), AtMost(1.1), " PUTs")];
    Goal { work: "SQLite FULL commit", goal: "1.1 raw PUT", checks }
}

fn requests(r: &Results) -> Goal {
    let a_file = |work| {
        let files = r.median(work, tools::FILES, FSYNC);
        ratio(r.requests(work, &tools::stored("npm ci"), FSYNC), files)
    };
    let checks = vec![
        check("npm install with its view", a_file("npm-view"), AtMost(1.1), " a file"),
        check("without", a_file("npm"), AtMost(0.05), " a file"),
        check("parked", r.median("idle", quiet::REQUESTS, FSYNC), AtMost(2.0), " a minute"),
    ];
    let work = "requests: all of an npm install, view included; without the view; idle and parked";
    Goal { work, goal: "1.1 a file; 0.05 a file; 2 a minute", checks }
}

fn bytes(r: &Results) -> Goal {
    let checks = vec![
        check("with the view", r.median("bytes", quiet::RATIO_VIEW, FSYNC), AtMost(2.1), "x"),
        check("without", r.median("bytes", quiet::RATIO, FSYNC), AtMost(1.1), "x"),
    ];
    let work = "bytes in the store after two further checkpoints, view included / without";
    Goal { work, goal: "2.1x / 1.1x the content", checks }
}

fn memory(r: &Results) -> Goal {
    let million = r.median("resume-asked", resume::IDLE, FSYNC).filter(|_| r.files == Some(1_000_000));
    let checks = vec![
        check("idle at 100,000:", r.median("resume-100000", resume::IDLE, FSYNC), AtMost(60.0), " MB"),
        check("once all was read", r.median("resume-100000", resume::IDLE_READ, FSYNC), Told, " MB"),
        check("under load", r.median("resume-100000", resume::LOAD, FSYNC), AtMost(150.0), " MB"),
        check("1,000,000:", million, AtMost(250.0), " MB"),
        check("CPU idle in 10 s", r.median("resume-100000", resume::IDLE_CPU, FSYNC), AtMost(0.0), " s"),
    ];
    let work = "memory: idle at 100,000 files / under load / 1,000,000 files";
    Goal { work, goal: "60 / 150 / 250 MB; CPU idle 0", checks }
}

fn start(r: &Results) -> Goal {
    let allowed = r.median("mount", mount::ROUND_TRIP, CLOSE).map(|ms| 6.0 * ms + 30.0);
    let of = |measure| r.median("mount", measure, CLOSE);
    let checks = vec![
        check("new:", of(mount::ANSWERS), Told, " ms"),
        check("empty:", of(mount::AGAIN), allowed.map_or(Told, AtMost), " ms"),
        check("the program", of(mount::BINARY), AtMost(25.0), " MB"),
    ];
    let work = "a started daemon's cost: `mount` of an empty session returns";
    Goal { work, goal: "6 round trips + 30 ms; binary under 25 MB", checks }
}
