//! How much content is local, and how much of it is in no commit yet.

use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::Notify;

/// Counts of one session's local content.
pub(super) struct Budget {
    limit: u64,
    /// Bytes in images and chunks.
    used: AtomicU64,
    /// Bytes changed and not stored, of files that can be captured.
    unstored: AtomicU64,
    /// Woken when `unstored` falls.
    fell: Notify,
    /// Orders uses, for eviction of what was used longest ago.
    clock: AtomicU64,
    /// Held while somebody evicts.
    pub evicting: Mutex<()>,
}

impl Budget {
    /// For a cache of `limit` bytes.
    pub fn new(limit: u64) -> Budget {
        Budget {
            limit: limit.max(4 << 20),
            used: AtomicU64::new(0),
            unstored: AtomicU64::new(0),
            fell: Notify::new(),
            clock: AtomicU64::new(1),
            evicting: Mutex::new(()),
        }
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        self.limit
    }

    /// Bytes in images and chunks.
    pub fn used(&self) -> u64 {
        self.used.load(Ordering::Relaxed)
    }

    /// Bytes changed and not stored.
    pub fn unstored(&self) -> u64 {
        self.unstored.load(Ordering::Relaxed)
    }

    /// The share of unstored content from which writers wait.
    pub fn unstored_limit(&self) -> u64 {
        self.limit / 2
    }

    /// Notes that a count went from `old` to `new`.
    pub fn moved_used(&self, old: u64, new: u64) {
        shift(&self.used, old, new);
    }

    /// Notes that a count went from `old` to `new`.
    pub fn moved_unstored(&self, old: u64, new: u64) {
        shift(&self.unstored, old, new);
        if new < old {
            self.fell.notify_waiters();
        }
    }

    /// Wakes those who wait for room.
    pub fn wake(&self) {
        self.fell.notify_waiters();
    }

    /// Returns when something may have become better.
    pub fn fell(&self) -> tokio::sync::futures::Notified<'_> {
        self.fell.notified()
    }

    /// A time of use, later than all before.
    pub fn tick(&self) -> u64 {
        self.clock.fetch_add(1, Ordering::Relaxed)
    }

    /// How many bytes have to go now; evicts a tenth at once, so that it is seldom.
    pub fn excess(&self) -> u64 {
        let used = self.used();
        match used > self.limit {
            true => used - self.limit / 10 * 9,
            false => 0,
        }
    }
}

fn shift(count: &AtomicU64, old: u64, new: u64) {
    // Wrapping, so that one addition does for both directions.
    count.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
}
