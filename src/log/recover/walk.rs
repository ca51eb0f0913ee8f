//! Applying the log, epoch after epoch, up to the first free slot, and sealing it there.

use super::LocalBase;
use super::enter::Entered;
use super::seal;
use crate::log::LogError;
use crate::log::blocking::blocking;
use crate::log::ids::{Blob, Epoch, SessionId, Slot, keys};
use crate::log::rules::{Rule, holds};
use crate::log::segment::{self, Header, Kind, Segment};
use crate::log::source::{Checksum, RecoverySink, Seq};
use crate::measure::Progress;
use crate::store::{ObjectStore, list_all};
use bytes::Bytes;
use futures::StreamExt;
use std::collections::VecDeque;
use std::sync::Arc;

/// Bytes of segments fetched at once, or one segment.
const WINDOW: u64 = 64 << 20;

/// Segments fetched at once.
const WINDOW_SLOTS: usize = 64;

/// Content that came with a segment of at most so many bytes is kept: reading it later would be a request of
/// its own for next to nothing.
const KEPT: u64 = 256 << 10;

/// Bytes of larger segments that are handed to whoever reads content: the newest, which are read the soonest.
const CARRIED: usize = 32 << 20;

/// What lies at a slot.
pub(in crate::log) enum Fetched {
    Segment(Box<Segment>),
    Absent,
}

/// Reads a slot. One that arrives damaged is fetched once more before that is believed.
pub(in crate::log) async fn fetch(
    store: &dyn ObjectStore,
    epoch: Epoch,
    slot: Slot,
) -> Result<Fetched, LogError> {
    let key = keys::segment(epoch, slot);
    let mut again = true;
    loop {
        let body = match store.get(&key, None, None).await {
            Ok(object) => object.body,
            Err(error) if error.is_not_found() => return Ok(Fetched::Absent),
            Err(error) => return Err(error.into()),
        };
        match segment::decode(epoch, slot, &body) {
            Ok(mut segment) => {
                match segment.content_len <= KEPT {
                    true => segment.pieces = segment::pieces(&segment, &body),
                    false => segment.object = Some(body),
                }
                return Ok(Fetched::Segment(Box::new(segment)));
            }
            Err(LogError::Damaged { .. }) if again => again = false,
            Err(error) => return Err(error),
        }
    }
}

/// Applies a commit's rows, and offers what content came along.
pub(in crate::log) fn hand_over(segment: Segment, sink: &mut dyn RecoverySink) -> Result<(), LogError> {
    let Header { epoch, slot, .. } = segment.header;
    blocking(|| sink.segment(epoch, slot, &segment.checksum, segment.records))?;
    segment.pieces.iter().for_each(|(extent, bytes)| sink.keep(extent, bytes));
    Ok(())
}

/// A slot that a listing showed, and the bytes of its segment.
pub(super) type Listed = (Slot, u64);

/// The slots of an epoch from the one that `at` names on.
pub(super) async fn slots_from(
    store: &dyn ObjectStore,
    (epoch, slot): (Epoch, Slot),
) -> Result<Vec<Listed>, LogError> {
    let prefix = keys::log_of(epoch);
    let after = keys::segment(epoch, Slot(slot.0.saturating_sub(1)));
    let objects = list_all(store, &prefix, Some(&after)).await?;
    Ok(objects.iter().filter_map(|o| Some((keys::parse_segment(&o.key)?.1, o.size))).collect())
}

/// On the way through the log.
pub(super) struct Walk {
    store: Arc<dyn ObjectStore>,
    session: SessionId,
    ours: Epoch,
    /// The epoch the lease named before us.
    before: Option<Epoch>,
    /// The next slot, and in whose log it lies.
    pub at: (Epoch, Slot),
    /// The slots from there on, where they were listed already.
    listed: Option<Vec<Listed>>,
    chosen: Vec<(Epoch, Slot, Checksum, Seq)>,
    wall_ms: i64,
    /// Slots applied.
    pub replayed: u64,
    /// One of them is not the local journal's own.
    pub foreign: bool,
    /// The newest change of the local journal that was found in the log.
    pub committed: Option<Seq>,
    /// The last large segments, whole: they were fetched for their rows.
    pub objects: VecDeque<(Blob, Bytes)>,
    progress: Progress,
}

impl Walk {
    pub fn new(
        store: Arc<dyn ObjectStore>,
        entered: &Entered,
        (at, listed): ((Epoch, Slot), Option<Vec<Listed>>),
        local: Option<LocalBase>,
        wall_ms: i64,
    ) -> Walk {
        let (session, ours) = (entered.lease.session(), entered.lease.epoch());
        let before = entered.before;
        let (foreign, committed) = local.as_ref().map_or((false, None), |l| (l.diverged, l.landed));
        let foreign = foreign && holds(Rule::ReplayOverOwn);
        let chosen = local.map(|l| l.chosen).unwrap_or_default();
        let replayed = 0;
        let progress = Progress::new("replay the log");
        Walk {
            store,
            session,
            ours,
            before,
            at,
            listed,
            chosen,
            wall_ms,
            replayed,
            foreign,
            committed,
            objects: VecDeque::new(),
            progress,
        }
    }

