//! Mending a session: as a writer that holds the lease, by one commit and a checkpoint.

use super::report::{Kind, Report};
use super::rescue::{Rescued, rescue};
use super::state::State;
use super::{Depth, Objects, content, look, mend, tree, view};
use crate::log::LogError;
use crate::log::checkpoint::{Header as CheckpointHeader, Name, Writer};
use crate::log::ids::{Slot, keys};
use crate::log::lease::{LeaseOptions, Succession};
use crate::log::recover::{Recovered, abort_uploads, recover};
use crate::log::row::{Key, Record, Time, meta};
use crate::log::segment::{Header, Kind as Of, encode};
use crate::log::source::Sealed;
use crate::store::{Condition, ObjectStore, PutOptions};
use std::collections::HashSet;
use std::sync::Arc;

/// Rows of one commit.
const ROWS: usize = 100_000;

/// Checks a session and mends what can be mended. A session whose log cannot be read to its end is left as it is, but
/// for what is said of it: a repair would make what is behind the damage unreachable for good.
pub async fn repair(
    store: &Arc<dyn ObjectStore>,
    options: LeaseOptions,
    depth: Depth,
) -> Result<Option<Report>, LogError> {
    let Some(first) = super::check(store, depth).await? else { return Ok(None) };
    let hopeless = |kind| matches!(kind, Kind::Gap | Kind::Segment);
    if first.problems.iter().any(|problem| hopeless(problem.kind)) {
        let mut report = first;
        report.notes.push(
            "nothing was repaired: the log cannot be read to its end, and a writer would go on before what is behind \
             the damage; bring the object back from a version or a backup, or copy out what --read-only shows"
                .into(),
        );
        return Ok(Some(report));
    }
    if first.problems.is_empty() {
        return Ok(Some(first));
    }
    let unread = |p: &super::Problem| p.kind == Kind::Lease && !p.what.starts_with("it is missing");
    if first.problems.iter().any(unread) {
        set_lease_aside(store.as_ref(), &options).await?;
    }
    let mut rows = State::default();
    let recovered = recover(store.clone(), options, None, &mut rows).await?;
    let done = mend_held(store, &recovered, rows, depth).await;
    let released = recovered.lease.release().await;
    let report = done?;
    released?;
    Ok(Some(report))
}

/// Copies a lease that nobody can read under a key that is nobody's, and removes it: recovery makes a new one. Whether
/// somebody holds it cannot be seen, so this needs the word that nobody does.
async fn set_lease_aside(store: &dyn ObjectStore, options: &LeaseOptions) -> Result<(), LogError> {
    if options.succession != Succession::AtOnce {
        let what = "whether somebody writes cannot be seen: repair with --takeover if nobody does".to_owned();
        return Err(LogError::Damaged { key: keys::LEASE.into(), what });
    }
    let damaged = store.get(keys::LEASE, None, None).await?;
    let aside = format!("{}damaged-lease-{:016x}", keys::ROOT, rand::random::<u64>());
    put_new(store, &aside, damaged.body).await?;
    Ok(store.delete(keys::LEASE, &Condition::Match(damaged.meta.etag)).await?)
}

/// Everything again, now that nobody else writes; then the mending.
async fn mend_held(
    store: &Arc<dyn ObjectStore>,
    recovered: &Recovered,
    mut mended: State,
    depth: Depth,
) -> Result<Report, LogError> {
    let objects = Objects::of(store.as_ref()).await?;
    let (mut report, state) = look(store, &objects, depth).await?;
    mended.rows.clone_from(&state.rows);
    let missing = report.problems.iter().filter(|problem| problem.kind == Kind::MissingObject);
    let missing: Vec<String> = missing.filter_map(|problem| problem.object.clone()).collect();
    let rescued = rescue(store.as_ref(), recovered, &state, &report).await?;
    let mut records = mend::mend(&mut mended, now(), rand::random(), &missing);
    // Nothing else of the mending is about extents.
    mended.apply(rescued.records.clone());
    records.extend(rescued.records.iter().cloned());
    records.sort_by(|a, b| a.key.cmp(&b.key));
    let uploads = abort_uploads(store.as_ref(), recovered.lease.epoch()).await?;
    tracing::info!(uploads, rows = records.len(), "repairing");
    let wants_checkpoint = report.problems.iter().any(|problem| problem.kind == Kind::Checkpoint);
    if !records.is_empty() || wants_checkpoint {
        let slot = commit(store.as_ref(), recovered, records, &mended).await?;
        checkpoint(store.as_ref(), recovered, slot, &mended).await?;
    }
    note_repairs(&mut report, &mended, &objects, (uploads, &rescued));
    Ok(report)
}

