//! One process on one machine: what it shares with its machine, and its end.

use super::clock::SimClock;
use crate::log::ids::Epoch;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// What a machine's processes share.
pub struct Host {
    pub name: String,
    pub clock: Arc<SimClock>,
    suspended: AtomicBool,
    /// Wakes in the order in which they came to wait; a watch does not.
    resumed: Notify,
}

impl Host {
    pub fn new(name: impl Into<String>, start: tokio::time::Instant) -> Arc<Host> {
        let clock = Arc::new(SimClock::new(start));
        Arc::new(Host { name: name.into(), clock, suspended: AtomicBool::new(false), resumed: Notify::new() })
    }

    /// Nothing that runs here sends or hears anything until [`Host::resume`].
    pub fn suspend(&self) {
        self.clock.suspend();
        self.suspended.store(true, Ordering::Relaxed);
    }

    pub fn resume(&self) {
        self.clock.resume();
        self.suspended.store(false, Ordering::Relaxed);
        self.resumed.notify_waiters();
    }
}

/// A process.
pub struct Life {
    pub host: Arc<Host>,
    dead: watch::Sender<bool>,
    /// It leaves a live holder alone, but for this one, of which it knows that it is dead.
    pub polite: AtomicBool,
    pub known_dead: Mutex<Option<Epoch>>,
    /// When the last write of the lease that took effect was sent, by the machine's clock.
    pub renewed: Mutex<Option<Duration>>,
    /// What its lease says.
    pub ttl: Mutex<Duration>,
}

impl Life {
    pub fn new(host: &Arc<Host>) -> Arc<Life> {
        Arc::new(Life {
            host: host.clone(),
            dead: watch::Sender::new(false),
            polite: AtomicBool::new(false),
            known_dead: Mutex::new(None),
            renewed: Mutex::new(None),
            ttl: Mutex::new(Duration::MAX),
        })
    }

    /// It ends here and now; requests that are on their way go on.
    pub fn die(&self) {
        self.dead.send_replace(true);
    }

    pub fn is_dead(&self) -> bool {
        *self.dead.borrow()
    }

    /// Returns once it has died.
    pub async fn death(&self) {
        // The sender is here, so the wait ends only by a death.
        let _ = self.dead.subscribe().wait_for(|dead| *dead).await;
    }

    /// Goes on when the machine runs; never, when the process is dead.
    pub async fn pass(&self) {
        while self.host.suspended.load(Ordering::Relaxed) {
            self.host.resumed.notified().await;
        }
        if self.is_dead() {
            std::future::pending::<()>().await;
        }
    }

    pub fn is_polite_to(&self, epoch: Epoch) -> bool {
        self.polite.load(Ordering::Relaxed) && *self.known_dead.lock() != Some(epoch)
    }
}
