//! How a batch begins, and how it ends: with its wrapper's wait, or with its wrapper.

use super::super::api::{Caller, Outcome, Result};
use super::super::{Session, SessionError};
use super::{Batch, kin};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// How often it is looked whether a wrapper has ended without a word. Closes look themselves; this is for what was
/// closed before.
const LOOK: Duration = Duration::from_millis(200);

impl Session {
    /// Begins a batch of the caller's process; its number. With `fsync`, fsync does not wait in it either. Where who
    /// descends from whom cannot be seen, [`SessionError::NoBatch`] says why.
    pub fn begin_batch(self: &Arc<Self>, caller: Caller, fsync: bool) -> Result<u64> {
        self.alive()?;
        let batch = self.batches.begin(caller.pid, fsync)?;
        let id = batch.id;
        self.spawn(&self.stop, until_it_ends(Arc::downgrade(self), batch));
        Ok(id)
    }

    /// Ends a batch of the caller's process: from now on closes of its descendants wait. Returns once all that was
    /// closed in it is in the store, or after the mount's timeout.
    pub fn end_batch(self: &Arc<Self>, caller: Caller, id: u64) -> Outcome<()> {
        let Some(batch) = self.batches.find(caller.pid, id) else {
            let why = format!("this process has no batch {id}");
            return Outcome::Ready(Err(SessionError::NoBatch(why)));
        };
        let late = batch.end().unwrap_or_default();
        self.batches.forget(&batch);
        if self.writer.is_none() || cfg!(feature = "broken-close") {
            return Outcome::Ready(self.alive());
        }
        let (session, timeout) = (self.clone(), self.options.timeout);
        Outcome::Later(Box::pin(
            async move { session.store_within(timeout, session.capture_these(late)).await },
        ))
    }

    /// A wrapper has ended without having waited: what was closed in its batch is stored all the same.
    fn end_abandoned(self: &Arc<Self>, batch: &Arc<Batch>) {
        let late = batch.end();
        self.batches.forget(batch);
        let Some(late) = late else { return };
        tracing::info!(wrapper = batch.wrapper, "a batch has ended without waiting for the store");
        let Some(writer) = &self.writer else { return };
        writer.committer.kick(Duration::ZERO);
        let session = self.clone();
        self.runtime.spawn(async move {
            if let Err(error) = session.capture_these(late).await {
                // They stay changed, and the next commit interval tries again.
                tracing::warn!(%error, "not all that was closed in a batch could be captured");
            }
        });
    }
}

async fn until_it_ends(session: Weak<Session>, batch: Arc<Batch>) {
    loop {
        tokio::select! {
            () = batch.ended.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        if kin::has_ended(&batch.handle) {
            if let Some(session) = session.upgrade() {
                session.end_abandoned(&batch);
            }
            return;
        }
    }
}