    /// Applies all there is and puts the seal; `at.1` is then our first slot.
    pub async fn walk_to_the_end(&mut self, sink: &mut dyn RecoverySink) -> Result<(), LogError> {
        loop {
            let listed = match self.listed.take() {
                Some(listed) => listed,
                None => slots_from(self.store.as_ref(), self.at).await?,
            };
            if self.apply_listed(&listed, sink).await? {
                continue;
            }
            let (epoch, slot) = self.at;
            if holds(Rule::GapIsDamage) && self.is_gap(&listed).await? {
                // A listing is no snapshot: only a slot that is still missing is a gap.
                match fetch(self.store.as_ref(), epoch, slot).await? {
                    Fetched::Absent => return Err(LogError::Gap { epoch, slot }),
                    Fetched::Segment(found) => self.apply(*found, sink)?,
                }
                continue;
            }
            if !holds(Rule::SealFirst) {
                return Ok(());
            }
            match seal::put(self.store.as_ref(), epoch, slot, self.header(), self.ours).await? {
                None => return Ok(()),
                Some(found) => self.apply(found, sink)?,
            }
        }
    }

    fn header(&self) -> Header {
        let (epoch, slot) = self.at;
        Header {
            session: self.session,
            epoch,
            slot,
            wall_ms: self.wall_ms,
            label: None,
            committed: Slot(slot.0.saturating_sub(1)),
            kind: Kind::Seal { successor: self.ours },
        }
    }

    /// Applies the listed slots up to the first that is missing; `true` when that led into another epoch.
    async fn apply_listed(
        &mut self,
        listed: &[Listed],
        sink: &mut dyn RecoverySink,
    ) -> Result<bool, LogError> {
        let (epoch, first) = self.at;
        let in_order = listed.iter().zip(first.0..).take_while(|((slot, _), n)| slot.0 == *n);
        let (run, sizes): (Vec<Slot>, Vec<u64>) = in_order.map(|(listed, _)| *listed).unzip();
        let largest = sizes.into_iter().max().unwrap_or(0).max(1);
        let window = (WINDOW / largest).clamp(1, WINDOW_SLOTS as u64) as usize;
        let store = self.store.clone();
        let mut segments = futures::stream::iter(run)
            .map(|slot| {
                let store = store.clone();
                async move { (slot, fetch(store.as_ref(), epoch, slot).await) }
            })
            .buffered(window);
        while let Some((slot, fetched)) = segments.next().await {
            match fetched? {
                // It was listed, and nobody may delete it: the floor is ours.
                Fetched::Absent => return Err(LogError::Gap { epoch, slot }),
                Fetched::Segment(segment) => self.apply(*segment, sink)?,
            }
            if self.at.0 != epoch {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Applies what lies at the next slot: a commit, or a seal that leads into the successor's log.
    fn apply(&mut self, segment: Segment, sink: &mut dyn RecoverySink) -> Result<(), LogError> {
        let (epoch, slot) = self.at;
        if segment.header.session != self.session {
            let what = "it is of another session than the lease".to_owned();
            return Err(LogError::Damaged { key: keys::segment(epoch, slot), what });
        }
        if let Kind::Seal { successor } = segment.header.kind {
            return self.follow(successor);
        }
        let (checksum, object) = (segment.checksum, segment.object.clone());
        hand_over(segment, sink)?;
        if let Some(object) = object {
            self.carry(Blob::Segment { epoch, slot }, object);
        }
        match self.chosen.iter().find(|(e, s, c, _)| (*e, *s, *c) == (epoch, slot, checksum)) {
            Some((.., seq)) => self.committed = self.committed.max(Some(*seq)),
            None => self.foreign = holds(Rule::ReplayOverOwn),
        }
        self.replayed += 1;
        self.progress.step(1, 0);
        self.at = (epoch, slot.next());
        Ok(())
    }

    fn carry(&mut self, blob: Blob, object: Bytes) {
        self.objects.push_back((blob, object));
        while self.objects.iter().map(|(_, object)| object.len()).sum::<usize>() > CARRIED {
            self.objects.pop_front();
        }
    }

    fn follow(&mut self, successor: Epoch) -> Result<(), LogError> {
        let (epoch, slot) = self.at;
        if successor.counter >= self.ours.counter {
            return Err(LogError::Fenced { by: format!("the writer of epoch {successor}") });
        }
        if successor.counter <= epoch.counter {
            let what = format!("it is sealed in favour of an earlier epoch, {successor}");
            return Err(LogError::Damaged { key: keys::segment(epoch, slot), what });
        }
        self.at = (successor, slot);
        Ok(())
    }

    /// Whether something says that the free slot we stand at was committed once: a later segment of this
    /// epoch whose header says so, or a log that only a seal here can have led to.
    async fn is_gap(&self, listed: &[Listed]) -> Result<bool, LogError> {
        let (epoch, slot) = self.at;
        for (later, _) in listed.iter().filter(|(later, _)| *later > slot) {
            let object = match self.store.get(&keys::segment(epoch, *later), None, None).await {
                Ok(object) => object.body,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            if segment::decode_header(epoch, *later, &object)?.committed >= slot {
                return Ok(true);
            }
        }
        if self.before == Some(epoch) {
            return Ok(false);
        }
        let behind = format!("{}{epoch}~", keys::LOG);
        let page = self.store.list(keys::LOG, Some(&behind), 1000).await?;
        let later = page.objects.iter().filter_map(|o| keys::parse_segment(&o.key));
        Ok(later.into_iter().any(|(e, _)| e.counter > epoch.counter && e != self.ours))
    }
}
