//! Figures are true: they move by what was done, and only then.

use super::exposition::Exposition;
use super::{ANYWHERE, scrape};
use crate::support::mount::Mount;
use crate::support::{World, eventually};
use crate::work::{noise, write_closed};
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

const FILES: usize = 20;
const SIZE: usize = 5000;
/// A store that answers does so within this.
const SOON: Duration = Duration::from_secs(60);

/// Scrapes until `done` holds.
#[track_caller]
fn until(mount: &Mount<'_>, what: &str, done: impl Fn(&Exposition) -> bool) -> Exposition {
    let start = Instant::now();
    loop {
        let page = scrape(mount);
        if done(&page) {
            return page;
        }
        assert!(start.elapsed() < SOON, "{what}: not within {SOON:?}: {:#?}", page.samples);
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn grown(before: &Exposition, after: &Exposition, name: &str, labels: &[(&str, &str)]) -> f64 {
    after.sum(name, labels) - before.sum(name, labels)
}

#[test]
fn counters_grow_by_what_was_done() {
    let world = World::with_relay("metrics-counted");
    let mount = world.host("a").mount(&ANYWHERE);
    let before = scrape(&mount);
    assert_eq!(before.value("cwdfs_lease_state", &[("state", "held")]), 1.0);
    for n in 0..FILES {
        write_closed(&mount.path(format!("f{n}")), &noise(SIZE, n as u64)).expect("a file");
    }
    fs::read(mount.path("missing")).expect_err("nothing is there");
    mount.publish();
    let after = until(&mount, "all is stored", |page| page.value("cwdfs_commit_lag_seconds", &[]) == 0.0);
    let grown = |name: &str, labels: &[(&str, &str)]| grown(&before, &after, name, labels);
    let done = |operation: &str, answer: &str| {
        grown("cwdfs_operations_total", &[("operation", operation), ("answer", answer)])
    };
    assert_eq!(done("create", "ok"), FILES as f64);
    // A program that is started beside this closes them once more: fork(2) has copied them.
    assert!(done("flush", "ok") >= FILES as f64, "each is closed");
    assert!(
        done("lookup", "not_found") >= 1.0,
        "the missing one; the kernel may look for those that it makes"
    );
    assert_eq!(grown("cwdfs_written_bytes_total", &[]), (FILES * SIZE) as f64);
    assert_eq!(grown("cwdfs_operation_duration_seconds_count", &[("operation", "create")]), FILES as f64);
    assert_eq!(grown("cwdfs_opens_total", &[]), FILES as f64);
    assert_eq!(grown("cwdfs_view_published_total", &[]), FILES as f64);
    let sent = grown("cwdfs_store_sent_bytes_total", &[]);
    assert!(sent >= (2 * FILES * SIZE) as f64, "once in the log, once as plain objects: {sent}");
    let commits = grown("cwdfs_commits_total", &[]);
    assert!(commits >= 1.0 && grown("cwdfs_committed_bytes_total", &[]) >= (FILES * SIZE) as f64);
    let puts = grown("cwdfs_store_requests_total", &[("request", "put"), ("outcome", "ok")]);
    assert!(puts >= commits + FILES as f64, "{puts} PUTs of {commits} commits");
    assert_eq!(after.value("cwdfs_uncommitted_bytes", &[]), 0.0);
    mount.lose_machine();
    a_cold_read_is_counted(&world);
}

/// On another machine, what is read comes from the store, once.
fn a_cold_read_is_counted(world: &World) {
    let mount = world.host("b").mount(&[&ANYWHERE[..], &["--takeover"]].concat());
    let before = scrape(&mount);
    for n in 0..FILES {
        assert_eq!(fs::read(mount.path(format!("f{n}"))).expect("a file"), noise(SIZE, n as u64));
    }
    let after = scrape(&mount);
    let read = grown(&before, &after, "cwdfs_read_bytes_total", &[]);
    assert_eq!(read, (FILES * SIZE) as f64);
    let (hits, misses) = (
        grown(&before, &after, "cwdfs_cache_hits_total", &[]),
        grown(&before, &after, "cwdfs_cache_misses_total", &[]),
    );
    let reads = grown(&before, &after, "cwdfs_operations_total", &[("operation", "read")]);
    assert_eq!(hits + misses, reads, "each read is one of both");
    mount.unmount();
}

#[test]
fn the_commit_lag_grows_while_the_store_is_away_and_errors_are_counted() {
    let world = World::with_relay("metrics-away");
    let options = ["--timeout", "5s", "--durability", "fsync", "--commit-interval", "200ms"];
    let mount = world.host("a").mount(&[&ANYWHERE[..], &options].concat());
    write_closed(&mount.path("before"), b"stored").expect("a file");
    let calm = until(&mount, "all is stored", |page| page.value("cwdfs_commit_lag_seconds", &[]) == 0.0);
    assert_eq!(calm.sum("cwdfs_operations_total", &[("answer", "io")]), 0.0);
    world.relay().cut();
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(&noise(SIZE, 1)).expect("write");
    file.sync_all().expect_err("the store is away");
    let first = until(&mount, "a lag", |page| page.value("cwdfs_commit_lag_seconds", &[]) >= 2.0);
    assert_eq!(first.value("cwdfs_commit_failing", &[]), 1.0);
    assert_eq!(first.sum("cwdfs_operations_total", &[("operation", "fsync"), ("answer", "io")]), 1.0);
    assert!(first.value("cwdfs_uncommitted_bytes", &[]) >= SIZE as f64, "{:#?}", first.samples);
    assert!(
        first.value("cwdfs_uncommitted_files", &[]) >= 1.0
            && first.value("cwdfs_uncommitted_rows", &[]) >= 1.0
    );
    assert!(first.sum("cwdfs_store_requests_total", &[("outcome", "unavailable")]) > 0.0);
    assert!(first.value("cwdfs_log_events_total", &[("level", "error")]) >= 1.0, "the fsync");
    let lag = first.value("cwdfs_commit_lag_seconds", &[]);
    let later = until(&mount, "it grows", |page| page.value("cwdfs_commit_lag_seconds", &[]) >= lag + 1.0);
    assert!(later.value("cwdfs_commits_total", &[]) <= first.value("cwdfs_commits_total", &[]));
    world.relay().heal();
    let healed = until(&mount, "it is stored", |page| page.value("cwdfs_commit_lag_seconds", &[]) == 0.0);
    assert_eq!(healed.value("cwdfs_commit_failing", &[]), 0.0);
    assert_eq!(healed.value("cwdfs_uncommitted_bytes", &[]), 0.0);
    drop(file);
    mount.unmount();
}

#[test]
fn a_lost_lease_is_shown() {
    let world = World::new("metrics-fenced");
    let mount = world.host("a").mount(&[&ANYWHERE[..], &["--lease-ttl", "3s"]].concat());
    write_closed(&mount.path("f"), b"mine").expect("a file");
    let held = scrape(&mount);
    let left = held.value("cwdfs_lease_remaining_seconds", &[]);
    assert!(left > 0.0 && left <= 3.0, "{left}");
    let other = world.host("b").mount(&["--takeover"]);
    let lost = until(&mount, "fenced", |page| page.value("cwdfs_lease_state", &[("state", "fenced")]) == 1.0);
    assert_eq!(lost.sum("cwdfs_lease_state", &[]), 1.0, "one state at a time");
    assert_eq!(lost.value("cwdfs_lease_remaining_seconds", &[]), 0.0);
    fs::write(mount.path("g"), "late").expect_err("it is fenced");
    assert!(scrape(&mount).sum("cwdfs_operations_total", &[("answer", "stale")]) >= 1.0);
    other.unmount();
    mount.kill();
}

#[test]
fn a_follower_tells_of_itself_and_nothing_of_commits() {
    let world = World::new("metrics-follower");
    let writer = world.host("a").mount(&[]);
    write_closed(&writer.path("f"), &noise(SIZE, 1)).expect("a file");
    let follower = world.host("b").mount(&[&ANYWHERE[..], &["--read-only"]].concat());
    assert_eq!(fs::read(follower.path("f")).expect("the file"), noise(SIZE, 1));
    let page = scrape(&follower);
    assert_eq!(page.sum("cwdfs_mount_info", &[("mode", "follower")]), 1.0);
    assert_eq!(page.value("cwdfs_read_bytes_total", &[]), SIZE as f64);
    for of_a_writer in ["cwdfs_lease_state", "cwdfs_commits_total", "cwdfs_view_lag_seconds"] {
        assert!(page.families.contains_key(of_a_writer), "{of_a_writer} is declared");
        assert!(page.samples.iter().all(|sample| sample.family != of_a_writer), "{of_a_writer} has no line");
    }
    follower.unmount();
    writer.unmount();
}

#[test]
fn the_age_of_what_plain_objects_do_not_show_is_told() {
    let world = World::new("metrics-view");
    let mount = world.host("a").mount(&[&ANYWHERE[..], &["--publish-delay", "30s"]].concat());
    // A mount begins by comparing all: what is committed before that is published without the delay.
    mount.publish();
    write_closed(&mount.path("f"), b"content").expect("a file");
    // On one page: a moment later it may be published.
    until(&mount, "the view trails", |page| {
        let value = |name| page.value(name, &[]);
        value("cwdfs_view_lag_seconds") > 0.5 && value("cwdfs_view_pending_objects") >= 1.0
    });
    mount.publish();
    eventually("nothing is pending", SOON, || scrape(&mount).value("cwdfs_view_lag_seconds", &[]) == 0.0);
    mount.unmount();
}
