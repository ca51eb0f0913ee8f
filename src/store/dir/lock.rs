//! One writer at a time for each key, between threads and between processes.
//!
//! Keys share 64 lock files by hash. Within a process a fair queue decides, between processes `flock`. At
//! most one of these locks is held by a thread at a time, so they cannot deadlock.

use super::fail::{Context, Fail, Try};
use super::files::hidden_folder;
use crate::store::Kind;
use parking_lot::{Mutex, MutexGuard};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{FlockOperation, Mode, OFlags};
use rustix::io::Errno;
use std::time::{Duration, Instant};

const STRIPES: usize = 64;

/// How long another writer of the same key is waited for: it holds the lock for milliseconds, unless it is
/// stopped.
const PATIENCE: Duration = Duration::from_secs(20);

/// How often a lock held by another process is tried.
const POLL: Duration = Duration::from_millis(1);

pub(super) struct Locks {
    queues: [Mutex<()>; STRIPES],
}

/// The right to change a key, until dropped.
pub(super) struct Held<'a> {
    // Dropped first: another thread of ours must not meet our own lock file.
    _file: OwnedFd,
    _queue: MutexGuard<'a, ()>,
}

impl Locks {
    pub fn new() -> Self {
        Locks { queues: [const { Mutex::new(()) }; STRIPES] }
    }

    /// Waits for the right to change `key`.
    pub fn hold(&self, root: impl AsFd, key: &str) -> Try<Held<'_>> {
        let stripe = usize::from(blake3::hash(key.as_bytes()).as_bytes()[0]) % STRIPES;
        let until = Instant::now() + PATIENCE;
        let queue = self.queues[stripe].try_lock_until(until).ok_or_else(busy)?;
        loop {
            if let Some(file) = try_lock(&root, stripe)? {
                return Ok(Held { _file: file, _queue: queue });
            }
            if Instant::now() >= until {
                return Err(busy());
            }
            std::thread::sleep(POLL);
        }
    }
}

fn try_lock(root: impl AsFd, stripe: usize) -> Try<Option<OwnedFd>> {
    let Some(folder) = hidden_folder(root, "lock", true)? else {
        return Ok(None);
    };
    let name = format!("{stripe:02x}");
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    let file = rustix::fs::openat(folder, &name, flags, Mode::from_raw_mode(0o666))
        .because("open the lock", &name)?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(Errno::WOULDBLOCK) => return Ok(None),
        Err(errno) => return Err(errno).because("take the lock", &name),
    }
    // Someone may have removed the directory meanwhile: a lock on a removed file excludes nobody.
    let links = rustix::fs::fstat(&file).because("look at the lock", &name)?.st_nlink;
    Ok((links > 0).then_some(file))
}

fn busy() -> Fail {
    let message = format!("another process has held the lock of this key for {} s", PATIENCE.as_secs());
    Fail::new(Kind::Timeout, message)
}
