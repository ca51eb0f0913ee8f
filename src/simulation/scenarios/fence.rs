//! A stalled writer and its successor: who may go on, and what is in the history.

use super::prove;
use super::stage::{AT_ONCE, Stage};
use crate::log::ids::keys;
use crate::log::rules::Rule;
use crate::simulation::faults::Fault;
use crate::simulation::process::Process;
use std::sync::Arc;

/// Changes that are under way, one slot each, and callers that wait for them.
async fn pipeline(stage: &Stage, process: &Arc<Process>, count: u32) {
    for _ in 0..count {
        let (seq, step) = stage.change(process);
        process.spawn_wait(seq, step);
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}

/// (1) The old writer's slot waits while the successor fences it, goes on, and collects everything up to there. Its
/// clock stands, so nothing but the seal tells it.
#[test]
fn collection_does_not_reopen_the_fence() {
    prove(Rule::SealsStay, |stage| async move {
        let (old, gate) = stage.stalled(AT_ONCE).await;
        let (seq, step) = stage.change(&old);
        old.spawn_wait(seq, step);
        stage.after(1).await;
        old.life.host.clock.stand();
        let new = stage.mount("new", AT_ONCE).await;
        stage.shorten(&new, 4, true).await;
        stage.after(21).await;
        drop(new.sweep(crate::simulation::keep::GRACE).await);
        stage.arrives_late(gate, &old).await;
    });
}

/// (1, 2) Without its seal a successor writes beside the one that it thinks is gone.
#[test]
fn nothing_is_written_before_the_seal() {
    prove(Rule::SealFirst, |stage| async move {
        let (old, gate) = stage.stalled(AT_ONCE).await;
        pipeline(&stage, &old, 2).await;
        old.life.host.clock.stand();
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 2).await;
        stage.arrives_late(gate, &old).await;
    });
}

/// (2) Of four slots under way the first is cut off; the others land after the successor has come.
#[test]
fn a_stale_pipeline_does_not_land_inside_the_successors() {
    prove(Rule::SlotOrder, |stage| async move {
        let (old, first) = stage.stalled(AT_ONCE).await;
        pipeline(&stage, &old, 4).await;
        stage.after(1).await;
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 4).await;
        stage.arrives_late(first, &old).await;
    });
}

/// (2) One log for all: what the successor writes meets what its predecessor has.
#[test]
fn each_writer_has_a_log_of_its_own() {
    prove(Rule::OwnEpoch, |stage| async move {
        let (old, gate) = stage.stalled(AT_ONCE).await;
        pipeline(&stage, &old, 4).await;
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 2).await;
        stage.arrives_late(gate, &old).await;
    });
}

/// (2) The prefix was deleted and a session made there again: what is late of the old one is not of this one.
#[test]
fn a_session_that_was_made_again_is_another_one() {
    prove(Rule::FreshNonce, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 1).await;
        let gate = stage.hold("old", "put", keys::LOG);
        stage.change(&old);
        old.committer.kick(std::time::Duration::ZERO);
        stage.after(1).await;
        stage.world.delete_everything();
        old.life.die();
        stage.world.begins_anew();
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 1).await;
        gate.open();
        stage.after(5).await;
        stage.commits(&new, 2).await;
        stage.end().await;
    });
}

/// (12) Two clones of a machine, each believing that it is the writer.
#[test]
fn a_clone_is_told_apart_by_all_bytes() {
    prove(Rule::WholeBytes, |stage| async move {
        let one = stage.mount("one", AT_ONCE).await;
        stage.commits(&one, 3).await;
        let two = one.clone_machine(&stage.disks, &stage.host("two"));
        stage.commit(&one).await;
        let (seq, step) = stage.change(&two);
        two.spawn_wait(seq, step);
        stage.after(5).await;
        two.life.die();
        stage.end().await;
    });
}

/// (16) A machine wakes up after longer than its lease, with a commit that has landed and was not confirmed.
#[test]
fn time_asleep_counts() {
    prove(Rule::SuspendCounts, asleep);
}

/// The same, where the lease is not looked at before a commit is confirmed.
#[test]
fn a_commit_is_confirmed_under_a_lease() {
    prove(Rule::EnsuredBeforeAck, asleep);
}

async fn asleep(stage: Stage) {
    let old = stage.mount("old", AT_ONCE).await;
    stage.commits(&old, 3).await;
    let gate = crate::log::testing::Gate::new();
    stage.fault("old", "put", keys::LOG, (0, 1), Fault::HoldAfter(gate.clone()));
    let (seq, step) = stage.change(&old);
    old.spawn_wait(seq, step);
    stage.after(1).await;
    old.life.host.suspend();
    gate.open();
    stage.after(40).await;
    let new = stage.mount("new", super::stage::WHEN_DUE).await;
    stage.commits(&new, 2).await;
    // The renewal that is due comes only later than the answer.
    stage.hold("old", "put", keys::LEASE);
    old.life.host.resume();
    stage.after(5).await;
    old.life.die();
    stage.end().await;
}

/// (17) Somebody deletes a segment from the middle of the log: that is damage, not the log's end.
#[test]
fn a_missing_segment_is_not_the_end_of_the_log() {
    prove(Rule::GapIsDamage, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 5).await;
        let epoch = old.lease.epoch();
        old.life.die();
        let key = keys::segment(epoch, crate::log::ids::Slot(3));
        let kept = stage.world.take_away(&key);
        let (host, dir) = (stage.host("new"), stage.disks.blank());
        // It refuses, and nothing is lost once the segment is put back.
        drop(stage.try_mount(&host, &dir, AT_ONCE).await);
        stage.world.put_back(&key, kept);
        stage.end().await;
    });
}
