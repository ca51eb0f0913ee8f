//! Collectors against readers: what goes must be needed by nobody, and by no reader that is on its way.

use super::prove;
use super::stage::{AT_ONCE, Stage};
use crate::log::ids::keys;
use crate::log::rules::Rule;
use crate::log::testing::Gate;
use crate::simulation::faults::Fault;
use crate::simulation::keep::GRACE;
use crate::simulation::process::Process;
use std::sync::Arc;
use tokio::task::JoinHandle;

async fn sweep(stage: &Stage, process: &Process) {
    stage.after(GRACE.as_secs() + 1).await;
    if let Err(error) = process.sweep(GRACE).await {
        stage.world.note(format_args!("{}: {error}", process.life.host.name));
    }
}

/// A machine that begins to mount the session.
fn newcomer(stage: Stage) -> (Arc<Stage>, JoinHandle<Arc<Process>>) {
    let (host, dir, stage) = (stage.host("new"), stage.disks.blank(), Arc::new(stage));
    let mounting = tokio::spawn({
        let stage = stage.clone();
        async move { stage.mount_on(&host, &dir, AT_ONCE).await }
    });
    (stage, mounting)
}

/// The newcomer has mounted and writes; its predecessor is gone, and the story ends.
async fn goes_on(stage: &Stage, mounting: JoinHandle<Arc<Process>>, old: &Process) {
    match mounting.await {
        Ok(new) => stage.commits(&new, 2).await,
        Err(died) => stage.world.violate(died.to_string()),
    }
    old.life.die();
    stage.end().await;
}

/// (1) The successor has taken the lease and loads slowly, while its predecessor, whose clock stands, still shortens
/// the log.
#[test]
fn taking_the_lease_freezes_the_floor() {
    prove(Rule::FloorByLease, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.shorten(&old, 3, true).await;
        old.life.host.clock.stand();
        let gate = stage.hold("new", "get", keys::CHECKPOINT);
        let (stage, mounting) = newcomer(stage);
        stage.after(1).await;
        for _ in 0..3 {
            // It is refused as soon as it is known here that the lease has gone.
            let (seq, step) = stage.change(&old);
            drop(old.wait(seq, step).await);
            drop(old.blind_round(true, true).await);
        }
        sweep(&stage, &old).await;
        gate.open();
        goes_on(&stage, mounting, &old).await;
    });
}

/// (1) The newcomer has listed the checkpoints before it gets the lease; its predecessor goes on meanwhile.
#[test]
fn checkpoints_are_listed_under_the_lease() {
    prove(Rule::ListedUnderLease, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.shorten(&old, 3, false).await;
        let gate = stage.hold("new", "put", keys::LEASE);
        let (stage, mounting) = newcomer(stage);
        stage.after(1).await;
        stage.shorten(&old, 3, true).await;
        sweep(&stage, &old).await;
        gate.open();
        goes_on(&stage, mounting, &old).await;
    });
}

/// (6) A fresh blob is in the store before any row names it: it is not taken for garbage.
#[test]
fn a_fresh_blob_is_no_garbage() {
    prove(Rule::EarlierBlobsOnly, |stage| async move {
        let writer = stage.mount("writer", AT_ONCE).await;
        stage.shorten(&writer, 2, false).await;
        let gate = Gate::new();
        stage.fault("writer", "put", keys::DATA, (0, 1), Fault::HoldAfter(gate.clone()));
        let stage = Arc::new(stage);
        let writing = tokio::spawn({
            let (stage, writer) = (stage.clone(), writer.clone());
            async move { stage.commit_large(&writer).await }
        });
        stage.after(1).await;
        stage.shorten(&writer, 4, true).await;
        sweep(&stage, &writer).await;
        gate.open();
        if let Err(died) = writing.await {
            stage.world.violate(died.to_string());
        }
        stage.end().await;
    });
}

/// (6, 9) A blob that no row names any more was still named at the floor, where a reader may begin.
#[test]
fn what_is_dead_now_was_alive_at_the_floor() {
    prove(Rule::DeadAtFloor, |stage| async move {
        let writer = stage.mount("writer", AT_ONCE).await;
        let ino = stage.commit_large(&writer).await;
        stage.shorten(&writer, 3, false).await;
        if let Ok((seq, step)) = writer.remove(ino) {
            drop(writer.wait(seq, step).await);
        }
        sweep(&stage, &writer).await;
        stage.end().await;
    });
}

/// (9) The newest checkpoint turns out to be damaged: what it takes to do without is there.
#[test]
fn the_fallback_is_not_collected() {
    prove(Rule::FloorIsFallback, |stage| async move {
        let writer = stage.mount("writer", AT_ONCE).await;
        stage.shorten(&writer, 3, true).await;
        sweep(&stage, &writer).await;
        stage.end().await;
    });
}

/// Rows that name a pack are committed while it is still on its way.
#[test]
fn rows_name_a_pack_that_is_there() {
    prove(Rule::PackBeforeRows, |stage| async move {
        let writer = stage.mount("writer", AT_ONCE).await;
        stage.commits(&writer, 3).await;
        let gate = stage.hold("writer", "put", keys::DATA);
        let packing = writer.clone();
        tokio::spawn(async move { packing.round(true, true).await });
        stage.after(1).await;
        stage.commits(&writer, 2).await;
        gate.open();
        stage.after(5).await;
        stage.end().await;
    });
}
