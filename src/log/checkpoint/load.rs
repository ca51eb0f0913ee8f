//! Fetching a checkpoint and handing its rows on.

use super::format::damaged;
use super::name::{Name, Plan};
use super::read::Reader;
use crate::log::LogError;
use crate::log::lease::SessionId;
use crate::log::row::Record;
use crate::log::source::{LocalError, Part, RecoverySink};
use crate::store::{Object, ObjectStore, Result as StoreResult};
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use tokio::task::JoinHandle;

/// Bytes of one GET.
const CHUNK: u64 = 8 << 20;
/// GETs under way at once.
const AHEAD: usize = 4;

/// Loads what `plan` names into `sink`: resets it, gives it the image's rows, then the delta's, then says
/// which slot they are. After an error the sink holds part of a tree; load another plan, or give up.
pub async fn load(
    store: &Arc<dyn ObjectStore>,
    plan: &Plan,
    sink: &mut dyn RecoverySink,
) -> Result<SessionId, LogError> {
    sink.reset()?;
    // The delta is smaller than the image, so it is there by the time its turn comes.
    let delta = plan.delta.map(|name| (name, Fetch::start(store, name)));
    let image = Fetch::start(store, plan.image);
    let (session, _) = read(plan.image, image, &mut |rows| sink.rows(Part::Image, rows)).await?;
    if let Some((name, fetch)) = delta {
        let (of, _) = read(name, fetch, &mut |rows| sink.rows(Part::Delta, rows)).await?;
        if of != session {
            return Err(damaged(&name.key(), "it is of another session than its image"));
        }
    }
    let target = plan.target();
    sink.checkpoint_loaded(target.epoch, target.slot, plan.image.slot)?;
    Ok(session)
}

/// Reads one object's rows, for inspection: whose it is, and how many rows it has.
pub async fn load_rows(
    store: &Arc<dyn ObjectStore>,
    name: Name,
    each: &mut (dyn FnMut(Vec<Record>) -> Result<(), LocalError> + Send),
) -> Result<(SessionId, u64), LogError> {
    read(name, Fetch::start(store, name), each).await
}

async fn read(
    name: Name,
    mut fetch: Fetch,
    each: &mut (dyn FnMut(Vec<Record>) -> Result<(), LocalError> + Send),
) -> Result<(SessionId, u64), LogError> {
    let mut reader = Reader::new(name.key());
    let mut session = None;
    while let Some(chunk) = fetch.next().await? {
        reader.feed(&chunk.body);
        if session.is_none()
            && let Some(header) = reader.header()?
        {
            if header.name != name {
                return Err(damaged(&name.key(), format!("it says that it is checkpoint {}", header.name)));
            }
            session = Some(header.session);
        }
        while let Some(rows) = reader.next_rows()? {
            check_tombstones(&name, &rows)?;
            each(rows)?;
        }
    }
    let rows = reader.finish()?;
    // finish() fails without a header, so this never does; it spares a panic.
    let session = session.ok_or_else(|| damaged(&name.key(), "it ends early"))?;
    Ok((session, rows))
}

fn check_tombstones(name: &Name, rows: &[Record]) -> Result<(), LogError> {
    if name.base.is_none() && rows.iter().any(|r| r.value.is_none()) {
        return Err(damaged(&name.key(), "an image holds a tombstone"));
    }
    Ok(())
}

/// The chunks of an object, fetched ahead of their use by tasks of their own.
struct Fetch {
    store: Arc<dyn ObjectStore>,
    key: String,
    /// Where the next GET starts, and the object's size and ETag, once the first answer is in.
    next: u64,
    known: Option<(u64, crate::store::ETag)>,
    under_way: VecDeque<JoinHandle<StoreResult<Object>>>,
}

impl Fetch {
    fn start(store: &Arc<dyn ObjectStore>, name: Name) -> Fetch {
        let mut fetch =
            Fetch { store: store.clone(), key: name.key(), next: 0, known: None, under_way: VecDeque::new() };
        fetch.send(0..CHUNK);
        fetch
    }

    fn send(&mut self, range: Range<u64>) {
        let (store, key) = (self.store.clone(), self.key.clone());
        self.next = range.end;
        let etag = self.known.as_ref().map(|(_, etag)| etag.clone());
        let get = async move { store.get(&key, Some(range), etag.as_ref()).await };
        self.under_way.push_back(tokio::spawn(get));
    }

    async fn next(&mut self) -> Result<Option<Object>, LogError> {
        let Some(first) = self.under_way.front_mut() else { return Ok(None) };
        let answer = match first.await {
            Ok(answer) => answer.map_err(|e| self.explain(e))?,
            // Only a panic or the runtime's end do this; both end the mount.
            Err(e) => return Err(LocalError::failed(format!("fetching {}: {e}", self.key)).into()),
        };
        self.under_way.pop_front();
        let (size, _) = self.known.get_or_insert((answer.meta.size, answer.meta.etag.clone())).clone();
        while self.under_way.len() < AHEAD && self.next < size {
            self.send(self.next..(self.next + CHUNK).min(size));
        }
        Ok(Some(answer))
    }

    /// An empty object has no byte to range over: it is damage, not a bad request.
    fn explain(&self, error: crate::store::StoreError) -> LogError {
        match error.kind {
            crate::store::Kind::InvalidRange => damaged(&self.key, "it ends early"),
            _ => error.into(),
        }
    }
}

impl Drop for Fetch {
    fn drop(&mut self) {
        for task in &self.under_way {
            task.abort();
        }
    }
}
