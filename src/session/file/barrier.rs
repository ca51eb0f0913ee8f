//! What waits for the store: close, fsync, and writes that must.

use super::super::api::*;
use super::super::batch::Within;
use super::super::level::Place;
use super::super::node::Node;
use super::super::{Durability, Session, SessionError};
use super::capture::Captured;
use crate::log::LogError;
use crate::log::ids::Ino;
use crate::log::source::{CommitSource, Seq};
use std::sync::Arc;
use std::sync::atomic::Ordering;

impl Session {
    /// One close(2): waits when the file changed since its last capture and the level says so.
    pub fn flush(self: &Arc<Self>, caller: Caller, fh: Fh, ino: Ino) -> Outcome<()> {
        match self.flush_now(caller, fh, ino) {
            Ok(outcome) => outcome,
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    /// fsync and fdatasync: waits for all that happened before it.
    pub fn fsync(self: &Arc<Self>, caller: Caller, fh: Fh, _ino: Ino) -> Outcome<()> {
        let handle = match self.handle(fh).and_then(|handle| self.alive().map(|()| handle)) {
            Ok(handle) => handle,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        if handle.file.is_orphan() {
            return Outcome::Ready(Ok(()));
        }
        let within = self.batches_of(caller);
        match within.with_fsync().then(|| self.goes_on(&handle.node, &within)) {
            Some(Ok(true)) => Outcome::Ready(Ok(())),
            Some(Err(error)) => Outcome::Ready(Err(error)),
            Some(Ok(false)) | None => self.barrier(&handle.node, true),
        }
    }

    /// fsync of a directory: waits for all that happened before it.
    pub fn fsyncdir(self: &Arc<Self>, caller: Caller, _ino: Ino) -> Outcome<()> {
        let within = self.batches_of(caller);
        match self.alive() {
            Ok(()) if within.with_fsync() && within.take(None) => Outcome::Ready(Ok(())),
            Ok(()) => self.wait_for(self.journal.last_seq()),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    fn flush_now(self: &Arc<Self>, caller: Caller, fh: Fh, ino: Ino) -> Result<Outcome<()>> {
        let handle = self.handle(fh)?;
        self.alive()?;
        if self.writer.is_none() || handle.file.is_orphan() {
            return Ok(Outcome::Ready(Ok(())));
        }
        let within = self.batches_of(caller);
        if within.any() && self.goes_on(&handle.node, &within)? {
            return Ok(Outcome::Ready(Ok(())));
        }
        let waits = self.level_at(Place::Inode(ino))? != Durability::Fsync;
        if waits && !cfg!(feature = "broken-close") {
            return Ok(self.barrier(&handle.node, false));
        }
        // Large content is left to the commit interval, or to the last close.
        if let Captured::Rows(seq) = self.capture(&handle.node)?
            && let Some(writer) = &self.writer
            && seq > writer.committer.progress().seq
        {
            writer.committer.kick(self.kick_delay(Durability::Fsync));
        }
        Ok(Outcome::Ready(Ok(())))
    }

    /// Captures a file whose caller's batches wait in its place; `false` where they have ended meanwhile. What takes
    /// time is left to the last close, and to their ends.
    fn goes_on(self: &Arc<Self>, node: &Arc<Node>, within: &Within) -> Result<bool> {
        let late = match self.capture(node)? {
            Captured::Rows(_) => None,
            Captured::Later => {
                node.file.unhurried.store(true, Ordering::Release);
                Some(node.ino)
            }
        };
        let goes_on = within.take(late);
        if let (true, Some(writer)) = (goes_on, &self.writer) {
            writer.committer.kick(self.unhurried());
        }
        Ok(goes_on)
    }

    /// Captures a file and waits for its commit; with `all`, for all that happened before too.
    pub(super) fn barrier(self: &Arc<Self>, node: &Arc<Node>, all: bool) -> Outcome<()> {
        node.file.unhurried.store(false, Ordering::Release);
        match self.capture(node) {
            Err(error) => Outcome::Ready(Err(error)),
            Ok(Captured::Rows(seq)) => {
                let seq = if all { seq.max(self.journal.last_seq()) } else { seq };
                self.wait_for(seq)
            }
            Ok(Captured::Later) => {
                let (session, node) = (self.clone(), self.nodes.hold(node.ino));
                let before = if all { self.journal.last_seq() } else { 0 };
                Outcome::Later(Box::pin(async move {
                    let seq = session.captured_in_time(&node).await?;
                    session.wait_for(seq.max(before)).get().await
                }))
            }
        }
    }

    pub(super) async fn captured_in_time(self: &Arc<Self>, node: &Arc<Node>) -> Result<Seq> {
        let timeout = self.options.timeout;
        let timed_out = || {
            let last = format!("the content of inode {} is not uploaded", node.ino);
            SessionError::Log(LogError::Timeout { seconds: timeout.as_secs(), last })
        };
        // Once a wait timed out, further ones fail at once until something gets through.
        if self.is_stalled() {
            return Err(timed_out());
        }
        match tokio::time::timeout(timeout, self.captured(node)).await {
            Ok(captured) => captured,
            Err(_) => {
                self.stall();
                Err(timed_out())
            }
        }
    }

    /// A wait for room or a capture timed out: further ones fail at once until something gets through.
    pub(super) fn stall(&self) {
        let committed = self.writer.as_ref().map_or(0, |writer| writer.committer.progress().seq);
        *self.data.stalled.lock() = Some(committed);
    }

    /// Whether nothing was committed and no large content was captured since a wait timed out.
    pub(super) fn is_stalled(&self) -> bool {
        let Some(committed) = *self.data.stalled.lock() else { return false };
        self.writer.as_ref().is_some_and(|writer| writer.committer.progress().seq == committed)
    }

    fn wait_for(self: &Arc<Self>, seq: Seq) -> Outcome<()> {
        let Some(writer) = &self.writer else { return Outcome::Ready(Ok(())) };
        if seq <= writer.committer.progress().seq {
            return Outcome::Ready(Ok(()));
        }
        let (committer, timeout) = (writer.committer.clone(), self.options.timeout);
        Outcome::Later(Box::pin(async move { Ok(committer.wait_stored(seq, timeout).await?) }))
    }
}
