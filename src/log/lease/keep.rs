//! The duties of a holder: renewing while held, looking while parked.

use super::{Hold, Lease};
use crate::log::LogError;
use std::sync::Weak;
use std::time::Duration;
use tokio::sync::watch;

/// How often a parked lease is looked at.
const PARKED: Duration = Duration::from_secs(60);

/// Runs until the lease is dropped, given back or lost.
pub(super) async fn keep(lease: Weak<Lease>, mut hold: watch::Receiver<Hold>) {
    let mut failing = false;
    loop {
        let Some(pause) = lease.upgrade().and_then(|lease| pause(&lease, failing)) else { return };
        tokio::select! {
            biased;
            () = tokio::time::sleep(pause) => {}
            changed = hold.changed() => {
                if changed.is_err() {
                    return;
                }
                continue;
            }
        }
        let Some(lease) = lease.upgrade() else { return };
        let result = duty(&lease).await;
        report(&lease, &result, &mut failing);
    }
}

/// How long until the next duty; `None` when there are no more.
fn pause(lease: &Lease, failing: bool) -> Option<Duration> {
    let third = lease.ttl / 3;
    match lease.hold() {
        _ if failing => Some((third / 4).clamp(Duration::from_millis(50), Duration::from_secs(5))),
        Hold::Held => Some(third.saturating_sub(lease.age()).max(Duration::from_millis(1))),
        Hold::Parked => Some(PARKED),
        Hold::Free | Hold::Fenced { .. } | Hold::Deleted { .. } => None,
    }
}

async fn duty(lease: &Lease) -> Result<(), LogError> {
    match lease.hold() {
        Hold::Held => lease.renew(lease.ttl / 3).await,
        Hold::Parked => lease.check().await,
        Hold::Free | Hold::Fenced { .. } | Hold::Deleted { .. } => Ok(()),
    }
}

/// Says once that it fails, and once that it works again.
fn report(lease: &Lease, result: &Result<(), LogError>, failing: &mut bool) {
    match result {
        Err(_) if lease.hold().error().is_some() => *failing = false,
        Err(error) if !*failing => {
            tracing::warn!(%error, "the lease cannot be renewed; trying again");
            *failing = true;
        }
        Ok(()) if *failing => {
            tracing::info!("the lease is renewed again");
            *failing = false;
        }
        Ok(()) | Err(_) => {}
    }
}
