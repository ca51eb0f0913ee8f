//! Holders and newcomers.

use super::stage::{AT_ONCE, TTL, WHEN_DUE};
use super::{must_be_whole, prove};
use crate::log::ids::keys;
use crate::log::rules::Rule;
use crate::log::testing::Gate;
use crate::simulation::faults::Fault;
use crate::simulation::process::How;
use crate::store::Kind;
use std::time::Duration;

/// (10) A holder that renews, and a newcomer that watches for as long as its lease lasts.
#[test]
fn renewals_are_seen() {
    prove(Rule::RenewalsDiffer, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 2).await;
        drop(stage.try_mount(&stage.host("new"), &stage.disks.blank(), WHEN_DUE).await);
        stage.commits(&old, 2).await;
        old.life.die();
        stage.end().await;
    });
}

/// (10) The same, where the newcomer's own lease would be shorter.
#[test]
fn the_holders_ttl_is_waited_for() {
    prove(Rule::HoldersTtl, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 2).await;
        let how = How { ttl: Duration::from_secs(3), ..WHEN_DUE };
        drop(stage.try_mount(&stage.host("new"), &stage.disks.blank(), how).await);
        stage.commits(&old, 2).await;
        old.life.die();
        stage.end().await;
    });
}

/// (11) The lease is given back late, when a successor has it.
#[test]
fn a_late_release_takes_nothing_from_the_successor() {
    prove(Rule::ReleaseByWrite, |stage| async move {
        let old = stage.mount("old", AT_ONCE).await;
        stage.commits(&old, 2).await;
        let (put, delete) = (stage.hold("old", "put", keys::LEASE), stage.hold("old", "delete", keys::LEASE));
        let closing = old.clone();
        tokio::spawn(async move { closing.close().await });
        stage.after(1).await;
        let new = stage.mount("new", AT_ONCE).await;
        stage.commits(&new, 2).await;
        put.open();
        delete.open();
        stage.after(2 * TTL.as_secs()).await;
        stage.commits(&new, 2).await;
        stage.end().await;
    });
}

/// (17) A renewal's answer is lost, and the lease cannot be read for a moment: it is not gone for that.
#[test]
fn a_refused_read_is_no_deletion() {
    prove(Rule::MissingIfListed, |stage| async move {
        let writer = stage.mount("writer", AT_ONCE).await;
        stage.commits(&writer, 2).await;
        stage.fault("writer", "put", keys::LEASE, (0, 1), Fault::Lost(Kind::Timeout));
        stage.fault("writer", "get", keys::LEASE, (0, 1), Fault::Refused(Kind::AccessDenied));
        stage.after(TTL.as_secs()).await;
        stage.commits(&writer, 2).await;
        stage.end().await;
    });
}

/// A renewal is answered when the lease has run out already: a commit is not confirmed by it.
#[test]
fn a_renewal_that_is_heard_of_too_late_is_none() {
    must_be_whole(|stage| async move {
        let writer = stage.mount("writer", AT_ONCE).await;
        stage.commits(&writer, 2).await;
        let gates = [Gate::new(), Gate::new()];
        for gate in &gates {
            stage.fault("writer", "put", keys::LEASE, (0, 1), Fault::HoldAfter(gate.clone()));
        }
        stage.after(TTL.as_secs() + 5).await;
        let (seq, step) = stage.change(&writer);
        writer.spawn_wait(seq, step);
        stage.after(1).await;
        for gate in &gates {
            gate.open();
            stage.after(TTL.as_secs() + 5).await;
        }
        stage.commits(&writer, 2).await;
        stage.end().await;
    });
}
