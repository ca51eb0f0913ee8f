//! Writing the lease: one write at a time, each settled before the next.

use super::body::random;
use super::{Hold, Known, Lease, LeaseBody, LeaseOptions, LeaseState, read};
use crate::log::LogError;
use crate::log::ids::keys;
use crate::log::rules::{Rule, holds};
use crate::store::{Condition, ETag, Kind, ObjectStore, PutOptions, StoreError};
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;
use tokio::sync::watch;

/// The lease as we last wrote it.
pub(super) struct Written {
    pub body: LeaseBody,
    pub bytes: Bytes,
    pub etag: ETag,
    /// A write that was begun and whose outcome is not known.
    pub pending: Option<Pending>,
}

pub(super) struct Pending {
    body: LeaseBody,
    bytes: Bytes,
    first_sent: Duration,
}

/// A conditional write of the lease.
pub(super) fn put_options(condition: Condition) -> PutOptions {
    PutOptions { condition, content_type: Some("application/json".into()), ..PutOptions::default() }
}

impl Lease {
    /// The lease that `body` says is ours, written as `etag`, sent at `sent`.
    pub(super) fn ours(
        store: &Arc<dyn ObjectStore>,
        options: &LeaseOptions,
        written: Written,
        sent: Duration,
    ) -> Arc<Lease> {
        Arc::new(Lease {
            store: store.clone(),
            clock: options.clock.clone(),
            epoch: written.body.epoch,
            session: written.body.session,
            ttl: options.ttl,
            hold: watch::Sender::new(Hold::Held),
            known: Mutex::new(Known { sent, floor: written.body.floor, error: None }),
            written: tokio::sync::Mutex::new(written),
            kept: AtomicBool::new(false),
        })
    }

    /// The same hold in a copy of the machine, which knows all that this one does.
    #[cfg(test)]
    pub(crate) fn cloned(
        &self,
        store: &Arc<dyn ObjectStore>,
        clock: Arc<dyn crate::log::clock::Clock>,
    ) -> Arc<Lease> {
        let written = self.written.try_lock().expect("no write is under way");
        let written = Written {
            body: written.body.clone(),
            bytes: written.bytes.clone(),
            etag: written.etag.clone(),
            pending: None,
        };
        let options = LeaseOptions {
            holder: written.body.holder.clone(),
            ttl: self.ttl,
            succession: Default::default(),
            dead: None,
            clock,
        };
        let sent = self.known.lock().sent;
        Lease::ours(store, &options, written, sent)
    }

    /// Writes the lease anew, as held, unless that has happened within `limit`.
    pub(super) async fn renew(&self, limit: Duration) -> Result<(), LogError> {
        self.hold_unless(|| self.is_fresh(limit)).await
    }

    /// Writes the lease anew, as held, unless one was sent since `moment`.
    pub(super) async fn confirm_since(&self, moment: Duration) -> Result<(), LogError> {
        let is_since = || *self.hold.borrow() == Hold::Held && self.known.lock().sent >= moment;
        match is_since() {
            true => Ok(()),
            false => self.hold_unless(is_since).await,
        }
    }

    /// Writes the lease anew, as held, unless a write that was under way has made that needless.
    async fn hold_unless(&self, is_needless: impl Fn() -> bool) -> Result<(), LogError> {
        let mut written = self.written.lock().await;
        self.settle(&mut written).await?;
        match is_needless() {
            true => Ok(()),
            false => self.write(&mut written, |body| body.state = LeaseState::Held).await,
        }
    }

    /// Writes the lease with `edit` made to it.
    pub(super) async fn change(&self, edit: impl FnOnce(&mut LeaseBody)) -> Result<(), LogError> {
        let mut written = self.written.lock().await;
        self.settle(&mut written).await?;
        self.write(&mut written, edit).await
    }

    async fn write(&self, written: &mut Written, edit: impl FnOnce(&mut LeaseBody)) -> Result<(), LogError> {
        if let Some(error) = self.hold().error() {
            return Err(error);
        }
        let mut body = written.body.clone();
        edit(&mut body);
        if holds(Rule::RenewalsDiffer) {
            body.count += 1;
            body.written_ms = self.clock.wall_ms();
            body.stamp = format!("{:016x}", random()?);
        }
        let bytes = body.encode();
        // Kept here and not on the stack: a caller that gives up leaves it to the next one to settle.
        written.pending = Some(Pending { body, bytes, first_sent: self.clock.boottime() });
        self.settle(written).await
    }

    /// Sends what is pending, if anything, and finds out what became of it. After an error it is still
    /// pending, unless the error is final.
    async fn settle(&self, written: &mut Written) -> Result<(), LogError> {
        let Some(pending) = &written.pending else { return Ok(()) };
        let bytes = pending.bytes.clone();
        let sent = self.clock.boottime();
        let condition = Condition::Match(written.etag.clone());
        let result = match self.store.put(keys::LEASE, bytes, &put_options(condition)).await {
            Ok(etag) => {
                self.accept(written, etag, sent);
                Ok(())
            }
            Err(error) => self.find_out(written, error).await,
        };
        self.remember(&result);
        result
    }

