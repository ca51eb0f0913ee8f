//! The journal as the log sees it, with crashes and refusals at each of its writes.
//!
//! The journal is the real one. Its thread only ever works while the world's only thread waits for it, so it
//! brings no chance of its own.

use super::life::Life;
use super::world::World;
use crate::journal::{Journal, JournalSink};
use crate::log::ids::{Blob, Epoch, Slot};
use crate::log::row::{ExtentRow, Record};
use crate::log::source::{
    Checksum, ChosenSlot, CommitSource, Committed, LocalError, LocalKind, Move, Part, RecoverySink, Sealed,
    Seq, Snapshot,
};
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Result<T> = std::result::Result<T, LocalError>;

/// A process's journal.
pub struct Local {
    pub journal: Arc<Journal>,
    pub life: Arc<Life>,
    pub world: Arc<World>,
    /// Every change up to this one is on the disk.
    durable: AtomicU64,
}

impl Local {
    pub fn new(world: &Arc<World>, life: &Arc<Life>, journal: Arc<Journal>) -> Arc<Local> {
        let durable = AtomicU64::new(journal.last_seq());
        Arc::new(Local { journal, life: life.clone(), world: world.clone(), durable })
    }

    pub fn durable(&self) -> Seq {
        self.durable.load(Ordering::Relaxed)
    }

    fn dead<T>(&self) -> Result<T> {
        Err(LocalError::failed("the process is dead"))
    }

    fn dies(&self, when: &str, what: &str) -> bool {
        let chance = self.world.faults.lock().chances.local_crash;
        let rare = match what {
            "record" | "committed" | "segment" | "bind" => 1,
            "forget_blobs" => 30,
            _ => 8,
        };
        let dies = self.world.chance(chance * rare);
        if dies {
            self.world.count(&format!("crash: {when} journal {what}"));
            self.world.note(format_args!("{} dies {when} journal {what}", self.life.host.name));
            self.life.die();
        }
        dies
    }

    /// A write that is waited for.
    pub fn write<T>(&self, what: &str, write: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.life.is_dead() || self.dies("before", what) {
            return self.dead();
        }
        let full = self.world.faults.lock().chances.local_full;
        if self.world.chance(full) {
            self.world.count("fault: journal refuses");
            return Err(LocalError::new(LocalKind::Full, "injected: the disk is full"));
        }
        let before = self.journal.last_seq();
        let result = write();
        self.durable.fetch_max(before, Ordering::Relaxed);
        if self.dies("after", what) { self.dead() } else { result }
    }

    /// A read.
    fn read<T>(&self, read: impl FnOnce() -> Result<T>) -> Result<T> {
        if self.life.is_dead() { self.dead() } else { read() }
    }
}

impl CommitSource for Local {
    fn seal(&self, max_bytes: usize) -> Result<Option<Sealed>> {
        self.read(|| self.journal.seal(max_bytes))
    }

    fn record(&self, chosen: &ChosenSlot, records: Vec<Record>) -> Result<()> {
        self.write("record", || self.journal.record(chosen, records))
    }

    fn stored(&self, _slot: Slot) {
        self.world.confirmed(&self.life);
    }

    fn committed(&self, slot: Slot) -> Result<()> {
        self.write("committed", || self.journal.committed(slot))
    }

    fn last_seq(&self) -> Seq {
        self.journal.last_seq()
    }

    fn committed_seq(&self) -> Seq {
        self.journal.committed_seq()
    }
}

impl Committed for Local {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        self.read(|| self.journal.snapshot())
    }

    fn dead_blobs(&self, floor: Slot) -> Result<Vec<Blob>> {
        self.read(|| self.journal.dead_blobs(floor))
    }

    fn dead_among(&self, blobs: &[Blob], floor: Slot) -> Result<Vec<Blob>> {
        self.read(|| self.journal.dead_among(blobs, floor))
    }

    fn live_segments(&self) -> Result<Vec<(Epoch, Slot, u64)>> {
        self.read(|| self.journal.live_segments())
    }

    fn live_bytes(&self, blob: &Blob) -> Result<u64> {
        self.read(|| self.journal.live_bytes(blob))
    }

    fn seen_blobs(&self, blobs: &[Blob]) -> Result<()> {
        self.write("seen_blobs", || self.journal.seen_blobs(blobs))
    }

    fn forget_blobs(&self, blobs: &[Blob]) -> Result<()> {
        self.write("forget_blobs", || self.journal.forget_blobs(blobs))
    }

    fn forget_changes(&self, slot: Slot) -> Result<()> {
        self.write("forget_changes", || self.journal.forget_changes(slot))
    }

    fn piece(&self, blob: &Blob, offset: u64, len: u32) -> Result<Option<Bytes>> {
        self.read(|| Committed::piece(self.journal.as_ref(), blob, offset, len))
    }

    fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes) {
        self.journal.keep_piece(extent, bytes);
    }

    fn relocate(&self, moves: &[Move]) -> Result<usize> {
        self.write("relocate", || Committed::relocate(self.journal.as_ref(), moves))
    }
}

/// Its sink.
pub struct Sink {
    local: Arc<Local>,
    inner: JournalSink,
}

impl Sink {
    pub fn new(local: &Arc<Local>) -> Sink {
        Sink { local: local.clone(), inner: local.journal.sink() }
    }
}

impl RecoverySink for Sink {
    fn reset(&mut self) -> Result<()> {
        self.local.write("reset", || self.inner.reset())
    }

    fn rows(&mut self, part: Part, rows: Vec<Record>) -> Result<()> {
        self.local.write("rows", || self.inner.rows(part, rows))
    }

    fn segment(&mut self, epoch: Epoch, slot: Slot, checksum: &Checksum, records: Vec<Record>) -> Result<()> {
        self.local.write("segment", || self.inner.segment(epoch, slot, checksum, records))
    }

    fn keep(&mut self, extent: &ExtentRow, bytes: &Bytes) {
        self.inner.keep(extent, bytes);
    }

    fn checkpoint_loaded(&mut self, epoch: Epoch, slot: Slot, image: Slot) -> Result<()> {
        self.local.write("checkpoint_loaded", || self.inner.checkpoint_loaded(epoch, slot, image))
    }
}
