//! A store in every bad state: whatever it does, work goes on from what is here, every wait ends, an error that is
//! told is a true one, and when the store is well again everything is in it, without anybody asking.
//!
//! What a store that is down at mount says is in `commands`, what it costs in lines of the log in `logs`.

use crate::support::mount::Mount;
use crate::support::relay::{Act, Kind, Relay, Request};
use crate::support::{World, full};
use crate::work::{noise, write_closed};
use rustix::io::Errno;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How long a wait may take: `--timeout`, and what a loaded machine adds.
const TIMEOUT: &str = "4s";
const WAIT: Duration = Duration::from_secs(40);
/// How long anything else may take.
const LIMIT: Duration = Duration::from_secs(180);

/// What closes that wait may be told.
enum Closes {
    Stored,
    Refused(&'static [Errno]),
    /// Some are stored and some are not in time.
    Either(&'static [Errno]),
}

/// Mounts, makes the store bad, works, makes it well, and loses the machine when it has caught up by itself.
#[track_caller]
fn goes_on(name: &str, begin: impl Fn(&Relay), closes: Closes) {
    let world = World::with_relay(&format!("weather-{name}"));
    let relay = world.relay();
    // Who wants to see a store that is only slow to its end waits longer.
    let timeout = if matches!(closes, Closes::Stored) { "90s" } else { TIMEOUT };
    let options =
        ["--timeout", timeout, "--lazy", "*.lazy", "--commit-interval", "300ms", "--publish-delay", "200ms"];
    let mount = world.host("a").mount(&options);
    write_closed(&mount.path("before"), &noise(20_000, 1)).expect("with a good store");
    begin(relay);
    work(mount.root());
    for n in 0..3u64 {
        let start = Instant::now();
        let told = write_closed(&mount.path(format!("strict{n}")), &noise(9000, n));
        assert!(
            start.elapsed() < WAIT || matches!(closes, Closes::Stored),
            "{name}: a close took {:?}",
            start.elapsed()
        );
        check(name, told, &closes);
    }
    assert_eq!(mount.status()["state"], "mounted", "{name}");
    // Reads go on, and go on to be right.
    look(mount.root());
    std::thread::sleep(Duration::from_secs(1));
    well(relay);
    caught_up(name, &mount);
    write_closed(&mount.path("after"), b"after").unwrap_or_else(|e| panic!("{name}: the store is well: {e}"));
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    look(mount.root());
    for n in 0..3u64 {
        let found = fs::read(mount.path(format!("strict{n}"))).expect("read");
        assert!(found == noise(9000, n), "{name}: strict{n} differs");
    }
    assert_eq!(fs::read(mount.path("after")).expect("read"), b"after");
    mount.unmount();
}

/// What nobody waits for.
fn work(root: &Path) {
    for n in 0..6u64 {
        let size = if n == 3 { 700_000 } else { 5000 };
        write_closed(&root.join(format!("f{n}.lazy")), &noise(size, n)).expect("a lazy close does not wait");
    }
    fs::create_dir(root.join("d")).expect("mkdir");
    fs::rename(root.join("f5.lazy"), root.join("d/f5.lazy")).expect("rename");
    fs::hard_link(root.join("f4.lazy"), root.join("d/link.lazy")).expect("link");
}

#[track_caller]
fn look(root: &Path) {
    let is = |name: &str, size, seed| {
        let found = fs::read(root.join(name)).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(found == noise(size, seed), "{name} differs");
    };
    is("before", 20_000, 1);
    (0..5).for_each(|n| is(&format!("f{n}.lazy"), if n == 3 { 700_000 } else { 5000 }, n));
    is("d/f5.lazy", 5000, 5);
    is("d/link.lazy", 5000, 4);
    assert!(!root.join("f5.lazy").exists());
}

#[track_caller]
fn check(name: &str, told: io::Result<()>, closes: &Closes) {
    let (Closes::Refused(errors) | Closes::Either(errors)) = closes else {
        return told.unwrap_or_else(|e| panic!("{name}: a close failed: {e}"));
    };
    match told {
        Ok(()) => assert!(matches!(closes, Closes::Either(_)), "{name}: told to be stored, and it is not"),
        Err(error) => {
            let errno = error.raw_os_error().map(Errno::from_raw_os_error);
            assert!(errno.is_some_and(|errno| errors.contains(&errno)), "{name}: a close was told {error}");
        }
    }
}

fn well(relay: &Relay) {
    relay.clear_rules();
    relay.heal();
    relay.set_delay(Duration::ZERO);
    relay.set_rate(None);
}

/// Waits until nothing is left to be stored; nobody asks for it but for the clock.
#[track_caller]
fn caught_up(name: &str, mount: &Mount<'_>) {
    mount.wait_status(&format!("{name}: it catches up"), LIMIT, |status| {
        status["uncommitted"]["files"] == 0
            && status["uncommitted"]["bytes"] == 0
            && status["slots_in_flight"] == 0
    });
}

fn always(relay: &Relay, act: Act, which: impl Fn(&Request) -> bool + Send + 'static) {
    relay.rule(1, usize::MAX, act, which);
}

#[test]
fn a_store_that_is_gone() {
    goes_on("gone", Relay::cut, Closes::Refused(&[Errno::IO]));
}

#[test]
fn a_store_that_answers_nothing() {
    goes_on("silent", Relay::black_hole, Closes::Refused(&[Errno::IO]));
}

#[test]
fn a_store_that_takes_two_seconds_for_an_answer() {
    goes_on("slow", |relay| relay.set_delay(Duration::from_secs(2)), Closes::Stored);
}

#[test]
fn a_store_that_throttles() {
    for (name, act) in [("slow-down", Act::Status(503)), ("too-many", Act::Status(429))] {
        goes_on(name, |relay| always(relay, act, |_| true), Closes::Refused(&[Errno::IO]));
    }
}

#[test]
fn a_store_of_which_one_shard_fails() {
    // A third of the keys, told by their names as shards are.
    let bad = |request: &Request| request.key.bytes().map(u32::from).sum::<u32>() % 3 == 0;
    goes_on("shard", |relay| always(relay, Act::Status(500), bad), Closes::Either(&[Errno::IO]));
}

#[test]
fn a_network_that_resets_connections() {
    goes_on(
        "resets",
        |relay| {
            let count = AtomicUsize::new(0);
            let third = move |_: &Request| !count.fetch_add(1, Ordering::Relaxed).is_multiple_of(3);
            always(relay, Act::Cut, third);
        },
        Closes::Either(&[Errno::IO]),
    );
}

#[test]
fn a_store_that_finds_our_clock_wrong() {
    let skewed = Act::Code(403, "RequestTimeTooSkewed");
    goes_on(
        "skewed",
        |relay| always(relay, skewed, |_| true),
        Closes::Refused(&[Errno::IO, Errno::KEYEXPIRED]),
    );
}

#[test]
fn a_bucket_that_turns_read_only() {
    let denied = |relay: &Relay| always(relay, Act::Status(403), |r| r.kind.changes_the_store());
    goes_on("read-only", denied, Closes::Refused(&[Errno::IO, Errno::ACCESS, Errno::ROFS]));
}

#[test]
fn a_bucket_whose_quota_is_reached() {
    let full = |relay: &Relay| {
        always(relay, Act::Status(507), |r| r.kind.changes_the_store() && r.kind != Kind::Delete)
    };
    goes_on("quota", full, Closes::Refused(&[Errno::NOSPC, Errno::DQUOT]));
}

#[test]
fn a_link_of_a_hundred_bytes_a_second() {
    goes_on("link", |relay| relay.set_rate(Some(100)), Closes::Refused(&[Errno::IO]));
}

/// Downloads that end in the middle are no content, neither now nor from the cache.
#[test]
fn what_a_truncated_download_left_is_never_read_from_the_cache() {
    let world = World::with_relay("weather-truncated");
    let mount = world.host("a").mount(&["--no-publish"]);
    for n in 0..4u64 {
        write_closed(&mount.path(format!("f{n}")), &noise(400_000 + n as usize, n)).expect("write");
    }
    mount.unmount();
    let mount = world.host("b").mount(&["--no-publish", "--timeout", "3s"]);
    always(world.relay(), Act::Truncate, |request| request.kind == Kind::Get);
    for n in 0..4u64 {
        match fs::read(mount.path(format!("f{n}"))) {
            Ok(found) => assert!(found == noise(400_000 + n as usize, n), "f{n} has wrong bytes"),
            Err(error) => assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "f{n}: {error}"),
        }
    }
    well(world.relay());
    let right = |when: &str| {
        for n in 0..4u64 {
            let found = fs::read(mount.path(format!("f{n}"))).unwrap_or_else(|e| panic!("{when}: f{n}: {e}"));
            assert!(found == noise(400_000 + n as usize, n), "{when}: f{n} has wrong bytes");
        }
    };
    right("whole downloads");
    world.relay().cut();
    fs::write("/proc/sys/vm/drop_caches", "1").expect("drop what the kernel has");
    right("from the cache");
    world.relay().heal();
    mount.unmount();
}

/// A store that is away for long is asked now and then, and not by everything at once when it is back.
#[test]
fn a_long_outage_costs_few_requests_and_so_does_its_end() {
    let away = Duration::from_secs(if full() { 600 } else { 12 });
    let world = World::with_relay("weather-outage");
    let relay = world.relay();
    let mount = world.host("a").mount(&["--durability", "fsync", "--no-publish"]);
    write_closed(&mount.path("before"), b"before").expect("write");
    mount.flush();
    relay.reset();
    // Not a cut: what is tried is to be counted.
    always(relay, Act::Cut, |_| true);
    let (start, mut files) = (Instant::now(), 0u64);
    while start.elapsed() < away {
        let name = mount.path(format!("f{files}"));
        write_closed(&name, &noise(3000, files)).expect("work goes on");
        assert!(fs::read(&name).expect("read") == noise(3000, files), "f{files} differs");
        files += 1;
        std::thread::sleep(Duration::from_millis(100));
    }
    let tried = relay.seen().len();
    relay.clear_rules();
    relay.reset();
    caught_up("outage", &mount);
    let after = relay.seen().len();
    println!("{files} files during {away:?}: {tried} requests; {after} to catch up");
    // Eight slots are in flight, the lease, captures: each tries once, and then one of all of them each five seconds.
    assert!(tried < 60 + away.as_secs() as usize, "{tried} requests in {away:?} of a store that is away");
    assert!(after < 60 + files as usize / 4, "{after} requests to catch up with {files} files");
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    for n in 0..files {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(3000, n), "f{n} differs");
    }
    mount.unmount();
}

/// A mount that finds the store down leaves what an earlier one could not store where it is.
#[test]
fn a_mount_while_the_store_is_down_loses_nothing_of_the_one_before() {
    let world = World::with_relay("weather-down-at-mount");
    let host = world.host("a");
    let mount = host.mount(&["--durability", "fsync", "--no-publish"]);
    write_closed(&mount.path("before"), b"before").expect("write");
    mount.flush();
    world.relay().cut();
    write_closed(&mount.path("kept"), &noise(30_000, 3)).expect("write");
    // Longer than the interval of captures.
    std::thread::sleep(Duration::from_secs(3));
    mount.kill();
    for _ in 0..2 {
        host.run_mount(&["--timeout", "2s"]).exits(6).plainly();
    }
    world.relay().heal();
    let mount = host.mount(&["--no-publish"]);
    assert!(fs::read(mount.path("kept")).expect("read") == noise(30_000, 3), "what was kept differs");
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    assert!(fs::read(mount.path("kept")).expect("read") == noise(30_000, 3), "what was stored differs");
    mount.unmount();
}