    /// Whether the pending write, which was answered by `error`, is in the store nevertheless.
    async fn find_out(&self, written: &mut Written, error: StoreError) -> Result<(), LogError> {
        if !error.kind.is_ambiguous() && !error.is_precondition() && !error.is_not_found() {
            return Err(error.into());
        }
        let seen = match self.look().await {
            Ok(seen) => seen,
            // A conclusion is better than the store's refusal; trouble with reading is not.
            Err(LogError::Store(_)) => return Err(error.into()),
            Err(conclusion) => return Err(conclusion),
        };
        let (bytes, etag) = seen;
        match &written.pending {
            Some(pending) if pending.bytes == bytes => {
                let first_sent = pending.first_sent;
                self.accept(written, etag, first_sent);
                Ok(())
            }
            _ => {
                self.compare(written, &bytes, etag)?;
                Err(error.into())
            }
        }
    }

    /// Whether the lease is still as we wrote it; learns that we are fenced or deleted if it is not.
    pub(super) async fn check(&self) -> Result<(), LogError> {
        let mut written = self.written.lock().await;
        self.settle(&mut written).await?;
        if let Some(error) = self.hold().error() {
            return Err(error);
        }
        let result = match self.look().await {
            Ok((bytes, etag)) => self.compare(&mut written, &bytes, etag),
            Err(error) => Err(error),
        };
        self.remember(&result);
        result
    }

    /// Deletes the lease, which ends the whole session; for when everything else of it is gone. `conditional`:
    /// the store's DELETE takes a condition; else a successor that comes in the last moment is not seen.
    pub(in crate::log) async fn delete(&self, conditional: bool) -> Result<(), LogError> {
        let mut written = self.written.lock().await;
        self.settle(&mut written).await?;
        if let Some(error) = self.hold().error() {
            return Err(error);
        }
        if !conditional {
            let (bytes, etag) = self.look().await?;
            self.compare(&mut written, &bytes, etag)?;
        }
        let condition = if conditional { Condition::Match(written.etag.clone()) } else { Condition::None };
        if let Err(error) = self.store.delete(keys::LEASE, &condition).await {
            match landed(self.store.as_ref(), &written.bytes).await? {
                Landed::Absent => {}
                Landed::Ours(_) => return Err(error.into()),
                Landed::Other(seen) => return self.compare(&mut written, &seen.bytes, seen.etag),
            }
        }
        self.hold.send_replace(Hold::Free);
        Ok(())
    }

    /// The lease as it is. That it is gone is believed only when a listing agrees.
    async fn look(&self) -> Result<(Bytes, ETag), LogError> {
        let error = match self.store.get(keys::LEASE, None, None).await {
            Ok(object) => return Ok((object.body, object.meta.etag)),
            Err(error) => error,
        };
        // Under some policies the GET of a missing object is refused.
        if !error.is_not_found() && error.kind != Kind::AccessDenied {
            return Err(error.into());
        }
        if holds(Rule::MissingIfListed) {
            let listed = self.store.list(keys::LEASE, None, 1).await?;
            if listed.objects.iter().any(|o| o.key == keys::LEASE) {
                return Err(error.into());
            }
        }
        let gone = Hold::Deleted { key: keys::LEASE.to_owned() };
        let conclusion = LogError::Deleted { key: keys::LEASE.to_owned() };
        self.lost(gone);
        Err(conclusion)
    }

    /// Finds us fenced when the lease's bytes are not those we wrote last. The same bytes under another
    /// ETag (a bucket that was copied) are ours.
    fn compare(&self, written: &mut Written, bytes: &Bytes, etag: ETag) -> Result<(), LogError> {
        if *bytes == written.bytes {
            written.etag = etag;
            return Ok(());
        }
        let by = match LeaseBody::decode(bytes) {
            Ok(body) if body.epoch == self.epoch => format!("{}, a clone of this machine", body.holder),
            Ok(body) => body.holder,
            Err(error) => error.to_string(),
        };
        self.lost(Hold::Fenced { by: by.clone() });
        Err(LogError::Fenced { by })
    }

    fn accept(&self, written: &mut Written, etag: ETag, sent: Duration) {
        let Some(pending) = written.pending.take() else { return };
        let hold = match pending.body.state {
            LeaseState::Held => Hold::Held,
            LeaseState::Parked => Hold::Parked,
            LeaseState::Free => Hold::Free,
        };
        {
            let mut known = self.known.lock();
            known.sent = known.sent.max(sent);
            known.floor = pending.body.floor;
        }
        *written = Written { body: pending.body, bytes: pending.bytes, etag, pending: None };
        self.hold.send_if_modified(|current| {
            let news = !current.is_final() && *current != hold;
            if news {
                *current = hold;
            }
            news
        });
    }

    fn remember(&self, result: &Result<(), LogError>) {
        let error = result.as_ref().err().map(|e| (self.clock.wall(), e.clone()));
        self.known.lock().error = error;
    }
}

/// What there is at the lease's key, given what a write of `bytes` was answered.
pub(super) async fn landed(store: &dyn ObjectStore, bytes: &Bytes) -> Result<Landed, LogError> {
    Ok(match read(store).await? {
        None => Landed::Absent,
        Some(seen) if seen.bytes == *bytes => Landed::Ours(seen.etag),
        Some(seen) => Landed::Other(seen),
    })
}

pub(super) enum Landed {
    Absent,
    Ours(ETag),
    Other(super::Seen),
}
