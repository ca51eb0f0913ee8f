//! Publish: brings the plain objects up to the committed tree, some time after each commit.
//!
//! Invariants:
//! - only committed versions are published, each under the condition that nobody else changed the object;
//! - the state to reach is recomputed for each object from the newest committed tree, so the order of
//!   changes and how often they are noticed do not matter;
//! - once the session is lost, nothing more is written.

mod changes;
pub(in crate::view) mod dirty;
mod object;
mod plan;
mod upload;

use super::error::{Result, ViewError};
use super::shared::Shared;
use crate::log::LogError;
use crate::log::blocking::aside;
use crate::log::lease::Hold;
use crate::log::row::{Key, KeyBytes, Record, meta};
use crate::log::source::CommitSource;
use crate::session::SessionError;
use crate::store::Kind;
use changes::Marker;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::broadcast::{Receiver, error::RecvError, error::TryRecvError};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// How long after a failure everything is compared.
const COMPARE_PAUSE: Duration = Duration::from_secs(2);

/// Stands in the row that says how far was published: some of the tree was kept out of the view.
const NEVER_EQUAL: u64 = 0;

/// The publisher's task.
pub(super) struct Publisher {
    shared: Arc<Shared>,
    changes: Receiver<Arc<Vec<KeyBytes>>>,
    running: JoinSet<(String, Result<()>)>,
    /// Something was published since the row that says how far was written.
    moved: bool,
}

impl Publisher {
    /// Listens from now on.
    pub fn new(shared: Arc<Shared>) -> Publisher {
        let changes = shared.journal.committed_keys();
        Publisher { shared, changes, running: JoinSet::new(), moved: false }
    }