fn now() -> Time {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Time { sec: since.as_secs() as i64, nsec: since.subsec_nanos() }
}

/// Commits the changed rows (or, where there are none, one as it is), and returns the last slot.
async fn commit(
    store: &dyn ObjectStore,
    recovered: &Recovered,
    mut records: Vec<Record>,
    mended: &State,
) -> Result<Slot, LogError> {
    if records.is_empty() {
        let key = Key::Meta { name: meta::NEXT_INO.to_vec() };
        records.extend(mended.rows.get(&key.encode()).map(|value| Record::put_raw(&key, value.clone())));
    }
    let (session, epoch) = (recovered.lease.session(), recovered.lease.epoch());
    let mut slot = recovered.next_slot;
    let chunks: Vec<&[Record]> = records.chunks(ROWS).collect();
    for (n, chunk) in chunks.iter().enumerate() {
        recovered.lease.ensure().await?;
        let header = Header {
            session,
            epoch,
            slot,
            wall_ms: now().sec * 1000,
            label: Some("fsck".into()),
            committed: Slot(slot.0 - 1),
            kind: Of::Changes,
        };
        let sealed = Sealed { last_seq: 0, records: chunk.to_vec(), pieces: Vec::new() };
        let encoded = encode(&header, sealed)?;
        put_new(store, &keys::segment(epoch, slot), encoded.bytes).await?;
        if n + 1 < chunks.len() {
            slot = slot.next();
        }
    }
    Ok(slot)
}

/// Writes an object that is not there. One that is, after an answer that was lost, has to have the same bytes.
pub(super) async fn put_new(store: &dyn ObjectStore, key: &str, bytes: bytes::Bytes) -> Result<(), LogError> {
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    match store.put(key, bytes.clone(), &options).await {
        Err(error) if error.is_precondition() => match store.get(key, None, None).await?.body == bytes {
            true => Ok(()),
            false => Err(LogError::Fenced { by: format!("whoever wrote {key}") }),
        },
        other => Ok(other.map(drop)?),
    }
}

/// A checkpoint of the mended rows, so that nothing damaged is needed any more.
async fn checkpoint(
    store: &dyn ObjectStore,
    recovered: &Recovered,
    slot: Slot,
    mended: &State,
) -> Result<(), LogError> {
    let name = Name::image(slot, recovered.lease.epoch());
    let mut writer = Writer::new(&CheckpointHeader { session: recovered.lease.session(), name });
    for (key, value) in &mended.rows {
        writer.push(&Record { key: key.clone(), value: Some(value.clone()) })?;
    }
    let mut bytes = writer.take();
    bytes.extend(writer.finish()?);
    recovered.lease.ensure().await?;
    put_new(store, &name.key(), bytes.into()).await
}

/// What is not wrong any more was repaired.
fn note_repairs(report: &mut Report, mended: &State, objects: &Objects, (uploads, rescued): (u64, &Rescued)) {
    let mut after = Report::default();
    tree::check(mended, &mut after);
    content::check(mended, objects, &mut after);
    view::check(mended, objects, &mut after);
    let left: HashSet<_> = after.problems.iter().map(|p| (p.kind, p.inode, p.object.clone())).collect();
    for problem in &mut report.problems {
        let still = left.contains(&(problem.kind, problem.inode, problem.object.clone()));
        problem.repaired = match problem.kind {
            Kind::Gap | Kind::Segment => None,
            Kind::MissingContent | Kind::DamagedContent => {
                let extent = problem.inode.zip(problem.range.map(|(from, _)| from));
                let from = extent.and_then(|extent| rescued.from.get(&extent));
                from.map(|key| format!("the plain object {key} has them: they are in the session again"))
            }
            Kind::Lease => Some("a lease was made anew".into()),
            Kind::Checkpoint => Some("a new checkpoint was written".into()),
            Kind::LeftUpload => (uploads > 0).then(|| "it was aborted".into()),
            Kind::MissingObject => Some("the next mount publishes it again".into()),
            Kind::Orphan | Kind::NoInode => (!still).then(|| match problem.inode {
                Some(ino) => format!("it is /lost+found/inode-{ino}, or below what is there"),
                None => "it is in /lost+found".into(),
            }),
            _ => (!still).then(|| "put right".into()),
        };
    }
}
