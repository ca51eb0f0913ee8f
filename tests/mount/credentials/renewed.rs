//! Sessions that outlive their credentials, by each source that gives others: the relay asks for keys and tokens that
//! end, as a store does.

use super::source::{Endpoint, Process, Profile, Source};
use super::writing;
use crate::support::issuer::Gives;
use crate::support::mount::Mount;
use crate::support::network::Network;
use crate::support::relay::{Fate, Issued};
use crate::support::seaweed::{self, ACCESS_KEY, SECRET_KEY};
use crate::support::world::Host;
use crate::support::{World, eventually, full};
use crate::work::{noise, write_closed};
use std::fs;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// How long it may take until something is noticed.
const SOON: Duration = Duration::from_secs(90);

/// Keys of this name, which end after that.
fn keys(name: &str, life: Duration) -> Issued {
    let (secret, token) = (format!("secret-of-{name}"), Some(format!("session-of-{name}")));
    Issued { id: format!("KEY{name}"), secret, token, ends: Some(SystemTime::now() + life) }
}

/// Keys that outlast any test.
fn lasting(name: &str) -> Issued {
    keys(name, Duration::from_secs(3600))
}

/// From now on the store takes these only.
fn takes(world: &World, keys: &[&Issued]) {
    let keys: Vec<Issued> = keys.iter().map(|keys| (*keys).clone()).collect();
    world.relay().guard(&keys, (ACCESS_KEY, SECRET_KEY));
}

/// A mount that has its credentials from this source only.
fn mounted<'w>(host: &Host<'w>, source: &dyn Source, options: &[&str]) -> Mount<'w> {
    let mut command = host.mount_command(&[&["--log-level", "trace"], options].concat());
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    source.name_to(&mut command);
    host.start(command).expect("mounts")
}

/// Whether the store has refused a request with this status since the counts were reset.
fn has_refused(world: &World, status: u16) -> bool {
    world.relay().seen().iter().any(|seen| seen.fate == Fate::Refused(status))
}

/// Nothing that anybody can read has a secret in it.
fn nothing_tells(mount: &Mount<'_>) {
    let cmdline = fs::read(format!("/proc/{}/cmdline", mount.pid().as_raw_nonzero())).expect("argv");
    let cmdline = String::from_utf8_lossy(&cmdline).into_owned();
    let told = [mount.log(), mount.status().to_string(), mount.run("status", &[]).ok().out, cmdline];
    for secret in ["secret-of-", "session-of-", "token-", "hunter2", SECRET_KEY] {
        for told in &told {
            let line = told.lines().find(|line| line.contains(secret));
            assert!(line.is_none(), "{secret} is told: {line:?}");
        }
    }
}

/// Warnings and worse in the log that have these words.
fn warned(mount: &Mount<'_>, words: &str) -> Vec<String> {
    let log = mount.log();
    let bad = |line: &&str| line.contains(" WARN ") || line.contains(" ERROR ");
    log.lines().filter(bad).filter(|line| line.contains(words)).map(str::to_owned).collect()
}

