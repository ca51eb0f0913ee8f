//! Handing changes to the log, slot by slot.
//!
//! Invariant: a piece lands in rows as its place in the store only once the slot that carries it is
//! committed; until then changes name it by its local number, so that a slot that never lands loses nothing.

use super::base::{self, Base};
use super::db::{During, pack};
use super::locals::Place;
use super::overlay::{Change, Hold, Overlay, Step};
use super::{Journal, Result, Shared, clean};
use crate::log::ids::{Blob, LocalId, Slot};
use crate::log::row::{Key, KeyBytes, Record, Row, prefix_end};
use crate::log::source::{ChosenSlot, CommitSource, LocalError, Sealed, Seq};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};
use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

/// Slots between seal and commit.
#[derive(Default)]
pub(super) struct Commits {
    /// The last change of a seal that is not recorded yet.
    taken: Option<Seq>,
    in_flight: VecDeque<InFlight>,
    last: Option<Slot>,
}

struct InFlight {
    chosen: ChosenSlot,
    records: Arc<Vec<Record>>,
    /// Later changes that name pieces which this slot has carried to the store.
    landed: Vec<(Place, Vec<Seq>)>,
}

impl Commits {
    pub fn clear(&mut self) {
        *self = Commits { last: self.last, ..Commits::default() };
    }
}

impl CommitSource for Journal {
    fn seal(&self, max_bytes: usize) -> Result<Option<Sealed>> {
        let mut commits = self.shared.commits.lock();
        if commits.taken.is_some() {
            return Err(LocalError::failed("a slot was sealed before the one before it was recorded"));
        }
        let taken = choose(&self.shared.overlay.read(), max_bytes)?;
        let Some(last_seq) = taken.last().and_then(|c| c.last()).map(|c| c.seq) else { return Ok(None) };
        let mut records = coalesce(&taken);
        let pieces = self.shared.resolve(&mut records)?;
        self.shared.overlay.write().steps.drain(..taken.len());
        commits.taken = Some(last_seq);
        let record = |(key, value): (KeyBytes, Option<Bytes>)| Record { key, value: value.map(Vec::from) };
        Ok(Some(Sealed { last_seq, records: records.into_iter().map(record).collect(), pieces }))
    }

    fn record(&self, chosen: &ChosenSlot, records: Vec<Record>) -> Result<()> {
        let mut commits = self.shared.commits.lock();
        if commits.taken != Some(chosen.last_seq) {
            return Err(LocalError::failed(format!("slot {} was recorded but not sealed", chosen.slot)));
        }
        let row = pack(&Chosen::from(chosen));
        let slot = chosen.slot.0 as i64;
        self.shared.queue.run_with_room(move |conn| {
            conn.prepare_cached("INSERT OR REPLACE INTO slot VALUES (?, ?)")
                .and_then(|mut s| s.execute((slot, &row)))
                .map(drop)
                .during("noting a chosen slot")
        })?;
        let mut overlay = self.shared.overlay.write();
        for (id, off) in &chosen.placed {
            overlay.locals.place(*id, Place { epoch: chosen.epoch, slot: chosen.slot, off: *off });
        }
        commits.taken = None;
        commits.in_flight.push_back(InFlight {
            chosen: chosen.clone(),
            records: Arc::new(records),
            landed: Vec::new(),
        });
        Ok(())
    }

    fn committed(&self, slot: Slot) -> Result<()> {
        let mut commits = self.shared.commits.lock();
        if commits.last == Some(slot) {
            return Ok(());
        }
        let Some(front) = commits.in_flight.front_mut().filter(|f| f.chosen.slot == slot) else {
            return Err(LocalError::failed(format!("slot {slot} is not the next to be committed")));
        };
        self.shared.land(front)?;
        let job = Arc::new((front.chosen.clone(), front.records.clone(), front.landed.clone()));
        self.shared.queue.run_with_room(move |conn| write_committed(conn, &job.0, &job.1, &job.2))?;
        self.shared.show_committed(front);
        commits.last = Some(slot);
        commits.in_flight.pop_front();
        Ok(())
    }

