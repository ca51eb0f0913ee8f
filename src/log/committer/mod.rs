//! Group commit: seals off what has changed as the next slot, keeps several slots in flight, releases
//! callers in slot order.
//!
//! Two tasks and one per slot: the sealer takes changes, chooses a slot's bytes and notes them in the journal;
//! a sender puts them into the store, the same bytes again and again until it is known what became of them;
//! the finisher awaits the senders in slot order, releases callers and tells the journal. Whatever is wanted is
//! sealed as soon as a place is free, so that commits are small while the store keeps up, and grow when it does
//! not.
//!
//! Invariants:
//! - a slot's bytes are noted in the journal before their first PUT, and never change;
//! - a slot is committed only when it and all before it have landed, and the lease was ours after that;
//! - nothing is dropped: what cannot be stored is tried again until the committer ends.

mod backoff;
mod finish;
mod seal;
mod send;
mod waiters;

use super::clock::Clock;
use super::error::LogError;
use super::ids::Slot;
use super::lease::Lease;
use super::source::{CommitSource, Seq};
use crate::store::{Kind, ObjectStore};
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use waiters::Waiters;

/// How long noting a slot in the journal may take before nobody waits for it; less than a command gives its daemon.
const SETTLES: Duration = Duration::from_millis(500);

/// What the committer is made of.
pub struct CommitterConfig {
    /// Where slots go.
    pub store: Arc<dyn ObjectStore>,
    /// Our hold on the session; its epoch is the log's.
    pub lease: Arc<Lease>,
    /// Where changes come from.
    pub source: Arc<dyn CommitSource>,
    /// The first slot that is ours.
    pub first_slot: Slot,
    /// How many slots may be under way at once; 8 is a good number.
    pub max_in_flight: usize,
    /// Where the time is read.
    pub clock: Arc<dyn Clock>,
}

/// How far the committer is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Every change up to this one is committed.
    pub seq: Seq,
    /// The last slot committed by this committer; 0 when none is.
    pub slot: Slot,
    /// Bytes of all the segments committed by this committer.
    pub bytes: u64,
    /// How many those are.
    pub commits: u64,
    /// When that was learnt.
    pub at: Option<SystemTime>,
    /// Slots under way.
    pub in_flight: usize,
    /// The last failure since the last success.
    pub error: Option<(SystemTime, LogError)>,
}

/// The one that writes slots.
pub struct Committer {
    inner: Arc<Inner>,
    tasks: TaskTracker,
}

struct Inner {
    config: CommitterConfig,
    want: Mutex<Want>,
    /// The sealer has something to look at.
    wake: Notify,
    /// Senders that pause after a failure should try now.
    nudge: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
    /// Callers that go on once the store has their changes.
    stored: Waiters,
    /// Those that go on once the journal, and so whoever listens to it, knows that too.
    settled: Waiters,
    /// Places for slots under way.
    places: Arc<Semaphore>,
    /// Set with the reason once nothing will be committed any more.
    ended: Mutex<Option<LogError>>,
    stop: CancellationToken,
    /// The length of the wait that timed out last, until a commit succeeds.
    stalled: Mutex<Option<Duration>>,
}

/// What is to be sealed.
#[derive(Default)]
struct Want {
    /// Now: every change up to this one.
    seq: Seq,
    /// Then: every change there is.
    at: Option<Instant>,
}

impl Committer {
    /// Starts the committer's tasks on `runtime`.
    pub fn start(config: CommitterConfig, runtime: &tokio::runtime::Handle) -> Arc<Committer> {
        let progress = Progress {
            seq: config.source.committed_seq(),
            slot: Slot(0),
            bytes: 0,
            commits: 0,
            at: None,
            in_flight: 0,
            error: None,
        };
        let places = config.max_in_flight.max(1);
        let inner = Arc::new(Inner {
            config,
            want: Mutex::default(),
            wake: Notify::new(),
            nudge: watch::Sender::new(0),
            progress: watch::Sender::new(progress),
            stored: Waiters::default(),
            settled: Waiters::default(),
            places: Arc::new(Semaphore::new(places)),
            ended: Mutex::new(None),
            stop: CancellationToken::new(),
            stalled: Mutex::new(None),
        });
        let tasks = TaskTracker::new();
        let (sender, receiver) = mpsc::unbounded_channel();
        tasks.spawn_on(seal::run(inner.clone(), sender, tasks.clone()), runtime);
        tasks.spawn_on(finish::run(inner.clone(), receiver), runtime);
        tasks.spawn_on(guard(inner.clone()), runtime);
        tasks.close();
        Arc::new(Committer { inner, tasks })
    }

    /// Starts a commit of all that is changed by then within `delay`, one for a whole burst. Never blocks.
    pub fn kick(&self, delay: Duration) {
        let inner = &self.inner;
        if delay.is_zero() {
            return inner.want(inner.config.source.last_seq());
        }
        let at = Instant::now() + delay;
        let mut want = inner.want.lock();
        if want.at.is_none_or(|earlier| at < earlier) {
            want.at = Some(at);
            drop(want);
            inner.wake.notify_one();
        }
    }

    /// Starts a commit now and returns once every change up to `seq` is committed. Fails at once when an
    /// earlier wait timed out and nothing was committed since, and as soon as the store is known to be full
    /// or read-only; the commit is tried again all the same.
    pub async fn wait_stored(&self, seq: Seq, timeout: Duration) -> Result<(), LogError> {
        self.wait_among(&self.inner.stored, seq, timeout).await
    }