/// A session whose keys are taken away, then end by themselves, while the source has none and fails in each of its
/// ways: nothing is lost, everything is told, and everything goes on once it gives others.
fn outlives_its_keys(world: &World, host: &Host<'_>, source: &dyn Source, zero: &Issued) {
    let begun = Instant::now();
    let content = noise(3_000_000, 7);
    let first = world.host("first").mount(&[]);
    write_closed(&first.path("large"), &content).expect("write");
    first.unmount();
    takes(world, &[zero]);
    let mount = mounted(host, source, &["--timeout", "300s"]);

    // Taken away: who reads what is not here waits, and reads.
    takes(world, &[]);
    world.relay().reset();
    let path = mount.path("large");
    let reading = thread::spawn(move || fs::read(path));
    eventually("the store does not know the key", SOON, || has_refused(world, 403));
    let one = keys("one", Duration::from_secs(20));
    takes(world, &[&one]);
    source.gives(&one);
    assert!(reading.join().expect("no panic").expect("the read that waited") == content, "other bytes");
    fs::write(mount.path("before"), "in the store").expect("write");

    // Ended: what is here goes on, and a close waits.
    let ends = one.ends.expect("they end");
    thread::sleep(ends.duration_since(SystemTime::now()).unwrap_or_default());
    let waiting = writing(mount.path("during"), "written with ended credentials");
    mount.wait_status("the refusal is told, and what waits", SOON, |status| {
        let refused =
            status["last_error"]["message"].as_str().is_some_and(|said| said.contains("ExpiredToken"));
        refused && status["uncommitted"]["files"] != 0
    });
    let mut before = String::new();
    for (words, fail) in source.troubles(&one) {
        fail();
        let at = Instant::now();
        let status = mount.wait_status(words, SOON, |status| {
            let said = status["credentials_error"]["message"].as_str();
            said.is_some_and(|said| said.contains(words) && said != before)
        });
        before = status["credentials_error"]["message"].as_str().unwrap_or_default().to_owned();
        println!("{:.1?}: told after {:.1?}: {before}", begun.elapsed(), at.elapsed());
        assert_eq!(fs::read_to_string(mount.path("before")).expect("read"), "in the store");
    }
    mount.run("status", &[]).ok().says(&["credentials   "]);
    fs::rename(mount.path("before"), mount.path("renamed")).expect("rename");
    assert!(!waiting.is_finished(), "the close returned, and the store has refused everything");

    let two = lasting("two");
    takes(world, &[&two]);
    source.gives(&two);
    let at = Instant::now();
    waiting.join().expect("no panic").expect("the close that waited");
    println!("{:.1?}: the close returned {:.1?} after there were others", begun.elapsed(), at.elapsed());
    fs::write(mount.path("after"), "in the store too").expect("write");
    let status = mount.status();
    assert!(status["credentials_error"].is_null(), "{status:#}");
    assert_eq!(warned(&mount, "no new credentials can be had").len(), 1, "{}", mount.log());
    let refusals = warned(&mount, "ExpiredToken");
    assert!(refusals.len() <= 1, "{} lines about one thing:\n{}", refusals.len(), refusals.join("\n"));
    nothing_tells(&mount);
    mount.lose_machine();

    world.relay().open();
    let elsewhere = world.host("last").mount(&["--takeover"]);
    let text = |name: &str| fs::read_to_string(elsewhere.path(name)).expect("read");
    assert_eq!(text("renamed"), "in the store");
    assert_eq!(text("during"), "written with ended credentials");
    assert_eq!(text("after"), "in the store too");
    elsewhere.publish();
    assert_eq!(world.witness.text("after"), "in the store too");
    elsewhere.unmount();
}

#[test]
fn by_a_profile_that_is_written_in_place() {
    let world = World::with_relay("renewed-profile");
    let (source, zero) = (Profile(world.local("aws").join("credentials")), lasting("zero"));
    source.gives(&zero);
    outlives_its_keys(&world, &world.host("a"), &source, &zero);
}

#[test]
fn by_a_process() {
    let world = World::with_relay("renewed-process");
    let (source, zero) = (Process::new(&world.local("process")), lasting("zero"));
    source.gives(&zero);
    outlives_its_keys(&world, &world.host("a"), &source, &zero);
    eventually("the process that hung is gone", SOON, || source.is_gone());
    println!("the process was run {} times", source.runs());
}

#[test]
fn by_web_identity() {
    let world = World::with_relay("renewed-sts");
    let zero = lasting("zero");
    let source = Endpoint::sts(&world.local("sts"), &zero);
    outlives_its_keys(&world, &world.host("a"), &source, &zero);
}

#[test]
fn by_a_containers_endpoint() {
    let world = World::with_relay("renewed-full");
    let zero = lasting("zero");
    let source = Endpoint::full(&world.local("container"), &zero);
    outlives_its_keys(&world, &world.host("a"), &source, &zero);
}

#[test]
fn by_a_containers_endpoint_at_the_address_that_each_has() {
    let network = Network::new();
    let world = World::over("renewed-relative", seaweed::shared(), &network);
    let (machine, zero) = (network.machine(), lasting("zero"));
    let source = Endpoint::relative(&world.local("container"), &zero, &machine);
    outlives_its_keys(&world, &world.host("a").behind(machine), &source, &zero);
}

