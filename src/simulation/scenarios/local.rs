//! The local journal against the history in the store.

use super::prove;
use super::stage::AT_ONCE;
use crate::log::ids::keys;
use crate::log::rules::Rule;
use crate::simulation::faults::Fault;
use crate::simulation::life::Life;
use crate::simulation::process::{How, Process};
use std::time::Duration;

/// (7) A checkpoint is made while a slot is under way that never lands before its writer is fenced.
#[test]
fn a_checkpoint_holds_committed_slots_only() {
    prove(Rule::CommittedWhenLanded, |stage| async move {
        let (old, gate) = stage.stalled(How { in_flight: 1, ..AT_ONCE }).await;
        stage.change(&old);
        old.committer.kick(Duration::ZERO);
        stage.after(1).await;
        drop(old.round(false, true).await);
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 2).await;
        stage.arrives_late(gate, &old).await;
    });
}

/// (8) A machine dies with changes that the store has not; another one writes; the first comes back.
#[test]
fn local_changes_are_not_replayed_over_another_writers_commits() {
    prove(Rule::ReplayOverOwn, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 3).await;
        stage.change(&old);
        stage.change(&old);
        let dir = stage.kill(&old);
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 2).await;
        new.close().await;
        let again = stage.mount_on(&old.life.host, &dir, AT_ONCE).await;
        stage.commits(&again, 2).await;
        stage.end().await;
    });
}

/// (8) A slot lands, and its writer dies before it hears of it: the next process there knows the slot for its own.
#[test]
fn a_slot_is_noted_before_it_is_sent() {
    prove(Rule::NotedBeforeSent, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 3).await;
        stage.fault("old", "put", keys::LOG, (0, 1), Fault::CrashAfter);
        stage.change(&old);
        old.committer.kick(Duration::ZERO);
        tokio::task::yield_now().await;
        stage.change(&old);
        let left = old.left();
        old.life.death().await;
        stage.after(1).await;
        let dir = stage.kill(&old);
        let life = Life::new(&old.life.host);
        match Process::start(&stage.world, &life, &dir, Some(left), AT_ONCE).await {
            Ok(again) => stage.commits(&again, 2).await,
            Err(error) => stage.world.violate(format!("it cannot come back: {:?}", error.0)),
        }
        stage.end().await;
    });
}

/// (9) A checkpoint's slot, and all before it, are not applied again.
#[test]
fn the_log_is_applied_strictly_after_the_checkpoint() {
    prove(Rule::StrictlyAfter, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.shorten(&old, 2, false).await;
        stage.commits(&old, 2).await;
        old.close().await;
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 2).await;
        stage.end().await;
    });
}
