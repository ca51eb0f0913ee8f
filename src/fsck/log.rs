//! The lease, the checkpoints and the log: what the newest state is, and what of the way to it cannot be read.

use super::Objects;
use super::report::{Kind, Report};
use super::state::State;
use crate::log::LogError;
use crate::log::checkpoint::{self, Name, Plan};
use crate::log::ids::{Epoch, Slot, keys};
use crate::log::lease::{Lease, LeaseState};
use crate::log::recover::read_slot;
use crate::log::segment::{self, Kind as Of};
use crate::log::source::RecoverySink;
use crate::store::ObjectStore;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Reads the newest state. An error is one of the store, or a format that is too new; damage is reported, and what can
/// be read in spite of it is the state.
pub(super) async fn read(
    store: &Arc<dyn ObjectStore>,
    objects: &Objects,
    report: &mut Report,
) -> Result<State, LogError> {
    let mut state = State::default();
    read_lease(store.as_ref(), &mut state, report).await?;
    let floor = state.lease.as_ref().map_or(Slot(0), |lease| lease.floor);
    let names: Vec<Name> = objects.below(keys::CHECKPOINT).filter_map(|o| Name::parse(&o.key)).collect();
    let damaged = read_checkpoints(store, &names, report).await?;
    let plans = checkpoint::choose(&names, floor);
    let sound = |plan: &&Plan| !damaged.contains_key(&plan.image) && !damaged.contains_key(&plan.target());
    let plan = plans.iter().find(sound);
    report_checkpoints(&damaged, plan, report);
    let start = match plan {
        Some(plan) => {
            state.session = Some(checkpoint::load(store, plan, &mut state).await?);
            let target = plan.target();
            Some((target.epoch, target.slot))
        }
        None if floor > Slot(0) => {
            report.add(Kind::Checkpoint, |p| {
                p.object = Some(keys::CHECKPOINT.into());
                p.what = format!(
                    "there is no sound checkpoint at or after slot {floor}, below which there is no log"
                );
            });
            None
        }
        None => {
            state.reset()?;
            let first = objects.below(keys::LOG).find_map(|object| keys::parse_segment(&object.key));
            let origin = state.lease.as_ref().map(|lease| lease.origin).or(first.map(|(epoch, _)| epoch));
            origin.map(|epoch| (epoch, Slot(0)))
        }
    };
    if let Some(at) = start {
        walk(store.as_ref(), objects, &mut state, at, report).await?;
    }
    report.session = state.session.map(|id| id.to_string());
    report.last_slot = state.at.map_or(0, |(_, slot)| slot.0);
    report.counts.slots = state.replayed;
    Ok(state)
}

async fn read_lease(store: &dyn ObjectStore, state: &mut State, report: &mut Report) -> Result<(), LogError> {
    let lease = match Lease::peek(store).await {
        Ok(Some(lease)) => lease,
        Ok(None) => {
            report.add(Kind::Lease, |p| {
                p.object = Some(keys::LEASE.into());
                p.what =
                    "it is missing: nothing says who may write, and how far the log was collected".into();
            });
            return Ok(());
        }
        Err(LogError::Damaged { key, what }) => {
            report.add(Kind::Lease, |p| (p.object, p.what) = (Some(key), what));
            return Ok(());
        }
        Err(other) => return Err(other),
    };
    report.holder = Some(lease.holder.clone());
    report.state = Some(
        match lease.state {
            LeaseState::Held => "held",
            LeaseState::Parked => "parked",
            LeaseState::Free => "free",
        }
        .to_owned(),
    );
    if let Some(ending) = lease.ending {
        report.notes.push(format!("its removal was begun: run cwdfs {} again", ending.command()));
    }
    state.session = Some(lease.session);
    state.lease = Some(lease);
    Ok(())
}

