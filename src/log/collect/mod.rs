//! Collection: raises the floor, and deletes what nobody can need any more at a floor that was confirmed.
//!
//! The floor is the newest state that can be loaded without the newest image: if any one object of the newest
//! checkpoint is damaged, a mount falls back to the floor's checkpoint and the log after it. What may go at a
//! confirmed floor:
//! - checkpoints of earlier states, unless a later one stands on them, and deltas that two later ones on the
//!   newest image replace;
//! - segments up to the floor, and data objects, that no row at the floor or later takes content from.
//!
//! Invariants:
//! - the floor rises only by If-Match on the lease, so taking the lease freezes it; whoever loads a
//!   checkpoint at or above the floor finds all that the floor's log and rows name;
//! - a seal is never deleted;
//! - each deletion stands for itself: a crash between any two leaves only what the next sweep finds again;
//! - the lease was surely ours when a deletion was sent. One that is late is harmless all the same: names are
//!   never used twice, and what is dead at a floor stays so in every later writer's history.

mod log;
#[cfg(test)]
mod tests;

use super::LogError;
use super::checkpoint::{self, Name, Plan, choose};
use super::ids::{Blob, Epoch, Slot, keys};
use super::lease::Lease;
use super::rules::{Rule, holds};
use super::source::Committed;
use crate::store::{ObjectStore, Pages};
use std::collections::HashSet;
use std::sync::Arc;

/// Keys of one request.
const BATCH: usize = 1000;
/// Deltas on the newest image that are kept.
const DELTAS: usize = 2;

/// What a sweep deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Swept {
    /// Images and deltas.
    pub checkpoints: u64,
    /// Segments.
    pub segments: u64,
    /// Blobs and packs.
    pub data: u64,
}

/// How far the floor may be raised, given the checkpoints there are: the newest state that does not need the
/// newest image. `None` while there is only one image: then the log is kept from its beginning.
pub fn floor_of(names: &[Name]) -> Option<Slot> {
    Some(fallback(names)?.target().slot)
}

fn fallback(names: &[Name]) -> Option<Plan> {
    let plans = choose(names, Slot(0));
    if !holds(Rule::FloorIsFallback) {
        return plans.into_iter().next();
    }
    let newest = plans.first()?.image;
    plans.into_iter().find(|plan| plan.image != newest)
}

/// Raises the floor as far as it may go with these checkpoints; returns it as it is then.
pub async fn raise_floor(names: &[Name], lease: &Lease) -> Result<Slot, LogError> {
    if let Some(floor) = floor_of(names).filter(|floor| *floor > lease.floor()) {
        lease.raise_floor(floor).await?;
    }
    Ok(lease.floor())
}

/// The checkpoints that nobody needs any more at `floor`.
fn doomed(names: &[Name], floor: Slot) -> Vec<Name> {
    let plans = choose(names, floor);
    let mut kept: HashSet<Name> = HashSet::new();
    let newest = plans.first().map(|plan| plan.image);
    let mut deltas = 0;
    for plan in plans {
        if plan.delta.is_some() && Some(plan.image) == newest {
            deltas += 1;
            if deltas > DELTAS {
                continue;
            }
        }
        kept.insert(plan.image);
        kept.extend(plan.delta);
    }
    // A delta without its image, from the floor on, is left alone: it may be that the image was not listed.
    let goes = |name: &&Name| !kept.contains(*name) && (name.slot < floor || name.base.map(image) == newest);
    names.iter().filter(goes).copied().collect()
}

fn image((slot, epoch): (Slot, Epoch)) -> Name {
    Name::image(slot, epoch)
}

/// What a sweep works with.
pub struct Sweep<'a> {
    /// The session's.
    pub store: &'a Arc<dyn ObjectStore>,
    /// Knows what is dead.
    pub committed: &'a Arc<dyn Committed>,
    /// Our hold.
    pub lease: &'a Lease,
    /// A confirmed floor; whoever reads the session without a lease has had the time to notice it.
    pub floor: Slot,
}

