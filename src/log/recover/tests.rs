//! Recovery over a store in memory: what a successor finds and what it does to its predecessor.

use super::*;
use crate::log::committer::{Committer, CommitterConfig};
use crate::log::ids::keys;
use crate::log::lease::Succession;
use crate::log::testing::{Client, FakeJournal, Fault, Gate, Shared, options, takeover};
use crate::store::Kind;
use std::time::Duration;
use tokio::runtime::Handle;

const PATIENCE: Duration = Duration::from_secs(30);

struct Mount {
    client: Arc<Client>,
    journal: FakeJournal,
    recovered: Recovered,
    committer: Arc<Committer>,
}

async fn mount(
    shared: &Arc<Shared>,
    options: LeaseOptions,
    journal: FakeJournal,
    local: Option<LocalBase>,
) -> Result<Mount, LogError> {
    let client = shared.client();
    let clock = options.clock.clone();
    let recovered = recover(client.store(), options, local, &mut journal.sink()).await?;
    journal.settle(&recovered.lineage);
    let config = CommitterConfig {
        store: client.store(),
        lease: recovered.lease.clone(),
        source: Arc::new(journal.clone()),
        first_slot: recovered.next_slot,
        max_in_flight: 8,
        clock,
    };
    let committer = Committer::start(config, &Handle::current());
    Ok(Mount { client, journal, recovered, committer })
}

async fn fresh(shared: &Arc<Shared>, options: LeaseOptions) -> Mount {
    mount(shared, options, FakeJournal::new(), None).await.unwrap()
}

impl Mount {
    async fn put(&self, name: &str, value: &str) -> Result<(), LogError> {
        let seq = self.journal.set(name, value);
        self.committer.wait(seq, PATIENCE).await
    }