/// Reads every checkpoint object to its end; those that are damaged, and how.
async fn read_checkpoints(
    store: &Arc<dyn ObjectStore>,
    names: &[Name],
    report: &mut Report,
) -> Result<BTreeMap<Name, String>, LogError> {
    let mut damaged = BTreeMap::new();
    for name in names {
        match checkpoint::load_rows(store, *name, &mut |_| Ok(())).await {
            Ok(_) => report.counts.checkpoints += 1,
            Err(LogError::Damaged { what, .. }) => {
                damaged.insert(*name, what);
            }
            // Collected since it was listed.
            Err(LogError::Store(error)) if error.is_not_found() => {
                damaged.insert(*name, "it is gone".into());
            }
            Err(other) => return Err(other),
        }
    }
    Ok(damaged)
}

/// A damaged checkpoint is a problem as long as no sound one is newer.
fn report_checkpoints(damaged: &BTreeMap<Name, String>, used: Option<&Plan>, report: &mut Report) {
    for (name, what) in damaged {
        let newer =
            used.is_some_and(|plan| (plan.target().slot, plan.target().epoch) > (name.slot, name.epoch));
        match newer {
            true => report.notes.push(format!("{}: {what}; a newer checkpoint is sound", name.key())),
            false => report.add(Kind::Checkpoint, |p| {
                p.object = Some(name.key());
                p.what = format!("{what}; the session is read from an older one and more of the log");
            }),
        }
    }
}

/// Applies the log from the slot after `at` to its end.
async fn walk(
    store: &dyn ObjectStore,
    objects: &Objects,
    state: &mut State,
    at: (Epoch, Slot),
    report: &mut Report,
) -> Result<(), LogError> {
    let (mut epoch, mut slot) = at;
    loop {
        let next = slot.next();
        state.at = Some((epoch, slot));
        let key = keys::segment(epoch, next);
        let wrong = |report: &mut Report, what: String| {
            let what = format!("{what}; nothing from this commit on can be read");
            report.add(Kind::Segment, |p| (p.object, p.what) = (Some(key.clone()), what));
        };
        let segment = match read_slot(store, epoch, next).await {
            Ok(Some(segment)) => segment,
            Ok(None) => return check_end(store, objects, state, (epoch, next), report).await,
            Err(LogError::Damaged { what, .. }) => {
                wrong(report, what);
                return Ok(());
            }
            Err(other) => return Err(other),
        };
        if state.session.get_or_insert(segment.header.session) != &segment.header.session {
            wrong(report, "it is of another session than the lease or checkpoint".into());
            return Ok(());
        }
        match segment.header.kind {
            Of::Seal { successor } if successor.counter > epoch.counter => epoch = successor,
            Of::Seal { successor } => {
                wrong(report, format!("it is sealed in favour of an earlier epoch, {successor}"));
                return Ok(());
            }
            Of::Changes => {
                state.segment(epoch, next, &segment.checksum, segment.records)?;
                slot = next;
            }
        }
    }
}

/// Whether the free slot at the log's end was committed once: something later says so.
async fn check_end(
    store: &dyn ObjectStore,
    objects: &Objects,
    state: &State,
    (epoch, slot): (Epoch, Slot),
    report: &mut Report,
) -> Result<(), LogError> {
    let key = keys::segment(epoch, slot);
    let listed: Vec<(Epoch, Slot)> =
        objects.below(keys::LOG).filter_map(|object| keys::parse_segment(&object.key)).collect();
    let mut says = None;
    for (_, later) in listed.iter().filter(|(e, s)| *e == epoch && *s > slot) {
        let named = keys::segment(epoch, *later);
        let Ok(object) = store.get(&named, None, None).await else { continue };
        if segment::decode_header(epoch, *later, &object.body).is_ok_and(|header| header.committed >= slot) {
            says = Some(named);
            break;
        }
    }
    let writer = state.lease.as_ref().map(|lease| lease.epoch);
    if says.is_none() && writer != Some(epoch) {
        let later = listed.iter().find(|(e, _)| e.counter > epoch.counter && Some(*e) != writer);
        says = later.map(|(epoch, slot)| keys::segment(*epoch, *slot));
    }
    if let Some(says) = says {
        report.add(Kind::Gap, |p| {
            p.object = Some(key);
            p.what = format!(
                "it is missing, though {says} shows that it was committed; nothing from it on can be read"
            );
        });
    }
    Ok(())
}
