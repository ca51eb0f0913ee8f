//! Trying requests again, inside a time; what is seen of the store meanwhile is noted ([`super::stats`]).
//!
//! Invariant: only what may be sent again is ([`Kind::is_retryable`], and expired credentials, which may be
//! renewed from outside); a request is answered within the time, plus what moving its bytes takes; a store that is
//! away is tried by one request at a time ([`super::outage`]). After an
//! ambiguous attempt a conditional write may be refused because of itself, and a completed upload be gone:
//! the caller reads back and compares.

use super::outage::Outage;
use super::{
    Condition, CopyOptions, ETag, Kind, ListPage, Object, ObjectMeta, ObjectStore, Part, PutOptions, Result,
    Stats, StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The first pause is at most this, each next at most twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(50);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The pause while credentials are expired.
const CREDENTIALS_PAUSE: Duration = Duration::from_secs(3);

/// The slowest transfer that is waited for, in bytes a second.
const SLOWEST: u64 = 64 << 10;

/// Allowed to a body whose size is not known beforehand; the S3 store ends one that stands still.
const UNKNOWN: Duration = Duration::from_secs(600);

/// A store whose requests are tried again.
pub struct Retrying {
    inner: Arc<dyn ObjectStore>,
    timeout: Duration,
    stats: Arc<Stats>,
    outage: Outage,
}

impl Retrying {
    /// Retries requests to `inner` for at most `timeout`.
    pub fn new(inner: Arc<dyn ObjectStore>, timeout: Duration, stats: Arc<Stats>) -> Self {
        Retrying { inner, timeout, stats, outage: Outage::default() }
    }

    async fn run<T, F>(
        &self,
        (operation, key): (&'static str, &str),
        transfer: Duration,
        mut attempt: impl FnMut() -> F,
    ) -> Result<T>
    where
        F: Future<Output = Result<T>>,
    {
        // The bytes of an attempt may still move when no other attempt would be begun.
        let last_attempt = Instant::now() + self.timeout;
        self.stats.called(operation);
        let (mut most, mut last) = (FIRST_PAUSE, None);
        loop {
            let Ok(tried) = tokio::time::timeout_at(last_attempt, self.outage.enter(last.is_none())).await
            else {
                return Err(self.give_up(operation, last.unwrap_or_else(|| self.untried(operation, key))));
            };
            if last.is_some() {
                self.stats.retried(operation);
            }
            let begun = Instant::now();
            let error = match tokio::time::timeout_at(last_attempt + transfer, attempt()).await {
                Ok(Ok(value)) => {
                    self.outage.ended(None, tried);
                    self.stats.succeeded(operation, begun.elapsed());
                    return Ok(value);
                }
                Ok(Err(error)) => error,
                Err(_) => {
                    let message = format!("no answer within {} s", self.timeout.as_secs_f32());
                    StoreError::new(Kind::Timeout, operation, key, message)
                }
            };
            self.outage.ended(Some(error.kind), tried);
            self.stats.failed(operation, &error, begun.elapsed());
            // Behind the one that tries a store that is away there is no pause of one's own.
            let away = error.kind.is_retryable() && self.outage.is_away();
            let pause = if away { Some(Duration::ZERO) } else { pause_after(error.kind, most) };
            match pause.filter(|pause| begun.max(Instant::now()) + *pause < last_attempt) {
                Some(pause) => tokio::time::sleep(pause).await,
                None => return Err(self.give_up(operation, error)),
            }
            most = (most * 2).min(LONGEST_PAUSE);
            last = Some(error);
        }
    }

    /// What a request is told whose turn to try a store that is away never came.
    fn untried(&self, operation: &'static str, key: &str) -> StoreError {
        let last =
            self.stats.last_error().map_or_else(String::new, |(_, error)| format!(": {}", error.message));
        StoreError::new(Kind::Unavailable, operation, key, format!("the store does not answer{last}"))
    }

    fn give_up(&self, operation: &'static str, error: StoreError) -> StoreError {
        if !matches!(error.kind, Kind::NotFound | Kind::Precondition | Kind::InvalidRange) {
            self.stats.gave_up(operation);
        }
        error
    }
}

/// How long to wait after a failure, at random so that many clients do not come back together; `None` if
/// trying again cannot help.
fn pause_after(kind: Kind, most: Duration) -> Option<Duration> {
    match kind {
        Kind::Expired => Some(CREDENTIALS_PAUSE.mul_f64(rand::rng().random_range(0.8..1.2))),
        kind if kind.is_retryable() => Some(most.mul_f64(rand::rng().random_range(0.5..1.0))),
        _ => None,
    }
}

fn moving(bytes: u64) -> Duration {
    Duration::from_secs(bytes / SLOWEST)
}

#[async_trait]
impl ObjectStore for Retrying {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        let transfer = range.as_ref().map_or(UNKNOWN, |range| moving(range.end.saturating_sub(range.start)));
        let got = self.run(("get", key), transfer, || self.inner.get(key, range.clone(), if_match)).await?;
        self.stats.received(got.body.len() as u64);
        Ok(got)
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.run(("head", key), Duration::ZERO, || self.inner.head(key)).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        let bytes = body.len() as u64;
        let etag =
            self.run(("put", key), moving(bytes), || self.inner.put(key, body.clone(), options)).await?;
        self.stats.sent(bytes);
        Ok(etag)
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        self.run(("create_multipart", key), Duration::ZERO, || self.inner.create_multipart(key, options))
            .await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        let bytes = body.len() as u64;
        let attempt = || self.inner.upload_part(key, upload, number, body.clone());
        let part = self.run(("upload_part", key), moving(bytes), attempt).await?;
        self.stats.sent(bytes);
        Ok(part)
    }

    async fn upload_part_copy(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        range: Range<u64>,
    ) -> Result<Part> {
        let transfer = moving(range.end.saturating_sub(range.start));
        self.run(("upload_part_copy", key), transfer, || {
            self.inner.upload_part_copy(key, upload, number, source, range.clone())
        })
        .await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<ETag> {
        let transfer = moving((parts.len() as u64) << 20);
        self.run(("complete_multipart", key), transfer, || {
            self.inner.complete_multipart(key, upload, parts, condition)
        })
        .await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        self.run(("abort_multipart", key), Duration::ZERO, || self.inner.abort_multipart(key, upload)).await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        self.run(("list_multipart", prefix), Duration::ZERO, || self.inner.list_multipart(prefix)).await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        self.run(("copy", to), UNKNOWN, || self.inner.copy(from, to, options)).await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        self.run(("delete", key), Duration::ZERO, || self.inner.delete(key, condition)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let first = keys.first().map(String::as_str).unwrap_or_default();
        self.run(("delete_many", first), Duration::ZERO, || self.inner.delete_many(keys)).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        self.run(("list", prefix), Duration::ZERO, || self.inner.list(prefix, start_after, limit)).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.run(("folders", ""), Duration::ZERO, || self.inner.folders()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::DirStore;
    use crate::store::faulty::{Fault, FaultyStore, Rule};
    use tempfile::TempDir;

    fn fresh(timeout: Duration) -> (TempDir, Arc<FaultyStore>, Retrying) {
        let dir = TempDir::new().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        let store = Retrying::new(Arc::clone(&faulty) as _, timeout, Arc::new(Stats::default()));
        (dir, faulty, store)
    }

    async fn put(store: &Retrying) -> Result<ETag> {
        store.put("k", "x".into(), &PutOptions::default()).await
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_tried_again() {
        for kind in [Kind::Unavailable, Kind::Throttled, Kind::Timeout, Kind::Conflict, Kind::Expired] {
            let (_dir, faulty, store) = fresh(Duration::from_secs(60));
            faulty.add_rule(Rule::new(Fault::Before(kind)).times(4));
            put(&store).await.unwrap();
            let counts = store.stats.counts()["put"];
            assert_eq!((counts.calls, counts.retries, counts.failures), (1, 4, 0), "{kind:?}");
            assert_eq!(store.stats.last_error().unwrap().1.kind, kind);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_pass_is_not() {
        for kind in [Kind::AccessDenied, Kind::NoSuchBucket, Kind::NoSpace, Kind::Precondition] {
            let (_dir, faulty, store) = fresh(Duration::from_secs(60));
            faulty.add_rule(Rule::new(Fault::Before(kind)).times(1));
            assert_eq!(put(&store).await.unwrap_err().kind, kind);
            assert_eq!(faulty.requests()["put"], 1);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_of_unknown_size_is_no_reason_to_try_longer() {
        let (_dir, faulty, store) = fresh(Duration::from_secs(10));
        faulty.set_down(true);
        let begun = Instant::now();
        assert_eq!(store.get("k", None, None).await.unwrap_err().kind, Kind::Unavailable);
        assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn it_ends_in_time() {
        let (_dir, faulty, store) = fresh(Duration::from_secs(10));
        faulty.set_down(true);
        let begun = Instant::now();
        assert_eq!(put(&store).await.unwrap_err().kind, Kind::Unavailable);
        assert!(begun.elapsed() <= Duration::from_secs(10), "{:?}", begun.elapsed());
        assert_eq!(store.stats.counts()["put"].failures, 1);
        faulty.set_down(false);
        let held = faulty.hold("k");
        let begun = Instant::now();
        assert_eq!(put(&store).await.unwrap_err().kind, Kind::Timeout);
        assert!(begun.elapsed() <= Duration::from_secs(11), "{:?}", begun.elapsed());
        drop(held);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_is_away_is_tried_by_one_at_a_time() {
        let (_dir, faulty, store) = fresh(Duration::from_secs(3600));
        let store = Arc::new(store);
        faulty.set_down(true);
        let begun = Instant::now();
        let mut puts = tokio::task::JoinSet::new();
        for n in 0..40 {
            let store = Arc::clone(&store);
            puts.spawn(async move { store.put(&format!("k{n}"), "x".into(), &PutOptions::default()).await });
        }
        tokio::time::sleep(Duration::from_secs(600)).await;
        let tried = faulty.requests()["put"];
        // Each once, and then one every five seconds at most, where forty would be 5,000 and more.
        assert!((130..220).contains(&tried), "{tried} requests in ten minutes");
        faulty.set_down(false);
        while let Some(put) = puts.join_next().await {
            put.unwrap().unwrap();
        }
        assert_eq!(faulty.requests()["put"] - tried, 40, "each once more");
        assert!(begun.elapsed() < Duration::from_secs(607), "{:?}", begun.elapsed());
        assert_eq!(store.stats.counts()["put"].failures, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_hangs_does_not_hold_up_the_others_for_long() {
        let (_dir, faulty, store) = fresh(Duration::from_secs(3600));
        faulty.set_down(true);
        let late = tokio::time::timeout(Duration::from_secs(5), put(&store)).await;
        assert!(late.is_err() && store.outage.is_away());
        faulty.set_down(false);
        let held = faulty.hold("k");
        let store = Arc::new(store);
        let hanging = tokio::spawn({
            let store = Arc::clone(&store);
            async move { put(&store).await }
        });
        tokio::time::sleep(Duration::from_secs(2)).await;
        let begun = Instant::now();
        store.put("other", "x".into(), &PutOptions::default()).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(6), "{:?}", begun.elapsed());
        drop(held);
        hanging.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_of_the_store_that_is_away_does_not_hold_up_the_others() {
        let (_dir, faulty, store) = fresh(Duration::from_secs(3600));
        let store = Arc::new(store);
        faulty.add_rule(Rule::new(Fault::Before(Kind::Unavailable)).on("get"));
        let gets: Vec<_> = (0..10)
            .map(|_| {
                let store = Arc::clone(&store);
                tokio::spawn(async move { store.get("k", None, None).await })
            })
            .collect();
        for _ in 0..100 {
            tokio::time::sleep(Duration::from_secs(3)).await;
            let begun = Instant::now();
            put(&store).await.unwrap();
            assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        }
        gets.iter().for_each(tokio::task::JoinHandle::abort);
    }

    #[tokio::test(start_paused = true)]
    async fn whose_turn_never_comes_is_told_in_time() {
        let (_dir, faulty, store) = fresh(Duration::from_secs(3));
        let store = Arc::new(store);
        faulty.set_down(true);
        let begun = Instant::now();
        let mut puts = tokio::task::JoinSet::new();
        for n in 0..200 {
            let store = Arc::clone(&store);
            puts.spawn(async move {
                tokio::time::sleep(Duration::from_millis(n * 15)).await;
                put(&store).await
            });
        }
        while let Some(put) = puts.join_next().await {
            let error = put.unwrap().unwrap_err();
            assert_eq!(error.kind, Kind::Unavailable);
            assert!(error.message.contains("injected"), "{error}");
        }
        assert!(begun.elapsed() <= Duration::from_secs(7), "{:?}", begun.elapsed());
        assert!(faulty.requests()["put"] < 60, "{:?}", faulty.requests());
    }
}
