//! Keeps the session's log short while it is mounted: packs what is still needed of old segments, writes
//! checkpoints, raises the floor, deletes what is dead below it.
//!
//! One round does the first three, by what the log would cost to replay; a sweep deletes, some time after.
//! Nothing here is needed for correctness: each step can fail, or the process die, at any point, and the
//! next round goes on from what is in the store.
//!
//! Invariants:
//! - nothing here is on the path of a reply, and nothing is asked of the store while nothing is committed and
//!   nothing is left to do;
//! - one round or sweep at a time, by the lock of [`Keeping`]; all end when the session is fenced or closed;
//! - before each write and deletion the lease was surely ours.

mod round;
#[cfg(test)]
mod tests;
mod when;

use super::Session;
use crate::log::LogError;
use crate::log::committer::Progress;
use crate::log::ids::Slot;
use crate::log::lease::Lease;
use crate::log::recover::{Recovered, abort_uploads};
use std::collections::VecDeque;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use when::{Due, Next};

/// Pauses after a failed round: at first and at most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// The longest that the end of a session is put off for a shorter log.
const AT_CLOSE: Duration = Duration::from_secs(20);

/// How short the log is.
pub(super) struct Keeping {
    /// The newest checkpoint's slot; 0 before there is one.
    checkpoint: Slot,
    /// What the committer had written when that was made; 0 when an earlier mount made it.
    bytes: u64,
    /// The same of the newest image, with its size.
    image: Slot,
    image_bytes: u64,
    image_size: u64,
    /// The last slot before ours.
    inherited: Slot,
    /// Floors that were confirmed, and when; what is dead at them is not deleted yet.
    floors: VecDeque<(Instant, Slot)>,
    /// When the data objects were last listed.
    listed: Option<Instant>,
    /// Content that cannot be packed was told of.
    told: bool,
}

impl Keeping {
    /// Of a session that was just recovered.
    pub fn after(recovered: &Recovered) -> Keeping {
        let inherited = Slot(recovered.next_slot.0.saturating_sub(1));
        let checkpoint = recovered.checkpoint.map_or(Slot(0), |name| name.slot.min(inherited));
        // What an earlier mount left at this floor was not swept as long as it was young.
        let floor = recovered.lease.floor();
        let floors = (floor > Slot(0)).then(|| (Instant::now(), floor)).into_iter().collect();
        let image =
            recovered.checkpoint.map_or(Slot(0), |name| name.base.map_or(name.slot, |(slot, _)| slot));
        Keeping {
            checkpoint,
            bytes: 0,
            image,
            image_bytes: 0,
            image_size: 0,
            inherited,
            floors,
            listed: None,
            told: false,
        }
    }
}

/// Keeps the log short until the session ends or is lost.
pub(super) async fn keep(session: Weak<Session>, lease: Arc<Lease>, progress: watch::Receiver<Progress>) {
    let mut hold = lease.watch();
    tokio::select! {
        biased;
        _ = hold.wait_for(|hold| hold.error().is_some()) => {}
        () = clean_up(&session) => {}
    }
    tokio::select! {
        biased;
        _ = hold.wait_for(|hold| hold.error().is_some()) => {}
        () = run(session, progress) => {}
    }
}

/// What writers that died in the middle of an upload have left.
async fn clean_up(session: &Weak<Session>) {
    let Some(session) = session.upgrade() else { return };
    let Some(writer) = &session.writer else { return };
    match abort_uploads(session.store.as_ref(), writer.lease.epoch()).await {
        Ok(0) => {}
        Ok(aborted) => tracing::info!(aborted, "unfinished uploads of earlier mounts were cleared away"),
        Err(error) => tracing::warn!(%error, "unfinished uploads of earlier mounts are left in the store"),
    }
}

async fn run(session: Weak<Session>, mut progress: watch::Receiver<Progress>) {
    let mut quiet_since = Instant::now();
    let mut seen = progress.borrow().seq;
    let mut again: Option<(Instant, Duration)> = None;
    loop {
        let now = progress.borrow_and_update().clone();
        if now.seq != seen {
            (seen, quiet_since) = (now.seq, Instant::now());
        }
        let next = {
            let Some(session) = session.upgrade() else { return };
            let Some(writer) = &session.writer else { return };
            let mut keeping = writer.keeping.lock().await;
            match keeping.next(&session.options.keep, &now, quiet_since).not_before(again.map(|(at, _)| at)) {
                Next::Now(due) => {
                    let done = session.keep_up(&mut keeping, due).await;
                    again = done.err().map(|error| pause_after(&error, again));
                    continue;
                }
                other => other,
            }
        };
        let changed = match next {
            Next::At(at) => tokio::select! {
                biased;
                () = sleep_until(at) => true,
                changed = progress.changed() => changed.is_ok(),
            },
            Next::Now(_) | Next::Never => progress.changed().await.is_ok(),
        };
        if !changed {
            return;
        }
    }
}

/// When a failed round is tried again.
fn pause_after(error: &LogError, before: Option<(Instant, Duration)>) -> (Instant, Duration) {
    let pause = before.map_or(PAUSES.0, |(_, pause)| (pause * 2).min(PAUSES.1));
    tracing::warn!(%error, pause_s = pause.as_secs(), "the log could not be shortened; it is tried again");
    (Instant::now() + pause, pause)
}

impl Session {
    async fn keep_up(self: &Arc<Self>, keeping: &mut Keeping, due: Due) -> Result<(), LogError> {
        match due {
            Due::Round => self.keep_round(keeping).await,
            Due::Sweep => self.keep_sweep(keeping, self.options.keep.grace).await,
        }
    }

    /// Shortens the log at the end of the session, where its replay would cost the next mount something. What
    /// does not get done is done by the next mount.
    pub(super) async fn keep_at_close(self: &Arc<Self>, drain: Duration) {
        let Some(writer) = &self.writer else { return };
        let work = async {
            let mut keeping = writer.keeping.lock().await;
            let progress = writer.committer.progress();
            let long_ago = Instant::now() - self.options.keep.idle;
            while let Next::Now(due) = keeping.next(&self.options.keep, &progress, long_ago) {
                self.keep_up(&mut keeping, due).await?;
            }
            Ok::<(), LogError>(())
        };
        match timeout(AT_CLOSE.min(drain), work).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the log was not shortened at the end"),
            Err(_) => tracing::warn!("the log was not shortened at the end: there was no time"),
        }
    }
}
