//! The finisher: releases those who wait for a slot, in slot order, and tells the journal.

use super::Inner;
use super::backoff::Backoff;
use crate::log::LogError;
use crate::log::blocking::blocking;
use crate::log::ids::Slot;
use crate::log::rules::{Rule, holds};
use crate::log::source::{LocalError, Seq};
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
    /// Given back once the journal knows of the slot.
    pub place: OwnedSemaphorePermit,
}

/// A slot that is surely committed, which the journal has to learn.
struct Landed {
    slot: Slot,
    last_seq: Seq,
    bytes: u64,
    place: OwnedSemaphorePermit,
}

/// Runs until the committer ends.
pub(super) async fn run(inner: Arc<Inner>, slots: mpsc::UnboundedReceiver<UnderWay>) {
    let stop = inner.stop.clone();
    let (out, landed) = mpsc::unbounded_channel();
    let finishing = async {
        tokio::join!(release_landed(&inner, slots, out), tell_journal(&inner, landed));
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = finishing => {}
    }
}

/// Awaits slots in order, and releases who waits for the store. Those go on while the journal is told: after a
/// crash in between, it finds the slot in the log.
async fn release_landed(
    inner: &Inner,
    mut slots: mpsc::UnboundedReceiver<UnderWay>,
    out: mpsc::UnboundedSender<Landed>,
) {
    let mut stored = inner.progress.borrow().seq;
    while let Some(UnderWay { slot, last_seq, bytes, landing, place }) = slots.recv().await {
        match landing.await {
            Ok(true) => {}
            // The lease says why, and the guard tells those who wait.
            Ok(false) => return,
            Err(panic) => {
                let what = format!("sending slot {slot} broke off: {panic}");
                return inner.end(LogError::Local(LocalError::failed(what)));
            }
        }
        if !ensure(inner, slot, stored).await {
            return;
        }
        stored = last_seq;
        inner.config.source.stored(slot);
        inner.stored.release(last_seq);
        if out.send(Landed { slot, last_seq, bytes, place }).is_err() {
            return;
        }
    }
}

/// Tells the journal of the slots, in order, and then everybody else.
async fn tell_journal(inner: &Inner, mut landed: mpsc::UnboundedReceiver<Landed>) {
    while let Some(Landed { slot, last_seq, bytes, place }) = landed.recv().await {
        note(inner, slot).await;
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
        inner.settled.release(last_seq);
    }
}

/// Returns once the lease was surely ours after the slot had landed; `false` when we are fenced.
async fn ensure(inner: &Inner, slot: Slot, stored: Seq) -> bool {
    let lease = &inner.config.lease;
    let mut backoff = Backoff::new(lease.epoch().nonce ^ slot.0, &inner.nudge);
    while holds(Rule::EnsuredBeforeAck) {
        backoff.begin();
        let Err(error) = lease.ensure().await else { return true };
        if let Some(end) = lease.hold().error() {
            inner.end(end);
            return false;
        }
        inner.failed(stored, &error);
        backoff.pause().await;
    }
    true
}

/// Returns once the journal knows that the slot is committed.
async fn note(inner: &Inner, slot: Slot) {
    let mut backoff = Backoff::new(inner.config.lease.epoch().nonce ^ slot.0, &inner.nudge);
    loop {
        backoff.begin();
        let Err(error) = blocking(|| inner.config.source.committed(slot)) else { return };
        let settled = inner.progress.borrow().seq;
        inner.failed(settled, &LogError::Local(error));
        backoff.pause().await;
    }
}
