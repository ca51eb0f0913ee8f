//! Small contents that no committed slot carries yet, and where those went that one does.
//!
//! Invariant: a change never names a local piece that is not known here, so its bytes can always be had.

use super::Result;
use super::base::extent_row;
use crate::log::ids::{Blob, Epoch, LocalId, Slot};
use crate::log::row::{ExtentRow, KeyBytes, Row};
use crate::log::source::Seq;
use bytes::Bytes;
use std::collections::{HashMap, VecDeque};

/// How many pieces that went to the store are remembered by their local number, for rows that were read
/// before they did and are applied after.
const REMEMBERED: usize = 1 << 16;

/// Where a piece lies in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub epoch: Epoch,
    pub slot: Slot,
    pub off: u64,
}

impl Place {
    pub fn blob(&self) -> Blob {
        Blob::Segment { epoch: self.epoch, slot: self.slot }
    }

    /// `row` with its piece here.
    pub fn resolve(&self, row: &mut ExtentRow) {
        row.blob = self.blob();
        row.piece_off = self.off;
    }

    /// The same, of an encoded row.
    pub fn resolve_bytes(&self, row: &[u8]) -> Result<Bytes> {
        let mut row = extent_row(row)?;
        self.resolve(&mut row);
        Ok(row.encode().into())
    }
}

struct Local {
    len: u64,
    /// The changes that name it.
    refs: Vec<(Seq, KeyBytes)>,
    /// Set once a slot with it is chosen.
    place: Option<Place>,
    /// Some change that is not committed names it, or is about to: not so where only something open reads it.
    owed: bool,
}

#[derive(Default)]
pub(super) struct Locals {
    pieces: HashMap<LocalId, Local>,
    /// Every reference, in the order of the changes.
    order: VecDeque<(Seq, LocalId)>,
    moved: HashMap<LocalId, Place>,
    moved_order: VecDeque<LocalId>,
    /// Of the owed ones.
    bytes: u64,
}

impl Locals {
    pub fn add(&mut self, id: LocalId, len: u64) {
        self.pieces.insert(id, Local { len, refs: Vec::new(), place: None, owed: true });
        self.bytes += len;
    }

    pub fn knows(&self, id: LocalId) -> bool {
        self.pieces.contains_key(&id)
    }

    /// Bytes that the store is still to get.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Where a committed slot has put it.
    pub fn moved(&self, id: LocalId) -> Option<Place> {
        self.moved.get(&id).copied()
    }

    /// Where a chosen slot, committed or not, has put it.
    pub fn chosen(&self, id: LocalId) -> Option<Place> {
        self.moved(id).or_else(|| self.pieces.get(&id)?.place)
    }

    /// Notes that change `seq` of row `key` names it.
    pub fn refer(&mut self, id: LocalId, seq: Seq, key: &[u8]) {
        if let Some(local) = self.pieces.get_mut(&id) {
            local.refs.push((seq, key.to_vec()));
            if !std::mem::replace(&mut local.owed, true) {
                self.bytes += local.len;
            }
            self.order.push_back((seq, id));
        }
    }

    /// A slot that carries it is chosen.
    pub fn place(&mut self, id: LocalId, place: Place) {
        if let Some(local) = self.pieces.get_mut(&id) {
            local.place = Some(place);
        }
    }

    /// The slot that carries it is committed: from now on rows name its place. Returns the later changes
    /// that still name it by its number.
    /// `keep` tells whose place must not be forgotten with time.
    pub fn land(
        &mut self,
        id: LocalId,
        last_seq: Seq,
        keep: impl Fn(LocalId) -> bool,
    ) -> Option<(Place, Vec<(Seq, KeyBytes)>)> {
        let local = self.pieces.get(&id)?;
        let place = local.place?;
        let mut local = self.forget(id)?;
        local.refs.retain(|(seq, _)| *seq > last_seq);
        self.moved.insert(id, place);
        self.moved_order.push_back(id);
        if self.moved_order.len() > REMEMBERED
            && let Some(old) = self.moved_order.pop_front()
            && !keep(old)
        {
            self.moved.remove(&old);
        }
        Some((place, local.refs))
    }

    /// Changes up to `last_seq` are committed: forgets the pieces that only they named and no slot carries
    /// (their rows were overwritten before they were sealed), but for those that `keep` holds on to.
    pub fn drop_unused(&mut self, last_seq: Seq, keep: impl Fn(LocalId) -> bool) -> Vec<LocalId> {
        let mut dropped = Vec::new();
        while let Some(&(seq, id)) = self.order.front()
            && seq <= last_seq
        {
            self.order.pop_front();
            let Some(local) = self.pieces.get_mut(&id) else { continue };
            let named_later = local.refs.iter().any(|(seq, _)| *seq > last_seq);
            if local.place.is_some() || named_later {
                continue;
            }
            if !keep(id) {
                self.forget(id);
                dropped.push(id);
            } else if std::mem::replace(&mut local.owed, false) {
                self.bytes -= local.len;
            }
        }
        dropped
    }

    /// Forgets a piece that nothing holds on to any more, if no change names it after `committed`.
    pub fn unpin(&mut self, id: LocalId, committed: Seq) -> bool {
        let unused = |l: &Local| l.place.is_none() && l.refs.iter().all(|(seq, _)| *seq <= committed);
        // One that was never named is on its way into its first row.
        match self.pieces.get(&id) {
            Some(local) if !local.refs.is_empty() && unused(local) => self.forget(id).is_some(),
            _ => false,
        }
    }

    /// The change that was to name it is not made: forgets it, unless another one has named it.
    pub fn abandon(&mut self, id: LocalId) -> bool {
        let unnamed = self.pieces.get(&id).is_some_and(|local| local.refs.is_empty());
        unnamed && self.forget(id).is_some()
    }

    fn forget(&mut self, id: LocalId) -> Option<Local> {
        let local = self.pieces.remove(&id)?;
        if local.owed {
            self.bytes -= local.len;
        }
        Some(local)
    }
}
