//! Open handles by their number.

use super::api::Fh;
use parking_lot::RwLock;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const SHARDS: usize = 16;

/// Values by handle; numbers are never given out twice.
pub(super) struct Table<T> {
    next: AtomicU64,
    shards: [RwLock<HashMap<u64, Arc<T>>>; SHARDS],
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Table { next: AtomicU64::new(1), shards: std::array::from_fn(|_| RwLock::default()) }
    }
}

impl<T> Table<T> {
    /// Adds a value.
    pub fn insert(&self, value: T) -> Fh {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.shard(number).write().insert(number, Arc::new(value));
        Fh(number)
    }

    /// The value of a handle.
    pub fn get(&self, fh: Fh) -> Option<Arc<T>> {
        self.shard(fh.0).read().get(&fh.0).cloned()
    }

    /// Takes a value out.
    pub fn remove(&self, fh: Fh) -> Option<Arc<T>> {
        self.shard(fh.0).write().remove(&fh.0)
    }

    fn shard(&self, number: u64) -> &RwLock<HashMap<u64, Arc<T>>> {
        &self.shards[number as usize % SHARDS]
    }
}
