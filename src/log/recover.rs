//! Mounting: takes the lease, loads a checkpoint, applies the log, puts the seal.

use super::error::LogError;
use super::ids::{Epoch, Slot};
use super::lease::{Lease, LeaseOptions, SessionId};
use super::source::{Checksum, RecoverySink, Seq};
use crate::store::ObjectStore;
use std::sync::Arc;

/// What the local journal claims to hold.
#[derive(Debug, Clone)]
pub struct LocalBase {
    /// Of which session.
    pub session: SessionId,
    /// The slot its committed rows are the state after.
    pub epoch: Epoch,
    /// The same.
    pub slot: Slot,
    /// Of that slot's segment; `None` when the base is a checkpoint's.
    pub checksum: Option<Checksum>,
    /// Its own slots after the base, in order, that may or may not have landed.
    pub chosen: Vec<(Epoch, Slot, Checksum, Seq)>,
}

/// What became of the local journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lineage {
    /// A new session: there is no row at all.
    New,
    /// The tree was loaded from the store; local changes are none of its history: to salvage.
    Store,
    /// The local base was brought forward by its own segments only; local changes up to `committed` (when
    /// one was) are in it now, the later ones are to be replayed.
    Local { committed: Option<Seq> },
    /// The local base was brought forward, but by another writer too: local changes are to be salvaged.
    LocalDiverged,
}

/// A session that is ours to write.
pub struct Recovered {
    /// Held.
    pub lease: Arc<Lease>,
    /// Our first slot.
    pub next_slot: Slot,
    /// What became of the local journal.
    pub lineage: Lineage,
    /// Slots applied after the checkpoint.
    pub replayed: u64,
    /// Damage found on the way that a fallback got round, for the log and `status`.
    pub warnings: Vec<String>,
}

/// Takes the session for writing and brings `sink` up to its newest committed slot.
pub async fn recover(
    _store: Arc<dyn ObjectStore>,
    _options: LeaseOptions,
    _local: Option<LocalBase>,
    _sink: &mut dyn RecoverySink,
) -> Result<Recovered, LogError> {
    todo!()
}
