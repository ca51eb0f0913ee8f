//! A store that fails, lies late and answers half: work goes on, and nothing wrong is believed.

use crate::support::ran::Ran;
use crate::support::relay::{Act, Kind, Request};
use crate::support::{Tree, World};
use crate::work::{self, noise, write_closed};
use std::fs;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Picks every `n`th request of those that `which` accepts.
fn every(n: usize, which: impl Fn(&Request) -> bool + Send) -> impl Fn(&Request) -> bool + Send {
    let count = AtomicUsize::new(0);
    move |request| which(request) && count.fetch_add(1, Ordering::Relaxed) % n == n - 1
}

#[test]
fn work_goes_on_through_errors_and_lost_answers() {
    let world = World::with_relay("faults");
    let relay = world.relay();
    let mount = world.host("a").mount(&["--publish-delay", "200ms"]);
    relay.rule(1, usize::MAX, Act::Status(503), every(5, |_| true));
    relay.rule(1, usize::MAX, Act::Status(500), every(7, |_| true));
    relay.rule(1, usize::MAX, Act::LoseAnswer, every(6, |r| r.kind.changes_the_store()));
    relay.rule(1, usize::MAX, Act::Cut, every(11, |_| true));
    for n in 0..30u64 {
        let size = if n % 10 == 3 { 700_000 } else { 3_000 };
        write_closed(&mount.path(format!("f{n}")), &noise(size, n)).unwrap_or_else(|e| panic!("f{n}: {e}"));
    }
    work::one_of_everything(mount.root());
    fs::remove_file(mount.path("f7")).expect("unlink");
    mount.publish();
    let before = Tree::of(mount.root());
    let told = |fate: fn(&crate::support::relay::Fate) -> bool| {
        relay.seen().iter().filter(|s| fate(&s.fate)).count()
    };
    use crate::support::relay::Fate;
    assert!(told(|f| matches!(f, Fate::Refused(_))) > 5 && told(|f| *f == Fate::AnswerLost) > 3);
    mount.lose_machine();
    relay.clear_rules();
    let mount = world.host("b").mount(&["--takeover"]);
    before.assert_same(&Tree::of(mount.root()), "through a failing store");
    assert!(world.witness.object("f3").expect("published").bytes == noise(700_000, 3), "f3 differs");
    assert!(world.witness.object("f7").is_none());
    mount.unmount();
}

#[test]
fn a_truncated_download_is_never_taken_for_content() {
    let world = World::with_relay("truncated");
    let mount = world.host("a").mount(&["--no-publish"]);
    for n in 0..4u64 {
        write_closed(&mount.path(format!("f{n}")), &noise(2_000_000, n)).expect("write");
        write_closed(&mount.path(format!("s{n}")), &noise(9_000, n)).expect("write");
    }
    mount.unmount();
    world.relay().rule(1, usize::MAX, Act::Truncate, every(3, |r| r.kind == Kind::Get));
    let mount = world.host("b").mount(&["--no-publish"]);
    for n in 0..4u64 {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(2_000_000, n), "f{n} differs");
        assert!(fs::read(mount.path(format!("s{n}"))).expect("read") == noise(9_000, n), "s{n} differs");
    }
    mount.unmount();
}

#[test]
fn a_flipped_bit_in_the_store_is_eio_and_named() {
    let world = World::new("flipped");
    let mount = world.host("a").mount(&["--no-publish"]);
    write_closed(&mount.path("f"), &noise(3_000_000, 1)).expect("write");
    mount.unmount();
    let largest = world.witness.keys().into_iter().max_by_key(|(_, size)| *size).expect("a blob").0;
    let mut bytes = world.witness.object(&largest).expect("the blob").bytes;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.witness.put(&largest, bytes);
    let mount = world.host("b").mount(&["--no-publish"]);
    let error = fs::read(mount.path("f")).expect_err("wrong bytes were served");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    assert!(mount.log().contains(&largest), "the log does not name {largest}");
    mount.unmount();
}

#[test]
fn nothing_outside_the_prefix_is_asked_for() {
    let world = World::with_relay("prefix-only");
    world.witness.put("imported", "x");
    let mount = world.host("a").mount(&[]);
    work::one_of_everything(mount.root());
    mount.publish();
    mount.refresh();
    mount.unmount();
    world.host("b").mount(&["--read-only"]).unmount();
    let inside = format!("{}/", world.prefix);
    let escaped = inside.replace('/', "%2F");
    for seen in world.relay().seen() {
        let request = &seen.request;
        let prefixed = request.query.split('&').any(|p| {
            p.strip_prefix("prefix=").is_some_and(|p| p.starts_with(&inside) || p.starts_with(&escaped))
        });
        let within = match request.kind {
            Kind::List | Kind::ListMultipart if request.key.is_empty() => prefixed,
            Kind::DeleteMany => true,
            _ => request.key.starts_with(&inside),
        };
        assert!(within, "outside of {inside}: {request:?}");
    }
}

#[test]
fn a_store_without_conditional_writes_is_refused_unless_told() {
    let world = World::with_relay("unconditional");
    world.relay().rule(1, usize::MAX, Act::Status(501), |r| r.conditional && r.kind != Kind::Get);
    let ran = world.host("a").run_mount(&["--timeout", "5s"]);
    ran.exits(5).says(&["conditional", "--fencing none"]).plainly();
    let mount = world.host("a").mount(&["--fencing", "none"]);
    write_closed(&mount.path("f"), b"x").expect("write");
    mount.lose_machine();
    let mount = world.host("b").mount(&["--fencing", "none", "--takeover"]);
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
    mount.unmount();
}

#[test]
fn no_secret_is_in_logs_status_or_the_store() {
    let world = World::new("secrets");
    let host = world.host("a");
    let mount = host.mount(&["--log-level", "trace"]);
    write_closed(&mount.path("f"), b"x").expect("write");
    mount.publish();
    let secret = crate::support::seaweed::SECRET_KEY;
    assert!(!mount.log().contains(secret), "the log has the secret");
    assert!(!mount.run("status", &["--json"]).out.contains(secret), "status has the secret");
    mount.unmount();
    for key in world.witness.keys().into_keys() {
        let bytes = world.witness.object(&key).expect("listed").bytes;
        let found = bytes.windows(secret.len()).any(|w| w == secret.as_bytes());
        assert!(!found, "{key} has the secret");
    }
}

#[test]
fn no_other_process_of_its_user_reads_the_daemons_keys() {
    let world = World::new("keys");
    let mount = world.host("a").mount(&[]);
    let proc = format!("/proc/{}", mount.pid());
    // Nothing of it is in a core dump either: both go by the same bit. Root's capabilities may look.
    let without = ["--bounding-set=-all", "--inh-caps=-all"];
    for file in ["environ", "mem", "maps"] {
        let mut read = Command::new("setpriv");
        let ran = Ran::of(read.args(without).args(["head", "-c", "1"]).arg(format!("{proc}/{file}")));
        assert_ne!(ran.code, Some(0), "{file} can be read");
    }
    let environ = fs::read(format!("{proc}/environ")).expect("root reads it");
    let secret = crate::support::seaweed::SECRET_KEY.as_bytes();
    assert!(environ.windows(secret.len()).any(|w| w == secret), "there is something to keep");
    mount.unmount();
}
