//! The changes that are not committed, in memory: what readers see first, and what seals take.
//!
//! Invariants:
//! - `rows` has the newest uncommitted value of each row, but for rows that went with a removed inode, which
//!   `dead` covers;
//! - `steps` has the changes no seal has taken, in order; a step is never divided;
//! - `generation` rises, under the write lock, whenever the committed rows have changed in the database.

use super::Result;
use super::base::extent_row;
use super::births::Births;
use super::locals::{Locals, Place};
use crate::journal::Uncommitted;
use crate::log::ids::{Blob, Ino, LocalId};
use crate::log::row::{Key, KeyBytes, Record, Row, prefix_end};
use crate::log::source::{LocalError, Seq};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Instant;

/// One changed row.
#[derive(Debug, Clone)]
pub(super) struct Change {
    pub seq: Seq,
    pub key: KeyBytes,
    pub value: Option<Bytes>,
}

/// Whether seals may go past a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// They may.
    Free,
    /// Not yet.
    Held,
    /// Only if they take all up to this change with it.
    Through(Seq),
}

/// Changes made as one.
#[derive(Debug, Clone)]
pub(super) struct Step {
    pub changes: Arc<Vec<Change>>,
    pub hold: Hold,
}

impl Step {
    pub fn last(&self) -> Seq {
        self.changes.last().map_or(0, |c| c.seq)
    }
}

#[derive(Default)]
pub(super) struct Overlay {
    pub rows: BTreeMap<KeyBytes, (Seq, Option<Bytes>)>,
    dead: HashMap<Ino, Seq>,
    pub steps: VecDeque<Step>,
    pub last_seq: Seq,
    pub committed_seq: Seq,
    pub generation: u64,
    pub locals: Locals,
    /// Rows in `rows` by inode.
    files: HashMap<Ino, u32>,
    /// The blobs that changes name, in their order, until these are committed.
    named: VecDeque<(Seq, Blob)>,
    named_count: HashMap<Blob, u32>,
    pub pins: HashMap<Blob, u32>,
    pub births: Births,
}

/// A change that has been checked, before it has a number.
type Checked = (KeyBytes, Option<Bytes>, Option<Blob>);

impl Overlay {
    /// No change yet; the next one has the number after `last_seq`.
    pub fn after(last_seq: Seq) -> Overlay {
        Overlay { last_seq, ..Overlay::default() }
    }

    /// `None`: ask the committed rows.
    pub fn get(&self, key: &[u8]) -> Option<Option<Bytes>> {
        if let Some((_, value)) = self.rows.get(key) {
            return Some(value.clone());
        }
        self.is_dead(key).then_some(None)
    }

    /// Whether this row's inode was removed by an uncommitted change.
    pub fn is_dead(&self, key: &[u8]) -> bool {
        !self.dead.is_empty() && Key::child_of(key).is_some_and(|ino| self.dead.contains_key(&ino))
    }

    /// The removed inodes whose rows may lie in `from..end`.
    pub fn dead_inodes(&self, from: &[u8], end: Option<&[u8]>) -> HashSet<Ino> {
        match (Key::child_of(from), end) {
            _ if self.dead.is_empty() => HashSet::new(),
            // The usual scan: one inode's rows of one kind.
            (Some(ino), Some(end))
                if from.get(..9).and_then(prefix_end).is_some_and(|e| end <= e.as_slice()) =>
            {
                self.dead.contains_key(&ino).then_some(ino).into_iter().collect()
            }
            _ => self.dead.keys().copied().collect(),
        }
    }

    /// Adds `records` as one step.
    pub fn append(&mut self, records: Vec<Record>, hold: Hold) -> Result<Arc<Vec<Change>>> {
        let checked = records.into_iter().map(|r| self.check(r)).collect::<Result<Vec<_>>>()?;
        Ok(self.append_checked(checked, hold))
    }

