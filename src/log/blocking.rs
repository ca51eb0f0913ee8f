//! Calls into the journal, which may block on the disk.

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::task::JoinError;

/// Runs `f`, which may block, without holding up the other tasks of a runtime that has several threads.
pub(super) fn blocking<T>(f: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|handle| handle.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(f),
        _ => f(),
    }
}

/// Runs `f`, which may take its time, on a thread for such work; in place on a runtime of one thread, where what
/// happens first must not depend on another.
pub(crate) async fn aside<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> Result<T, JoinError> {
    match Handle::current().runtime_flavor() {
        RuntimeFlavor::CurrentThread => Ok(f()),
        _ => tokio::task::spawn_blocking(f).await,
    }
}
