//! Becoming the writer: taking the lease, or making it for a new session.

use super::body::random;
use super::write::{Landed, Written, landed, put_options};
use super::{FORMAT, Lease, LeaseBody, LeaseOptions, LeaseState, Succession};
use crate::log::LogError;
use crate::log::ids::{Epoch, SessionId, Slot, keys};
use crate::log::rules::{Rule, holds};
use crate::store::{Condition, ETag, ObjectStore, StoreError};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;

/// Tries for one write of the lease while a session is mounted; the store itself tries again as well.
const TRIES: u32 = 6;
/// The longest wait for a holder, whatever its lease says.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

/// The lease as it was read.
pub(crate) struct Seen {
    pub body: LeaseBody,
    pub bytes: Bytes,
    pub etag: ETag,
}

/// What a lease that does not exist yet is made of.
pub(crate) struct First {
    /// The session's id; `None` makes a new one.
    pub session: Option<SessionId>,
    /// The writer whose log holds slot 1; `None`: the one being made.
    pub origin: Option<Epoch>,
    /// Above all counters found.
    pub counter: u64,
}

/// Reads the lease; `None` when there is none.
pub(crate) async fn read(store: &dyn ObjectStore) -> Result<Option<Seen>, LogError> {
    match store.get(keys::LEASE, None, None).await {
        Ok(object) => {
            let body = LeaseBody::decode(&object.body)?;
            Ok(Some(Seen { body, bytes: object.body, etag: object.meta.etag }))
        }
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Takes the lease that was read as `seen`, waiting for its holder where that is due. Returns it with what
/// it was before; `None` when it has been deleted meanwhile.
pub(crate) async fn take(
    store: &Arc<dyn ObjectStore>,
    options: &LeaseOptions,
    mut seen: Seen,
) -> Result<Option<(Arc<Lease>, LeaseBody)>, LogError> {
    loop {
        let gone = options.dead == Some(seen.body.epoch) || options.succession == Succession::AtOnce;
        if seen.body.state == LeaseState::Held && !gone {
            match outwait(store, options, seen).await? {
                Some(now) => seen = now,
                None => return Ok(None),
            }
            if seen.body.state == LeaseState::Held {
                tracing::warn!(holder = seen.body.holder, "its holder has stopped renewing; succeeding it");
            }
        }
        if seen.body.state == LeaseState::Parked && !gone && options.succession == Succession::NotParked {
            return Err(LogError::Parked { holder: seen.body.holder });
        }
        let body = next_body(&seen.body, options)?;
        let condition = Condition::Match(seen.etag.clone());
        match send(store, options, body, condition).await? {
            Sent::Ours(lease) => return Ok(Some((lease, seen.body))),
            Sent::Absent => return Ok(None),
            Sent::Other(now) => seen = now,
        }
    }
}

/// Makes the lease of a session that has none; `None` when somebody else has made one meanwhile.
pub(crate) async fn create(
    store: &Arc<dyn ObjectStore>,
    options: &LeaseOptions,
    first: First,
) -> Result<Option<Arc<Lease>>, LogError> {
    let epoch = Epoch { counter: first.counter, nonce: nonce()? };
    let new_id = || Ok::<_, LogError>(SessionId(u128::from(random()?) << 64 | u128::from(random()?)));
    let body = LeaseBody {
        format: FORMAT,
        session: first.session.map_or_else(new_id, Ok)?,
        origin: first.origin.unwrap_or(epoch),
        epoch,
        holder: options.holder.clone(),
        ttl_ms: millis(options.ttl),
        count: 1,
        floor: Slot(0),
        state: LeaseState::Held,
        written_ms: options.clock.wall_ms(),
        stamp: format!("{:016x}", random()?),
        ending: None,
    };
    match send(store, options, body, Condition::Absent).await? {
        Sent::Ours(lease) => Ok(Some(lease)),
        Sent::Absent | Sent::Other(_) => Ok(None),
    }
}

fn nonce() -> Result<u64, LogError> {
    if holds(Rule::FreshNonce) { random() } else { Ok(0) }
}

/// The lease after we have taken it from `old`.
fn next_body(old: &LeaseBody, options: &LeaseOptions) -> Result<LeaseBody, LogError> {
    let full =
        || LogError::Damaged { key: keys::LEASE.to_owned(), what: "its counters are at their end".into() };
    let counter = old.epoch.counter.checked_add(1).ok_or_else(full)?;
    let epoch = match holds(Rule::OwnEpoch) {
        true => Epoch { counter, nonce: nonce()? },
        false => old.epoch,
    };
    Ok(LeaseBody {
        format: FORMAT,
        session: old.session,
        origin: old.origin,
        epoch,
        holder: options.holder.clone(),
        ttl_ms: millis(options.ttl),
        count: old.count.checked_add(1).ok_or_else(full)?,
        floor: old.floor,
        state: LeaseState::Held,
        written_ms: options.clock.wall_ms(),
        stamp: format!("{:016x}", random()?),
        ending: old.ending,
    })
}

enum Sent {
    Ours(Arc<Lease>),
    Absent,
    Other(Seen),
}

/// Sends `body` under `condition` until it is known what became of it.
async fn send(
    store: &Arc<dyn ObjectStore>,
    options: &LeaseOptions,
    body: LeaseBody,
    condition: Condition,
) -> Result<Sent, LogError> {
    let bytes = body.encode();
    let first_sent = options.clock.boottime();
    let ours = |etag: ETag, sent: Duration| {
        let written = Written { body: body.clone(), bytes: bytes.clone(), etag, pending: None };
        Sent::Ours(Lease::ours(store, options, written, sent))
    };
    let mut tries = 0;
    loop {
        let sent = options.clock.boottime();
        let error = match store.put(keys::LEASE, bytes.clone(), &put_options(condition.clone())).await {
            Ok(etag) => return Ok(ours(etag, sent)),
            Err(error) => error,
        };
        if !error.kind.is_retryable() && !error.is_precondition() && !error.is_not_found() {
            return Err(error.into());
        }
        match landed(store.as_ref(), &bytes).await? {
            Landed::Ours(etag) => return Ok(ours(etag, first_sent)),
            Landed::Absent if condition != Condition::Absent => return Ok(Sent::Absent),
            Landed::Other(seen) if condition != Condition::Match(seen.etag.clone()) => {
                return Ok(Sent::Other(seen));
            }
            // Nothing has changed: what we sent has not arrived, or not yet.
            Landed::Absent | Landed::Other(_) => {}
        }
        tries += 1;
        again(tries, error).await?;
    }
}

async fn again(tries: u32, error: StoreError) -> Result<(), LogError> {
    if tries >= TRIES {
        return Err(error.into());
    }
    tokio::time::sleep(Duration::from_millis(20 << tries)).await;
    Ok(())
}

/// Watches a held lease for its holder's ttl. Returns it as it is then: unchanged, or given up meanwhile; a
/// holder that renews is an error that names it. `None` when it has been deleted.
async fn outwait(
    store: &Arc<dyn ObjectStore>,
    options: &LeaseOptions,
    seen: Seen,
) -> Result<Option<Seen>, LogError> {
    let ttl = if holds(Rule::HoldersTtl) { Duration::from_millis(seen.body.ttl_ms) } else { options.ttl };
    let ttl = ttl.min(LONGEST_WAIT);
    let pause = (ttl / 15).clamp(Duration::from_millis(20), Duration::from_secs(1));
    let holder = &seen.body.holder;
    tracing::info!(holder, seconds = ttl.as_secs(), "the session is held; waiting whether its holder renews");
    let start = options.clock.boottime();
    loop {
        tokio::time::sleep(pause).await;
        // The time is read before the lease, so that an unchanged one was unchanged for at least as long.
        let over = options.clock.boottime().saturating_sub(start) >= ttl;
        let Some(now) = read(store.as_ref()).await? else { return Ok(None) };
        if now.etag != seen.etag && now.body.state == LeaseState::Held {
            let renew_s = now.body.ttl_ms.div_ceil(3000);
            return Err(LogError::Held { holder: now.body.holder, renew_s });
        }
        if now.etag != seen.etag || over {
            return Ok(Some(now));
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
