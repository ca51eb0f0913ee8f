//! A sender: one slot's bytes into the store, the same bytes until it is known what became of them.

use super::Inner;
use super::backoff::Backoff;
use crate::log::LogError;
use crate::log::ids::{Epoch, Slot, keys};
use crate::log::lease::{Hold, Lease};
use crate::log::rules::{Rule, holds};
use crate::log::segment::{self, Kind};
use crate::log::source::Seq;
use crate::store::{Condition, PutOptions};
use bytes::Bytes;
use std::sync::Arc;

/// Returns once the slot has landed (`true`), or never will (`false`: fenced, or the committer ends).
/// `after` is the last change of the slot before.
pub(super) async fn run(inner: Arc<Inner>, slot: Slot, bytes: Bytes, after: Seq) -> bool {
    let stop = inner.stop.clone();
    tokio::select! {
        biased;
        landed = land(&inner, slot, bytes, after) => landed,
        () = stop.cancelled() => false,
    }
}

async fn land(inner: &Inner, slot: Slot, bytes: Bytes, after: Seq) -> bool {
    let lease = &inner.config.lease;
    let mut backoff = Backoff::new(lease.epoch().nonce ^ slot.0, &inner.nudge);
    loop {
        backoff.begin();
        match attempt(inner, slot, &bytes).await {
            Ok(()) => return true,
            Err(error) => {
                if lease.hold().is_final() {
                    return false;
                }
                inner.failed(after, &error);
            }
        }
        backoff.pause().await;
    }
}

/// One try. After an error the lease knows whether there is any use in another.
async fn attempt(inner: &Inner, slot: Slot, bytes: &Bytes) -> Result<(), LogError> {
    let lease = &inner.config.lease;
    if lease.hold() == Hold::Parked {
        lease.ensure().await?;
    }
    let key = keys::segment(lease.epoch(), slot);
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    match inner.config.store.put(&key, bytes.clone(), &options).await {
        Ok(_etag) => Ok(()),
        Err(error) if error.is_precondition() => settle(inner, slot, &key, bytes).await,
        Err(error) => Err(error.into()),
    }
}

/// Something lies where our slot should go: our own bytes, or the end of our time as the writer.
async fn settle(inner: &Inner, slot: Slot, key: &str, bytes: &Bytes) -> Result<(), LogError> {
    let (store, lease) = (&inner.config.store, &inner.config.lease);
    let found = match store.get(key, None, None).await {
        Ok(object) => object.body,
        Err(error) => {
            if error.is_not_found() {
                lease.suspect_deleted().await?;
            }
            return Err(error.into());
        }
    };
    // The whole bytes, not a nonce or an epoch: a clone of this machine has the same.
    if found == *bytes || !holds(Rule::WholeBytes) && same_epoch(lease.epoch(), slot, &found) {
        return Ok(());
    }
    let by = match segment::decode_header(lease.epoch(), slot, &found) {
        Ok(header) => match header.kind {
            Kind::Seal { successor } => name_of(inner, successor).await,
            Kind::Changes => "a clone of this machine".to_owned(),
        },
        Err(error) => format!("an unknown writer ({error})"),
    };
    lease.lost(Hold::Fenced { by: by.clone() });
    Err(LogError::Fenced { by })
}

/// What is not enough to call a slot ours.
fn same_epoch(epoch: Epoch, slot: Slot, found: &[u8]) -> bool {
    segment::decode_header(epoch, slot, found).is_ok_and(|header| header.kind == Kind::Changes)
}

/// The successor as people know it, where the lease still names it.
async fn name_of(inner: &Inner, successor: Epoch) -> String {
    match Lease::peek(inner.config.store.as_ref()).await {
        Ok(Some(body)) if body.epoch == successor => body.holder,
        Ok(_) | Err(_) => format!("the writer of epoch {successor}"),
    }
}
