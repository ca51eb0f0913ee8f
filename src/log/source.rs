//! What the log asks of whoever holds the changes: the seam between this room and the journal above it.
//!
//! Invariants of an implementation:
//! - changes have numbers ([`Seq`]) in the order they happened; [`CommitSource::seal`] takes a prefix of them;
//! - what [`CommitSource::record`] was told is in the local database before it returns;
//! - the committed rows change only through [`CommitSource::committed`], in slot order.
//!
//! What the log owes it: a seal is recorded before the next one is taken; a call that failed is made again
//! with the same arguments, or the slot is given up for good; slots are committed in order.

use super::ids::{Blob, Epoch, LocalId, Slot};
use super::row::{ExtentRow, KeyBytes, Record};
use bytes::Bytes;
use std::fmt::Debug;

/// The number of a change of this journal; rises by one with each changed row.
pub type Seq = u64;

/// What names a segment's bytes, all of them: BLAKE3 of everything before it, the object's last 32 bytes.
pub type Checksum = [u8; 32];

/// What kind of local failure, by what the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LocalKind {
    /// The local disk is full; nothing is lost, and it goes on once there is space.
    Full,
    /// This process has no descriptor left; nothing is lost, and it goes on once there is one.
    Descriptors,
    /// The database cannot be read; the store is the truth, so it may be set aside.
    Damaged,
    /// Written by a newer cwdfs.
    Newer,
    /// Another process has this folder.
    Busy,
    /// Anything else: the disk's own errors, a row that cannot be read.
    Failed,
}

/// A failure of the local disk or database below the journal.
#[derive(Debug, Clone, thiserror::Error)]
#[error("local journal: {message}")]
pub struct LocalError {
    /// By what the caller can do.
    pub kind: LocalKind,
    /// What happened, to what.
    pub message: String,
}

impl LocalError {
    /// A failure of `kind`.
    pub fn new(kind: LocalKind, message: impl Into<String>) -> LocalError {
        LocalError { kind, message: message.into() }
    }

    /// A failure that has no better kind.
    pub fn failed(message: impl Into<String>) -> LocalError {
        LocalError::new(LocalKind::Failed, message)
    }
}

/// Changes taken for the next slot: every row as of `last_seq`, each once.
#[derive(Debug, Clone, Default)]
pub struct Sealed {
    /// The last change that is in it.
    pub last_seq: Seq,
    /// Upserts and tombstones. Extents may name [`Blob::Local`] pieces that are in `pieces`; those that an
    /// earlier slot carries already name its segment.
    pub records: Vec<Record>,
    /// The bytes of the local pieces that this slot is the first to carry.
    pub pieces: Vec<(LocalId, Bytes)>,
}

/// A slot whose bytes are chosen.
#[derive(Debug, Clone)]
pub struct ChosenSlot {
    /// Its writer.
    pub epoch: Epoch,
    /// Its number.
    pub slot: Slot,
    /// Of the whole object.
    pub checksum: Checksum,
    /// The last change in it.
    pub last_seq: Seq,
    /// Where in the object each local piece lies.
    pub placed: Vec<(LocalId, u64)>,
}

/// The committer's side of the journal.
pub trait CommitSource: Send + Sync + 'static {
    /// Takes everything changed since the last seal, up to the first change that has to wait for a capture;
    /// `None` when there is nothing to take. Stops early past `max_bytes` of pieces and encoded rows
    /// together, between two applied groups of changes.
    fn seal(&self, max_bytes: usize) -> Result<Option<Sealed>, LocalError>;

    /// Notes a chosen slot, before its first PUT. Blocks until it is in the database. `records` are the
    /// sealed records with every local piece resolved to its place in this segment.
    fn record(&self, chosen: &ChosenSlot, records: Vec<Record>) -> Result<(), LocalError>;

    /// `slot` is surely committed, and callers hear of it next; [`CommitSource::committed`] follows. For who watches.
    fn stored(&self, _slot: Slot) {}

    /// The slot is committed: its records become the committed rows and the base moves to it.
    fn committed(&self, slot: Slot) -> Result<(), LocalError>;

    /// The number of the newest change.
    fn last_seq(&self) -> Seq;

    /// Every change up to this one is known to be committed; what [`CommitSource::seal`] takes first comes
    /// after it. Read once, when the committer starts.
    fn committed_seq(&self) -> Seq;
}

/// What a row of a checkpoint comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The image: every row of the tree at its slot.
    Image,
    /// The delta: what has changed since the image's slot.
    Delta,
}

