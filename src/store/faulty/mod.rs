//! A store for tests that wraps another and makes it bad, from a seed and by rules.
//!
//! Errors before and after the effect, delays (of tokio's time, so that paused tests are fast), lost
//! answers, bodies cut short, requests held back. A request that is delayed or held goes on when its caller
//! gives up on it, as one on the network does.

mod gate;
mod plan;
#[cfg(test)]
mod tests;

pub use gate::Held;
pub use plan::{Chances, Fault, Point, Rule};

use super::{
    Condition, CopyOptions, ETag, Kind, ListPage, Object, ObjectMeta, ObjectStore, Part, PutOptions, Result,
    StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use plan::{Fate, Plan, Request};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

/// A store that fails as it is told to.
pub struct FaultyStore {
    inner: Arc<dyn ObjectStore>,
    plan: Mutex<Plan>,
}

impl FaultyStore {
    /// Wraps `inner`; without chances and rules nothing goes wrong.
    pub fn new(inner: Arc<dyn ObjectStore>, seed: u64) -> Arc<Self> {
        Arc::new(FaultyStore { inner, plan: Mutex::new(Plan::new(seed)) })
    }

    /// From now on faults happen by chance.
    pub fn set_chances(&self, chances: Chances) {
        self.plan.lock().chances = chances;
    }

    /// Adds a rule; rules apply in the order they came, after the chances.
    pub fn add_rule(&self, rule: Rule) {
        self.plan.lock().add(rule);
    }

    /// Forgets rules and chances, and brings the store up; held requests stay held.
    pub fn calm(&self) {
        self.plan.lock().clear();
    }

    /// From now on no request reaches the store (`true`), or all do again.
    pub fn set_down(&self, down: bool) {
        self.plan.lock().down = down;
    }

    /// Holds back, before their effect, all requests whose key starts with `prefix`, until the handle goes.
    pub fn hold(&self, prefix: &str) -> Held {
        self.plan.lock().hold(None, prefix, Point::Before)
    }

    /// Like [`FaultyStore::hold`], for one operation and at a chosen point.
    pub fn hold_on(&self, operation: &'static str, prefix: &str, point: Point) -> Held {
        self.plan.lock().hold(Some(operation), prefix, point)
    }

    /// How many faults of each kind were injected.
    pub fn injected(&self) -> BTreeMap<&'static str, u64> {
        self.plan.lock().injected.clone()
    }

    /// How many requests of each operation came.
    pub fn requests(&self) -> BTreeMap<&'static str, u64> {
        self.plan.lock().requests.clone()
    }

    async fn run<T, W, F>(&self, operation: &'static str, keys: &[&str], work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce(Arc<dyn ObjectStore>, Bend) -> F + Send + 'static,
        F: Future<Output = Result<T>> + Send + 'static,
    {
        let fate = self.plan.lock().decide(&Request { operation, keys });
        let key = keys.first().copied().unwrap_or_default().to_owned();
        let inner = Arc::clone(&self.inner);
        let takes_time = fate.takes_time();
        let request = meet(fate, operation, key.clone(), move |bend| work(inner, bend));
        if !takes_time {
            return request.await;
        }
        match tokio::spawn(request).await {
            Ok(result) => result,
            Err(died) => Err(StoreError::new(Kind::Unavailable, operation, &key, died.to_string())),
        }
    }
}

/// What is done to the request's own bytes or keys.
struct Bend {
    truncate: Option<usize>,
    damage: Option<usize>,
    partial: Option<u64>,
}

