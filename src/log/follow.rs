//! Reading behind a writer: loads the newest checkpoint and follows the slots, with no lease and no write.
//!
//! Invariant: what is shown is the state after some commit. A slot that follows on applied ones was landed
//! ahead of any seal, so it is committed; what is in flight beyond a hole is not looked at.

use super::blocking::blocking;
use super::checkpoint;
use super::clock::{Clock, SystemClock};
use super::error::LogError;
use super::ids::{Epoch, SessionId, Slot, keys};
use super::lease::Lease;
use super::recover::{Fetched, fetch, hand_over, is_unreadable};
use super::segment::Kind;
use super::source::RecoverySink;
use crate::store::ObjectStore;
use std::sync::Arc;
use std::time::Duration;

/// Every so many polls that find nothing, the lease is read: we may have fallen below the floor, or the
/// session may be another.
const LOOK_AT_LEASE: u32 = 8;
/// Where a poll ends so long after the one before, the lease is read at the next chance: collection waits for
/// us only about twice as long.
const LONG: Duration = Duration::from_secs(10);

/// What a poll found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Nothing new.
    Nothing,
    /// These many slots were applied.
    Applied(u64),
    /// We had fallen below the floor: the whole tree was loaded anew.
    Reloaded,
}

/// A reader's place in a session's history.
pub struct Follower {
    store: Arc<dyn ObjectStore>,
    place: Option<Place>,
    idle: u32,
    clock: Arc<dyn Clock>,
    /// When the last poll ended.
    polled: Duration,
    /// We were away for long, and have not read the lease since.
    suspicious: bool,
    /// When the last slot that was applied was made.
    committed_ms: Option<i64>,
}

struct Place {
    session: SessionId,
    /// Whose log the next slot lies in.
    epoch: Epoch,
    /// The last slot that was applied.
    slot: Slot,
}

impl Follower {
    /// Loads the newest state. A prefix without a session is an empty tree that may get one later.
    pub async fn open(
        store: Arc<dyn ObjectStore>,
        sink: &mut dyn RecoverySink,
    ) -> Result<Follower, LogError> {
        Follower::open_at(store, SystemClock::shared(), sink).await
    }

    /// The same, with the time read elsewhere.
    pub(crate) async fn open_at(
        store: Arc<dyn ObjectStore>,
        clock: Arc<dyn Clock>,
        sink: &mut dyn RecoverySink,
    ) -> Result<Follower, LogError> {
        let polled = clock.boottime();
        let mut follower =
            Follower { store, place: None, idle: 0, clock, polled, suspicious: false, committed_ms: None };
        if !follower.load(sink).await? {
            blocking(|| sink.reset())?;
        }
        follower.advance(sink).await?;
        Ok(follower)
    }

    /// Applies what has been committed since.
    pub async fn poll(&mut self, sink: &mut dyn RecoverySink) -> Result<Followed, LogError> {
        if self.place.is_none() {
            return self.reload(sink).await;
        }
        let applied = self.advance(sink).await?;
        let now = self.clock.boottime();
        self.suspicious |= now.saturating_sub(std::mem::replace(&mut self.polled, now)) > LONG;
        if applied > 0 {
            self.idle = 0;
            return Ok(Followed::Applied(applied));
        }
        self.idle += 1;
        if self.suspicious || self.idle >= LOOK_AT_LEASE {
            self.idle = 0;
            let left_behind = self.is_left_behind().await?;
            self.suspicious = false;
            if left_behind {
                return self.reload(sink).await;
            }
        }
        Ok(Followed::Nothing)
    }

    /// Where we are; `None` before there is a session.
    pub fn at(&self) -> Option<(Epoch, Slot)> {
        self.place.as_ref().map(|place| (place.epoch, place.slot))
    }

    /// When the last slot that was applied was made, by its writer's clock, milliseconds since 1970; `None`
    /// while there is only what a checkpoint held.
    pub fn committed_ms(&self) -> Option<i64> {
        self.committed_ms
    }

    async fn reload(&mut self, sink: &mut dyn RecoverySink) -> Result<Followed, LogError> {
        // A load that breaks off leaves part of a tree: nothing may be applied to it, and the next poll loads again.
        self.place = None;
        if !self.load(sink).await? {
            return Ok(Followed::Nothing);
        }
        self.advance(sink).await?;
        Ok(Followed::Reloaded)
    }

    /// Whether the slots we wait for have been collected, or belong to another session by now.
    async fn is_left_behind(&self) -> Result<bool, LogError> {
        let Some(place) = &self.place else { return Ok(true) };
        match Lease::peek(self.store.as_ref()).await? {
            None => Ok(false),
            Some(body) => Ok(body.session != place.session || place.slot < body.floor),
        }
    }

    /// Loads the newest checkpoint that can be read, or starts at the beginning; `false` without a session.
    async fn load(&mut self, sink: &mut dyn RecoverySink) -> Result<bool, LogError> {
        let (lease, names) =
            futures::join!(Lease::peek(self.store.as_ref()), checkpoint::list(self.store.as_ref()));
        let Some(lease) = lease? else { return Ok(false) };
        let mut damage = None;
        for plan in checkpoint::choose(&names?, lease.floor) {
            match checkpoint::load(&self.store, &plan, sink).await {
                Ok(session) => {
                    let target = plan.target();
                    self.place = Some(Place { session, epoch: target.epoch, slot: target.slot });
                    return Ok(true);
                }
                Err(error) if is_unreadable(&error) => {
                    tracing::warn!(%error, "falling back to an older checkpoint");
                    damage.get_or_insert(error);
                }
                Err(error) => return Err(error),
            }
        }
        if lease.floor > Slot(0) {
            return Err(damage.unwrap_or_else(|| LogError::Damaged {
                key: keys::CHECKPOINT.into(),
                what: format!("there is no checkpoint at or after slot {}", lease.floor),
            }));
        }
        blocking(|| sink.reset())?;
        self.place = Some(Place { session: lease.session, epoch: lease.origin, slot: Slot(0) });
        Ok(true)
    }

