//! Mounting: takes the lease, loads a checkpoint, applies the log, puts the seal.
//!
//! Invariants:
//! - nothing is written before the lease's format is known, and nothing of ours before the seal has landed;
//! - the lease is taken before a checkpoint is chosen, so that the floor cannot rise under the reader;
//! - segments are applied in slot order, whole, each after its checksum was verified;
//! - what is missing or damaged is an error or a warning, never silently less data.

mod base;
mod enter;
mod seal;
mod walk;

pub(super) use base::is_unreadable;
pub use enter::abort_uploads;
pub(super) use walk::{Fetched, fetch, hand_over};

use super::checkpoint::Name;
use super::error::LogError;
use super::ids::{Blob, Epoch, SessionId, Slot};
use super::lease::{Ending, Lease, LeaseOptions};
use super::segment::Segment;
use super::source::{Checksum, RecoverySink, Seq};
use crate::store::ObjectStore;
use base::Start;
use bytes::Bytes;
use enter::Entered;
use std::sync::Arc;
use walk::Walk;

/// What the local journal claims to hold.
#[derive(Debug, Clone)]
pub struct LocalBase {
    /// Of which session.
    pub session: SessionId,
    /// The slot its committed rows are the state after; slot 0 is the empty tree before the first commit.
    pub epoch: Epoch,
    /// The same.
    pub slot: Slot,
    /// Of that slot's segment; `None` when the base is a checkpoint's.
    pub checksum: Option<Checksum>,
    /// Its own slots after the base, in order, that may or may not have landed.
    pub chosen: Vec<(Epoch, Slot, Checksum, Seq)>,
    /// The last change that is in the committed rows by slots of its own that an earlier recovery found, and did not
    /// get to settle.
    pub landed: Option<Seq>,
    /// An earlier recovery found slots of another writer, which the committed rows hold since, and did not get to
    /// settle what becomes of the local changes.
    pub diverged: bool,
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
    /// Held, and being renewed.
    pub lease: Arc<Lease>,
    /// Our first slot.
    pub next_slot: Slot,
    /// What became of the local journal.
    pub lineage: Lineage,
    /// Who held the session before, and as which epoch; `None` where there was no lease.
    pub before: Option<(Epoch, String)>,
    /// Slots applied after the checkpoint.
    pub replayed: u64,
    /// The newest checkpoint there is.
    pub checkpoint: Option<Name>,
    /// Damage found on the way that a fallback got round, for the log and `status`.
    pub warnings: Vec<String>,
    /// Whole objects with content that came with the rows: the newest large segments, some 32 MiB at most.
    pub objects: Vec<(Blob, Bytes)>,
}

/// Takes the session for writing and brings `sink` up to its newest committed slot. After an error the lease
/// is given back, if it was taken.
pub async fn recover(
    store: Arc<dyn ObjectStore>,
    options: LeaseOptions,
    local: Option<LocalBase>,
    sink: &mut dyn RecoverySink,
) -> Result<Recovered, LogError> {
    let entered = enter::enter(&store, &options).await?;
    let lease = entered.lease.clone();
    lease.keep(&tokio::runtime::Handle::current());
    let brought_up = match entered.ending {
        Some(ending) => Err(LogError::Ending { command: ending.command() }),
        None => bring_up(&store, entered, local, sink, &options).await,
    };
    match brought_up {
        Ok(recovered) => match lease.hold().error() {
            None => Ok(recovered),
            Some(error) => Err(error),
        },
        Err(error) => {
            if let Err(and) = lease.release().await {
                tracing::warn!(error = %and, "the lease could not be given back after a failed mount");
            }
            Err(error)
        }
    }
}

/// Takes the session's lease without looking at its tree; the lease, the epoch that it named before, and the
/// removal that was begun.
pub(super) async fn enter(
    store: &Arc<dyn ObjectStore>,
    options: &LeaseOptions,
) -> Result<(Arc<Lease>, Option<Epoch>, Option<Ending>), LogError> {
    let entered = enter::enter(store, options).await?;
    Ok((entered.lease, entered.before, entered.ending))
}

/// Reads the segment or seal at a slot; `None` where there is none.
pub async fn read_slot(
    store: &dyn ObjectStore,
    epoch: Epoch,
    slot: Slot,
) -> Result<Option<Segment>, LogError> {
    match fetch(store, epoch, slot).await? {
        Fetched::Segment(segment) => Ok(Some(*segment)),
        Fetched::Absent => Ok(None),
    }
}

async fn bring_up(
    store: &Arc<dyn ObjectStore>,
    entered: Entered,
    local: Option<LocalBase>,
    sink: &mut dyn RecoverySink,
    options: &LeaseOptions,
) -> Result<Recovered, LogError> {
    let lease = entered.lease.clone();
    let before = entered.before.zip(entered.holder.clone());
    if entered.fresh {
        super::blocking::blocking(|| sink.reset())?;
        let (lineage, checkpoint, warnings) = (Lineage::New, None, Vec::new());
        return Ok(Recovered {
            lease,
            next_slot: Slot(1),
            lineage,
            before,
            replayed: 0,
            checkpoint,
            warnings,
            objects: Vec::new(),
        });
    }
    let Start { at, listed, local_used, loaded, warnings } =
        base::start(store, &entered, local.as_ref(), sink).await?;
    let local = local.filter(|_| local_used);
    let mut walk = Walk::new(store.clone(), &entered, (at, listed), local, options.clock.wall_ms());
    walk.walk_to_the_end(sink).await?;
    let lineage = match (local_used, walk.foreign) {
        (true, false) => Lineage::Local { committed: walk.committed },
        (true, true) => Lineage::LocalDiverged,
        (false, _) if !loaded && walk.replayed == 0 => Lineage::New,
        (false, _) => Lineage::Store,
    };
    let checkpoint = entered.names.iter().max().copied();
    let (next_slot, replayed, objects) = (walk.at.1, walk.replayed, walk.objects.into());
    Ok(Recovered { lease, next_slot, lineage, before, replayed, checkpoint, warnings, objects })
}

#[cfg(test)]
mod tests;
