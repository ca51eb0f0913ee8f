//! What a writing session does by itself: notices that it was fenced, captures open files, parks its lease.
//!
//! Invariant: nothing here keeps a session alive; it ends with the session, or when that is closed.

use super::api::Invalidation;
use super::{Session, keeper};
use crate::log::lease::{Hold, Lease};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How often it is looked at the most whether the session can be parked.
const LOOK: Duration = Duration::from_secs(1);

/// With `--commit-interval 0`, what is in open files is captured this often.
pub(super) const SHORTEST: Duration = Duration::from_millis(100);

impl Session {
    /// Starts the background work of a writer.
    pub(super) fn start_background(self: &Arc<Self>) {
        let (Some(writer), stop) = (&self.writer, &self.stop) else { return };
        // What an earlier mount left, and the root of a new session.
        writer.committer.kick(Duration::ZERO);
        let lease = writer.lease.clone();
        lease.keep(&self.runtime);
        self.free_disk_when_full();
        self.spawn(stop, watch_hold(Arc::downgrade(self), lease.clone()));
        self.spawn(stop, capture_regularly(Arc::downgrade(self), self.options.commit_interval));
        self.spawn(stop, keeper::keep(Arc::downgrade(self), lease.clone(), writer.committer.watch()));
        if let Some(after) = self.options.park_after {
            self.spawn(stop, park_when_quiet(Arc::downgrade(self), lease.watch(), after));
        }
    }

    /// Runs `work` until it ends or `stop` is called.
    pub(super) fn spawn(&self, stop: &CancellationToken, work: impl Future<Output = ()> + Send + 'static) {
        let stop = stop.clone();
        self.runtime.spawn(async move { stop.run_until_cancelled(work).await });
    }

    /// The session is no longer ours: nothing is answered any more.
    fn lose(&self, hold: &Hold) {
        let Some(error) = hold.error() else { return };
        self.lost.store(true, Ordering::Release);
        self.forget_listings();
        let left = self.unstored();
        let kept = match left.is_nothing() {
            true => String::new(),
            false => format!(
                "; {} changed rows and {} bytes were not in the store and are kept in {}",
                left.rows,
                left.bytes,
                self.options.cache_dir.display()
            ),
        };
        self.notices.add(format!("{error}{kept}"));
    }

    /// A listing that the kernel keeps is answered without us: whoever asks for one is to be told ESTALE, too.
    fn forget_listings(&self) {
        for ino in self.nodes.kernel_known() {
            if self.row(ino).is_ok_and(|row| row.is_dir()) {
                self.invalidate.push(Invalidation::Inode(ino));
            }
        }
    }
}

async fn watch_hold(session: Weak<Session>, lease: Arc<Lease>) {
    let mut hold = lease.watch();
    drop(lease);
    loop {
        let now = hold.borrow_and_update().clone();
        if now.is_final() {
            if let Some(session) = session.upgrade() {
                session.lose(&now);
            }
            return;
        }
        if hold.changed().await.is_err() {
            return;
        }
    }
}

/// Captures what changed in files that are still open, and sees to it that everything changed is committed
/// within the interval.
async fn capture_regularly(session: Weak<Session>, interval: Duration) {
    let mut ticks = tokio::time::interval(interval.max(SHORTEST));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let Some(session) = session.upgrade() else { return };
        if let Err(error) = session.capture_due().await {
            session.notices.add(format!("an open file could not be captured, it is tried again: {error}"));
        }
        if let Some(writer) = &session.writer
            && session.journal.uncommitted().rows > 0
        {
            writer.committer.kick(Duration::ZERO);
        }
    }
}

async fn park_when_quiet(session: Weak<Session>, mut hold: watch::Receiver<Hold>, after: Duration) {
    let look = LOOK.min(after);
    let mut pause = look;
    loop {
        tokio::time::sleep(pause).await;
        // Until a change unparks it there is nothing to do.
        if hold.wait_for(|hold| *hold != Hold::Parked).await.is_err() {
            return;
        }
        let Some(session) = session.upgrade() else { return };
        let Some(writer) = &session.writer else { return };
        let quiet_for = session.quiet_for();
        pause = after.saturating_sub(quiet_for).max(look);
        if quiet_for >= after
            && session.unstored().is_nothing()
            && writer.lease.hold() == Hold::Held
            && let Err(error) = writer.lease.park().await
        {
            tracing::warn!("the lease could not be parked, it is tried again: {error}");
        }
    }
}