    async fn unmount(&self) {
        self.committer.stop().await;
        self.recovered.lease.release().await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_acknowledged_is_there_on_another_machine() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    assert_eq!((&a.recovered.lineage, a.recovered.next_slot), (&Lineage::New, Slot(1)));
    a.put("x", "1").await.unwrap();
    a.put("y", "2").await.unwrap();
    a.unmount().await;
    let b = fresh(&shared, options("b")).await;
    assert_eq!(b.journal.committed_value("x").as_deref(), Some("1"));
    assert_eq!((&b.recovered.lineage, b.recovered.next_slot.0), (&Lineage::Store, 3));
    b.put("z", "3").await.unwrap();
    b.unmount().await;
    let c = fresh(&shared, options("c")).await;
    assert_eq!(c.journal.committed_value("z").as_deref(), Some("3"));
    assert_eq!((c.recovered.next_slot.0, c.recovered.replayed), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_renews_is_named_and_one_that_stopped_is_succeeded_after_its_ttl() {
    let shared = Shared::new();
    let a = fresh(&shared, options("host-a")).await;
    a.put("x", "1").await.unwrap();
    let held = mount(&shared, options("b"), FakeJournal::new(), None).await.err().unwrap();
    assert!(matches!(&held, LogError::Held { holder, .. } if holder == "host-a"), "{held}");
    a.client.kill();
    let start = tokio::time::Instant::now();
    let b = fresh(&shared, options("b")).await;
    assert!(start.elapsed() >= Duration::from_secs(15));
    assert_eq!(b.journal.committed_value("x").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_restart_leaves_a_parked_successor_alone_and_takes_back_its_own() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    a.client.kill();
    let own = a.recovered.lease.epoch();
    let restart = LeaseOptions { succession: Succession::NotParked, dead: Some(own), ..options("a again") };
    let b = fresh(&shared, takeover("b")).await;
    b.recovered.lease.park().await.unwrap();
    let refused = mount(&shared, restart.clone(), FakeJournal::new(), None).await.err().unwrap();
    assert!(matches!(&refused, LogError::Parked { holder } if holder == "b"), "{refused}");
    b.put("y", "2").await.expect("the parked one writes on");
    b.recovered.lease.park().await.unwrap();
    let own = b.recovered.lease.epoch();
    let again = fresh(&shared, LeaseOptions { dead: Some(own), ..restart.clone() }).await;
    again.unmount().await;
    fresh(&shared, LeaseOptions { dead: None, ..restart }).await;
}

#[tokio::test(start_paused = true)]
async fn a_stalled_pipeline_lands_behind_the_seal_and_is_never_acknowledged() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    let gate = Gate::new();
    let epoch = a.recovered.lease.epoch();
    a.client.fault("put", keys::segment(epoch, Slot(2)), 1, Fault::HoldBefore(gate.clone()));
    a.journal.set("x", "2");
    a.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    let late = a.journal.set("x", "3");
    a.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert!(shared.get(&keys::segment(epoch, Slot(3))).is_some());
    let b = fresh(&shared, takeover("b")).await;
    assert_eq!((b.recovered.next_slot.0, b.journal.committed_value("x").as_deref()), (2, Some("1")));
    b.put("x", "b").await.unwrap();
    gate.open();
    let lost = a.committer.wait(late, PATIENCE).await.unwrap_err();
    assert!(matches!(&lost, LogError::Fenced { by } if by == "b"), "{lost}");
    b.unmount().await;
    let c = fresh(&shared, options("c")).await;
    assert_eq!(c.journal.committed_value("x").as_deref(), Some("b"));
}

#[tokio::test(start_paused = true)]
async fn local_changes_are_replayed_only_over_their_own_history() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    let epoch = a.recovered.lease.epoch();
    // Slot 2 lands and its answer is lost; a third change never leaves.
    a.client.fault("put", keys::segment(epoch, Slot(2)), 1, Fault::HoldAfter(Gate::new()));
    a.journal.set("x", "2");
    a.committer.kick(Duration::ZERO);
    tokio::time::sleep(Duration::from_millis(1)).await;
    a.journal.set("y", "kept");
    a.client.kill();
    let session = a.recovered.lease.session();
    let (disk, copy) = (a.journal.fork(), a.journal.fork());
    let dead = LeaseOptions { dead: Some(epoch), ..options("a again") };
    let local = disk.local(session);
    let again = mount(&shared, dead, disk, local).await.unwrap();
    assert_eq!(again.recovered.lineage, Lineage::Local { committed: Some(2) });
    assert_eq!((again.journal.committed_value("x").as_deref(), again.journal.uncommitted()), (Some("2"), 1));
    again.put("z", "1").await.unwrap();
    assert_eq!(again.journal.committed_value("y").as_deref(), Some("kept"));
    again.unmount().await;
    // The copy of the disk is behind another writer's commits now.
    let local = copy.local(session);
    let behind = mount(&shared, options("copy"), copy, local).await.unwrap();
    assert_eq!(behind.recovered.lineage, Lineage::LocalDiverged);
    assert_eq!(behind.journal.committed_value("z").as_deref(), Some("1"));
}

#[tokio::test(start_paused = true)]
async fn a_missing_committed_slot_is_damage_and_the_lease_is_given_back() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    for i in 0..5 {
        a.put("x", &i.to_string()).await.unwrap();
    }
    a.unmount().await;
    let epoch = a.recovered.lease.epoch();
    let gone = shared.get(&keys::segment(epoch, Slot(3))).unwrap();
    shared.remove(&keys::segment(epoch, Slot(3)));
    let gap = mount(&shared, options("b"), FakeJournal::new(), None).await.err().unwrap();
    assert!(matches!(gap, LogError::Gap { slot: Slot(3), .. }), "{gap}");
    shared.set(&keys::segment(epoch, Slot(3)), gone);
    let c = fresh(&shared, options("c")).await;
    assert_eq!(c.journal.committed_value("x").as_deref(), Some("4"));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_segment_and_a_newer_lease_are_errors_that_name_them() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    a.unmount().await;
    let key = keys::segment(a.recovered.lease.epoch(), Slot(1));
    let mut bytes = shared.get(&key).unwrap().to_vec();
    bytes[30] ^= 1;
    shared.set(&key, bytes);
    let damaged = mount(&shared, options("b"), FakeJournal::new(), None).await.err().unwrap();
    assert!(damaged.to_string().contains(&key), "{damaged}");
    shared.set(keys::LEASE, &b"{\"format\":99}"[..]);
    let before = shared.keys();
    let newer = mount(&shared, options("b"), FakeJournal::new(), None).await.err().unwrap();
    assert!(matches!(newer, LogError::NewerFormat { found: 99, .. }), "{newer}");
    assert_eq!(shared.keys(), before);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lost_its_lease_is_recovered_and_its_writer_fenced() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    shared.remove(keys::LEASE);
    let b = fresh(&shared, options("b")).await;
    assert_eq!(b.recovered.lease.session(), a.recovered.lease.session());
    assert_eq!(b.journal.committed_value("x").as_deref(), Some("1"));
    assert!(a.put("x", "2").await.is_err());
    b.put("x", "3").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_session_deleted_under_its_writer_is_noticed() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    shared.keys().iter().for_each(|key| shared.remove(key));
    tokio::time::sleep(Duration::from_secs(6)).await;
    let gone = a.put("x", "2").await.unwrap_err();
    assert!(matches!(gone, LogError::Deleted { .. }), "{gone}");
}

#[tokio::test(start_paused = true)]
async fn taking_and_sealing_survive_lost_answers() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    a.unmount().await;
    let client = shared.client();
    client.fault("put", keys::LEASE, 1, Fault::LoseAnswer(Kind::Timeout));
    client.fault("put", keys::LOG, 1, Fault::LoseAnswer(Kind::Timeout));
    let journal = FakeJournal::new();
    let b = recover(client.store(), options("b"), None, &mut journal.sink()).await.unwrap();
    assert_eq!((b.next_slot, journal.committed_value("x").as_deref()), (Slot(2), Some("1")));
}

#[tokio::test(start_paused = true)]
async fn a_parked_writer_is_succeeded_at_once_and_learns_of_it() {
    let shared = Shared::new();
    let a = fresh(&shared, options("a")).await;
    a.put("x", "1").await.unwrap();
    a.recovered.lease.park().await.unwrap();
    let start = tokio::time::Instant::now();
    let b = fresh(&shared, options("b")).await;
    assert!(start.elapsed() < Duration::from_secs(1));
    b.put("x", "2").await.unwrap();
    let lost = a.put("x", "3").await.unwrap_err();
    assert!(matches!(lost, LogError::Fenced { .. }), "{lost}");
}

#[tokio::test(start_paused = true)]
async fn uploads_of_earlier_epochs_are_aborted_and_later_ones_are_not() {
    let shared = Shared::new();
    let epoch = |counter| Epoch { counter, nonce: 1 };
    for counter in [1, 2, 3] {
        shared.add_upload(&keys::data(epoch(counter), 1), "u");
    }
    assert_eq!(abort_uploads(shared.client().as_ref(), epoch(2)).await.unwrap(), 1);
    assert_eq!(shared.uploads(), [keys::data(epoch(2), 1), keys::data(epoch(3), 1)]);
}
