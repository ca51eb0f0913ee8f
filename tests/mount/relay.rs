//! The relay itself: what it says it does to requests is what a signed client and a real store see.

use crate::support::relay::{Act, Fate, Kind, Relay};
use crate::support::witness::Witness;
use crate::support::{World, seaweed, world::BUCKET};
use std::time::{Duration, Instant};

/// A world whose witness looks past the relay, and a client that goes through it.
fn through_relay(name: &str) -> (World, Witness) {
    let world = World::with_relay(name);
    let client = world.relayed_witness();
    (world, client)
}

fn counted(relay: &Relay, kind: Kind) -> usize {
    relay.counts().get(&kind).copied().unwrap_or(0)
}

#[test]
fn signed_requests_pass_unchanged_and_are_counted_by_kind() {
    let (world, client) = through_relay("relay-signed");
    client.put_with("a b/ü+%.txt", "hello", &[("mode", "33188")]);
    let object = client.object("a b/ü+%.txt").expect("it was put");
    assert_eq!((object.bytes.as_slice(), object.metadata["mode"].as_str()), (&b"hello"[..], "33188"));
    assert_eq!(client.plain_keys(), ["a b/ü+%.txt"]);
    client.delete("a b/ü+%.txt");
    assert!(client.object("a b/ü+%.txt").is_none());
    let relay = world.relay();
    for (kind, times) in [(Kind::Put, 1), (Kind::Get, 2), (Kind::List, 1), (Kind::Delete, 1)] {
        assert_eq!(counted(relay, kind), times, "{kind:?} in {:?}", relay.counts());
    }
    let put = &relay.seen()[0];
    assert_eq!(put.request.key, format!("{}/a b/ü+%.txt", world.prefix));
    assert_eq!((put.request.bucket.as_str(), put.fate, put.up), (BUCKET, Fate::Answered(200), 5));
    assert_eq!(relay.bytes().0, 5);
}

#[test]
fn a_delayed_request_has_no_effect_before_its_delay_is_over() {
    let (world, client) = through_relay("relay-delay");
    world.relay().set_delay(Duration::from_millis(600));
    std::thread::scope(|scope| {
        let put = scope.spawn(|| {
            let start = Instant::now();
            client.put("late", "x");
            start.elapsed()
        });
        assert!(world.relay().wait_until_held(1, Duration::from_secs(5)));
        std::thread::sleep(Duration::from_millis(300));
        assert!(world.witness.object("late").is_none(), "the store has it before the delay was over");
        assert!(put.join().expect("the put") >= Duration::from_millis(600));
    });
    assert_eq!(world.witness.text("late"), "x");
}

#[test]
fn what_is_dropped_while_held_never_reaches_the_store() {
    let (world, client) = through_relay("relay-drop");
    let relay = world.relay();
    relay.set_delay(Duration::from_secs(30));
    std::thread::scope(|scope| {
        scope.spawn(|| client.put("dropped", "x"));
        assert!(relay.wait_until_held(1, Duration::from_secs(5)));
        assert_eq!(relay.drop_held(), 1);
        // The client tries again by itself; that one passes.
        assert!(relay.wait_until_held(1, Duration::from_secs(5)));
        assert!(world.witness.object("dropped").is_none());
        relay.set_delay(Duration::ZERO);
    });
    assert_eq!(relay.seen()[0].fate, Fate::Dropped);
    assert_eq!(world.witness.text("dropped"), "x");
}

#[test]
fn a_request_whose_client_has_died_never_reaches_the_store() {
    let (world, _) = through_relay("relay-orphan");
    let relay = world.relay();
    relay.set_delay(Duration::from_millis(500));
    let mut curl = std::process::Command::new("curl");
    let url = format!("{}/{BUCKET}/{}/orphan", relay.endpoint(), world.prefix);
    let user = format!("{}:{}", seaweed::ACCESS_KEY, seaweed::SECRET_KEY);
    curl.args(["-sS", "--aws-sigv4", "aws:amz:us-east-1:s3", "-u", &user, "-T", "Cargo.toml", &url]);
    let mut child = curl.spawn().expect("curl");
    assert!(relay.wait_until_held(1, Duration::from_secs(5)));
    child.kill().expect("kill curl");
    child.wait().expect("reap curl");
    std::thread::sleep(Duration::from_millis(900));
    assert!(world.witness.object("orphan").is_none());
    assert_eq!(relay.seen()[0].fate, Fate::Dropped);
}

