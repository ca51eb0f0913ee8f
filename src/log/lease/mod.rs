//! Who may write: the lease object and its holder's duties.
//!
//! Invariants:
//! - the object is written with a condition only: `If-None-Match` once, then `If-Match` on the version we
//!   wrote last; so taking the lease stops its former holder from writing it, the floor included;
//! - a write whose answer is unknown is sent again with the same bytes until it is settled, and read back
//!   before anything is concluded from a refusal;
//! - age is counted on `CLOCK_BOOTTIME` from when the last write that succeeded was *sent*;
//! - fenced and deleted are final.

mod acquire;
mod body;
mod keep;
mod write;

pub use super::ids::SessionId;
pub(super) use acquire::{First, Seen, create, read, take};
pub(crate) use body::random;
pub use body::{Ending, FORMAT, LeaseBody, LeaseState};

use super::clock::Clock;
use super::error::LogError;
use super::ids::{Epoch, Slot};
use super::rules::{Rule, holds};
use crate::store::{Condition, ObjectStore};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;
use write::Written;

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

impl Hold {
    /// Whether nothing can change it any more.
    pub fn is_final(&self) -> bool {
        matches!(self, Hold::Fenced { .. } | Hold::Deleted { .. })
    }

    /// Why nothing may be written any more; `None` while it may.
    pub fn error(&self) -> Option<LogError> {
        match self {
            Hold::Held | Hold::Parked => None,
            Hold::Free => Some(LogError::Fenced { by: "this mount itself gave it back".into() }),
            Hold::Fenced { by } => Some(LogError::Fenced { by: by.clone() }),
            Hold::Deleted { key } => Some(LogError::Deleted { key: key.clone() }),
        }
    }
}

/// Which writer a mount may succeed. One whose local cache lock we hold is dead, and succeeded in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Succession {
    /// One that has parked at once; one that holds the session when it stops renewing.
    #[default]
    WhenDue,
    /// The same, but not one that has parked: it may be live.
    NotParked,
    /// Any, at once.
    AtOnce,
}

/// How the lease is asked for and kept.
#[derive(Debug, Clone)]
pub struct LeaseOptions {
    /// Host, process and mount point, for people.
    pub holder: String,
    /// Time after which we may be succeeded when we stop renewing.
    pub ttl: Duration,
    /// Whom we may succeed.
    pub succession: Succession,
    /// An epoch whose holder is known to be dead, because we hold its local cache lock.
    pub dead: Option<Epoch>,
    /// Where the time is read.
    pub clock: Arc<dyn Clock>,
}

/// Our hold on the session.
pub struct Lease {
    store: Arc<dyn ObjectStore>,
    clock: Arc<dyn Clock>,
    epoch: Epoch,
    session: SessionId,
    ttl: Duration,
    hold: watch::Sender<Hold>,
    known: Mutex<Known>,
    /// Held across a write, so that writes are settled one by one.
    written: tokio::sync::Mutex<Written>,
    /// Whether somebody keeps it already.
    kept: AtomicBool,
}

/// What needs no write to be known.
struct Known {
    /// When the last write that succeeded was sent, on the boottime clock.
    sent: Duration,
    floor: Slot,
    error: Option<(SystemTime, LogError)>,
}

impl Lease {
    /// Our epoch.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// The session's id.
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// What we know of our hold; also see [`Lease::watch`].
    pub fn hold(&self) -> Hold {
        self.hold.borrow().clone()
    }

    /// Changes of the hold.
    pub fn watch(&self) -> watch::Receiver<Hold> {
        self.hold.subscribe()
    }

    /// Time (CLOCK_BOOTTIME) since the last renewal that succeeded was sent.
    pub fn age(&self) -> Duration {
        self.clock.boottime().saturating_sub(self.known.lock().sent)
    }

    /// The last failure to write or read the lease since the last success.
    pub fn error(&self) -> Option<(SystemTime, LogError)> {
        self.known.lock().error.clone()
    }