    /// Publishes until the view is stopped or the session is lost.
    pub async fn run(mut self) {
        let mut hold = self.shared.lease.watch();
        let stop = self.shared.stop.clone();
        if let Err(error) = self.catch_up().await {
            self.shared.failed(&error);
            self.shared.compare.store(true, Ordering::Release);
        }
        loop {
            if let Some(why) = lost(&hold.borrow_and_update()) {
                return self.give_up(&why);
            }
            self.start_due();
            let next = self.next_due();
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                changed = hold.changed() => if changed.is_err() { break },
                Some(done) = self.running.join_next(), if !self.running.is_empty() => self.finish(done),
                changes = self.changes.recv() => self.take(changes).await,
                () = self.shared.wake.notified() => self.take_all().await,
                () = tokio::time::sleep_until(next) => {
                    if self.shared.compare.load(Ordering::Acquire) {
                        self.take_all().await;
                    }
                }
            }
        }
        // Requests under way are given up; what landed is known by its tag.
        self.running.shutdown().await;
    }

    /// Compares everything, unless nothing but rows of the view was committed since it was last equal.
    async fn catch_up(&mut self) -> Result<()> {
        let seq = self.shared.journal.last_seq();
        // What an import of an earlier process left uncommitted is a change of the committed tree to come.
        self.shared.committed(seq).await?;
        if !self.is_known_equal()? {
            self.compare().await;
        }
        Ok(())
    }

    fn is_known_equal(&self) -> Result<bool> {
        let known = Key::Meta { name: meta::VIEW_SLOT.to_vec() };
        let slot = match self.shared.journal.get::<u64>(&known)? {
            None | Some(NEVER_EQUAL) => return Ok(false),
            Some(slot) => crate::log::ids::Slot(slot),
        };
        let tree = self.shared.tree()?;
        let rows = tree.rows();
        if rows.changes_from() > slot {
            return Ok(false);
        }
        let mut after = None;
        loop {
            let page = rows.rows(after.as_deref(), Some(slot), 1000)?;
            let of_view =
                |row: &Record| matches!(Key::decode(&row.key), Some(Key::View { .. } | Key::Meta { .. }));
            if !page.iter().all(of_view) {
                return Ok(false);
            }
            match page.last() {
                Some(last) => after = Some(last.key.clone()),
                None => return Ok(true),
            }
        }
    }

    async fn take(&mut self, changes: std::result::Result<Arc<Vec<KeyBytes>>, RecvError>) {
        match changes {
            Ok(keys) => self.mark(&keys).await,
            Err(RecvError::Lagged(_)) => self.compare().await,
            // The journal is gone: the session ends.
            Err(RecvError::Closed) => self.shared.stop.cancel(),
        }
    }

    /// Takes every change that is committed by now.
    async fn take_all(&mut self) {
        let asked = self.shared.asked.load(Ordering::Acquire);
        loop {
            match self.changes.try_recv() {
                Ok(keys) => self.mark(&keys).await,
                Err(TryRecvError::Lagged(_)) => self.compare().await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
            }
        }
        if self.shared.compare.swap(false, Ordering::AcqRel) {
            self.compare().await;
        }
        // What was not marked is not taken: it is tried again soon.
        if !self.shared.compare.load(Ordering::Acquire) {
            self.shared.taken.store(asked, Ordering::Release);
        }
        self.shared.progress();
    }

    async fn mark(&mut self, keys: &Arc<Vec<KeyBytes>>) {
        let (shared, keys) = (self.shared.clone(), keys.clone());
        let marking = move || Marker::new(&shared, shared.options.delay)?.changed(&keys);
        self.blocking(marking).await;
    }

    async fn compare(&mut self) {
        let shared = self.shared.clone();
        let comparing = move || Marker::new(&shared, Duration::ZERO)?.everything();
        self.blocking(comparing).await;
    }

    /// Runs work on the journal; when that fails, everything is compared a little later.
    async fn blocking(&mut self, work: impl FnOnce() -> Result<()> + Send + 'static) {
        self.moved = true;
        let failed = match aside(work).await {
            Ok(Ok(())) => return,
            Ok(Err(error)) => error,
            Err(panicked) => ViewError::Stopped(panicked.to_string()),
        };
        tracing::warn!("the view could not be compared with the tree: {failed}");
        self.shared.failed(&failed);
        self.shared.compare.store(true, Ordering::Release);
    }

    fn start_due(&mut self) {
        while self.running.len() < self.shared.options.concurrency {
            let Some(key) = self.shared.dirty.lock().take(Instant::now()) else { break };
            let shared = self.shared.clone();
            self.running.spawn(async move {
                let published = object::publish(&shared, &key).await;
                (key, published)
            });
        }
    }

    fn next_due(&self) -> Instant {
        let asked = self.shared.compare.load(Ordering::Acquire);
        let idle = Instant::now() + if asked { COMPARE_PAUSE } else { Duration::from_secs(3600) };
        match self.running.len() < self.shared.options.concurrency {
            true => self.shared.dirty.lock().next_due().map_or(idle, |due| due.min(idle)),
            false => idle,
        }
    }

    fn finish(&mut self, done: std::result::Result<(String, Result<()>), tokio::task::JoinError>) {
        let (key, published) = match done {
            Ok(done) => done,
            Err(error) => return self.give_up(&format!("a task of the publisher died: {error}")),
        };
        let now = Instant::now();
        match published {
            Ok(()) => self.shared.dirty.lock().done(&key),
            Err(error) if is_final(&error) => {
                self.shared.failed(&error);
                let path = key.strip_suffix('/').unwrap_or(&key);
                self.shared.figures.lock().unpublishable.insert(path.as_bytes().to_vec());
                self.shared.dirty.lock().done(&key);
            }
            Err(error) => {
                if !matches!(error, ViewError::NotYet { .. }) {
                    tracing::warn!(key, "not published, tried again: {error}");
                    self.shared.failed(&error);
                }
                self.shared.dirty.lock().failed(&key, now);
            }
        }
        self.shared.progress();
        self.note_equal();
    }

    /// Everything is published: says up to which slot, so that the next mount need not compare.
    fn note_equal(&mut self) {
        if !self.moved || !self.running.is_empty() || !self.shared.dirty.lock().is_empty() {
            return;
        }
        let told = self.shared.journal.told();
        // What was told before that, and is not in the channel any more, was compared.
        let noted = match told {
            Some(slot) if self.changes.is_empty() => {
                // What this mount keeps out of the view, the next one may publish.
                let equal = if self.shared.options.publishes_all() { slot.0 } else { NEVER_EQUAL };
                let slot = Record::put(&Key::Meta { name: meta::VIEW_SLOT.to_vec() }, &equal);
                self.shared.record(vec![slot]).map(drop)
            }
            // Changes committed since the last look are still to come from the channel.
            _ => Ok(()),
        };
        match noted {
            Ok(()) => self.moved = false,
            Err(error) => self.shared.failed(&error),
        }
    }

    fn give_up(&mut self, why: &str) {
        tracing::error!("nothing more is published: {why}");
        self.shared.figures.lock().stopped = Some(why.to_owned());
        self.shared.stop.cancel();
        self.shared.progress();
        self.running.abort_all();
    }
}

/// Why nothing may be written any more.
fn lost(hold: &Hold) -> Option<String> {
    match hold {
        Hold::Held | Hold::Parked => None,
        Hold::Free => Some("the session was given back".into()),
        Hold::Fenced { by } => Some(LogError::Fenced { by: by.clone() }.to_string()),
        Hold::Deleted { key } => Some(LogError::Deleted { key: key.clone() }.to_string()),
    }
}

/// Whether trying the same object again is pointless until it changes.
fn is_final(error: &ViewError) -> bool {
    match error {
        ViewError::Unpublishable { .. }
        | ViewError::TooLarge { .. }
        | ViewError::Lost { .. }
        | ViewError::InTheWay { .. } => true,
        ViewError::Store(error) => error.kind == Kind::Invalid,
        ViewError::Session(SessionError::Store(error)) => error.kind == Kind::Invalid,
        _ => false,
    }
}