async fn meet<T, W, F>(fate: Fate, operation: &'static str, key: String, work: W) -> Result<T>
where
    W: FnOnce(Bend) -> F,
    F: Future<Output = Result<T>>,
{
    let fail =
        |kind, when| Err(StoreError::new(kind, operation, &key, format!("injected {when} the effect")));
    if !fate.delay.is_zero() {
        tokio::time::sleep(fate.delay).await;
    }
    if let Some(gate) = &fate.gate_before
        && !gate.pass().await
    {
        return fail(Kind::Unavailable, "before");
    }
    if let Some(kind) = fate.before {
        return fail(kind, "before");
    }
    let answer = work(Bend { truncate: fate.truncate, damage: fate.damage, partial: fate.partial }).await;
    if !fate.delay_after.is_zero() {
        tokio::time::sleep(fate.delay_after).await;
    }
    if let Some(gate) = &fate.gate_after
        && !gate.pass().await
    {
        return fail(Kind::Unavailable, "after");
    }
    match fate.after {
        Some(kind) => fail(kind, "after"),
        None => answer,
    }
}

impl Bend {
    fn object(&self, mut object: Object) -> Object {
        if let Some(length) = self.truncate {
            object.body.truncate(length);
        }
        if let Some(offset) = self.damage
            && !object.body.is_empty()
        {
            let mut bytes = object.body.to_vec();
            let offset = offset % bytes.len();
            bytes[offset] ^= 0x20;
            object.body = bytes.into();
        }
        object
    }

    /// The keys that are spared, and those that are deleted.
    fn split(&self, keys: Vec<String>) -> (Vec<String>, Vec<String>) {
        match self.partial {
            None => (Vec::new(), keys),
            Some(seed) => {
                let mut random = StdRng::seed_from_u64(seed);
                keys.into_iter().partition(|_| random.random())
            }
        }
    }
}

#[async_trait]
impl ObjectStore for FaultyStore {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        let (owned, if_match) = (key.to_owned(), if_match.cloned());
        self.run("get", &[key], move |store, bend| async move {
            store.get(&owned, range, if_match.as_ref()).await.map(|object| bend.object(object))
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let owned = key.to_owned();
        self.run("head", &[key], move |store, _| async move { store.head(&owned).await }).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        let (owned, options) = (key.to_owned(), options.clone());
        self.run("put", &[key], move |store, _| async move { store.put(&owned, body, &options).await }).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        let (owned, options) = (key.to_owned(), options.clone());
        self.run("create_multipart", &[key], move |store, _| async move {
            store.create_multipart(&owned, &options).await
        })
        .await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        let (owned, upload) = (key.to_owned(), upload.clone());
        self.run("upload_part", &[key], move |store, _| async move {
            store.upload_part(&owned, &upload, number, body).await
        })
        .await
    }

    async fn upload_part_copy(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        range: Range<u64>,
    ) -> Result<Part> {
        let (owned, upload, source) = (key.to_owned(), upload.clone(), source.to_owned());
        self.run("upload_part_copy", &[key], move |store, _| async move {
            store.upload_part_copy(&owned, &upload, number, &source, range).await
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
        let (owned, upload, parts, condition) =
            (key.to_owned(), upload.clone(), parts.to_vec(), condition.clone());
        self.run("complete_multipart", &[key], move |store, _| async move {
            store.complete_multipart(&owned, &upload, &parts, &condition).await
        })
        .await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        let (owned, upload) = (key.to_owned(), upload.clone());
        self.run("abort_multipart", &[key], move |store, _| async move {
            store.abort_multipart(&owned, &upload).await
        })
        .await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        let owned = prefix.to_owned();
        self.run(
            "list_multipart",
            &[prefix],
            move |store, _| async move { store.list_multipart(&owned).await },
        )
        .await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        let (source, target, options) = (from.to_owned(), to.to_owned(), options.clone());
        self.run("copy", &[to], move |store, _| async move { store.copy(&source, &target, &options).await })
            .await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        let (owned, condition) = (key.to_owned(), condition.clone());
        self.run("delete", &[key], move |store, _| async move { store.delete(&owned, &condition).await })
            .await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let names: Vec<&str> = keys.iter().map(String::as_str).collect();
        let owned = keys.to_vec();
        self.run("delete_many", &names, move |store, bend| async move {
            let (spared, deleted) = bend.split(owned);
            let mut failed = store.delete_many(&deleted).await?;
            failed.extend(spared.into_iter().map(|key| {
                let error = StoreError::new(Kind::Unavailable, "delete_many", &key, "injected for this key");
                (key, error)
            }));
            Ok(failed)
        })
        .await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        let (owned, after) = (prefix.to_owned(), start_after.map(str::to_owned));
        self.run("list", &[prefix], move |store, _| async move {
            store.list(&owned, after.as_deref(), limit).await
        })
        .await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.run("folders", &[""], |store, _| async move { store.folders().await }).await
    }
}