impl Sweep<'_> {
    /// Deletes what may go. After an error the next sweep finds the rest.
    pub async fn run(&self) -> Result<Swept, LogError> {
        let names = checkpoint::list(self.store.as_ref()).await?;
        let checkpoints: Vec<String> = doomed(&names, self.floor).iter().map(Name::key).collect();
        let checkpoints = self.delete(checkpoints).await?.len() as u64;
        let segments = self.segments().await?;
        let data = self.data().await?;
        Ok(Swept { checkpoints, segments, data })
    }

    async fn segments(&self) -> Result<u64, LogError> {
        let blob = |old: &log::Old| Blob::Segment { epoch: old.epoch, slot: old.slot };
        let mut old = log::up_to(self.store.as_ref(), self.lease.epoch(), self.floor).await?;
        let dead = self.dead_among(old.iter().map(blob).collect()).await?;
        let dead: HashSet<Blob> = dead.into_iter().collect();
        old.retain(|old| dead.contains(&blob(old)));
        let segments = log::without_seals(self.store.as_ref(), old).await?;
        let segment = |(epoch, slot)| Blob::Segment { epoch, slot };
        self.delete_blobs(segments.into_iter().map(segment).collect()).await
    }

    async fn data(&self) -> Result<u64, LogError> {
        let (committed, floor) = (self.committed.clone(), self.floor);
        let dead = blocking(move || committed.dead_blobs(floor)).await?;
        let data: Vec<Blob> = dead.into_iter().filter(|blob| matches!(blob, Blob::Data { .. })).collect();
        self.delete_blobs(data).await
    }

    async fn dead_among(&self, blobs: Vec<Blob>) -> Result<Vec<Blob>, LogError> {
        let (committed, floor) = (self.committed.clone(), self.floor);
        blocking(move || committed.dead_among(&blobs, floor)).await
    }

    async fn delete_blobs(&self, blobs: Vec<Blob>) -> Result<u64, LogError> {
        let mut deleted = 0;
        for batch in blobs.chunks(BATCH) {
            let named: Vec<(String, Blob)> =
                batch.iter().filter_map(|b| Some((key_of(b)?, b.clone()))).collect();
            let gone = self.delete(named.iter().map(|(key, _)| key.clone()).collect()).await?;
            let gone: Vec<Blob> =
                named.into_iter().filter(|(key, _)| gone.contains(key)).map(|(_, blob)| blob).collect();
            deleted += gone.len() as u64;
            let committed = self.committed.clone();
            blocking(move || committed.forget_blobs(&gone)).await?;
        }
        Ok(deleted)
    }

    /// Deletes objects; returns those that are gone.
    async fn delete(&self, keys: Vec<String>) -> Result<HashSet<String>, LogError> {
        let mut gone = HashSet::new();
        for batch in keys.chunks(BATCH) {
            self.lease.ensure().await?;
            let failed = self.store.delete_many(batch).await?;
            gone.extend(batch.iter().cloned());
            for (key, error) in failed {
                tracing::warn!(key, %error, "garbage could not be deleted; it is tried again");
                gone.remove(&key);
            }
        }
        Ok(gone)
    }
}

/// Makes data objects of earlier writers known that nothing knows, so that a later sweep deletes them:
/// content whose capture or pack never became rows. Returns the size of every data object listed.
pub async fn find_orphans(
    store: &dyn ObjectStore,
    committed: &Arc<dyn Committed>,
    ours: Epoch,
) -> Result<Vec<(Blob, u64)>, LogError> {
    let (mut all, mut pages) = (Vec::new(), Pages::of(store, keys::DATA, None));
    while let Some(objects) = pages.next().await? {
        let blob = |key: &str| keys::parse_data(key).map(|(epoch, n)| Blob::Data { epoch, n });
        let listed: Vec<(Blob, u64)> = objects.iter().filter_map(|o| Some((blob(&o.key)?, o.size))).collect();
        // What this writer makes may be on its way into a row, and what a successor makes is not ours.
        let earlier = |blob: &&Blob| match blob {
            Blob::Data { epoch, .. } => epoch.counter < ours.counter || !holds(Rule::EarlierBlobsOnly),
            _ => false,
        };
        let candidates: Vec<Blob> = listed.iter().map(|(blob, _)| blob).filter(earlier).cloned().collect();
        let committed = committed.clone();
        blocking(move || committed.seen_blobs(&candidates)).await?;
        all.extend(listed);
    }
    Ok(all)
}

fn key_of(blob: &Blob) -> Option<String> {
    match blob {
        Blob::Segment { epoch, slot } => Some(keys::segment(*epoch, *slot)),
        Blob::Data { epoch, n } => Some(keys::data(*epoch, *n)),
        Blob::Object { .. } | Blob::Local(_) => None,
    }
}

async fn blocking<T: Send + 'static>(
    f: impl FnOnce() -> Result<T, super::source::LocalError> + Send + 'static,
) -> Result<T, LogError> {
    let ran = super::blocking::aside(f).await;
    let died = |e| super::source::LocalError::failed(format!("asking the journal what is dead: {e}"));
    Ok(ran.map_err(died)??)
}
