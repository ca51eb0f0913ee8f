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

/// Tries the store on keys of its own below `.cwdfs/`, in three round trips; nobody waits for their removal. Fails
/// only where the store does.
pub async fn probe(store: &Arc<dyn ObjectStore>) -> Result<Capabilities> {
    let key = format!(".cwdfs/probe-{:032x}", rand::random::<u128>());
    let names = Names { copy: format!("{key}-copy"), delete: format!("{key}-delete"), race: key };
    let found = examine(store, &names).await;
    let store = Arc::clone(store);
    tokio::spawn(async move { clean(store.as_ref(), names).await });
    found
}

/// The probe's keys.
struct Names {
    /// For which puts race.
    race: String,
    /// Onto which is copied.
    copy: String,
    /// Which is deleted.
    delete: String,
}

async fn clean(store: &dyn ObjectStore, names: Names) {
    match store.delete_many(&[names.race, names.copy, names.delete]).await {
        Ok(failed) => failed.iter().for_each(|(key, error)| {
            tracing::warn!("the probe's key {key} stays: {error}");
        }),
        Err(error) => tracing::warn!("the probe's keys stay: {error}"),
    }
}

async fn examine(store: &Arc<dyn ObjectStore>, names: &Names) -> Result<Capabilities> {
    let plain = PutOptions::default();
    let (first, copy, delete) = tokio::join!(
        race(store, &names.race, &Condition::Absent),
        store.put(&names.copy, Bytes::from_static(b"copy"), &plain),
        store.put(&names.delete, Bytes::from_static(b"delete"), &plain),
    );
    let Some(first) = first? else { return Ok(NOTHING) };
    let (_, there) = (copy?, delete?);
    // Whom the answers call the winner is not looked up in the store: the next race finds out.
    let etag = match first.won {
        Some((etag, _)) => etag,
        None => match first.stored(store, &names.race).await? {
            Some(etag) => etag,
            None => return Ok(NOTHING),
        },
    };
    let second = Condition::Match(etag.clone());
    let onto = CopyOptions { condition: Condition::Absent, ..CopyOptions::default() };
    // The ETag of another object with other bytes.
    let stale = Condition::Match(etag);
    let (second, copied, deleted) = tokio::join!(
        race(store, &names.race, &second),
        store.copy(&names.race, &names.copy, &onto),
        store.delete(&names.delete, &stale),
    );
    let (conditional_copy, conditional_delete) = (refused(copied), refused(deleted));
    let Some(second) = second? else { return Ok(NOTHING) };
    let (stored, still) = tokio::join!(second.stored(store, &names.race), store.head(&names.delete));
    if stored?.is_none() {
        return Ok(NOTHING);
    }
    let spared = still.is_ok_and(|meta| meta.etag == there);
    Ok(Capabilities {
        conditional_put: true,
        conditional_delete: conditional_delete? && spared,
        conditional_copy: conditional_copy?,
    })
}

const NOTHING: Capabilities =
    Capabilities { conditional_put: false, conditional_delete: false, conditional_copy: false };

/// Puts that raced for one key, under one condition.
struct Race {
    /// Whose answer said so; at most one.
    won: Option<(ETag, Bytes)>,
    bodies: Vec<Bytes>,
}

/// Lets puts race; `None` where several won, or the store does not know the condition.
async fn race(store: &Arc<dyn ObjectStore>, key: &str, condition: &Condition) -> Result<Option<Race>> {
    let options = PutOptions { condition: condition.clone(), ..PutOptions::default() };
    let bodies: Vec<Bytes> =
        (0..RACERS).map(|n| format!("{n} {:032x}", rand::random::<u128>()).into()).collect();
    let puts = bodies.iter().map(|body| store.put(key, body.clone(), &options));
    let mut won = None;
    for (answer, body) in join_all(puts).await.into_iter().zip(&bodies) {
        match answer {
            Ok(_) if won.is_some() => return Ok(None),
            Ok(etag) => won = Some((etag, body.clone())),
            // The loser may be an attempt whose first answer was lost: what is in the store tells.
            Err(error) if error.kind == Kind::Precondition => {}
            Err(error) if error.kind == Kind::Unsupported || error.kind == Kind::Invalid => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(Race { won, bodies }))
}

impl Race {
    /// The ETag of what lies in the store now, if it is the winner's: of one of them, where no answer said whose.
    async fn stored(&self, store: &Arc<dyn ObjectStore>, key: &str) -> Result<Option<ETag>> {
        let stored = match store.get(key, None, None).await {
            Err(error) if error.is_not_found() => return Ok(None),
            other => other?,
        };
        let is_ours = match &self.won {
            Some((etag, body)) => *etag == stored.meta.etag && stored.body == *body,
            None => self.bodies.contains(&stored.body),
        };
        Ok(is_ours.then_some(stored.meta.etag))
    }
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
        while !store.list("", None, 10).await.unwrap().objects.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn it_takes_three_round_trips() {
        const TRIP: std::time::Duration = std::time::Duration::from_millis(100);
        let dir = TempDir::new().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        faulty.add_rule(Rule::new(Fault::Delay(TRIP)));
        let store: Arc<dyn ObjectStore> = faulty;
        let start = tokio::time::Instant::now();
        assert!(probe(&store).await.unwrap().conditional_delete);
        assert_eq!(start.elapsed().as_millis() / TRIP.as_millis(), 3);
    }

    #[tokio::test]
    async fn a_lost_answer_does_not_make_a_store_one_that_cannot_fence() {
        let dir = TempDir::new().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        let store: Arc<dyn ObjectStore> = Arc::clone(&faulty) as _;
        // The winner is told that it lost, as one whose attempt was answered twice is.
        faulty.add_rule(Rule::new(Fault::After(Kind::Precondition)).on("put").times(RACERS as u32));
        assert!(probe(&store).await.unwrap().conditional_put);
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