/// Where the source gives others in time, and also where it hangs for a while before they end, nobody notices.
#[test]
fn nobody_notices_keys_that_are_renewed_in_time() {
    let world = World::with_relay("renewed-early");
    let life = Duration::from_secs(if full() { 60 } else { 25 });
    let one = keys("one", life);
    let source = Endpoint::full(&world.local("container"), &one);
    takes(&world, &[&one]);
    let mount = mounted(&world.host("a"), &source, &["--timeout", "60s"]);
    source.answers(Gives::Silence);
    let mut written = 0;
    let mut write_until = |time: SystemTime| {
        while SystemTime::now() < time {
            fs::write(mount.path(format!("f{written}")), format!("{written}")).expect("write");
            written += 1;
            thread::sleep(Duration::from_millis(100));
        }
    };
    let ends = one.ends.expect("they end");
    write_until(ends - life / 2);
    let two = lasting("two");
    takes(&world, &[&one, &two]);
    source.answers(Gives::Keys(two));
    write_until(ends + Duration::from_secs(3));
    let refused: Vec<_> =
        world.relay().seen().into_iter().filter(|s| matches!(s.fate, Fate::Refused(_))).collect();
    assert!(refused.is_empty(), "{refused:#?}");
    assert!(warned(&mount, "").is_empty(), "{:?}", warned(&mount, ""));
    println!("{written} files were stored, and nothing was refused");
    nothing_tells(&mount);
    mount.unmount();
}

/// A close waits for credentials as it does for the store: no longer than it was told. What it wrote is not lost.
#[test]
fn a_close_waits_for_others_no_longer_than_it_may() {
    let world = World::with_relay("renewed-late");
    let (source, zero) = (Profile(world.local("aws").join("credentials")), lasting("zero"));
    source.gives(&zero);
    takes(&world, &[&zero]);
    let mount = mounted(&world.host("a"), &source, &["--timeout", "5s"]);
    takes(&world, &[&keys("zero", Duration::ZERO)]);
    let begun = Instant::now();
    let late = write_closed(&mount.path("f"), b"kept").expect_err("the store takes nothing");
    assert_eq!(late.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{late}");
    assert!(begun.elapsed() >= Duration::from_secs(4), "it gave up after {:.1?}", begun.elapsed());
    assert!(
        warned(&mount, "operation failed").iter().any(|line| line.contains("ExpiredToken")),
        "{}",
        mount.log()
    );
    let two = lasting("two");
    takes(&world, &[&two]);
    source.gives(&two);
    eventually("it is stored by itself", SOON, || mount.status()["uncommitted"]["files"] == 0);
    nothing_tells(&mount);
    mount.lose_machine();
    world.relay().open();
    let elsewhere = world.host("b").mount(&["--takeover"]);
    assert_eq!(fs::read(elsewhere.path("f")).expect("read"), b"kept");
    elsewhere.unmount();
}

/// A mount with a source that does not work says so, and does not hang; one that comes late is waited for.
#[test]
fn a_mount_waits_for_its_source_and_says_what_it_waited_for() {
    let world = World::with_relay("renewed-never");
    let keys = lasting("zero");
    let source = Endpoint::full(&world.local("container"), &keys);
    let host = world.host("a");
    takes(&world, &[&keys]);
    let mount = |timeout: &str| {
        let mut command = host.mount_command(&["--timeout", timeout]);
        command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
        source.name_to(&mut command);
        host.start(command)
    };
    source.answers(Gives::Status(500));
    let never = mount("5s").err().expect("no credentials");
    never.exits(6).says(&["credentials cannot be had", "500"]).plainly();
    source.answers(Gives::Silence);
    thread::scope(|scope| {
        let late = scope.spawn(|| mount("120s"));
        thread::sleep(Duration::from_secs(12));
        source.answers(Gives::Keys(keys.clone()));
        late.join().expect("no panic").expect("it mounts once there are keys").unmount();
    });
}
