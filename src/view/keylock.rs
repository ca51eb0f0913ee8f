//! One user at a time for each key: publish and import never work on the same object at once.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{Mutex as AsyncMutex, OwnedMutexGuard};

/// The locks of the keys in use.
#[derive(Default)]
pub(super) struct KeyLocks {
    locks: Mutex<HashMap<String, Arc<AsyncMutex<()>>>>,
}

/// A key in use.
pub(super) struct KeyLock<'a> {
    locks: &'a KeyLocks,
    key: String,
    guard: Option<OwnedMutexGuard<()>>,
}

impl KeyLocks {
    /// Waits until nobody else uses `key`.
    pub async fn lock(&self, key: &str) -> KeyLock<'_> {
        let lock = self.locks.lock().entry(key.to_owned()).or_default().clone();
        KeyLock { locks: self, key: key.to_owned(), guard: Some(lock.lock_owned().await) }
    }
}

impl Drop for KeyLock<'_> {
    fn drop(&mut self) {
        let mut locks = self.locks.locks.lock();
        self.guard = None;
        // With only the map left holding it, nobody waits.
        if locks.get(&self.key).is_some_and(|lock| Arc::strong_count(lock) == 1) {
            locks.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_key_has_one_user_and_leaves_nothing_behind() {
        let locks = KeyLocks::default();
        let first = locks.lock("a").await;
        let other = locks.lock("b").await;
        assert!(futures::poll!(Box::pin(locks.lock("a"))).is_pending());
        drop(first);
        drop(locks.lock("a").await);
        drop(other);
        assert!(locks.locks.lock().is_empty());
    }
}
