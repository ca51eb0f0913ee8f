//! How a session is opened.

use ignore::gitignore::Gitignore;
use std::path::PathBuf;
use std::time::Duration;

/// What waits for the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// Every change.
    Sync,
    /// close of a changed file, fsync, O_SYNC writes.
    #[default]
    Close,
    /// fsync and O_SYNC writes.
    Fsync,
}

/// How a session is opened; built by the command line.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// The session's own folder of the cache directory.
    pub cache_dir: PathBuf,
    /// Bound of local content, bytes.
    pub cache_size: u64,
    /// What waits.
    pub durability: Durability,
    /// Paths that behave as with [`Durability::Fsync`].
    pub lazy: Gitignore,
    /// Everything changed is in the store within this; zero: each change starts a commit.
    pub commit_interval: Duration,
    /// Bound of every wait for the store.
    pub timeout: Duration,
    /// Host, process and mount point, for people who look at the lease.
    pub holder: String,
    /// After which a holder that stopped renewing may be succeeded.
    pub lease_ttl: Duration,
    /// Do not wait for a holder.
    pub takeover: bool,
    /// Park the lease after this long without change; `None`: never.
    pub park_after: Option<Duration>,
    /// Follow a writer instead of being one.
    pub read_only: bool,
    /// A follower's longest time between polls.
    pub follow_interval: Duration,
    /// Files may be opened in passthrough mode (the kernel and our privileges allow it).
    pub passthrough: bool,
}