    fn last_seq(&self) -> Seq {
        self.shared.overlay.read().last_seq
    }

    fn committed_seq(&self) -> Seq {
        self.shared.overlay.read().committed_seq
    }
}

impl Journal {
    /// The last slot that this process has committed and told the listeners of
    /// [`Journal::committed_keys`] of. (A snapshot may be ahead of what they were told.)
    pub fn told(&self) -> Option<Slot> {
        self.shared.commits.lock().last
    }
}

/// A chosen slot as the database keeps it.
#[derive(serde::Serialize, serde::Deserialize)]
pub(super) struct Chosen {
    pub epoch: crate::log::ids::Epoch,
    pub slot: Slot,
    pub checksum: crate::log::source::Checksum,
    pub last_seq: Seq,
    pub placed: Vec<(LocalId, u64)>,
}

impl From<&ChosenSlot> for Chosen {
    fn from(c: &ChosenSlot) -> Chosen {
        Chosen {
            epoch: c.epoch,
            slot: c.slot,
            checksum: c.checksum,
            last_seq: c.last_seq,
            placed: c.placed.clone(),
        }
    }
}

impl Chosen {
    pub fn places(&self) -> impl Iterator<Item = (LocalId, Place)> + '_ {
        self.placed.iter().map(|(id, off)| (*id, Place { epoch: self.epoch, slot: self.slot, off: *off }))
    }
}

impl Shared {
    /// Names the places of pieces that earlier slots carry; returns the bytes of those that none does.
    fn resolve(&self, records: &mut BTreeMap<KeyBytes, Option<Bytes>>) -> Result<Vec<(LocalId, Bytes)>> {
        let mut pieces = Vec::new();
        let mut seen = HashSet::new();
        for (key, value) in records.iter_mut().filter(|(key, _)| Key::is_extent(key)) {
            let Some(bytes) = value else { continue };
            let mut row = base::extent_row(bytes)?;
            let Blob::Local(id) = row.blob else { continue };
            let place = self.overlay.read().locals.chosen(id);
            if let Some(place) = place {
                place.resolve(&mut row);
                *value = Some(row.encode().into());
            } else if seen.insert(id) {
                let bytes = self.local_bytes(id)?;
                pieces.push((id, bytes.ok_or_else(|| lost_piece(id, key))?));
            }
        }
        Ok(pieces)
    }

    /// In memory: what a slot carried is in the store.
    fn land(&self, slot: &mut InFlight) -> Result<()> {
        let mut overlay = self.overlay.write();
        for (id, off) in &slot.chosen.placed {
            if let Some(landed) = overlay.land(*id, slot.chosen.last_seq)? {
                slot.landed.push(landed);
                let blob = Blob::Segment { epoch: slot.chosen.epoch, slot: slot.chosen.slot };
                self.pieces.moved(*id, blob, *off);
            }
        }
        Ok(())
    }

    /// In memory: the slot's rows are the committed ones, in the database too.
    fn show_committed(&self, slot: &InFlight) {
        let mut overlay = self.overlay.write();
        slot.records.iter().for_each(|record| self.cache_committed(record));
        let keys = slot.records.iter().map(|r| r.key.as_slice());
        let unused = overlay.drop_committed(slot.chosen.last_seq, keys);
        drop(overlay);
        self.pieces.drop(&unused);
        self.remove_pieces(unused);
        self.tell(&slot.records);
    }

    /// Tells whoever listens which rows have changed.
    pub(super) fn tell(&self, records: &[Record]) {
        if self.keys.receiver_count() > 0 {
            // Fails only if the last receiver has just gone.
            let _ = self.keys.send(Arc::new(records.iter().map(|r| r.key.clone()).collect()));
        }
    }
}

