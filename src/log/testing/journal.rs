//! A journal in memory: changes with numbers, committed rows, and what a crash leaves of them.

use crate::log::ids::{Epoch, SessionId, Slot};
use crate::log::recover::{Lineage, LocalBase};
use crate::log::row::{ExtentRow, Key, Record};
use crate::log::source::{Checksum, ChosenSlot, CommitSource, LocalError, Part, RecoverySink, Sealed, Seq};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

/// Rows by key.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone, Default)]
struct State {
    rows: Rows,
    base: Option<(Epoch, Slot, Option<Checksum>)>,
    /// Not committed, in order.
    changes: VecDeque<(Seq, Record)>,
    last_seq: Seq,
    committed_seq: Seq,
    sealed_seq: Seq,
    chosen: VecDeque<(ChosenSlot, Vec<Record>)>,
    refuse: Option<LocalError>,
}

/// A journal in memory.
#[derive(Debug, Clone, Default)]
pub struct FakeJournal(Arc<Mutex<State>>);

impl FakeJournal {
    pub fn new() -> FakeJournal {
        FakeJournal::default()
    }

    /// Sets the meta row `name`; returns the change's number.
    pub fn set(&self, name: &str, value: &str) -> Seq {
        let key = Key::Meta { name: name.as_bytes().to_vec() };
        let mut state = self.0.lock();
        state.last_seq += 1;
        let seq = state.last_seq;
        state.changes.push_back((seq, Record::put_raw(&key, value.as_bytes())));
        seq
    }

    /// The committed value of the meta row `name`.
    pub fn committed_value(&self, name: &str) -> Option<String> {
        let key = Key::Meta { name: name.as_bytes().to_vec() }.encode();
        self.0.lock().rows.get(&key).map(|v| String::from_utf8_lossy(v).into_owned())
    }

    pub fn uncommitted(&self) -> usize {
        self.0.lock().changes.len()
    }

    /// What seal, record and committed answer from now on.
    pub fn refuse(&self, error: Option<LocalError>) {
        self.0.lock().refuse = error;
    }

    /// An independent copy, as a snapshot of a machine is.
    pub fn fork(&self) -> FakeJournal {
        FakeJournal(Arc::new(Mutex::new(self.0.lock().clone())))
    }

    /// What a restart finds.
    pub fn local(&self, session: SessionId) -> Option<LocalBase> {
        let state = self.0.lock();
        let (epoch, slot, checksum) = state.base?;
        let chosen = state.chosen.iter().map(|(c, _)| (c.epoch, c.slot, c.checksum, c.last_seq)).collect();
        Some(LocalBase { session, epoch, slot, checksum, chosen, landed: None, diverged: false })
    }

    /// What a mount does with the changes that the old process left.
    pub fn settle(&self, lineage: &Lineage) {
        let mut state = self.0.lock();
        state.chosen.clear();
        match lineage {
            Lineage::Local { committed } => {
                let committed = committed.unwrap_or(state.committed_seq);
                state.changes.retain(|(seq, _)| *seq > committed);
                state.committed_seq = state.committed_seq.max(committed);
            }
            Lineage::New | Lineage::Store | Lineage::LocalDiverged => {
                state.changes.clear();
                state.committed_seq = state.last_seq;
            }
        }
        state.sealed_seq = state.committed_seq;
    }

    /// As recovery's sink.
    pub fn sink(&self) -> FakeSink {
        FakeSink(self.clone())
    }
}

fn apply(rows: &mut Rows, records: Vec<Record>) {
    for record in records {
        match record.value {
            Some(value) => rows.insert(record.key, value),
            None => rows.remove(&record.key),
        };
    }
}

impl CommitSource for FakeJournal {
    fn seal(&self, _max_bytes: usize) -> Result<Option<Sealed>, LocalError> {
        let mut state = self.0.lock();
        if let Some(error) = &state.refuse {
            return Err(error.clone());
        }
        let sealed_seq = state.sealed_seq;
        let newest: BTreeMap<Vec<u8>, Record> = state
            .changes
            .iter()
            .filter(|(seq, _)| *seq > sealed_seq)
            .map(|(_, record)| (record.key.clone(), record.clone()))
            .collect();
        if newest.is_empty() {
            return Ok(None);
        }
        state.sealed_seq = state.last_seq;
        let records = newest.into_values().collect();
        Ok(Some(Sealed { last_seq: state.last_seq, records, pieces: Vec::new() }))
    }

    fn record(&self, chosen: &ChosenSlot, records: Vec<Record>) -> Result<(), LocalError> {
        let mut state = self.0.lock();
        if let Some(error) = &state.refuse {
            return Err(error.clone());
        }
        state.chosen.push_back((chosen.clone(), records));
        Ok(())
    }

    fn committed(&self, slot: Slot) -> Result<(), LocalError> {
        let mut state = self.0.lock();
        if let Some(error) = &state.refuse {
            return Err(error.clone());
        }
        let (chosen, records) = state.chosen.pop_front().expect("slots are committed in order");
        assert_eq!(chosen.slot, slot, "slots are committed in order");
        apply(&mut state.rows, records);
        state.base = Some((chosen.epoch, chosen.slot, Some(chosen.checksum)));
        state.committed_seq = chosen.last_seq;
        state.changes.retain(|(seq, _)| *seq > chosen.last_seq);
        Ok(())
    }

    fn last_seq(&self) -> Seq {
        self.0.lock().last_seq
    }

    fn committed_seq(&self) -> Seq {
        self.0.lock().committed_seq
    }
}

/// The sink that brings a [`FakeJournal`] forward.
pub struct FakeSink(FakeJournal);

impl RecoverySink for FakeSink {
    fn reset(&mut self) -> Result<(), LocalError> {
        let mut state = self.0.0.lock();
        state.rows.clear();
        state.base = None;
        Ok(())
    }

    fn rows(&mut self, _part: Part, rows: Vec<Record>) -> Result<(), LocalError> {
        apply(&mut self.0.0.lock().rows, rows);
        Ok(())
    }

    fn segment(
        &mut self,
        epoch: Epoch,
        slot: Slot,
        checksum: &Checksum,
        records: Vec<Record>,
    ) -> Result<(), LocalError> {
        let mut state = self.0.0.lock();
        apply(&mut state.rows, records);
        state.base = Some((epoch, slot, Some(*checksum)));
        Ok(())
    }

    fn keep(&mut self, _extent: &ExtentRow, _bytes: &Bytes) {}

    fn checkpoint_loaded(&mut self, epoch: Epoch, slot: Slot, _image: Slot) -> Result<(), LocalError> {
        self.0.0.lock().base = Some((epoch, slot, None));
        Ok(())
    }
}
