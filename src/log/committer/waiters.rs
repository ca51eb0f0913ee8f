//! Callers that wait for their changes to be committed, in the order of their changes.
//!
//! Callers that were released together mostly come back together, each with its next change. The next slot
//! waits a moment for them ([`Waiters::gathered`]): one PUT for all instead of one each. Who was released
//! alone is never waited for, so a single caller is never held up. Many go in groups, so that one makes its
//! changes while the PUT of another is under way.

use crate::log::LogError;
use crate::log::source::Seq;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How long a slot waits for those who were released together; a small part of what a PUT takes.
const GATHER: Duration = Duration::from_millis(3);
/// How long after their release they are expected.
const EXPECTED: Duration = Duration::from_millis(8);
/// Once so many are there, a slot waits for no more of them.
const GROUP: usize = 8;

type Answer = Result<(), LogError>;

/// Everyone who waits.
#[derive(Clone, Default)]
pub(super) struct Waiters(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The last of those who were expected has come, or a group is complete.
    complete: Notify,
}

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<(Seq, u64), oneshot::Sender<Answer>>,
    /// Nobody has to wait for a change up to this one.
    released: Seq,
    /// How many have come since a slot last waited.
    fresh: usize,
    /// Those who were released together and have not come back.
    expected: Option<Expected>,
}

#[derive(Clone, Copy)]
struct Expected {
    /// How many, at least one.
    due: usize,
    /// Nobody is waited for after that.
    until: Instant,
    /// A slot has waited for them in vain: they do not count among the next who are released.
    missed: bool,
}

impl Queue {
    /// So many are released at once.
    fn expect(&mut self, released: usize) {
        let now = Instant::now();
        let before = self.expected.filter(|e| e.until > now && !e.missed).map_or(0, |e| e.due);
        let due = if released > 1 || before > 0 { before + released } else { 0 };
        self.expected = (due > 0).then(|| Expected { due, until: now + EXPECTED, missed: false });
    }

    /// One comes; whether nobody else has to be waited for now.
    fn came(&mut self) -> bool {
        self.fresh += 1;
        let Some(expected) = &mut self.expected else { return false };
        expected.due -= 1;
        let is_last = expected.due == 0;
        if is_last {
            self.expected = None;
        }
        is_last || self.fresh >= GROUP
    }

    /// Until when a slot that began to wait has to: `None` when it need not any more.
    fn waits_until(&mut self, patience: Instant) -> Option<Instant> {
        if self.fresh < GROUP
            && let Some(expected) = &mut self.expected
        {
            let until = expected.until.min(patience);
            if Instant::now() < until {
                return Some(until);
            }
            expected.missed = true;
        }
        self.fresh = 0;
        None
    }
}

impl Waiters {
    /// Waits for `seq`, unless it was released; the ticket's holder stops waiting by dropping it.
    pub fn register(&self, seq: Seq) -> Option<Ticket> {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.0.queue.lock();
        if seq <= queue.released {
            return None;
        }
        queue.next += 1;
        let place = (seq, queue.next);
        queue.waiting.insert(place, sender);
        if queue.came() {
            self.0.complete.notify_one();
        }
        drop(queue);
        Some(Ticket { waiters: self.clone(), place, receiver })
    }

    /// Returns once those who were released together are back, or a moment has passed; at once where nobody is
    /// expected.
    pub async fn gathered(&self) {
        let patience = Instant::now() + GATHER;
        loop {
            let Some(until) = self.0.queue.lock().waits_until(patience) else { return };
            tokio::select! {
                biased;
                () = self.0.complete.notified() => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Everything up to this one was released.
    pub fn released(&self) -> Seq {
        self.0.queue.lock().released
    }

    /// Everything up to `seq` is committed.
    pub fn release(&self, seq: Seq) {
        let done = {
            let mut queue = self.0.queue.lock();
            let later = queue.waiting.split_off(&(seq.saturating_add(1), 0));
            let done = std::mem::replace(&mut queue.waiting, later);
            queue.released = queue.released.max(seq);
            // Before any of them goes on.
            queue.expect(done.len());
            done
        };
        for sender in done.into_values() {
            // A caller that has gone has no use for the answer.
            let _ = sender.send(Ok(()));
        }
    }

    /// Nothing after `seq` will be committed soon.
    pub fn fail_after(&self, seq: Seq, error: &LogError) {
        let failed = self.0.queue.lock().waiting.split_off(&(seq.saturating_add(1), 0));
        for sender in failed.into_values() {
            let _ = sender.send(Err(error.clone()));
        }
    }
}

/// A place among those who wait.
pub(super) struct Ticket {
    waiters: Waiters,
    place: (Seq, u64),
    receiver: oneshot::Receiver<Answer>,
}

impl Ticket {
    /// The answer, once there is one.
    pub async fn answer(&mut self) -> Answer {
        match (&mut self.receiver).await {
            Ok(answer) => answer,
            // The sender is dropped unanswered only with the whole committer.
            Err(_) => Err(LogError::Timeout { seconds: 0, last: "the mount is ending".into() }),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.waiters.0.queue.lock().waiting.remove(&self.place);
    }
}
