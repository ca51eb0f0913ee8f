//! Making a checkpoint of the committed rows and putting it in the store.
//!
//! Invariants:
//! - what is written is the state after one committed slot, from one snapshot of the committed rows;
//! - a delta is at most a quarter of its image;
//! - memory: one part, one block and what the store holds of a request, however large the tree.

use super::format::Header;
use super::name::Name;
use super::write::Writer;
use crate::log::LogError;
use crate::log::ids::Slot;
use crate::log::lease::SessionId;
use crate::log::row::KeyBytes;
use crate::log::source::{Committed, LocalError, Snapshot};
use crate::store::{Condition, ObjectStore, Part, PutOptions, StoreError, UploadId};
use bytes::Bytes;
use std::sync::Arc;

/// Bytes of one part of a large checkpoint.
const PART: usize = 8 << 20;
/// Rows that are read at once.
const ROWS: usize = 4096;
/// A delta is at most this part of its image.
const DELTA: u64 = 4;

/// A checkpoint that was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Made {
    /// Which.
    pub name: Name,
    /// The object's bytes.
    pub bytes: u64,
}

/// Writes a checkpoint of the newest committed state: a delta on the newest image while that stays below a
/// quarter of it, else an image; with `image`, an image in any case. `listed` are the checkpoints there are,
/// with their bytes. `None` when that state is in the store already. The caller has made sure of the lease.
pub async fn run(
    store: &Arc<dyn ObjectStore>,
    committed: &Arc<dyn Committed>,
    session: SessionId,
    listed: &[(Name, u64)],
    image: bool,
) -> Result<Option<Made>, LogError> {
    let mut snapshot = committed.snapshot()?;
    let (epoch, slot) = snapshot.base();
    if listed.iter().any(|(name, _)| name.slot == slot && name.epoch == epoch) {
        return Ok(None);
    }
    let from = snapshot.changes_from();
    let on = listed.iter().filter(|(n, _)| n.base.is_none() && n.slot < slot && n.slot >= from).max();
    if let Some((on, size)) = on.filter(|_| !image) {
        let name = Name { slot, epoch, base: Some((on.slot, on.epoch)) };
        let limit = size / DELTA;
        if let Some(bytes) = write(store, Header { session, name }, snapshot, limit).await? {
            return Ok(Some(Made { name, bytes }));
        }
        snapshot = committed.snapshot()?;
    }
    let (epoch, slot) = snapshot.base();
    let name = Name::image(slot, epoch);
    match write(store, Header { session, name }, snapshot, u64::MAX).await? {
        Some(bytes) => {
            committed.forget_changes(slot)?;
            Ok(Some(Made { name, bytes }))
        }
        None => Err(LocalError::failed("an image grew without end").into()),
    }
}

/// What goes to a blocking thread and comes back.
struct Source {
    snapshot: Box<dyn Snapshot>,
    writer: Writer,
    since: Option<Slot>,
    after: Option<KeyBytes>,
    ended: bool,
}

impl Source {
    /// Reads on until a part is full or the rows have ended.
    fn fill(mut self) -> Result<Source, LocalError> {
        while !self.ended && self.writer.ready() < PART {
            let rows = self.snapshot.rows(self.after.as_deref(), self.since, ROWS)?;
            rows.iter().try_for_each(|row| self.writer.push(row))?;
            self.ended = rows.len() < ROWS;
            self.after = rows.into_iter().next_back().map(|row| row.key).or(self.after);
        }
        Ok(self)
    }
}

async fn fill(source: Source) -> Result<Source, LogError> {
    let filled = crate::log::blocking::aside(move || source.fill()).await;
    Ok(filled.map_err(|e| LocalError::failed(format!("reading rows for a checkpoint: {e}")))??)
}

/// Writes the checkpoint that `header` names; returns its bytes, or `None`, with nothing written, once they
/// are more than `limit`.
async fn write(
    store: &Arc<dyn ObjectStore>,
    header: Header,
    snapshot: Box<dyn Snapshot>,
    limit: u64,
) -> Result<Option<u64>, LogError> {
    let since = header.name.base.map(|(slot, _)| slot);
    let writer = Writer::new(&header);
    let source = fill(Source { snapshot, writer, since, after: None, ended: false }).await?;
    let key = header.name.key();
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    if source.ended {
        let body = source.writer.finish()?;
        let bytes = body.len() as u64;
        if bytes > limit {
            return Ok(None);
        }
        there_is_as_good(store.put(&key, body.into(), &options).await.map(drop))?;
        return Ok(Some(bytes));
    }
    let upload = store.create_multipart(&key, &options).await?;
    let sent = send_parts(store, &key, &upload, source, limit).await;
    if !matches!(sent, Ok(Some(_)))
        && let Err(error) = store.abort_multipart(&key, &upload).await
    {
        tracing::warn!(%error, "parts of an unfinished checkpoint are left in the store");
    }
    sent
}

/// Sends a checkpoint that is too large for one request.
async fn send_parts(
    store: &Arc<dyn ObjectStore>,
    key: &str,
    upload: &UploadId,
    mut source: Source,
    limit: u64,
) -> Result<Option<u64>, LogError> {
    let mut parts: Vec<Part> = Vec::new();
    let mut bytes = 0;
    loop {
        let number = parts.len() as u32 + 1;
        if source.ended {
            let body: Bytes = source.writer.finish()?.into();
            bytes += body.len() as u64;
            if bytes > limit {
                return Ok(None);
            }
            parts.push(store.upload_part(key, upload, number, body).await?);
            let done = store.complete_multipart(key, upload, &parts, &Condition::Absent).await;
            there_is_as_good(done.map(drop))?;
            return Ok(Some(bytes));
        }
        let body: Bytes = source.writer.take().into();
        bytes += body.len() as u64;
        if bytes > limit {
            return Ok(None);
        }
        parts.push(store.upload_part(key, upload, number, body).await?);
        source = fill(source).await?;
    }
}

/// A checkpoint of the same name holds the same tree, so one that is there already is as good.
fn there_is_as_good(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(error) if error.is_precondition() => Ok(()),
        other => other,
    }
}
