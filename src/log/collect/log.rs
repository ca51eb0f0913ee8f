//! Which objects of the log are segments up to a slot, told apart from seals.

use crate::log::LogError;
use crate::log::ids::{Epoch, Slot, keys};
use crate::log::rules::{Rule, holds};
use crate::log::segment::{self, Kind};
use crate::store::{self, ObjectStore, list_all};
use futures::stream::{self, StreamExt, TryStreamExt};

/// The most bytes of a seal; a larger object is none.
const SEAL: u64 = 1024;
/// Small objects that are looked at at a time: where writers die often there are hundreds, and one at a time the log
/// would grow faster than it is collected.
const PARALLEL: usize = 32;

/// An object of the log.
#[derive(Debug, Clone, Copy)]
struct Listed {
    epoch: Epoch,
    slot: Slot,
    size: u64,
}

/// An object that may be a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Old {
    pub epoch: Epoch,
    pub slot: Slot,
    /// It may as well be the seal of its log.
    seal: bool,
}

/// Every object up to `floor` in the log of `ours` and of earlier writers that may be a segment; those behind
/// a seal too, which are of no history.
pub(super) async fn up_to(store: &dyn ObjectStore, ours: Epoch, floor: Slot) -> Result<Vec<Old>, LogError> {
    let mut found = Vec::new();
    for epoch in list(store).await?.chunk_by(|a, b| a.epoch == b.epoch) {
        let Some(first) = epoch.first() else { continue };
        // The floor is a slot of ours that is committed, so nothing of ours up to it is a seal.
        let ended = first.epoch != ours;
        // A log that ended has a seal: one object alone is that. What a successor wrote is not ours.
        if ended && (first.epoch.counter >= ours.counter || epoch.len() == 1 && holds(Rule::SealsStay)) {
            continue;
        }
        let old = epoch.iter().filter(|o| o.slot <= floor);
        found.extend(old.map(|o| Old { epoch: o.epoch, slot: o.slot, seal: ended && o.size <= SEAL }));
    }
    Ok(found)
}

/// Leaves out those that are seals.
pub(super) async fn without_seals(
    store: &dyn ObjectStore,
    old: Vec<Old>,
) -> Result<Vec<(Epoch, Slot)>, LogError> {
    let look = async |object: Old| {
        let stays = object.seal && holds(Rule::SealsStay) && is_seal(store, &object).await?;
        Ok::<_, LogError>((!stays).then_some((object.epoch, object.slot)))
    };
    let looked: Vec<_> = stream::iter(old).map(look).buffered(PARALLEL).try_collect().await?;
    Ok(looked.into_iter().flatten().collect())
}

/// An object that cannot be read is left alone, like a seal.
async fn is_seal(store: &dyn ObjectStore, object: &Old) -> Result<bool, LogError> {
    let key = keys::segment(object.epoch, object.slot);
    let body = match store.get(&key, None, None).await {
        Ok(found) => found.body,
        Err(error) if error.is_not_found() => return Ok(true),
        Err(error) => return Err(error.into()),
    };
    match segment::decode_header(object.epoch, object.slot, &body) {
        Ok(header) => Ok(matches!(header.kind, Kind::Seal { .. })),
        Err(error) => {
            tracing::warn!(%error, "an old object of the log cannot be read, and is left there");
            Ok(true)
        }
    }
}

async fn list(store: &dyn ObjectStore) -> Result<Vec<Listed>, LogError> {
    let objects = list_all(store, keys::LOG, None).await?;
    let segment = |o: &store::Listed| {
        let (epoch, slot) = keys::parse_segment(&o.key)?;
        Some(Listed { epoch, slot, size: o.size })
    };
    let mut found: Vec<Listed> = objects.iter().filter_map(segment).collect();
    found.sort_by_key(|o| (o.epoch, o.slot));
    Ok(found)
}
