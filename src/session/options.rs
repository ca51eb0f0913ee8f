//! How a session is opened.

use super::owners::Owners;
use crate::log::lease::Succession;
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
    /// Bound of what the session holds, bytes; `None`: there is none.
    pub quota: Option<u64>,
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
    /// Which writer we may succeed.
    pub succession: Succession,
    /// Park the lease after this long without change; `None`: never.
    pub park_after: Option<Duration>,
    /// Whom everything is shown to belong to.
    pub owners: Owners,
    /// Modes of what tells none.
    pub modes: Modes,
    /// Follow a writer instead of being one.
    pub read_only: bool,
    /// A follower's longest time between polls.
    pub follow_interval: Duration,
    /// When the log is shortened.
    pub keep: KeepOptions,
    /// Files may be opened in passthrough mode (the kernel and our privileges allow it).
    pub passthrough: bool,
}

/// Modes of what an outside client put into the prefix without telling any, and of a new session's root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Modes {
    /// Permission bits of files.
    pub file: u32,
    /// Permission bits of directories.
    pub directory: u32,
}

impl Default for Modes {
    fn default() -> Modes {
        Modes { file: 0o644, directory: 0o755 }
    }
}

/// What something gets that does not tell it: a new session's root, an object that an outside client made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Untold {
    /// User and group.
    pub owner: (u32, u32),
    /// Permission bits.
    pub modes: Modes,
}

impl SessionOptions {
    /// For what does not tell it.
    pub(super) fn untold(&self) -> Untold {
        Untold { owner: self.owners.of_nobody(), modes: self.modes }
    }
}

/// When the log is shortened and what it leaves behind is deleted. A log's cost is that of replaying it: its
/// bytes, and 64 KiB for each slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepOptions {
    /// A checkpoint is made once the log since the last one costs as much.
    pub busy: u64,
    /// The same at the end of the session, and once nothing was committed for [`KeepOptions::idle`].
    pub quiet: u64,
    /// A checkpoint is an image instead of a delta once the log since the last image (its bytes, and 16 KiB for
    /// each slot) weighs as much, and as much as that image.
    pub image: u64,
    /// See [`KeepOptions::quiet`].
    pub idle: Duration,
    /// How long after the floor was raised what is dead at it is deleted: readers without a lease may be as
    /// far behind. A follower polls every few seconds.
    pub grace: Duration,
}

impl Default for KeepOptions {
    fn default() -> KeepOptions {
        KeepOptions {
            busy: 16 << 20,
            quiet: 2 << 20,
            image: 4 << 20,
            idle: Duration::from_secs(5),
            grace: Duration::from_secs(20),
        }
    }
}

impl KeepOptions {
    /// So small that a test gets to see it all within seconds.
    pub fn for_tests() -> KeepOptions {
        KeepOptions {
            busy: 1 << 20,
            quiet: 256 << 10,
            image: 256 << 10,
            idle: Duration::from_millis(300),
            grace: Duration::from_millis(700),
        }
    }
}
