//! Barriers over everything: flush, and the end of a session.

use super::api::Result;
use super::status::Unstored;
use super::{Session, SessionError};
use crate::log::LogError;
use crate::log::lease::Hold;
use crate::log::source::CommitSource;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// What giving the lease back may take at least.
const RELEASE: Duration = Duration::from_secs(1);

/// How a session ended.
#[derive(Debug, Clone)]
pub struct CloseReport {
    /// What is not in the store.
    pub left: Unstored,
    /// Why, where something is left.
    pub error: Option<SessionError>,
    /// Where it is kept: the next mount here sends it.
    pub kept_in: PathBuf,
    /// Whether the lease was given back.
    pub released: bool,
}

impl CloseReport {
    /// Whether everything is in the store.
    pub fn is_clean(&self) -> bool {
        self.left.is_nothing() && self.error.is_none()
    }
}

impl Session {
    /// Captures everything changed before the call and returns once it is in the store.
    pub async fn flush_all(self: &Arc<Self>, timeout: Duration) -> Result<()> {
        self.store_within(timeout, self.capture_all()).await
    }

    /// Runs `capture`, and returns once all that is changed by then is in the store.
    pub(super) async fn store_within(
        &self,
        timeout: Duration,
        capture: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        if let Some(lost) = self.lost_error() {
            return Err(lost);
        }
        let writer = self.writer()?;
        let until = Instant::now() + timeout;
        match timeout_at(until, capture).await {
            Ok(captured) => captured?,
            Err(_) => return Err(self.too_slow(timeout)),
        }
        let seq = self.journal.last_seq();
        let rest = until.saturating_duration_since(Instant::now());
        Ok(writer.committer.wait(seq, rest).await?)
    }

    /// Ends the session: sends what is left for at most `drain`, and gives the lease back when everything
    /// is in the store. No operation may follow.
    pub async fn close(self: &Arc<Self>, drain: Duration) -> CloseReport {
        self.stop.cancel();
        let until = Instant::now() + drain;
        let rest = || until.saturating_duration_since(Instant::now());
        let mut error = None;
        if self.writer.is_some() && self.alive().is_ok() {
            error = self.flush_all(drain).await.err();
        }
        if error.is_none() && self.alive().is_ok() {
            self.keep_at_close(rest()).await;
            // A round that was cut short may have moved content since: the rows that say where to are owed, too.
            if !self.unstored().is_nothing() {
                error = self.flush_all(rest().max(RELEASE)).await.err();
            }
        }
        let left = self.unstored();
        let released = self.end_writer(left.is_nothing() && error.is_none(), rest().max(RELEASE)).await;
        // Before the content is noted, after which nothing of it may go.
        let disk = self.free_disk().await;
        for ended in [disk, self.close_data(), self.journal.settle().map_err(SessionError::from)] {
            error = error.or(ended.err());
        }
        if let Some(lost) = self.lost_error() {
            error = Some(lost);
        }
        CloseReport { left, error, kept_in: self.options.cache_dir.clone(), released }
    }

    /// Stops committing, and gives the lease back within `limit` when nothing is owed. Whether it was given
    /// back.
    async fn end_writer(&self, clean: bool, limit: Duration) -> bool {
        let Some(writer) = &self.writer else { return false };
        writer.committer.stop().await;
        if !clean || writer.lease.hold().is_final() {
            return false;
        }
        let why = match tokio::time::timeout(limit, writer.lease.release()).await {
            Ok(Ok(())) => return true,
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {limit:?}"),
        };
        self.notices.add(format!("the lease could not be given back, it runs out by itself: {why}"));
        false
    }

    /// Why nothing of ours is taken any more; `None` while it is.
    fn lost_error(&self) -> Option<SessionError> {
        let hold = self.writer.as_ref()?.lease.hold();
        match hold {
            Hold::Fenced { .. } | Hold::Deleted { .. } => hold.error().map(SessionError::Log),
            Hold::Held | Hold::Parked | Hold::Free => None,
        }
    }

    fn too_slow(&self, timeout: Duration) -> SessionError {
        let last = "content was still being captured".to_string();
        SessionError::Log(LogError::Timeout { seconds: timeout.as_secs(), last })
    }
}
