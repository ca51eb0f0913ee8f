//! The names of data objects: one counter per epoch, shared by content uploads and packs.
//!
//! Invariant: a name is given out once. The epoch is new for each writer, so the counter starts at 1.

use super::ids::{Blob, Epoch};
use std::sync::atomic::{AtomicU64, Ordering};

/// Gives out names below `data/` for one epoch.
#[derive(Debug)]
pub struct BlobNames {
    epoch: Epoch,
    next: AtomicU64,
}

impl BlobNames {
    /// For a writer whose epoch has made no data object yet.
    pub fn new(epoch: Epoch) -> BlobNames {
        BlobNames { epoch, next: AtomicU64::new(1) }
    }

    /// The epoch in the names.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// A name that was never given out before: the number in `data/<epoch>-<n>`.
    pub fn take(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// The same, as the blob that extents name.
    pub fn take_blob(&self) -> Blob {
        Blob::Data { epoch: self.epoch, n: self.take() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_given_out_twice() {
        let names = BlobNames::new(Epoch { counter: 3, nonce: 9 });
        let (a, b) = (names.take_blob(), names.take_blob());
        assert_ne!(a, b);
        assert_eq!(a, Blob::Data { epoch: names.epoch(), n: 1 });
    }
}