#[test]
fn the_nth_request_fails_and_only_that_one() {
    let (world, client) = through_relay("relay-nth");
    let relay = world.relay();
    relay.rule(2, 1, Act::Status(503), |r| r.kind == Kind::Put);
    client.put("one", "1");
    client.put("two", "2");
    client.put("three", "3");
    let fates: Vec<_> = relay.seen().iter().map(|s| s.fate).collect();
    let ok = Fate::Answered(200);
    assert_eq!(fates, [ok, Fate::Refused(503), ok, ok], "the client repeats the refused one");
}

#[test]
fn a_lost_answer_comes_after_the_effect() {
    let (world, client) = through_relay("relay-lost");
    let relay = world.relay();
    relay.rule(1, 1, Act::LoseAnswer, |r| r.kind == Kind::Put);
    client.put("lost", "x");
    let seen = relay.seen();
    assert_eq!((seen.len(), seen[0].fate), (2, Fate::AnswerLost), "the client had to repeat it");
    assert_eq!(world.witness.text("lost"), "x");
}

#[test]
fn a_cut_ends_everything_and_healing_lets_it_go_on() {
    let (world, client) = through_relay("relay-cut");
    let relay = world.relay();
    relay.cut();
    std::thread::scope(|scope| {
        scope.spawn(|| client.put("after", "x"));
        std::thread::sleep(Duration::from_millis(20));
        assert!(world.witness.object("after").is_none());
        relay.heal();
    });
    assert_eq!(world.witness.text("after"), "x");
}

#[test]
fn a_black_hole_answers_nothing_until_it_is_healed() {
    let (world, client) = through_relay("relay-hole");
    let relay = world.relay();
    relay.black_hole();
    std::thread::scope(|scope| {
        scope.spawn(|| client.put("held", "x"));
        assert!(relay.wait_until_held(1, Duration::from_secs(5)));
        std::thread::sleep(Duration::from_millis(300));
        assert_eq!((relay.held(), world.witness.object("held").is_none()), (1, true));
        relay.heal();
    });
    assert_eq!(world.witness.text("held"), "x");
}

#[test]
fn a_rate_limit_bounds_both_directions() {
    let (world, client) = through_relay("relay-rate");
    let relay = world.relay();
    relay.set_rate(Some(200_000));
    let start = Instant::now();
    client.put("slow", vec![7u8; 100_000]);
    let up = start.elapsed();
    let bytes = client.object("slow").expect("it was put").bytes;
    let down = start.elapsed() - up;
    assert_eq!(bytes.len(), 100_000);
    for (way, took) in [("up", up), ("down", down)] {
        assert!((0.4..3.0).contains(&took.as_secs_f64()), "{way}: 100 kB at 200 kB/s took {took:?}");
    }
}

#[test]
fn a_truncated_answer_is_shorter_than_it_says() {
    let (world, client) = through_relay("relay-truncate");
    client.put("whole", vec![7u8; 100_000]);
    world.relay().rule(1, 1, Act::Truncate, |r| r.kind == Kind::Get);
    let read = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| client.object("whole")));
    assert!(read.is_err(), "the client took half of an answer for the whole");
    assert_eq!(world.relay().seen().last().map(|s| (s.fate, s.down)), Some((Fate::AnswerLost, 50_000)));
}

#[test]
fn one_request_can_be_later_than_the_others_and_outlive_its_client() {
    let (world, client) = through_relay("relay-late-one");
    let relay = world.relay();
    relay.set_deliver_orphans(true);
    relay.rule(1, 1, Act::Delay(Duration::from_millis(800)), |r| r.key.ends_with("late"));
    std::thread::scope(|scope| {
        scope.spawn(|| client.put("late", "first"));
        assert!(relay.wait_until_held(1, Duration::from_secs(5)));
        client.put("other", "x");
        assert!(world.witness.object("late").is_none() && world.witness.object("other").is_some());
    });
    assert_eq!(world.witness.text("late"), "first");
    relay.rule(1, 2, Act::Status(500), |r| r.kind == Kind::Head);
    relay.clear_rules();
    assert!(relay.wait_until_seen(Duration::from_secs(1), |r| r.key.ends_with("other")));
}
