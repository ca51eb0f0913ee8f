//! Calls into the journal, which may block on the disk.

use tokio::runtime::{Handle, RuntimeFlavor};

/// Runs `f`, which may block, without holding up the other tasks of a runtime that has several threads.
pub(super) fn blocking<T>(f: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(f),
        _ => f(),
    }
}
