//! Callers that wait for their changes to be committed, in the order of their changes.

use crate::log::LogError;
use crate::log::source::Seq;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::oneshot;

type Answer = Result<(), LogError>;

/// Everyone who waits.
#[derive(Clone, Default)]
pub(super) struct Waiters(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<(Seq, u64), oneshot::Sender<Answer>>,
}

impl Waiters {
    /// Waits for `seq`; the ticket's holder stops waiting by dropping it.
    pub fn register(&self, seq: Seq) -> Ticket {
        let (sender, receiver) = oneshot::channel();
        let mut queue = self.0.lock();
        queue.next += 1;
        let place = (seq, queue.next);
        queue.waiting.insert(place, sender);
        Ticket { waiters: self.clone(), place, receiver }
    }

    /// Everything up to `seq` is committed.
    pub fn release(&self, seq: Seq) {
        let done = {
            let mut queue = self.0.lock();
            let later = queue.waiting.split_off(&(seq.saturating_add(1), 0));
            std::mem::replace(&mut queue.waiting, later)
        };
        for sender in done.into_values() {
            // A caller that has gone has no use for the answer.
            let _ = sender.send(Ok(()));
        }
    }

    /// Nothing after `seq` will be committed soon.
    pub fn fail_after(&self, seq: Seq, error: &LogError) {
        let failed = self.0.lock().waiting.split_off(&(seq.saturating_add(1), 0));
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
        self.waiters.0.lock().waiting.remove(&self.place);
    }
}
