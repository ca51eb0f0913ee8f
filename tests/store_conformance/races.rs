//! What every store does when many use it at once.

use crate::suite::{Store, absent, is_seaweed, matching, part, put, text};
use bytes::Bytes;
use cwdfs::store::{Condition, Kind, PutOptions, Result};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Barrier;

/// How many race. SeaweedFS makes conditional writes of one key wait for each other by polling: so many there
/// that each is answered within a request's time on a busy machine too.
fn racers(store: &Store) -> usize {
    if is_seaweed(store) { 6 } else { 32 }
}

/// Runs `racer` for each of the racers at once.
async fn race<T, F>(racers: usize, racer: impl Fn(usize) -> F) -> Vec<T>
where
    T: Send + 'static,
    F: Future<Output = T> + Send + 'static,
{
    let start = Arc::new(Barrier::new(racers));
    let tasks: Vec<_> = (0..racers)
        .map(|n| {
            let (start, run) = (Arc::clone(&start), racer(n));
            tokio::spawn(async move {
                start.wait().await;
                run.await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.expect("a racer"));
    }
    answers
}

/// The only one that won; the others were told that they lost.
fn winner<T>(answers: &[Result<T>]) -> usize {
    let winners: Vec<usize> = (0..answers.len()).filter(|n| answers[*n].is_ok()).collect();
    for error in answers.iter().filter_map(|answer| answer.as_ref().err()) {
        assert!(matches!(error.kind, Kind::Precondition | Kind::Conflict), "{error}");
    }
    assert_eq!(winners.len(), 1, "winners: {winners:?}");
    winners[0]
}

pub async fn one_winner_of_creation(store: Store) {
    for round in 0..10 {
        let key = format!("race/{round}");
        let answers = race(racers(&store), |n| {
            let (store, key) = (store.clone(), key.clone());
            async move { store.put(&key, format!("{n}").into(), &absent()).await }
        })
        .await;
        assert_eq!(text(&store, &key).await, winner(&answers).to_string());
    }
}

pub async fn one_winner_of_each_replacement(store: Store) {
    let mut etag = put(&store, "k", "start").await;
    for round in 0..10 {
        let answers = race(racers(&store), |n| {
            let (store, options) = (store.clone(), matching(&etag));
            async move { store.put("k", format!("{round}-{n}").into(), &options).await }
        })
        .await;
        let winner = winner(&answers);
        etag = answers[winner].clone().unwrap();
        assert_eq!(text(&store, "k").await, format!("{round}-{winner}"));
    }
}

pub async fn one_winner_of_deletion_or_replacement(store: Store) {
    for round in 0..5 {
        let key = format!("k{round}");
        let etag = put(&store, &key, "start").await;
        let answers = race(racers(&store), |n| {
            let (store, key, etag) = (store.clone(), key.clone(), etag.clone());
            async move {
                match n % 2 {
                    0 => store.put(&key, format!("{n}").into(), &matching(&etag)).await.map(|_| ()),
                    _ => store.delete(&key, &Condition::Match(etag)).await,
                }
            }
        })
        .await;
        // A deletion of what is already gone may be told so as success.
        let puts: Vec<usize> = (0..answers.len()).filter(|n| n % 2 == 0 && answers[*n].is_ok()).collect();
        match store.get(&key, None, None).await {
            Ok(object) => {
                assert_eq!(puts.len(), 1, "{puts:?}");
                assert_eq!(object.body, puts[0].to_string());
                assert!(
                    (0..answers.len()).all(|n| n % 2 == 0 || answers[n].is_err()),
                    "a lost deletion said it won"
                );
            }
            Err(error) => {
                assert_eq!(error.kind, Kind::NotFound);
                assert!(puts.is_empty(), "{puts:?} won, and the object is gone");
                assert!(answers.iter().any(|answer| answer.is_ok()));
            }
        }
    }
}

pub async fn one_winner_of_completion(store: Store) {
    let answers = race(racers(&store), |n| {
        let store = store.clone();
        async move {
            let upload = store.create_multipart("k", &PutOptions::default()).await.unwrap();
            let sent = store.upload_part("k", &upload, 1, part(n as u8, 1000)).await.unwrap();
            let answer = store.complete_multipart("k", &upload, &[sent], &Condition::Absent).await;
            store.abort_multipart("k", &upload).await.unwrap();
            answer
        }
    })
    .await;
    if is_seaweed(&store) {
        // More than one may be told that it won; the object is that of one that was.
        let body = store.get("k", None, None).await.unwrap().body;
        assert!((0..answers.len()).any(|n| answers[n].is_ok() && body == part(n as u8, 1000)));
        return;
    }
    let winner = winner(&answers);
    assert_eq!(store.get("k", None, None).await.unwrap().body, part(winner as u8, 1000));
}

pub async fn readers_see_whole_objects(store: Store) {
    put(&store, "k", &"0".repeat(10_000)).await;
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..4)
        .map(|_| {
            let (store, done) = (store.clone(), Arc::clone(&done));
            tokio::spawn(async move {
                let mut read = 0;
                while !done.load(Ordering::Relaxed) {
                    let object = store.get("k", None, None).await.unwrap();
                    let fill = object.body[0];
                    assert_eq!(object.body.len(), 10_000 + usize::from(fill - b'0') * 100);
                    assert!(object.body.iter().all(|byte| *byte == fill), "two objects in one");
                    assert_eq!(object.meta.size, object.body.len() as u64);
                    read += 1;
                }
                read
            })
        })
        .collect();
    for round in 0..60 {
        let fill = (b'0' + round % 10) as char;
        put(&store, "k", &fill.to_string().repeat(10_000 + usize::from(round % 10) * 100)).await;
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.expect("a reader") > 0);
    }
}