    /// Applies every slot that follows on ours, through seals into the logs of successors.
    async fn advance(&mut self, sink: &mut dyn RecoverySink) -> Result<u64, LogError> {
        let Some(place) = &mut self.place else { return Ok(0) };
        let mut applied = 0;
        loop {
            let next = Slot(place.slot.0.saturating_add(1));
            let Fetched::Segment(segment) = fetch(self.store.as_ref(), place.epoch, next).await? else {
                return Ok(applied);
            };
            let damaged = |what: &str| {
                let (key, what) = (keys::segment(place.epoch, next), what.to_owned());
                LogError::Damaged { key, what }
            };
            if segment.header.session != place.session {
                return Err(damaged("it is of another session"));
            }
            match segment.header.kind {
                Kind::Seal { successor } if successor.counter > place.epoch.counter => {
                    place.epoch = successor;
                }
                Kind::Seal { .. } => return Err(damaged("it is sealed in favour of an earlier epoch")),
                Kind::Changes => {
                    self.committed_ms = Some(segment.header.wall_ms);
                    hand_over(*segment, sink)?;
                    place.slot = next;
                    applied += 1;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::row::{Key, Record};
    use crate::log::segment::{Header, encode, encode_seal};
    use crate::log::source::Sealed;
    use crate::log::testing::{FakeJournal, Fault, Shared, options};

    fn header(session: SessionId, epoch: Epoch, slot: u64, kind: Kind) -> Header {
        let (slot, committed) = (Slot(slot), Slot(slot - 1));
        Header { session, epoch, slot, wall_ms: 0, label: None, committed, kind }
    }

    fn commit(shared: &Shared, session: SessionId, epoch: Epoch, slot: u64) {
        let key = Key::Meta { name: b"n".to_vec() };
        let records = vec![Record::put_raw(&key, slot.to_string())];
        let sealed = Sealed { last_seq: slot, records, pieces: Vec::new() };
        let encoded = encode(&header(session, epoch, slot, Kind::Changes), sealed).unwrap();
        shared.set(&keys::segment(epoch, Slot(slot)), encoded.bytes);
    }

    #[tokio::test(start_paused = true)]
    async fn a_follower_shows_whole_commits_only_and_goes_through_seals() {
        let shared = Shared::new();
        let client = shared.client();
        let journal = FakeJournal::new();
        let sink = &mut journal.sink();
        let mut follower = Follower::open(client.store(), sink).await.unwrap();
        assert_eq!((follower.poll(sink).await.unwrap(), follower.at()), (Followed::Nothing, None));
        let first = crate::log::lease::First { session: None, origin: None, counter: 1 };
        let lease = crate::log::lease::create(&client.store(), &options("w"), first).await.unwrap().unwrap();
        let (session, old) = (lease.session(), lease.epoch());
        commit(&shared, session, old, 1);
        assert_eq!(follower.poll(sink).await.unwrap(), Followed::Reloaded);
        assert_eq!(journal.committed_value("n").as_deref(), Some("1"));
        // Slot 3 is in flight beyond a hole, and stays behind the seal.
        commit(&shared, session, old, 3);
        assert_eq!(follower.poll(sink).await.unwrap(), Followed::Nothing);
        let new = Epoch { counter: 2, nonce: 5 };
        let seal = header(session, old, 2, Kind::Seal { successor: new });
        shared.set(&keys::segment(old, Slot(2)), encode_seal(&seal).0);
        commit(&shared, session, new, 2);
        assert_eq!(follower.poll(sink).await.unwrap(), Followed::Applied(1));
        assert_eq!(
            (journal.committed_value("n").as_deref(), follower.at()),
            (Some("2"), Some((new, Slot(2))))
        );
        assert_eq!(client.count("put", ""), 1, "the lease, by the writer; a follower writes nothing");
    }

    /// What was shown before may be gone from the tree by then: nothing is applied to the rest of it.
    #[tokio::test(start_paused = true)]
    async fn a_follower_whose_loading_broke_off_loads_again() {
        let shared = Shared::new();
        let client = shared.client();
        let journal = FakeJournal::new();
        let sink = &mut journal.sink();
        let first = || crate::log::lease::First { session: None, origin: None, counter: 1 };
        let lease =
            crate::log::lease::create(&client.store(), &options("a"), first()).await.unwrap().unwrap();
        commit(&shared, lease.session(), lease.epoch(), 1);
        let mut follower = Follower::open(client.store(), sink).await.unwrap();
        assert_eq!(follower.at(), Some((lease.epoch(), Slot(1))));
        // Somebody has deleted the session, and made another one.
        shared.remove(keys::LEASE);
        shared.remove(&keys::segment(lease.epoch(), Slot(1)));
        let lease =
            crate::log::lease::create(&client.store(), &options("b"), first()).await.unwrap().unwrap();
        commit(&shared, lease.session(), lease.epoch(), 1);
        client.fault("list", keys::CHECKPOINT, 1, Fault::Refuse(crate::store::Kind::Unavailable));
        let mut polls = 0;
        while follower.poll(sink).await.is_ok() {
            polls += 1;
            assert!(polls <= LOOK_AT_LEASE, "it looks at the lease now and then");
        }
        assert_eq!(follower.at(), None);
        assert_eq!(follower.poll(sink).await.unwrap(), Followed::Reloaded);
        assert_eq!(follower.at(), Some((lease.epoch(), Slot(1))));
    }
}