    fn append_checked(&mut self, checked: Vec<Checked>, hold: Hold) -> Arc<Vec<Change>> {
        let mut changes = Vec::with_capacity(checked.len());
        if !checked.is_empty() {
            self.births.note(self.last_seq + 1, Instant::now());
        }
        for (key, value, blob) in checked {
            self.last_seq += 1;
            let seq = self.last_seq;
            match blob {
                Some(Blob::Local(id)) => self.locals.refer(id, seq, &key),
                Some(blob) => self.name(seq, blob),
                None => {}
            }
            self.set(seq, &key, value.clone());
            changes.push(Change { seq, key, value });
        }
        let changes = Arc::new(changes);
        if !changes.is_empty() {
            self.steps.push_back(Step { changes: changes.clone(), hold });
        }
        changes
    }

    /// Takes back what a journal held when it was opened: steps with their old numbers.
    pub fn restore(&mut self, changes: Vec<Change>) -> Result<()> {
        if let Some(first) = changes.first() {
            // When it was made in the mount before is not known.
            self.births.note(first.seq, Instant::now());
        }
        for change in &changes {
            if let (true, Some(value)) = (Key::is_extent(&change.key), &change.value) {
                match extent_row(value)?.blob {
                    Blob::Local(id) => self.locals.refer(id, change.seq, &change.key),
                    blob => self.name(change.seq, blob),
                }
            }
            self.last_seq = self.last_seq.max(change.seq);
            self.set(change.seq, &change.key, change.value.clone());
        }
        self.steps.push_back(Step { changes: Arc::new(changes), hold: Hold::Free });
        Ok(())
    }

    /// Finds the blob that a record names. A local piece that has meanwhile gone to the store is named by
    /// its place there.
    fn check(&self, record: Record) -> Result<Checked> {
        let Record { key, value } = record;
        let Some(value) = value else { return Ok((key, None, None)) };
        if !Key::is_extent(&key) {
            return Ok((key, Some(value.into()), None));
        }
        let mut row = extent_row(&value)?;
        match row.blob {
            Blob::Local(id) if self.locals.knows(id) => Ok((key, Some(value.into()), Some(row.blob))),
            Blob::Local(id) => {
                let place = self.locals.moved(id).ok_or_else(|| unknown_piece(id))?;
                place.resolve(&mut row);
                Ok((key, Some(row.encode().into()), Some(row.blob)))
            }
            _ => Ok((key, Some(value.into()), Some(row.blob))),
        }
    }

    fn set(&mut self, seq: Seq, key: &[u8], value: Option<Bytes>) {
        if let (None, Some(ino)) = (&value, Key::own_row_of(key)) {
            self.remove_children(ino);
            self.dead.insert(ino, seq);
        }
        if self.rows.insert(key.to_vec(), (seq, value)).is_none()
            && let Some(ino) = file_of(key)
        {
            *self.files.entry(ino).or_default() += 1;
        }
    }

    fn remove_children(&mut self, ino: Ino) {
        for prefix in Key::children_of(ino) {
            let Some(end) = prefix_end(&prefix) else { continue };
            let keys: Vec<KeyBytes> = self.rows.range(prefix..end).map(|(k, _)| k.clone()).collect();
            for key in keys {
                self.remove(&key);
            }
        }
    }

    fn remove(&mut self, key: &[u8]) {
        if self.rows.remove(key).is_some()
            && let Some(ino) = file_of(key)
            && let Some(n) = self.files.get_mut(&ino)
        {
            *n -= 1;
            if *n == 0 {
                self.files.remove(&ino);
            }
        }
    }

    fn name(&mut self, seq: Seq, blob: Blob) {
        *self.named_count.entry(blob.clone()).or_default() += 1;
        self.named.push_back((seq, blob));
    }

    /// Whether a change, or something that is open, needs this blob.
    pub fn needs(&self, blob: &Blob) -> bool {
        let moved_there = |pin: &Blob| match pin {
            Blob::Local(id) => self.locals.moved(*id).is_some_and(|place| place.blob() == *blob),
            _ => false,
        };
        self.named_count.contains_key(blob)
            || self.pins.contains_key(blob)
            || self.pins.keys().any(moved_there)
    }

