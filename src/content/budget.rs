//! How much content is local, and how much of it is in no commit yet.

use super::ContentError;
use parking_lot::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long less is kept after the disk was full: by then somebody else may have made room on it.
const LESS_FOR: Duration = Duration::from_secs(60);
/// Within this time a disk that is full is the same news again: what it leads to is under way.
const SAME_NEWS: Duration = Duration::from_secs(2);
/// What is left free for others on a disk that was full; half of the content at most.
const SPARE: u64 = 64 << 20;
/// The least that is kept.
const LEAST: u64 = 4 << 20;

/// A bound that the disk sets, since when.
#[derive(Clone, Copy)]
struct Less {
    limit: u64,
    since: Instant,
}

/// Counts of one session's local content.
pub(super) struct Budget {
    limit: u64,
    /// The disk has been found full: it has room for less than `limit`.
    less: Mutex<Option<Less>>,
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
            limit: limit.max(LEAST),
            less: Mutex::new(None),
            used: AtomicU64::new(0),
            unstored: AtomicU64::new(0),
            fell: Notify::new(),
            clock: AtomicU64::new(1),
            evicting: Mutex::new(()),
        }
    }

    /// The bound.
    pub fn limit(&self) -> u64 {
        let mut less = self.less.lock();
        *less = less.filter(|less| less.since.elapsed() < LESS_FOR);
        less.map_or(self.limit, |less| less.limit.min(self.limit))
    }

    /// Something could not be kept: where that is because the disk is full, less is kept from now on.
    pub fn could_not_keep(&self, error: &ContentError) {
        if let ContentError::Full(_) = error {
            self.disk_is_full();
        }
    }

    /// The disk is full: keeps less than there is now, for a while.
    fn disk_is_full(&self) {
        let mut less = self.less.lock();
        if less.is_some_and(|less| less.since.elapsed() < SAME_NEWS) {
            return;
        }
        let used = self.used();
        let limit = used.saturating_sub(SPARE.max(used / 10)).max(used / 2).max(LEAST);
        *less = Some(Less { limit, since: Instant::now() });
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
        let (used, limit) = (self.used(), self.limit());
        match used > limit {
            true => used - limit / 10 * 9,
            false => 0,
        }
    }
}

fn shift(count: &AtomicU64, old: u64, new: u64) {
    // Wrapping, so that one addition does for both directions.
    count.fetch_add(new.wrapping_sub(old), Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_that_is_full_bounds_what_is_kept() {
        let budget = Budget::new(10 << 30);
        budget.moved_used(0, 400 << 20);
        assert_eq!(budget.excess(), 0);
        budget.disk_is_full();
        assert_eq!(budget.limit(), 336 << 20);
        let excess = budget.excess();
        assert!(excess >= 64 << 20, "{excess}");
        // Many find it full at once, and it is made room once.
        budget.moved_used(400 << 20, 300 << 20);
        budget.disk_is_full();
        assert_eq!((budget.limit(), budget.excess()), (336 << 20, 0));
    }

    #[test]
    fn half_of_it_stays_where_there_is_little() {
        let budget = Budget::new(1 << 30);
        budget.moved_used(0, 60 << 20);
        budget.disk_is_full();
        assert_eq!(budget.limit(), 30 << 20);
        let empty = Budget::new(1 << 30);
        empty.disk_is_full();
        assert_eq!((empty.limit(), empty.excess()), (LEAST, 0));
    }
}