    /// The confirmed floor.
    pub fn floor(&self) -> Slot {
        self.known.lock().floor
    }

    /// Returns once the lease is surely ours: at once when renewed within the ttl, else after a renewal.
    /// A parked lease is taken again. One try: a caller that must have it tries again.
    pub async fn ensure(&self) -> Result<(), LogError> {
        if self.is_fresh(self.ttl) {
            return Ok(());
        }
        self.renew(self.ttl).await?;
        // An answer that took longer than the lease lasts says what was, not what is.
        if self.is_fresh(self.ttl) {
            return Ok(());
        }
        let last = "its lease ran out while the answer to a renewal was on its way".to_owned();
        Err(LogError::Timeout { seconds: self.ttl.as_secs(), last })
    }

    /// Returns once the lease is known to have been ours `age` ago or later: by a write of it that was sent since.
    /// Callers share one. The ttl says nothing where a successor did not wait for it.
    pub async fn confirm_within(&self, age: Duration) -> Result<(), LogError> {
        self.confirm_since(self.clock.boottime().saturating_sub(age)).await
    }

    /// Raises the floor of collection, by a renewal.
    pub async fn raise_floor(&self, floor: Slot) -> Result<(), LogError> {
        if !holds(Rule::FloorByLease) {
            self.known.lock().floor = floor;
            return Ok(());
        }
        self.change(|body| {
            body.floor = body.floor.max(floor);
            body.state = LeaseState::Held;
        })
        .await
    }

    /// Lets the next mount take the session at once, while we keep the epoch.
    pub async fn park(&self) -> Result<(), LogError> {
        if self.hold() == Hold::Parked {
            return Ok(());
        }
        self.change(|body| body.state = LeaseState::Parked).await
    }

    /// From now on the session can only be removed.
    pub(in crate::log) async fn end(&self, ending: Ending) -> Result<(), LogError> {
        self.change(|body| {
            body.ending = Some(ending);
            body.state = LeaseState::Held;
        })
        .await
    }

    /// Gives the session back.
    pub async fn release(&self) -> Result<(), LogError> {
        if self.hold() == Hold::Free {
            return Ok(());
        }
        if !holds(Rule::ReleaseByWrite) {
            return Ok(self.store.delete(super::ids::keys::LEASE, &Condition::None).await?);
        }
        self.change(|body| body.state = LeaseState::Free).await
    }

    /// Somebody else found that we are fenced, or that our session is gone: final.
    pub fn lost(&self, hold: Hold) {
        self.hold.send_if_modified(|current| {
            let news = hold.is_final() && !current.is_final();
            if news {
                tracing::error!(?hold, epoch = %self.epoch, "the session is no longer ours");
                *current = hold;
            }
            news
        });
    }

    /// A key of ours is unexpectedly gone. If the lease is gone too and a listing agrees, the session was
    /// deleted from outside, and that is final; else it was not, and this returns without an error.
    pub async fn suspect_deleted(&self) -> Result<(), LogError> {
        self.check().await
    }

    /// Renews every third of the ttl while held, checks once a minute while parked; until dropped or lost.
    /// A second call does nothing; recovery makes the first.
    pub fn keep(self: &Arc<Self>, runtime: &tokio::runtime::Handle) {
        if self.kept.swap(true, Ordering::Relaxed) {
            return;
        }
        runtime.spawn(keep::keep(Arc::downgrade(self), self.watch()));
    }

    /// Reads the lease without taking it.
    pub async fn peek(store: &dyn ObjectStore) -> Result<Option<LeaseBody>, LogError> {
        Ok(read(store).await?.map(|seen| seen.body))
    }

    /// Held, and renewed within `limit`.
    fn is_fresh(&self, limit: Duration) -> bool {
        *self.hold.borrow() == Hold::Held && self.age() <= limit
    }
}
