//! Reads the session from the bare objects, as simply as it can be done: what a reader would find this moment.
//!
//! It shares the formats with the code under test, and none of its ways: no lease is taken, nothing is cached but
//! what never changes, every state that a reader may start from is walked to the end of the log.

use super::bucket::Bucket;
use super::model::{Model, Rows, StepId, apply};
use crate::log::checkpoint::{Name, Reader, choose};
use crate::log::ids::{Blob, Epoch, Slot, keys};
use crate::log::lease::LeaseBody;
use crate::log::row::{ExtentRow, Key, Record, Row};
use crate::log::segment::{self, Kind, Segment};
use crate::store::ETag;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What was decoded of objects, by key, while they are the same.
#[derive(Default)]
pub struct Oracle {
    segments: BTreeMap<String, (ETag, Arc<Segment>)>,
    checkpoints: BTreeMap<String, (ETag, Arc<Vec<Record>>)>,
}

/// A state that a reader may start from.
struct Start {
    epoch: Epoch,
    slot: Slot,
    rows: Rows,
}

struct End {
    slot: Slot,
    rows: Rows,
    /// Every blob that a state on the way names.
    named: BTreeSet<Blob>,
}

impl Oracle {
    /// Reads everything from each possible start. The newest step; `None`: there is no session.
    pub fn read(&mut self, bucket: &Bucket, model: &Model) -> Result<Option<StepId>, String> {
        let Some(lease) = bucket.object(keys::LEASE) else { return Ok(None) };
        let lease: LeaseBody = serde_json::from_slice(&lease.body).map_err(|e| format!("the lease: {e}"))?;
        let mut end: Option<End> = None;
        for start in self.starts(bucket, &lease)? {
            let from = start.slot;
            let reached = self.walk(bucket, start)?;
            if let Some(end) = &end
                && (end.slot, &end.rows) != (reached.slot, &reached.rows)
            {
                return Err(format!(
                    "from slot {from} the log leads to another state (slot {}) than from a newer checkpoint (slot {})",
                    reached.slot, end.slot
                ));
            }
            end = Some(reached);
        }
        // The last start is the oldest, so it has seen all states that anybody can.
        let Some(end) = end else { return Err("there is nothing to start from".into()) };
        for blob in &end.named {
            object_of(bucket, blob)?;
        }
        model.compare(&end.rows, &mut |row| piece(bucket, row)).map(Some)
    }

    /// The newest state there is, and, last, the one that is there for when the newest image is damaged.
    fn starts(&mut self, bucket: &Bucket, lease: &LeaseBody) -> Result<Vec<Start>, String> {
        let names: Vec<Name> =
            bucket.below(keys::CHECKPOINT).filter_map(|(key, _)| Name::parse(key)).collect();
        let plans = choose(&names, lease.floor);
        let newest = plans.first().map(|plan| plan.image);
        let fallback = plans.iter().find(|plan| Some(plan.image) != newest);
        let mut starts = Vec::new();
        for plan in plans.first().into_iter().chain(fallback) {
            let mut rows = Rows::new();
            for name in [Some(plan.image), plan.delta].into_iter().flatten() {
                apply(&mut rows, &self.checkpoint(bucket, name)?);
            }
            let target = plan.target();
            starts.push(Start { epoch: target.epoch, slot: target.slot, rows });
        }
        if fallback.is_none() {
            if lease.floor > Slot(0) {
                return Err(format!(
                    "the floor is {}, and only one state at or above it can be loaded",
                    lease.floor
                ));
            }
            starts.push(Start { epoch: lease.origin, slot: Slot(0), rows: Rows::new() });
        }
        Ok(starts)
    }

    fn walk(&mut self, bucket: &Bucket, start: Start) -> Result<End, String> {
        let Start { mut epoch, mut slot, mut rows } = start;
        let mut named: BTreeSet<Blob> = rows.iter().filter_map(|(key, value)| blob_of(key, value)).collect();
        while let Some(segment) = self.segment(bucket, epoch, slot.next())? {
            match segment.header.kind {
                Kind::Seal { successor } if successor.counter > epoch.counter => epoch = successor,
                Kind::Seal { successor } => return Err(format!("{epoch} is sealed for {successor}")),
                Kind::Changes => {
                    slot = slot.next();
                    let values = segment.records.iter().filter_map(|r| blob_of(&r.key, r.value.as_ref()?));
                    named.extend(values);
                    apply(&mut rows, &segment.records);
                }
            }
        }
        Ok(End { slot, rows, named })
    }

    fn segment(&mut self, bucket: &Bucket, epoch: Epoch, slot: Slot) -> Result<Option<Arc<Segment>>, String> {
        let key = keys::segment(epoch, slot);
        let Some(stored) = bucket.object(&key) else { return Ok(None) };
        if let Some((etag, known)) = self.segments.get(&key)
            && *etag == stored.etag
        {
            return Ok(Some(known.clone()));
        }
        let decoded = segment::decode(epoch, slot, &stored.body).map_err(|e| e.to_string())?;
        let decoded = Arc::new(decoded);
        self.segments.insert(key, (stored.etag.clone(), decoded.clone()));
        Ok(Some(decoded))
    }

    fn checkpoint(&mut self, bucket: &Bucket, name: Name) -> Result<Arc<Vec<Record>>, String> {
        let key = name.key();
        let stored = bucket.object(&key).ok_or_else(|| format!("{key} is gone"))?;
        if let Some((etag, known)) = self.checkpoints.get(&key)
            && *etag == stored.etag
        {
            return Ok(known.clone());
        }
        let mut reader = Reader::new(key.clone());
        reader.feed(&stored.body);
        reader.header().map_err(|e| e.to_string())?;
        let mut records = Vec::new();
        while let Some(rows) = reader.next_rows().map_err(|e| e.to_string())? {
            records.extend(rows);
        }
        reader.finish().map_err(|e| e.to_string())?;
        let records = Arc::new(records);
        self.checkpoints.insert(key, (stored.etag.clone(), records.clone()));
        Ok(records)
    }
}

fn blob_of(key: &[u8], value: &[u8]) -> Option<Blob> {
    Key::is_extent(key).then(|| ExtentRow::decode(value).ok()).flatten().map(|row| row.blob)
}

/// The bytes of the object that is, or holds, a blob.
fn object_of(bucket: &Bucket, blob: &Blob) -> Result<Bytes, String> {
    let key = match blob {
        Blob::Segment { epoch, slot } => keys::segment(*epoch, *slot),
        Blob::Data { epoch, n } => keys::data(*epoch, *n),
        Blob::Object { key, .. } => key.clone(),
        Blob::Local(id) => return Err(format!("a stored row names the local piece {}", id.0)),
    };
    let stored = bucket.object(&key).ok_or_else(|| format!("{key} is needed and gone"))?;
    Ok(stored.body.clone())
}

/// An extent's piece, from the objects.
pub fn piece(bucket: &Bucket, row: &ExtentRow) -> Result<Bytes, String> {
    let body = object_of(bucket, &row.blob)?;
    let (from, to) = (row.piece_off as usize, row.piece_off as usize + row.piece_len as usize);
    if to > body.len() {
        return Err(format!("{:?} ends before {to}", row.blob));
    }
    Ok(body.slice(from..to))
}
