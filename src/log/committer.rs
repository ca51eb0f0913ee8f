//! Group commit: seals off what has changed as the next slot, keeps several slots in flight, releases
//! callers in slot order.

use super::clock::Clock;
use super::error::LogError;
use super::ids::Slot;
use super::lease::Lease;
use super::source::{CommitSource, Seq};
use crate::store::ObjectStore;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

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
    /// How many slots may be under way at once.
    pub max_in_flight: usize,
    /// Where the time is read.
    pub clock: Arc<dyn Clock>,
}

/// How far the committer is.
#[derive(Debug, Clone)]
pub struct Progress {
    /// Every change up to this one is committed.
    pub seq: Seq,
    /// The last committed slot; 0 when none is.
    pub slot: Slot,
    /// When that was learnt.
    pub at: Option<SystemTime>,
    /// Slots under way.
    pub in_flight: usize,
    /// The last failure since the last success.
    pub error: Option<(SystemTime, LogError)>,
}

/// The one that writes slots.
pub struct Committer {
    _private: (),
}

impl Committer {
    /// Starts the committer's task on `runtime`.
    pub fn start(_config: CommitterConfig, _runtime: &tokio::runtime::Handle) -> Arc<Committer> {
        todo!()
    }
    /// Starts a commit of all that is changed by then within `delay`, one for a whole burst. Never blocks.
    pub fn kick(&self, _delay: Duration) {
        todo!()
    }
    /// Starts a commit now and returns once every change up to `seq` is committed. Fails at once when an
    /// earlier wait timed out and nothing was committed since.
    pub async fn wait(&self, _seq: Seq, _timeout: Duration) -> Result<(), LogError> {
        todo!()
    }
    /// How far it is.
    pub fn progress(&self) -> Progress {
        todo!()
    }
    /// Changes of the progress.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Progress> {
        todo!()
    }
    /// Stops sealing; slots under way are given up (they may still land, which recovery settles).
    pub async fn stop(&self) {
        todo!()
    }
}
