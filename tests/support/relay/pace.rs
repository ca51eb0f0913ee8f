//! A rate that many connections share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes per second over all connections of one direction; 0 is no limit.
pub struct Pace {
    rate: AtomicU64,
    free_at: Mutex<Instant>,
}

impl Pace {
    /// No limit.
    pub fn unlimited() -> Pace {
        Pace { rate: AtomicU64::new(0), free_at: Mutex::new(Instant::now()) }
    }

    /// Changes the limit; `None` lifts it, for those that are waiting as well.
    pub fn set(&self, bytes_per_second: Option<u64>) {
        self.rate.store(bytes_per_second.unwrap_or(0), Ordering::SeqCst);
        *self.free_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// How many bytes to pass at once so that waits stay short.
    pub fn piece(&self) -> usize {
        match self.rate.load(Ordering::SeqCst) {
            0 => 128 * 1024,
            rate => (rate / 20).clamp(16, 64 * 1024) as usize,
        }
    }

    /// Waits until `bytes` may pass, or until `stop` says that nobody cares any more.
    pub fn spend(&self, bytes: usize, stop: impl Fn() -> bool) {
        let rate = self.rate.load(Ordering::SeqCst);
        if rate == 0 {
            return;
        }
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let start = (*free_at).max(Instant::now());
            *free_at = start + Duration::from_secs_f64(bytes as f64 / rate as f64);
            *free_at
        };
        while self.rate.load(Ordering::SeqCst) == rate && !stop() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return;
            }
            std::thread::sleep(left.min(Duration::from_millis(20)));
        }
    }
}
