//! Who may write: the lease object and its holder's duties.

use super::clock::Clock;
use super::error::LogError;
pub use super::ids::SessionId;
use super::ids::{Epoch, Slot};
use crate::store::ObjectStore;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// Whether somebody writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeaseState {
    /// A writer renews it.
    Held,
    /// Its writer is quiet; the next mount may take it at once.
    Parked,
    /// Nobody.
    Free,
}

/// The lease object.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LeaseBody {
    /// Version of the whole bucket layout.
    pub format: u32,
    /// Whose lease this is.
    pub session: SessionId,
    /// The writer.
    pub epoch: Epoch,
    /// Host, process and mount point, for people.
    pub holder: String,
    /// Milliseconds after which a holder that stopped renewing may be succeeded.
    pub ttl_ms: u64,
    /// Raised by each write, so that each has another ETag.
    pub count: u64,
    /// How far collection may go.
    pub floor: Slot,
    /// Whether somebody writes.
    pub state: LeaseState,
    /// When it was written, milliseconds since 1970; for people only, never compared.
    pub written_ms: i64,
}

/// What we know of our hold on the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hold {
    /// Ours, and renewed.
    Held,
    /// Ours until somebody takes it.
    Parked,
    /// Given back.
    Free,
    /// Taken by a successor; final.
    Fenced { by: String },
    /// Deleted from outside with the session; final.
    Deleted { key: String },
}

/// Our hold on the session.
pub struct Lease {
    _private: (),
}

/// How the lease is asked for and kept.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Host, process and mount point, for people.
    pub holder: String,
    /// Time after which we may be succeeded when we stop renewing.
    pub ttl: Duration,
    /// Do not wait for a holder.
    pub takeover: bool,
    /// An epoch whose holder is known to be dead, because we hold its local cache lock.
    pub dead: Option<Epoch>,
    /// Where the time is read.
    pub clock: Arc<dyn Clock>,
}

impl Lease {
    /// Our epoch.
    pub fn epoch(&self) -> Epoch {
        todo!()
    }
    /// The session's id.
    pub fn session(&self) -> SessionId {
        todo!()
    }
    /// What we know of our hold; also see [`Lease::watch`].
    pub fn hold(&self) -> Hold {
        todo!()
    }
    /// Changes of the hold.
    pub fn watch(&self) -> tokio::sync::watch::Receiver<Hold> {
        todo!()
    }
    /// Time (CLOCK_BOOTTIME) since the last renewal that succeeded was sent.
    pub fn age(&self) -> Duration {
        todo!()
    }
    /// Returns once the lease is surely ours: at once when renewed within the ttl, else after a renewal.
    /// A parked lease is taken again.
    pub async fn ensure(&self) -> Result<(), LogError> {
        todo!()
    }
    /// The confirmed floor.
    pub fn floor(&self) -> Slot {
        todo!()
    }
    /// Raises the floor of collection, by a renewal.
    pub async fn raise_floor(&self, _floor: Slot) -> Result<(), LogError> {
        todo!()
    }
    /// Lets the next mount take the session at once, while we keep the epoch.
    pub async fn park(&self) -> Result<(), LogError> {
        todo!()
    }
    /// Gives the session back.
    pub async fn release(&self) -> Result<(), LogError> {
        todo!()
    }
    /// Somebody else found that we are fenced, or that our session is gone: final.
    pub fn lost(&self, _hold: Hold) {
        todo!()
    }
    /// Renews every third of the ttl while held, checks once a minute while parked; until dropped or lost.
    pub fn keep(self: &Arc<Self>, _runtime: &tokio::runtime::Handle) {
        todo!()
    }
    /// Reads the lease without taking it.
    pub async fn peek(_store: &dyn ObjectStore) -> Result<Option<LeaseBody>, LogError> {
        todo!()
    }
}
