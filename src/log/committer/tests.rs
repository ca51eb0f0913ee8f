//! The committer over a store in memory, on a paused clock.

use super::*;
use crate::log::ids::keys;
use crate::log::lease::{First, Hold, create};
use crate::log::segment;
use crate::log::source::LocalError;
use crate::log::testing::{Chaos, Client, FakeJournal, Fault, Gate, Shared, options};
use tokio::runtime::Handle;

const PATIENCE: Duration = Duration::from_secs(60);

struct Writer {
    client: Arc<Client>,
    lease: Arc<Lease>,
    journal: FakeJournal,
    committer: Arc<Committer>,
}

async fn writer(shared: &Arc<Shared>) -> Writer {
    let client = shared.client();
    let options = options("w1");
    let first = First { session: None, origin: None, counter: 1 };
    let lease = create(&client.store(), &options, first).await.unwrap().unwrap();
    let journal = FakeJournal::new();
    let committer = start(&client, &lease, &journal, options.clock, Slot(1));
    Writer { client, lease, journal, committer }
}

fn start(
    client: &Arc<Client>,
    lease: &Arc<Lease>,
    journal: &FakeJournal,
    clock: Arc<dyn Clock>,
    first_slot: Slot,
) -> Arc<Committer> {
    let config = CommitterConfig {
        store: client.store(),
        lease: lease.clone(),
        source: Arc::new(journal.clone()),
        first_slot,
        max_in_flight: 8,
        clock,
    };
    Committer::start(config, &Handle::current())
}

fn segments(w: &Writer) -> usize {
    w.client.count("put", keys::LOG)
}

#[tokio::test(start_paused = true)]
async fn a_wait_returns_once_the_change_is_in_the_store_and_an_old_one_at_once() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let seq = w.journal.set("a", "1");
    w.committer.wait(seq, PATIENCE).await.unwrap();
    assert_eq!(w.journal.committed_value("a").as_deref(), Some("1"));
    let bytes = shared.get(&keys::segment(w.lease.epoch(), Slot(1))).unwrap();
    let segment = segment::decode(w.lease.epoch(), Slot(1), &bytes).unwrap();
    assert_eq!((segment.records.len(), segment.header.committed), (1, Slot(0)));
    w.committer.wait(seq, Duration::ZERO).await.unwrap();
    assert_eq!(segments(&w), 1);
    let progress = w.committer.progress();
    assert_eq!((progress.seq, progress.slot, progress.in_flight), (seq, Slot(1), 0));
}

#[tokio::test(start_paused = true)]
async fn a_burst_of_kicks_is_one_commit_and_nobody_has_to_wait_for_it() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    for i in 0..20 {
        w.journal.set(&format!("k{i}"), "v");
        w.committer.kick(Duration::from_millis(50));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(segments(&w), 0);
    tokio::time::sleep(Duration::from_millis(40)).await;
    assert_eq!((segments(&w), w.journal.uncommitted()), (1, 0));
    w.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_secs(5)).await;
    assert_eq!(segments(&w), 1, "nothing had changed");
}

#[tokio::test(start_paused = true)]
async fn callers_are_released_in_slot_order_though_slots_land_in_any() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let gate = Gate::new();
    w.client.fault("put", keys::segment(w.lease.epoch(), Slot(1)), 1, Fault::HoldBefore(gate.clone()));
    let first = w.journal.set("a", "1");
    w.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let second = w.journal.set("b", "2");
    let late = w.committer.wait(second, Duration::from_secs(1)).await;
    assert!(matches!(late, Err(LogError::Timeout { seconds: 1, .. })), "{late:?}");
    assert!(shared.get(&keys::segment(w.lease.epoch(), Slot(2))).is_some(), "it had landed all the while");
    assert_eq!(w.journal.committed_value("b"), None);
    gate.open();
    tokio::time::sleep(Duration::from_millis(1)).await;
    w.committer.wait(first.max(second), PATIENCE).await.unwrap();
    assert_eq!(w.journal.committed_value("b").as_deref(), Some("2"));
}

