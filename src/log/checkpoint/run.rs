//! Making a checkpoint of the committed rows and putting it in the store.

use super::format::Header;
use super::name::{Name, list};
use super::write::Writer;
use crate::log::LogError;
use crate::log::ids::{Slot, keys};
use crate::log::lease::SessionId;
use crate::log::row::KeyBytes;
use crate::log::source::{Committed, LocalError, Snapshot};
use crate::store::{Condition, ObjectStore, PutOptions, StoreError};
use bytes::Bytes;
use std::collections::HashMap;
use std::sync::Arc;

/// Bytes of one part of a large checkpoint.
const PART: usize = 8 << 20;
/// Rows that are read at once.
const ROWS: usize = 4096;

/// Writes a checkpoint of the newest committed state: a delta on the newest image while that stays below a
/// quarter of it, else an image. `None` when that state is in the store already. The caller has made sure of
/// the lease.
pub async fn run(
    store: &Arc<dyn ObjectStore>,
    committed: &Arc<dyn Committed>,
    session: SessionId,
) -> Result<Option<Name>, LogError> {
    let snapshot = committed.snapshot()?;
    let (epoch, slot) = snapshot.base();
    let names = list(store.as_ref()).await?;
    if names.iter().any(|n| n.slot == slot && n.epoch == epoch) {
        return Ok(None);
    }
    let base = base_for_delta(store.as_ref(), &names, snapshot.as_ref()).await?;
    let name = Name { slot, epoch, base: base.map(|image| (image.slot, image.epoch)) };
    write(store, Header { session, name }, snapshot).await?;
    if name.base.is_none() {
        committed.forget_changes(slot)?;
    }
    Ok(Some(name))
}

/// The newest image, if a delta on it can be told and the last one was small.
async fn base_for_delta(
    store: &dyn ObjectStore,
    names: &[Name],
    snapshot: &dyn Snapshot,
) -> Result<Option<Name>, StoreError> {
    let newest = names.iter().filter(|n| n.base.is_none() && n.slot < snapshot.base().1).max();
    let Some(image) = newest.copied().filter(|image| image.slot >= snapshot.changes_from()) else {
        return Ok(None);
    };
    let sizes = sizes(store).await?;
    let size = |name: &Name| sizes.get(name).copied().unwrap_or(0);
    let deltas = names.iter().filter(|n| n.base == Some((image.slot, image.epoch)));
    let largest = deltas.map(size).max().unwrap_or(0);
    Ok((largest * 4 <= size(&image)).then_some(image))
}

async fn sizes(store: &dyn ObjectStore) -> Result<HashMap<Name, u64>, StoreError> {
    let mut sizes = HashMap::new();
    let mut after: Option<String> = None;
    loop {
        let page = store.list(keys::CHECKPOINT, after.as_deref(), 1000).await?;
        sizes.extend(page.objects.iter().filter_map(|o| Some((Name::parse(&o.key)?, o.size))));
        match page.objects.last() {
            Some(last) if page.more => after = Some(last.key.clone()),
            _ => return Ok(sizes),
        }
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

async fn write(
    store: &Arc<dyn ObjectStore>,
    header: Header,
    snapshot: Box<dyn Snapshot>,
) -> Result<(), LogError> {
    let since = header.name.base.map(|(slot, _)| slot);
    let writer = Writer::new(&header);
    let mut source = fill(Source { snapshot, writer, since, after: None, ended: false }).await?;
    let key = header.name.key();
    let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
    if source.ended {
        let body = source.writer.finish()?;
        return absent(store.put(&key, body.into(), &options).await.map(drop)).map_err(Into::into);
    }
    let upload = store.create_multipart(&key, &options).await?;
    let result = async {
        let mut parts = Vec::new();
        loop {
            let ended = source.ended;
            let body: Bytes = match ended {
                true => std::mem::replace(&mut source.writer, Writer::new(&header)).finish()?.into(),
                false => source.writer.take().into(),
            };
            let number = parts.len() as u32 + 1;
            parts.push(store.upload_part(&key, &upload, number, body).await?);
            if ended {
                break;
            }
            source = fill(source).await?;
        }
        let done = store.complete_multipart(&key, &upload, &parts, &Condition::Absent).await;
        absent(done.map(drop)).map_err(LogError::from)
    }
    .await;
    if result.is_err()
        && let Err(error) = store.abort_multipart(&key, &upload).await
    {
        tracing::warn!(%error, "parts of an unfinished checkpoint are left in the store");
    }
    result
}

async fn fill(source: Source) -> Result<Source, LogError> {
    let filled = tokio::task::spawn_blocking(move || source.fill()).await;
    Ok(filled.map_err(|e| LocalError::failed(format!("reading rows for a checkpoint: {e}")))??)
}

/// A checkpoint of the same name holds the same tree, so one that is there already is as good.
fn absent(result: Result<(), StoreError>) -> Result<(), StoreError> {
    match result {
        Err(error) if error.is_precondition() => Ok(()),
        other => other,
    }
}
