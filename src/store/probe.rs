//! Whether a store keeps the conditions that fencing rests on: found by trying.

use super::{Condition, CopyOptions, ETag, Kind, ObjectStore, PutOptions, Result};
use bytes::Bytes;
use futures::future::join_all;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// How many race for one key.
const RACERS: usize = 4;

/// What a store keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Capabilities {
    /// A put with If-None-Match or If-Match has exactly one winner. Without it nobody can be fenced.
    pub conditional_put: bool,
    /// A delete with If-Match spares an object that has another ETag.
    pub conditional_delete: bool,
    /// A copy keeps the conditions on its destination.
    pub conditional_copy: bool,
}

/// Tries the store on keys of its own below `.cwdfs/`, and removes them. Fails only where the store does.
pub async fn probe(store: &Arc<dyn ObjectStore>) -> Result<Capabilities> {
    let key = format!(".cwdfs/probe-{:032x}", rand::random::<u128>());
    let copy = format!("{key}-copy");
    let found = examine(store, &key, &copy).await;
    let cleaned = store.delete_many(&[key, copy]).await;
    let found = found?;
    for (key, error) in cleaned? {
        tracing::warn!("the probe's key {key} stays: {error}");
    }
    Ok(found)
}

async fn examine(store: &Arc<dyn ObjectStore>, key: &str, copy: &str) -> Result<Capabilities> {
    let Some(first) = one_winner(store, key, &Condition::Absent).await? else {
        return Ok(NOTHING);
    };
    let Some(second) = one_winner(store, key, &Condition::Match(first.clone())).await? else {
        return Ok(NOTHING);
    };
    store.put(copy, Bytes::from_static(b"copy"), &PutOptions::default()).await?;
    let onto = CopyOptions { condition: Condition::Absent, ..CopyOptions::default() };
    let stale = Condition::Match(first);
    let (copied, deleted) = tokio::join!(store.copy(key, copy, &onto), store.delete(key, &stale));
    let conditional_copy = refused(copied)?;
    let conditional_delete = refused(deleted)? && store.head(key).await.is_ok_and(|meta| meta.etag == second);
    Ok(Capabilities { conditional_put: true, conditional_delete, conditional_copy })
}

const NOTHING: Capabilities =
    Capabilities { conditional_put: false, conditional_delete: false, conditional_copy: false };

/// The winner's ETag, if there was exactly one and its bytes are in the store.
async fn one_winner(store: &Arc<dyn ObjectStore>, key: &str, condition: &Condition) -> Result<Option<ETag>> {
    let options = PutOptions { condition: condition.clone(), ..PutOptions::default() };
    let bodies: Vec<Bytes> =
        (0..RACERS).map(|n| format!("{n} {:032x}", rand::random::<u128>()).into()).collect();
    let puts = bodies.iter().map(|body| store.put(key, body.clone(), &options));
    let mut winners = Vec::new();
    for (answer, body) in join_all(puts).await.into_iter().zip(&bodies) {
        match answer {
            Ok(etag) => winners.push((etag, body)),
            // The loser may be an attempt whose first answer was lost: what is in the store tells.
            Err(error) if error.kind == Kind::Precondition => {}
            Err(error) if error.kind == Kind::Unsupported || error.kind == Kind::Invalid => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    if winners.len() > 1 {
        return Ok(None);
    }
    let stored = match store.get(key, None, None).await {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    let is_ours = match winners.first() {
        Some((etag, body)) => *etag == stored.meta.etag && stored.body == *body,
        None => bodies.contains(&stored.body),
    };
    Ok(is_ours.then_some(stored.meta.etag))
}

/// Whether the store refused because of the condition, or for not knowing it.
fn refused<T>(answer: Result<T>) -> Result<bool> {
    match answer {
        Ok(_) => Ok(false),
        Err(error) if error.is_precondition() => Ok(true),
        Err(error) if matches!(error.kind, Kind::Unsupported | Kind::Invalid | Kind::NotFound) => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DirStore;
    use crate::store::faulty::{Fault, FaultyStore, Rule};
    use tempfile::TempDir;

    #[tokio::test]
    async fn a_directory_keeps_all_and_keeps_nothing_of_the_probe() {
        let dir = TempDir::new().unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(dir.path()));
        let all = Capabilities { conditional_put: true, conditional_delete: true, conditional_copy: true };
        assert_eq!(probe(&store).await.unwrap(), all);
        assert!(store.list("", None, 10).await.unwrap().objects.is_empty());
    }

    #[tokio::test]
    async fn a_store_that_does_not_know_conditions_is_found_and_one_that_fails_is_an_error() {
        let dir = TempDir::new().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
        faulty.add_rule(Rule::new(Fault::Before(Kind::Unsupported)).on("put"));
        assert_eq!(probe(&store).await.unwrap(), NOTHING);
        faulty.calm();
        faulty.add_rule(Rule::new(Fault::Before(Kind::AccessDenied)).on("put"));
        assert_eq!(probe(&store).await.unwrap_err().kind, Kind::AccessDenied);
    }
}