#[tokio::test(start_paused = true)]
async fn when_all_places_are_taken_changes_gather_in_one_slot() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let gate = Gate::new();
    w.client.fault("put", keys::LOG, 8, Fault::HoldBefore(gate.clone()));
    for i in 0..30 {
        w.journal.set(&format!("k{i}"), "v");
        w.committer.kick(Duration::ZERO);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(w.committer.progress().in_flight, 8);
    gate.open();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!((segments(&w), w.journal.uncommitted()), (9, 0));
}

/// Writers that are released together come back one after the other: one slot for all, and not one for each.
#[tokio::test(start_paused = true)]
async fn who_was_released_together_goes_together_again() {
    const ROUNDS: u64 = 10;
    let shared = Shared::new();
    let w = writer(&shared).await;
    let (journal, committer) = (&w.journal, &w.committer);
    let writers = (0..3).map(async |who: u64| {
        for round in 0..ROUNDS {
            let seq = journal.set(&format!("{who}"), &format!("{round}"));
            committer.wait_stored(seq, PATIENCE).await.unwrap();
            tokio::time::sleep(Duration::from_millis(who)).await;
        }
    });
    futures::future::join_all(writers).await;
    assert_eq!(segments(&w), ROUNDS as usize);
}

/// Many writers go in groups of eight: while the PUT of one is under way, another makes its changes.
#[tokio::test(start_paused = true)]
async fn many_writers_go_in_groups() {
    const ROUNDS: u64 = 10;
    let shared = Shared::new();
    let w = writer(&shared).await;
    w.client.chaos(Chaos::new(1, 20, 0.0));
    let (journal, committer) = (&w.journal, &w.committer);
    let writers = (0..16).map(async |who: u64| {
        for round in 0..ROUNDS {
            let seq = journal.set(&format!("{who}"), &format!("{round}"));
            committer.wait_stored(seq, PATIENCE).await.unwrap();
            tokio::time::sleep(Duration::from_micros(100 * who)).await;
        }
    });
    futures::future::join_all(writers).await;
    let each = 16 * ROUNDS as usize / segments(&w);
    assert!((6..=12).contains(&each), "{each} changes in a segment, {} segments", segments(&w));
}

/// Callers go on once the store has their change, though the journal cannot note that yet.
#[tokio::test(start_paused = true)]
async fn nobody_waits_for_the_journal_to_learn_what_the_store_has() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let gate = Gate::new();
    w.client.fault("put", keys::LOG, 1, Fault::HoldBefore(gate.clone()));
    let seq = w.journal.set("a", "1");
    w.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    w.journal.refuse(Some(LocalError::failed("disk I/O error")));
    gate.open();
    w.committer.wait_stored(seq, PATIENCE).await.unwrap();
    assert!(shared.get(&keys::segment(w.lease.epoch(), Slot(1))).is_some());
    assert_eq!((w.journal.committed_value("a"), w.committer.progress().seq), (None, 0));
    w.committer.settled().await;
    assert_eq!(w.committer.progress().seq, 0, "nobody waits for that for ever");
    let behind = w.committer.wait(seq, PATIENCE).await.unwrap_err();
    assert!(matches!(behind, LogError::Local(_)), "{behind}");
    w.journal.refuse(None);
    tokio::time::sleep(PATIENCE).await;
    let next = w.journal.set("a", "2");
    w.committer.wait_stored(next, PATIENCE).await.unwrap();
    w.committer.settled().await;
    assert_eq!((w.journal.committed_value("a").as_deref(), w.committer.progress().seq), (Some("2"), next));
}

/// Nobody waits twice for a writer that does not come back, however fast the store is, and a single one never waits.
#[tokio::test(start_paused = true)]
async fn who_does_not_come_back_is_waited_for_a_moment() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let go = async |names: &'static [&'static str]| {
        let start = Instant::now();
        let seqs = names.iter().map(|name| w.journal.set(name, "v"));
        let waits = seqs.map(|seq| w.committer.wait_stored(seq, PATIENCE)).collect::<Vec<_>>();
        futures::future::join_all(waits).await;
        start.elapsed().as_millis()
    };
    let mut took = Vec::new();
    for names in [&["a", "b", "c"][..], &["a", "b"], &["a", "b"], &["a"], &["a"], &["a"]] {
        took.push(go(names).await);
    }
    let waited = |n: usize| (1..=4).contains(&took[n]);
    assert!(waited(1) && waited(3), "for one that was missing: {took:?} ms");
    assert!([0, 2, 4, 5].iter().all(|n| took[*n] == 0), "for nobody: {took:?} ms");
}