/// Random operations against a map, from a fixed seed so that a failure comes back.
pub async fn random_operations_as_a_map_does_them(store: Store) {
    let mut random = StdRng::seed_from_u64(20_240_229);
    // No key is the folder of another: not every store takes that.
    let keys = ["a", "b/c", "b/d", "e/f/g", "e/h", "i.j", "k/"];
    let mut model: BTreeMap<&str, Bytes> = BTreeMap::new();
    for step in 0..400 {
        let key = keys[random.random_range(0..keys.len())];
        let body = if key.ends_with('/') { Bytes::new() } else { Bytes::from(format!("{step}")) };
        match random.random_range(0..6) {
            0 => {
                store.put(key, body.clone(), &PutOptions::default()).await.unwrap();
                model.insert(key, body);
            }
            1 => {
                let answer = store.put(key, body.clone(), &absent()).await;
                assert_eq!(answer.is_ok(), !model.contains_key(key), "step {step}: {answer:?}");
                model.entry(key).or_insert(body);
            }
            2 => match store.head(key).await {
                Ok(meta) => {
                    assert!(model.contains_key(key), "step {step}");
                    store.put(key, body.clone(), &matching(&meta.etag)).await.unwrap();
                    model.insert(key, body);
                }
                Err(error) => {
                    assert!(error.is_not_found() && !model.contains_key(key), "step {step}: {error}")
                }
            },
            3 => {
                store.delete(key, &Condition::None).await.unwrap();
                model.remove(key);
            }
            4 => match store.get(key, None, None).await {
                Ok(object) => assert_eq!(Some(&object.body), model.get(key), "step {step}"),
                Err(error) => {
                    assert!(error.is_not_found() && !model.contains_key(key), "step {step}: {error}")
                }
            },
            _ => {
                let page = store.list("", None, 100).await.unwrap();
                let listed: Vec<&str> = page.objects.iter().map(|object| object.key.as_str()).collect();
                let mut listed = listed;
                listed.sort_unstable();
                assert_eq!(listed, model.keys().copied().collect::<Vec<_>>(), "step {step}");
            }
        }
    }
}