/// What recovery finds out about the rows, in order; it ends in the journal's base.
pub trait RecoverySink: Send {
    /// The tree comes from a checkpoint: forget the committed rows held so far.
    fn reset(&mut self) -> Result<(), LocalError>;

    /// Rows of the checkpoint's image, in key order, then of its delta (which may hold tombstones).
    fn rows(&mut self, part: Part, rows: Vec<Record>) -> Result<(), LocalError>;

    /// The whole segment at `slot` is committed; these are its records. Applied strictly in slot order.
    fn segment(
        &mut self,
        epoch: Epoch,
        slot: Slot,
        checksum: &Checksum,
        records: Vec<Record>,
    ) -> Result<(), LocalError>;

    /// A piece's bytes came along with the segment that was applied last; to be kept or not.
    fn keep(&mut self, extent: &ExtentRow, bytes: &Bytes);

    /// The checkpoint that was loaded holds the tree after `slot`; its image is of slot `image`.
    fn checkpoint_loaded(&mut self, epoch: Epoch, slot: Slot, image: Slot) -> Result<(), LocalError>;
}

/// A frozen view of the committed rows.
pub trait Snapshot: Send {
    /// The slot that these rows are the state after, and its epoch.
    fn base(&self) -> (Epoch, Slot);

    /// The oldest `since` that [`Snapshot::rows`] can answer.
    fn changes_from(&self) -> Slot;

    /// One row's value.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, LocalError>;

    /// Up to `limit` rows with `from <= key < end` in key order.
    fn range(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(KeyBytes, Vec<u8>)>, LocalError>;

    /// Up to `limit` rows after `after` in key order. With `since`, only those that changed in a slot later
    /// than it, tombstones included.
    fn rows(
        &self,
        after: Option<&[u8]>,
        since: Option<Slot>,
        limit: usize,
    ) -> Result<Vec<Record>, LocalError>;
}

/// What checkpoints, packing and collection ask.
pub trait Committed: Send + Sync + 'static {
    /// A snapshot of the committed rows, from one read transaction.
    fn snapshot(&self) -> Result<Box<dyn Snapshot>, LocalError>;

    /// Blobs no committed row at `floor` or later, no uncommitted change, and no open inode refers to.
    fn dead_blobs(&self, floor: Slot) -> Result<Vec<Blob>, LocalError>;

    /// Those of `blobs` that no committed row at `floor` or later, no uncommitted change, and no open inode
    /// refers to. A segment that nothing here knows never had content that a row took.
    fn dead_among(&self, blobs: &[Blob], floor: Slot) -> Result<Vec<Blob>, LocalError>;

    /// The segments that committed rows still take content from, each with those bytes.
    fn live_segments(&self) -> Result<Vec<(Epoch, Slot, u64)>, LocalError>;

    /// Bytes of `blob` that rows still refer to, at the floor or later; 0 for an unknown blob.
    fn live_bytes(&self, blob: &Blob) -> Result<u64, LocalError>;

    /// Blobs that were seen in the store. Those that nothing here knows are taken as dead since the base's
    /// slot; the caller leaves out what may be on its way (blobs of this epoch, and of later ones).
    fn seen_blobs(&self, blobs: &[Blob]) -> Result<(), LocalError>;

    /// These dead blobs are gone from the store.
    fn forget_blobs(&self, blobs: &[Blob]) -> Result<(), LocalError>;

    /// An image of the tree after `slot` is in the store: what changed up to it need not be told apart again,
    /// but for what changed since the oldest segment with content was made, which packing asks for.
    fn forget_changes(&self, slot: Slot) -> Result<(), LocalError>;

    /// A piece's bytes, where the journal still holds them.
    fn piece(&self, blob: &Blob, offset: u64, len: u32) -> Result<Option<Bytes>, LocalError>;

    /// Keeps a piece that lies in the store close, as long as there is room.
    fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes);

    /// Changes rows as uncommitted changes, each move whole or not at all: only if all that it expects is
    /// still so. Returns how many moves were made.
    fn relocate(&self, moves: &[Move]) -> Result<usize, LocalError>;
}

/// Rows that get other values because their content lies elsewhere now.
#[derive(Debug, Clone, Default)]
pub struct Move {
    /// The rows, and what they were when the content was read.
    pub expected: Vec<(KeyBytes, Vec<u8>)>,
    /// What becomes of them.
    pub records: Vec<Record>,
}
