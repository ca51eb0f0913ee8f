//! Where the log is to be applied from: the local journal's base, a checkpoint, or the beginning.

use super::LocalBase;
use super::enter::Entered;
use super::walk::slots_from;
use crate::log::LogError;
use crate::log::blocking::blocking;
use crate::log::checkpoint;
use crate::log::ids::{Epoch, Slot, keys};
use crate::log::rules::{Rule, holds};
use crate::log::segment::DIGEST;
use crate::log::source::RecoverySink;
use crate::store::ObjectStore;
use std::sync::Arc;

/// Slots beyond this are no count of commits.
const MAX_SLOT: u64 = 1 << 62;

/// A state that the sink holds.
pub(super) struct Start {
    /// The next slot, and in whose log it lies.
    pub at: (Epoch, Slot),
    /// The slots from there on, where they were listed meanwhile.
    pub listed: Option<Vec<super::walk::Listed>>,
    /// It is the local journal's.
    pub local_used: bool,
    /// It is a checkpoint's.
    pub loaded: bool,
    pub warnings: Vec<String>,
}

/// Brings the sink to a committed state at or above the floor.
pub(super) async fn start(
    store: &Arc<dyn ObjectStore>,
    entered: &Entered,
    local: Option<&LocalBase>,
    sink: &mut dyn RecoverySink,
) -> Result<Start, LogError> {
    if let Some(base) = local
        && is_of_this_lineage(store.as_ref(), entered, base).await?
    {
        let epoch = if base.slot == Slot(0) { entered.origin } else { base.epoch };
        let at = (epoch, base.slot.next());
        return Ok(Start { at, listed: None, local_used: true, loaded: false, warnings: Vec::new() });
    }
    from_store(store, entered, sink).await
}

/// Whether the local base is a committed slot of this session that the log can be applied to.
async fn is_of_this_lineage(
    store: &dyn ObjectStore,
    entered: &Entered,
    base: &LocalBase,
) -> Result<bool, LogError> {
    let floor = entered.lease.floor();
    if base.session != entered.lease.session() || base.slot < floor || base.slot.0 >= MAX_SLOT {
        return Ok(false);
    }
    let is_checkpoint = |n: &checkpoint::Name| (n.slot, n.epoch) == (base.slot, base.epoch);
    if base.slot == Slot(0) || entered.names.iter().any(is_checkpoint) {
        return Ok(true);
    }
    let Some(checksum) = base.checksum else { return Ok(false) };
    match store.get(&keys::segment(base.epoch, base.slot), None, None).await {
        Ok(object) => {
            let digest = object.body.len().checked_sub(DIGEST).map(|at| &object.body[at..]);
            Ok(digest == Some(checksum.as_slice()))
        }
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Loads the newest checkpoint that can be read; an older one, or the log from its beginning, where the
/// newest is damaged.
async fn from_store(
    store: &Arc<dyn ObjectStore>,
    entered: &Entered,
    sink: &mut dyn RecoverySink,
) -> Result<Start, LogError> {
    let floor = entered.lease.floor();
    let mut warnings = Vec::new();
    let mut damage = None;
    for plan in checkpoint::choose(&entered.names, floor) {
        let target = plan.target();
        if target.slot.0 >= MAX_SLOT {
            continue;
        }
        let at = match holds(Rule::StrictlyAfter) {
            true => (target.epoch, target.slot.next()),
            false => (target.epoch, target.slot),
        };
        // A listing that is old by the time the load has ended is as good: the seal finds what came since.
        let (loaded, listed) =
            futures::join!(checkpoint::load(store, &plan, sink), slots_from(store.as_ref(), at));
        match loaded {
            Ok(session) if session != entered.lease.session() => {
                let what = "it is of another session than the lease".to_owned();
                return Err(LogError::Damaged { key: target.key(), what });
            }
            Ok(_) => {
                let listed = Some(listed?);
                return Ok(Start { at, listed, local_used: false, loaded: true, warnings });
            }
            Err(error) if is_unreadable(&error) => {
                tracing::warn!(%error, "falling back to an older checkpoint");
                warnings.push(format!("{error}; an older state and more of the log were used instead"));
                damage.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    if floor > Slot(0) {
        return Err(damage.unwrap_or_else(|| LogError::Damaged {
            key: keys::CHECKPOINT.into(),
            what: format!(
                "there is no checkpoint at or after slot {floor}, below which the log is collected"
            ),
        }));
    }
    blocking(|| sink.reset())?;
    let at = (entered.origin, Slot(1));
    Ok(Start { at, listed: None, local_used: false, loaded: false, warnings })
}

/// Whether an older checkpoint and more of the log may help: it is damaged, or gone. A delta that later ones
/// replace may have been deleted by our predecessor after we listed it.
pub(in crate::log) fn is_unreadable(error: &LogError) -> bool {
    match error {
        LogError::Damaged { .. } => true,
        LogError::Store(error) => error.is_not_found(),
        _ => false,
    }
}
