use super::*;
use crate::store::DirStore;
use std::time::Duration;
use tempfile::TempDir;

fn fresh(seed: u64) -> (TempDir, Arc<FaultyStore>) {
    let dir = TempDir::new().unwrap();
    let store = FaultyStore::new(Arc::new(DirStore::new(dir.path())), seed);
    (dir, store)
}

async fn put(store: &FaultyStore, key: &str) -> Result<ETag> {
    store.put(key, Bytes::from_static(b"bytes"), &PutOptions::default()).await
}

async fn exists(store: &FaultyStore, key: &str) -> bool {
    store.inner.head(key).await.is_ok()
}

#[tokio::test]
async fn errors_before_have_no_effect_and_errors_after_have() {
    let (_dir, store) = fresh(1);
    store.add_rule(Rule::new(Fault::Before(Kind::Throttled)).on("put").key("a").times(1));
    store.add_rule(Rule::new(Fault::After(Kind::Timeout)).on("put").key("b"));
    assert_eq!(put(&store, "a").await.unwrap_err().kind, Kind::Throttled);
    assert!(!exists(&store, "a").await);
    put(&store, "a").await.unwrap();
    assert_eq!(put(&store, "b").await.unwrap_err().kind, Kind::Timeout);
    assert!(exists(&store, "b").await);
    assert_eq!(store.injected(), [("error after", 1), ("error before", 1)].into());
    assert_eq!(store.requests(), [("put", 3)].into());
    store.calm();
    put(&store, "b").await.unwrap();
}

#[tokio::test]
async fn a_rule_waits_for_its_turn() {
    let (_dir, store) = fresh(1);
    store.add_rule(Rule::new(Fault::Before(Kind::NoSpace)).from_nth(3).times(2));
    let mut failed = Vec::new();
    for n in 1..=6 {
        if put(&store, "k").await.is_err() {
            failed.push(n);
        }
    }
    assert_eq!(failed, [3, 4]);
}

#[tokio::test]
async fn bodies_are_bent() {
    let (_dir, store) = fresh(1);
    put(&store, "k").await.unwrap();
    store.add_rule(Rule::new(Fault::Truncate(2)).times(1));
    assert_eq!(store.get("k", None, None).await.unwrap().body, "by");
    store.add_rule(Rule::new(Fault::Damage(5)).times(1));
    assert_eq!(store.get("k", None, None).await.unwrap().body, "Bytes");
    assert_eq!(store.get("k", None, None).await.unwrap().body, "bytes");
}

#[tokio::test]
async fn a_held_request_takes_effect_when_it_is_let_go_though_its_caller_left() {
    let (_dir, store) = fresh(1);
    let held = store.hold("k");
    let task = tokio::spawn({
        let store = Arc::clone(&store);
        async move { put(&store, "k").await }
    });
    held.reached(1).await;
    put(&store, "other").await.unwrap();
    task.abort();
    assert!(task.await.unwrap_err().is_cancelled());
    assert!(!exists(&store, "k").await);
    assert_eq!(held.waiting(), 1);
    held.release();
    while !exists(&store, "k").await {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    put(&store, "k").await.unwrap();
}

#[tokio::test]
async fn lost_requests_answer_with_or_without_effect() {
    let (_dir, store) = fresh(1);
    for (point, key, effect) in [(Point::Before, "before", false), (Point::After, "after", true)] {
        let held = store.hold_on("put", key, point);
        let task = tokio::spawn({
            let store = Arc::clone(&store);
            async move { put(&store, key).await }
        });
        held.reached(1).await;
        held.lose();
        assert_eq!(task.await.unwrap().unwrap_err().kind, Kind::Unavailable);
        assert_eq!(exists(&store, key).await, effect);
    }
}

#[tokio::test]
async fn a_store_that_is_down_does_nothing() {
    let (_dir, store) = fresh(1);
    store.set_down(true);
    assert_eq!(put(&store, "k").await.unwrap_err().kind, Kind::Unavailable);
    store.set_down(false);
    assert!(!exists(&store, "k").await);
}

#[tokio::test]
async fn some_of_many_are_spared() {
    let (_dir, store) = fresh(7);
    store.set_chances(Chances { partial_delete: 1000, ..Chances::default() });
    let keys: Vec<String> = (0..20).map(|n| format!("k{n}")).collect();
    for key in &keys {
        put(&store, key).await.unwrap();
    }
    let failed = store.delete_many(&keys).await.unwrap();
    assert!(!failed.is_empty() && failed.len() < keys.len());
    for key in &keys {
        let spared = failed.iter().any(|(spared, _)| spared == key);
        assert_eq!(exists(&store, key).await, spared, "{key}");
    }
}

/// What the same requests meet, by seed.
async fn story(seed: u64) -> (Vec<Option<Kind>>, BTreeMap<&'static str, u64>) {
    let (_dir, store) = fresh(seed);
    store.set_chances(Chances { max_delay: Duration::from_micros(10), ..Chances::rough() });
    let mut answers = Vec::new();
    for n in 0..100 {
        answers.push(put(&store, &format!("k{n}")).await.err().map(|error| error.kind));
        answers.push(store.get("k0", None, None).await.err().map(|error| error.kind));
    }
    (answers, store.injected())
}

#[tokio::test]
async fn the_same_seed_tells_the_same_story() {
    let first = story(42).await;
    assert_eq!(first, story(42).await);
    assert_ne!(first, story(43).await);
    for fault in ["error before", "error after", "delay"] {
        assert!(first.1.get(fault).is_some_and(|count| *count > 0), "{fault} in {:?}", first.1);
    }
}
