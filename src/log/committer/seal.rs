//! The sealer: takes changes, chooses a slot's bytes, notes them, hands them to a sender.

use super::backoff::Backoff;
use super::finish::UnderWay;
use super::{Inner, send};
use crate::log::LogError;
use crate::log::blocking::blocking;
use crate::log::ids::Slot;
use crate::log::rules::{Rule, holds};
use crate::log::segment::{self, Encoded, Header, Kind};
use crate::log::sound;
use crate::log::source::{ChosenSlot, LocalError, Seq};
use crate::store::PutOptions;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// The soft bound of one slot's content and rows, bytes.
const MAX_BYTES: usize = 4 << 20;
/// How soon changes that have to wait for a capture are asked for again, at first and at most.
const ASK_AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(100));

/// Runs until the committer ends.
pub(super) async fn run(inner: Arc<Inner>, out: mpsc::UnboundedSender<UnderWay>, tasks: TaskTracker) {
    let stop = inner.stop.clone();
    let sealed = inner.config.source.committed_seq();
    let sealer = Sealer { next: inner.config.first_slot, sealed, inner, out, tasks };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = sealer.run() => {}
    }
}

struct Sealer {
    inner: Arc<Inner>,
    out: mpsc::UnboundedSender<UnderWay>,
    tasks: TaskTracker,
    /// The next slot.
    next: Slot,
    /// Every change up to this one is in a slot.
    sealed: Seq,
}

impl Sealer {
    async fn run(mut self) {
        let mut backoff = Backoff::new(self.salt(), &self.inner.nudge);
        let mut ask_again = ASK_AGAIN.0;
        loop {
            self.wanted().await;
            // The semaphore is never closed.
            let Ok(place) = self.inner.places.clone().acquire_owned().await else { return };
            self.inner.stored.gathered().await;
            backoff.begin();
            match blocking(|| self.choose()) {
                Ok(Some((chosen, encoded))) => {
                    ask_again = ASK_AGAIN.0;
                    backoff = Backoff::new(self.salt(), &self.inner.nudge);
                    if !self.send(chosen, encoded, place).await {
                        return;
                    }
                }
                Ok(None) => {
                    drop(place);
                    tokio::time::sleep(ask_again).await;
                    ask_again = (ask_again * 2).min(ASK_AGAIN.1);
                }
                Err(Failure::Seal(error)) => {
                    drop(place);
                    self.inner.failed(self.sealed, &error.into());
                    backoff.pause().await;
                }
                Err(Failure::Encode(error)) => return self.inner.end(error.into()),
            }
        }
    }

    fn salt(&self) -> u64 {
        self.inner.config.lease.epoch().nonce ^ self.next.0
    }

    /// Returns once there is a change that somebody wants committed.
    async fn wanted(&self) {
        loop {
            let at = {
                let mut want = self.inner.want.lock();
                if want.at.is_some_and(|at| at <= Instant::now()) {
                    want.at = None;
                    want.seq = want.seq.max(self.inner.config.source.last_seq());
                }
                if want.seq > self.sealed {
                    return;
                }
                want.at
            };
            match at {
                None => self.inner.wake.notified().await,
                Some(at) => tokio::select! {
                    biased;
                    () = self.inner.wake.notified() => {}
                    () = tokio::time::sleep_until(at) => {}
                },
            }
        }
    }

    /// Takes what has changed and lays it out as the next slot. Blocks.
    fn choose(&self) -> Result<Option<(ChosenSlot, Encoded)>, Failure> {
        let Some(sealed) = self.inner.config.source.seal(MAX_BYTES).map_err(Failure::Seal)? else {
            return Ok(None);
        };
        let last_seq = sealed.last_seq;
        let header = self.header();
        let encoded = segment::encode(&header, sealed).map_err(Failure::Encode)?;
        debug_assert_eq!(sound::check_all(&encoded.records), Ok(()), "{:?}", encoded.records);
        let chosen = ChosenSlot {
            epoch: header.epoch,
            slot: header.slot,
            checksum: encoded.checksum,
            last_seq,
            placed: encoded.placed.clone(),
        };
        Ok(Some((chosen, encoded)))
    }

    fn header(&self) -> Header {
        let config = &self.inner.config;
        let committed = match self.inner.progress.borrow().slot {
            // Ours is the first of this epoch, so the one before it was committed by our predecessors.
            Slot(0) => Slot(config.first_slot.0.saturating_sub(1)),
            slot => slot,
        };
        Header {
            session: config.lease.session(),
            epoch: config.lease.epoch(),
            slot: self.next,
            wall_ms: config.clock.wall_ms(),
            label: None,
            committed,
            kind: Kind::Changes,
        }
    }

    /// Notes a chosen slot in the journal and starts to send it; `false` when nobody is left to finish it.
    async fn send(&mut self, chosen: ChosenSlot, encoded: Encoded, place: OwnedSemaphorePermit) -> bool {
        let mut backoff = Backoff::new(self.salt(), &self.inner.nudge);
        let source = self.inner.config.source.clone();
        if !holds(Rule::NotedBeforeSent) {
            let key = super::super::ids::keys::segment(chosen.epoch, chosen.slot);
            // Whether it arrived is asked again below.
            drop(self.inner.config.store.put(&key, encoded.bytes.clone(), &PutOptions::default()).await);
        }
        loop {
            backoff.begin();
            match blocking(|| source.record(&chosen, encoded.records.clone())) {
                Ok(()) => break,
                Err(error) => self.inner.failed(self.sealed, &LogError::Local(error)),
            }
            backoff.pause().await;
        }
        if !holds(Rule::CommittedWhenLanded)
            && let Err(error) = blocking(|| source.committed(chosen.slot))
        {
            self.inner.failed(self.sealed, &LogError::Local(error));
        }
        let (slot, last_seq, bytes) = (chosen.slot, chosen.last_seq, encoded.bytes.len() as u64);
        let sending = send::run(self.inner.clone(), slot, encoded.bytes, self.sealed);
        let inner = self.inner.clone();
        let landing = self.tasks.spawn(async move {
            let landed = sending.await;
            if landed && !holds(Rule::SlotOrder) {
                inner.stored.release(last_seq);
            }
            landed
        });
        self.sealed = last_seq;
        self.next = slot.next();
        self.out.send(UnderWay { slot, last_seq, bytes, landing, place }).is_ok()
    }
}

enum Failure {
    /// The journal could not hand anything over; it can be asked again.
    Seal(LocalError),
    /// What it handed over makes no segment. Asking again would leave a hole in the order of changes.
    Encode(LocalError),
}