/// The steps that the next slot takes: up to a change that is held, or to about `max_bytes` of them, but
/// always all of what has to go together.
fn choose(overlay: &Overlay, max_bytes: usize) -> Result<Vec<Arc<Vec<Change>>>> {
    let mut taken = Vec::new();
    let (mut whole, mut bytes, mut through) = (0, 0, 0);
    for step in &overlay.steps {
        match step.hold {
            Hold::Held => break,
            Hold::Through(until) => through = through.max(until),
            Hold::Free => {}
        }
        if bytes >= max_bytes && whole == taken.len() && whole > 0 {
            break;
        }
        bytes += weight(overlay, step)?;
        taken.push(step.changes.clone());
        if step.last() >= through {
            whole = taken.len();
        }
    }
    taken.truncate(whole);
    Ok(taken)
}

/// What a step adds to a segment, in bytes, about.
fn weight(overlay: &Overlay, step: &Step) -> Result<usize> {
    let mut bytes = 0;
    for change in step.changes.iter() {
        let Some(value) = &change.value else {
            bytes += change.key.len();
            continue;
        };
        bytes += change.key.len() + value.len();
        if Key::is_extent(&change.key) {
            let row = base::extent_row(value)?;
            if let Blob::Local(id) = row.blob
                && overlay.locals.chosen(id).is_none()
            {
                bytes += row.piece_len as usize;
            }
        }
    }
    Ok(bytes)
}

/// The last value of each row; rows that go with a removed inode are left out, since its tombstone covers
/// them (and records are applied in key order, where they would come behind it).
fn coalesce(taken: &[Arc<Vec<Change>>]) -> BTreeMap<KeyBytes, Option<Bytes>> {
    let mut rows = BTreeMap::new();
    for change in taken.iter().flat_map(|changes| changes.iter()) {
        if let (None, Some(ino)) = (&change.value, Key::own_row_of(&change.key)) {
            for prefix in Key::children_of(ino) {
                let Some(end) = prefix_end(&prefix) else { continue };
                let keys: Vec<KeyBytes> = rows.range(prefix..end).map(|(k, _)| KeyBytes::clone(k)).collect();
                keys.iter().for_each(|key| drop(rows.remove(key)));
            }
        }
        rows.insert(change.key.clone(), change.value.clone());
    }
    rows
}

fn write_committed(
    conn: &Connection,
    chosen: &ChosenSlot,
    records: &[Record],
    landed: &[(Place, Vec<Seq>)],
) -> Result<()> {
    base::apply(conn, chosen.slot, records)?;
    clean::place(conn, &Blob::Segment { epoch: chosen.epoch, slot: chosen.slot }, &chosen.placed)?;
    for (place, seqs) in landed {
        seqs.iter().try_for_each(|seq| rewrite(conn, *seq, place))?;
    }
    conn.prepare_cached("DELETE FROM change WHERE seq <= ?")
        .and_then(|mut s| s.execute([chosen.last_seq as i64]))
        .during("dropping committed changes")?;
    conn.prepare_cached("DELETE FROM slot WHERE slot <= ?")
        .and_then(|mut s| s.execute([chosen.slot.0 as i64]))
        .during("dropping committed slots")?;
    Base { epoch: chosen.epoch, slot: chosen.slot, checksum: Some(chosen.checksum) }.write(conn)
}

/// Lets the change `seq` name its piece's place in the store.
pub(super) fn rewrite(conn: &Connection, seq: Seq, place: &Place) -> Result<()> {
    let value: Option<Vec<u8>> = conn
        .prepare_cached("SELECT value FROM change WHERE seq = ?")
        .and_then(|mut s| s.query_row([seq as i64], |r| r.get(0)).optional())
        .during("reading a change")?
        .flatten();
    let Some(value) = value else { return Ok(()) };
    let value = place.resolve_bytes(&value)?;
    conn.prepare_cached("UPDATE change SET value = ? WHERE seq = ?")
        .and_then(|mut s| s.execute((&value[..], seq as i64)))
        .during("rewriting a change")?;
    Ok(())
}

fn lost_piece(id: LocalId, key: &[u8]) -> LocalError {
    let row = Key::decode(key).map_or_else(|| "a row".into(), |key| format!("{key:?}"));
    LocalError::new(
        crate::log::source::LocalKind::Damaged,
        format!("content {} of {row} is missing, though no slot carries it yet", id.0),
    )
}