#[tokio::test(start_paused = true)]
async fn lost_answers_and_refusals_are_sent_again_with_the_same_bytes() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    for kind in [Kind::Unavailable, Kind::Timeout, Kind::Conflict, Kind::Throttled, Kind::AccessDenied] {
        w.client.fault("put", keys::LOG, 1, Fault::Refuse(kind));
        w.client.fault("put", keys::LOG, 1, Fault::LoseAnswer(Kind::Timeout));
        let seq = w.journal.set("a", &format!("{kind:?}"));
        w.committer.wait(seq, PATIENCE).await.unwrap();
    }
    // Refused, landed with a lost answer, then 412 by our own bytes, read back.
    assert_eq!((segments(&w), w.client.count("get", keys::LOG)), (15, 5));
    assert_eq!(shared.keys().iter().filter(|k| k.starts_with(keys::LOG)).count(), 5);
}

#[tokio::test(start_paused = true)]
async fn once_a_wait_timed_out_further_ones_fail_at_once_until_a_commit_succeeds() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    w.client.fault("put", keys::LOG, usize::MAX, Fault::Refuse(Kind::Unavailable));
    let seq = w.journal.set("a", "1");
    let first = w.committer.wait(seq, Duration::from_secs(3)).await.unwrap_err();
    assert!(first.to_string().contains("injected"), "{first}");
    let start = Instant::now();
    let seq = w.journal.set("b", "1");
    assert!(w.committer.wait(seq, PATIENCE).await.is_err());
    assert!(start.elapsed() < Duration::from_millis(5));
    assert!(w.committer.progress().error.is_some());
    w.client.heal();
    tokio::time::sleep(Duration::from_secs(10)).await;
    w.committer.wait(seq, Duration::ZERO).await.unwrap();
    assert!(w.committer.progress().error.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_full_store_is_told_at_once_and_the_commit_goes_through_when_there_is_space() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    w.client.fault("put", keys::LOG, usize::MAX, Fault::Refuse(Kind::NoSpace));
    let seq = w.journal.set("a", "1");
    for _ in 0..3 {
        let start = Instant::now();
        let full = w.committer.wait(seq, PATIENCE).await.unwrap_err();
        assert!(matches!(&full, LogError::Store(e) if e.kind == Kind::NoSpace), "{full}");
        assert!(start.elapsed() < Duration::from_millis(200));
    }
    w.client.heal();
    w.committer.wait(seq, PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failing_journal_is_told_and_nothing_is_sent_that_it_has_not_noted() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let seq = w.journal.set("a", "1");
    w.journal.refuse(Some(LocalError::failed("disk I/O error")));
    let failed = w.committer.wait(seq, PATIENCE).await.unwrap_err();
    assert!(matches!(failed, LogError::Local(_)), "{failed}");
    assert_eq!(segments(&w), 0);
    w.journal.refuse(None);
    w.committer.wait(seq, PATIENCE).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_clone_with_the_same_epoch_and_nonce_is_fenced_by_the_other_bytes() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    // The clone has the same lease, journal and generator; it is the second to use slot 1.
    let clone = w.journal.fork();
    let other = start(&w.client, &w.lease, &clone, options("x").clock, Slot(1));
    let seq = w.journal.set("a", "ours");
    w.committer.wait(seq, PATIENCE).await.unwrap();
    let seq = clone.set("a", "the clone's");
    let lost = other.wait(seq, PATIENCE).await.unwrap_err();
    assert!(matches!(lost, LogError::Fenced { .. }), "{lost}");
    assert_eq!(clone.committed_value("a"), None);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_writer_acknowledges_nothing_even_what_had_landed() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    let gate = Gate::new();
    w.client.fault("put", keys::segment(w.lease.epoch(), Slot(1)), 1, Fault::HoldBefore(gate.clone()));
    let seq = w.journal.set("a", "1");
    w.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    w.journal.set("b", "2");
    let waiting = tokio::spawn({
        let committer = w.committer.clone();
        async move { committer.wait(seq + 1, PATIENCE).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    // Slot 2 lies in the store; a successor seals at slot 1.
    let seal = segment::Header {
        session: w.lease.session(),
        epoch: w.lease.epoch(),
        slot: Slot(1),
        wall_ms: 0,
        label: None,
        committed: Slot(0),
        kind: segment::Kind::Seal { successor: crate::log::ids::Epoch { counter: 2, nonce: 9 } },
    };
    shared.set(&keys::segment(w.lease.epoch(), Slot(1)), segment::encode_seal(&seal).0);
    gate.open();
    let lost = waiting.await.unwrap();
    assert!(matches!(lost, Err(LogError::Fenced { .. })), "{lost:?}");
    assert!(matches!(w.lease.hold(), Hold::Fenced { .. }));
    assert!(w.committer.wait(seq, PATIENCE).await.is_err());
    assert_eq!((w.journal.committed_value("a"), w.journal.uncommitted()), (None, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stale_lease_is_renewed_before_anything_is_acknowledged() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    // Nobody keeps this lease; the process slept longer than its ttl.
    tokio::time::sleep(Duration::from_secs(60)).await;
    w.client.fault("put", keys::LEASE, usize::MAX, Fault::Refuse(Kind::Unavailable));
    let seq = w.journal.set("a", "1");
    let late = w.committer.wait(seq, Duration::from_secs(2)).await;
    assert!(late.is_err(), "it is in the store, but we may have been succeeded");
    assert!(shared.get(&keys::segment(w.lease.epoch(), Slot(1))).is_some());
    w.client.heal();
    tokio::time::sleep(Duration::from_secs(6)).await;
    w.committer.wait(seq, Duration::ZERO).await.unwrap();
    assert!(w.lease.age() < Duration::from_secs(7));
}

#[tokio::test(start_paused = true)]
async fn a_parked_writer_takes_the_lease_again_before_its_slot_is_sent() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    w.lease.park().await.unwrap();
    let seq = w.journal.set("a", "1");
    w.committer.wait(seq, PATIENCE).await.unwrap();
    assert_eq!(w.lease.hold(), Hold::Held);
    let puts: Vec<String> =
        w.client.requests().into_iter().filter(|(op, _)| *op == "put").map(|(_, key)| key).collect();
    assert_eq!(puts.len(), 4);
    assert!(puts[2] == keys::LEASE && puts[3].starts_with(keys::LOG), "{puts:?}");
}

#[tokio::test(start_paused = true)]
async fn stopping_ends_every_task_and_every_wait() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    w.client.fault("put", keys::LOG, usize::MAX, Fault::HoldBefore(Gate::new()));
    let seq = w.journal.set("a", "1");
    let waiting = tokio::spawn({
        let committer = w.committer.clone();
        async move { committer.wait(seq, PATIENCE).await }
    });
    tokio::time::sleep(Duration::from_millis(1)).await;
    w.committer.stop().await;
    assert!(waiting.await.unwrap().is_err());
    assert!(w.committer.wait(seq, PATIENCE).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_bad_store_delays_but_loses_nothing() {
    let shared = Shared::new();
    let w = writer(&shared).await;
    w.client.chaos(Chaos::new(11, 30, 0.3));
    w.lease.keep(&Handle::current());
    let mut last = 0;
    for i in 0..200 {
        last = w.journal.set(&format!("k{}", i % 17), &i.to_string());
        w.committer.kick(Duration::from_millis(i % 5));
        tokio::time::sleep(Duration::from_millis(i % 7)).await;
    }
    w.committer.wait(last, PATIENCE * 10).await.unwrap();
    assert_eq!(w.journal.committed_value("k3").as_deref(), Some("190"));
    assert_eq!(w.journal.uncommitted(), 0);
}