    /// A local piece has gone to the store: the later changes that name it name its place from now on.
    /// Returns the place and those changes' numbers.
    pub fn land(&mut self, id: LocalId, last_seq: Seq) -> Result<Option<(Place, Vec<Seq>)>> {
        let pins = &self.pins;
        let pinned = |id| pins.contains_key(&Blob::Local(id));
        let Some((place, refs)) = self.locals.land(id, last_seq, pinned) else { return Ok(None) };
        let mut seqs = Vec::with_capacity(refs.len());
        for (seq, key) in refs {
            if let Some((_, Some(value))) = self.rows.get_mut(&key).filter(|(s, _)| *s == seq) {
                *value = place.resolve_bytes(value)?;
            }
            // What a seal has taken was resolved then.
            if let Some(value) = self.unsealed(seq).and_then(|c| c.value.as_mut()) {
                *value = place.resolve_bytes(value)?;
            }
            // Behind all that is named so far: at worst it is kept a little longer.
            let seq_now = seq.max(self.named.back().map_or(0, |(s, _)| *s));
            self.name(seq_now, place.blob());
            seqs.push(seq);
        }
        Ok(Some((place, seqs)))
    }

    /// The change `seq`, if no seal has taken it.
    fn unsealed(&mut self, seq: Seq) -> Option<&mut Change> {
        let at = self.steps.partition_point(|s| s.last() < seq);
        let changes = Arc::make_mut(&mut self.steps.get_mut(at)?.changes);
        changes.iter_mut().find(|c| c.seq == seq)
    }

    /// Changes up to `last_seq`, which are these rows, are committed and in the database.
    pub fn drop_committed<'a>(
        &mut self,
        last_seq: Seq,
        keys: impl Iterator<Item = &'a [u8]>,
    ) -> Vec<LocalId> {
        for key in keys {
            if self.rows.get(key).is_some_and(|(seq, _)| *seq <= last_seq) {
                self.remove(key);
            }
        }
        self.dead.retain(|_, seq| *seq > last_seq);
        while let Some((seq, _)) = self.named.front()
            && *seq <= last_seq
        {
            // The loop's condition has seen it.
            let Some((_, blob)) = self.named.pop_front() else { break };
            forget_one(&mut self.named_count, &blob);
        }
        self.committed_seq = last_seq;
        self.births.settle(last_seq, self.last_seq);
        self.generation += 1;
        let pins = &self.pins;
        self.locals.drop_unused(last_seq, |id| pins.contains_key(&Blob::Local(id)))
    }

    /// Forgets every uncommitted change.
    pub fn clear(&mut self) {
        let (last_seq, generation) = (self.last_seq, self.generation + 1);
        let pins = std::mem::take(&mut self.pins);
        *self = Overlay { last_seq, committed_seq: last_seq, generation, pins, ..Overlay::default() };
    }

    pub fn uncommitted(&self) -> Uncommitted {
        Uncommitted {
            rows: self.rows.len() as u64,
            bytes: self.locals.bytes(),
            files: self.files.len() as u64,
        }
    }
}

/// Takes one off a count; returns whether it was the last.
pub(super) fn forget_one(counts: &mut HashMap<Blob, u32>, blob: &Blob) -> bool {
    let Some(n) = counts.get_mut(blob) else { return false };
    *n -= 1;
    let last = *n == 0;
    if last {
        counts.remove(blob);
    }
    last
}

fn unknown_piece(id: LocalId) -> LocalError {
    LocalError::failed(format!(
        "a row names local content {}, which is not local any more; its extents have to be read again",
        id.0
    ))
}

fn file_of(key: &[u8]) -> Option<Ino> {
    Key::own_row_of(key).or_else(|| Key::child_of(key))
}
