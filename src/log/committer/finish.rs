//! The finisher: makes slots committed, in order, and releases those who wait for them.

use super::Inner;
use super::backoff::Backoff;
use crate::log::LogError;
use crate::log::blocking::blocking;
use crate::log::ids::Slot;
use crate::log::rules::{Rule, holds};
use crate::log::source::Seq;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

/// A slot that is being sent.
pub(super) struct UnderWay {
    pub slot: Slot,
    pub last_seq: Seq,
    /// Of the whole segment.
    pub bytes: u64,
    pub landing: JoinHandle<bool>,
    /// Given back once the slot is committed.
    pub place: OwnedSemaphorePermit,
}

/// Runs until the committer ends.
pub(super) async fn run(inner: Arc<Inner>, mut slots: mpsc::UnboundedReceiver<UnderWay>) {
    let stop = inner.stop.clone();
    let finishing = async {
        while let Some(slot) = slots.recv().await {
            if !finish(&inner, slot).await {
                return;
            }
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = finishing => {}
    }
}

/// `false` once nothing more can be committed.
async fn finish(inner: &Inner, under_way: UnderWay) -> bool {
    let UnderWay { slot, last_seq, bytes, landing, place } = under_way;
    match landing.await {
        Ok(true) => {}
        // The lease says why, and the guard tells those who wait.
        Ok(false) => return false,
        Err(panic) => {
            let what = format!("sending slot {slot} broke off: {panic}");
            inner.end(LogError::Local(crate::log::source::LocalError::failed(what)));
            return false;
        }
    }
    let after = inner.progress.borrow().seq;
    if !confirm(inner, slot, after).await {
        return false;
    }
    drop(place);
    *inner.stalled.lock() = None;
    inner.progress.send_modify(|progress| {
        progress.seq = last_seq;
        progress.slot = slot;
        progress.bytes += bytes;
        progress.commits += 1;
        progress.at = Some(inner.config.clock.wall());
        progress.in_flight = inner.in_flight();
        progress.error = None;
    });
    inner.waiters.release(last_seq);
    true
}

/// Makes a landed slot committed: the lease is surely ours, and the journal knows. `false` when we are
/// fenced.
async fn confirm(inner: &Inner, slot: Slot, after: Seq) -> bool {
    let lease = &inner.config.lease;
    let mut backoff = Backoff::new(lease.epoch().nonce ^ slot.0, &inner.nudge);
    loop {
        backoff.begin();
        let ensured = if holds(Rule::EnsuredBeforeAck) { lease.ensure().await } else { Ok(()) };
        let result = match ensured {
            Ok(()) => blocking(|| inner.config.source.committed(slot)).map_err(LogError::from),
            Err(error) => Err(error),
        };
        match result {
            Ok(()) => return true,
            Err(error) => match lease.hold().error() {
                Some(end) => {
                    inner.end(end);
                    return false;
                }
                None => inner.failed(after, &error),
            },
        }
        backoff.pause().await;
    }
}