    /// As [`Committer::wait_stored`], and returns once the journal knows too: what is read from it and from
    /// [`Committer::progress`] afterwards is not behind.
    pub async fn wait(&self, seq: Seq, timeout: Duration) -> Result<(), LogError> {
        self.wait_among(&self.inner.settled, seq, timeout).await
    }

    async fn wait_among(&self, waiters: &Waiters, seq: Seq, timeout: Duration) -> Result<(), LogError> {
        let inner = &self.inner;
        if inner.progress.borrow().seq >= seq {
            return Ok(());
        }
        let Some(mut ticket) = waiters.register(seq) else { return Ok(()) };
        if let Some(error) = inner.ended.lock().clone() {
            return Err(error);
        }
        inner.want(seq);
        inner.nudge.send_modify(|n| *n += 1);
        if let Some(stalled) = *inner.stalled.lock() {
            return Err(inner.too_late(stalled));
        }
        match tokio::time::timeout(timeout, ticket.answer()).await {
            Ok(answer) => answer,
            Err(_elapsed) => {
                *inner.stalled.lock() = Some(timeout);
                Err(inner.too_late(timeout))
            }
        }
    }

    /// Returns once the journal knows of all that callers were told of, or cannot be told for the moment.
    pub async fn settled(&self) {
        // What keeps it from being noted is in the progress.
        self.reaches(self.inner.stored.released(), SETTLES).await;
    }

    /// Returns once the journal knows that every change up to `seq` is committed; `false` when `limit` passes first.
    /// Starts nothing, and no caller hears of it.
    pub async fn reaches(&self, seq: Seq, limit: Duration) -> bool {
        let mut progress = self.watch();
        let reached = tokio::time::timeout(limit, progress.wait_for(|progress| progress.seq >= seq)).await;
        matches!(reached, Ok(Ok(_)))
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let mut progress = self.inner.progress.borrow().clone();
        progress.in_flight = self.inner.in_flight();
        progress
    }

    /// Changes of the progress.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.inner.progress.subscribe()
    }

    /// Stops sealing; slots under way are given up (they may still land, which recovery settles).
    pub async fn stop(&self) {
        self.inner.end(LogError::Timeout { seconds: 0, last: "the mount is ending".into() });
        self.tasks.wait().await;
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.inner.stop.cancel();
    }
}

/// Ends everything once the session is no longer ours.
async fn guard(inner: Arc<Inner>) {
    let mut hold = inner.config.lease.watch();
    let lost = async { hold.wait_for(|hold| hold.is_final()).await.ok().and_then(|hold| hold.error()) };
    tokio::select! {
        biased;
        error = lost => if let Some(error) = error { inner.end(error) },
        () = inner.stop.cancelled() => {}
    }
}

impl Inner {
    fn want(&self, seq: Seq) {
        let mut want = self.want.lock();
        if seq > want.seq {
            want.seq = seq;
            drop(want);
            self.wake.notify_one();
        }
    }

    fn in_flight(&self) -> usize {
        self.config.max_in_flight.max(1).saturating_sub(self.places.available_permits())
    }

    /// Nothing will be committed any more, because of `error`.
    fn end(&self, error: LogError) {
        {
            let mut ended = self.ended.lock();
            if ended.is_some() {
                return;
            }
            *ended = Some(error.clone());
        }
        self.progress.send_modify(|p| p.error = Some((self.config.clock.wall(), error.clone())));
        self.fail_after(0, &error);
        self.stop.cancel();
    }

    /// Something failed that holds up every change after `seq`. It is remembered; callers who wait for such
    /// a change are told at once where waiting longer will hardly help.
    fn failed(&self, seq: Seq, error: &LogError) {
        let news = self.progress.borrow().error.as_ref().is_none_or(|(_, e)| !same_kind(e, error));
        if news {
            tracing::warn!(%error, "a commit failed; trying again");
        }
        self.progress.send_modify(|p| p.error = Some((self.config.clock.wall(), error.clone())));
        if is_definite(error) {
            self.fail_after(seq, error);
        }
    }

    /// Nothing after `seq` will be committed soon: whoever waits for that is told.
    fn fail_after(&self, seq: Seq, error: &LogError) {
        self.stored.fail_after(seq, error);
        self.settled.fail_after(seq, error);
    }

    /// What a wait that ran out of time is told.
    fn too_late(&self, timeout: Duration) -> LogError {
        match self.progress.borrow().error.clone() {
            Some((_, error)) if is_definite(&error) => error,
            Some((_, error)) => LogError::Timeout { seconds: timeout.as_secs(), last: error.to_string() },
            None => LogError::Timeout { seconds: timeout.as_secs(), last: "no answer yet".into() },
        }
    }
}

/// Whether the error is the truth about the next minutes too.
fn is_definite(error: &LogError) -> bool {
    match error {
        LogError::Store(store) => matches!(store.kind, Kind::NoSpace | Kind::ReadOnly),
        LogError::Local(_) => true,
        _ => false,
    }
}

fn same_kind(a: &LogError, b: &LogError) -> bool {
    match (a, b) {
        (LogError::Store(a), LogError::Store(b)) => a.kind == b.kind,
        _ => std::mem::discriminant(a) == std::mem::discriminant(b),
    }
}

#[cfg(test)]
mod tests;
