//! Measuring: counts, times, and how far long work is.
//!
//! Invariants:
//! - who measures an operation of the file system is never held up: atomics only, no lock, no allocation;
//! - nothing here depends on another room, so every room may measure.

mod histogram;
pub mod progress;

pub use histogram::{BOUNDS, Histogram, Times};
pub use progress::Progress;

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    /// So many more.
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    /// How many until now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}
