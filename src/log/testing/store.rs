//! A store in memory, and clients of it whose requests can be stalled, lost, refused or answered late.

use crate::store::{
    Condition, CopyOptions, ETag, Kind, ListPage, Listed, Object, ObjectMeta, ObjectStore, Part, PutOptions,
    Result, StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// The objects that all clients see.
#[derive(Default)]
pub struct Shared {
    objects: Mutex<BTreeMap<String, (Bytes, ETag)>>,
    writes: AtomicU64,
    uploads: Mutex<Vec<(String, UploadId)>>,
}

impl Shared {
    pub fn new() -> Arc<Shared> {
        Arc::new(Shared::default())
    }

    /// A client without faults.
    pub fn client(self: &Arc<Self>) -> Arc<Client> {
        Arc::new(Client {
            shared: self.clone(),
            rules: Mutex::default(),
            chaos: Mutex::new(None),
            dead: watch::Sender::new(false),
            seen: Mutex::default(),
        })
    }

    pub fn keys(&self) -> Vec<String> {
        self.objects.lock().keys().cloned().collect()
    }

    pub fn get(&self, key: &str) -> Option<Bytes> {
        self.objects.lock().get(key).map(|(body, _)| body.clone())
    }

    /// Puts bytes past every condition, as an outsider would.
    pub fn set(&self, key: &str, body: impl Into<Bytes>) {
        let etag = self.etag();
        self.objects.lock().insert(key.to_owned(), (body.into(), etag));
    }

    pub fn remove(&self, key: &str) {
        self.objects.lock().remove(key);
    }

    pub fn add_upload(&self, key: &str, id: &str) {
        self.uploads.lock().push((key.to_owned(), UploadId(id.to_owned())));
    }

    pub fn uploads(&self) -> Vec<String> {
        self.uploads.lock().iter().map(|(key, _)| key.clone()).collect()
    }

    fn etag(&self) -> ETag {
        ETag(format!("\"{}\"", self.writes.fetch_add(1, Ordering::Relaxed)))
    }
}

/// Holds requests until it is opened.
#[derive(Clone)]
pub struct Gate(Arc<watch::Sender<bool>>);

impl Gate {
    pub fn new() -> Gate {
        Gate(Arc::new(watch::Sender::new(false)))
    }

    pub fn open(&self) {
        self.0.send_replace(true);
    }

    pub async fn pass(&self) {
        // The sender is held here, so the wait ends only when the gate opens.
        let _ = self.0.subscribe().wait_for(|open| *open).await;
    }
}

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    /// Refused without effect.
    Refuse(Kind),
    /// It takes effect, and the answer is this.
    LoseAnswer(Kind),
    /// It waits here before it takes effect.
    HoldBefore(Gate),
    /// It takes effect, and its answer waits here.
    HoldAfter(Gate),
}

/// Random faults.
pub struct Chaos {
    pub rng: StdRng,
    /// Longest delay of a request before its effect, and again of the answer, in milliseconds.
    pub delay_ms: u64,
    /// Chance of a failure without effect, and of one after the effect.
    pub fail: f64,
}

impl Chaos {
    pub fn new(seed: u64, delay_ms: u64, fail: f64) -> Chaos {
        Chaos { rng: StdRng::seed_from_u64(seed), delay_ms, fail }
    }
}

struct Rule {
    operation: &'static str,
    prefix: String,
    fault: Fault,
    times: usize,
}

/// One machine's way to the store.
pub struct Client {
    shared: Arc<Shared>,
    rules: Mutex<Vec<Rule>>,
    chaos: Mutex<Option<Chaos>>,
    dead: watch::Sender<bool>,
    seen: Mutex<Vec<(&'static str, String)>>,
}

impl Client {
    /// As the code under test takes it.
    pub fn store(self: &Arc<Self>) -> Arc<dyn ObjectStore> {
        self.clone()
    }

    /// The next `times` requests of `operation` on keys that start with `prefix` meet `fault`.
    pub fn fault(&self, operation: &'static str, prefix: impl Into<String>, times: usize, fault: Fault) {
        self.rules.lock().push(Rule { operation, prefix: prefix.into(), fault, times });
    }

    pub fn heal(&self) {
        self.rules.lock().clear();
        *self.chaos.lock() = None;
    }

    pub fn chaos(&self, chaos: Chaos) {
        *self.chaos.lock() = Some(chaos);
    }

    /// The machine dies: what has not taken effect never will, and no answer comes any more.
    pub fn kill(&self) {
        self.dead.send_replace(true);
    }

    /// Requests so far: operation and key.
    pub fn requests(&self) -> Vec<(&'static str, String)> {
        self.seen.lock().clone()
    }

    pub fn count(&self, operation: &str, prefix: &str) -> usize {
        self.seen.lock().iter().filter(|(op, key)| *op == operation && key.starts_with(prefix)).count()
    }

    fn rule(&self, operation: &'static str, key: &str) -> Option<Fault> {
        let mut rules = self.rules.lock();
        let at = rules
            .iter()
            .position(|r| r.operation == operation && key.starts_with(&r.prefix) && r.times > 0)?;
        rules[at].times -= 1;
        Some(rules[at].fault.clone())
    }

    /// Runs `effect` with whatever is to happen before and after it.
    async fn run<T>(
        &self,
        operation: &'static str,
        key: &str,
        effect: impl FnOnce(&Shared) -> Result<T>,
    ) -> Result<T> {
        self.seen.lock().push((operation, key.to_owned()));
        let fault = self.rule(operation, key);
        let fail = |kind| StoreError::new(kind, operation, key, "injected");
        tokio::task::yield_now().await;
        match &fault {
            Some(Fault::Refuse(kind)) => return Err(fail(*kind)),
            Some(Fault::HoldBefore(gate)) => gate.pass().await,
            _ => {}
        }
        let (before, after, lose) = self.dice();
        tokio::time::sleep(before).await;
        if lose == Some(false) {
            return Err(fail(Kind::Unavailable));
        }
        self.living().await;
        let result = effect(&self.shared);
        tokio::time::sleep(after).await;
        match fault {
            Some(Fault::LoseAnswer(kind)) => return Err(fail(kind)),
            Some(Fault::HoldAfter(gate)) => gate.pass().await,
            _ => {}
        }
        self.living().await;
        if lose == Some(true) { Err(fail(Kind::Timeout)) } else { result }
    }

    async fn living(&self) {
        if *self.dead.borrow() {
            std::future::pending::<()>().await;
        }
    }

    /// Delays before and after, and whether the request fails (`true`: after its effect).
    fn dice(&self) -> (Duration, Duration, Option<bool>) {
        let mut chaos = self.chaos.lock();
        let Some(chaos) = chaos.as_mut() else { return (Duration::ZERO, Duration::ZERO, None) };
        let mut delay = || Duration::from_millis(chaos.rng.random_range(0..=chaos.delay_ms));
        let (before, after) = (delay(), delay());
        let lose = chaos.rng.random_bool(chaos.fail).then(|| chaos.rng.random_bool(0.5));
        (before, after, lose)
    }
}

fn error<T>(kind: Kind, operation: &'static str, key: &str) -> Result<T> {
    Err(StoreError::new(kind, operation, key, "as the store in memory sees it"))
}

fn meta(body: &Bytes, etag: &ETag) -> ObjectMeta {
    ObjectMeta {
        size: body.len() as u64,
        etag: etag.clone(),
        modified: SystemTime::UNIX_EPOCH,
        metadata: BTreeMap::new(),
    }
}

fn holds(condition: &Condition, now: Option<&ETag>) -> bool {
    match condition {
        Condition::None => true,
        Condition::Absent => now.is_none(),
        Condition::Match(etag) => now == Some(etag),
    }
}

#[async_trait]
impl ObjectStore for Client {
    fn describe(&self) -> String {
        "memory:".into()
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        self.run("get", key, |shared| {
            let objects = shared.objects.lock();
            let Some((body, etag)) = objects.get(key) else { return error(Kind::NotFound, "get", key) };
            if if_match.is_some_and(|wanted| wanted != etag) {
                return error(Kind::Precondition, "get", key);
            }
            let len = body.len() as u64;
            let range = range.unwrap_or(0..len);
            if range.start >= len && len > 0 {
                return error(Kind::InvalidRange, "get", key);
            }
            let part = body.slice(range.start as usize..range.end.min(len) as usize);
            Ok(Object { body: part, meta: meta(body, etag) })
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.run("head", key, |shared| match shared.objects.lock().get(key) {
            Some((body, etag)) => Ok(meta(body, etag)),
            None => error(Kind::NotFound, "head", key),
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        let condition = options.condition.clone();
        self.run("put", key, |shared| {
            let mut objects = shared.objects.lock();
            if !holds(&condition, objects.get(key).map(|(_, etag)| etag)) {
                return error(Kind::Precondition, "put", key);
            }
            let etag = shared.etag();
            objects.insert(key.to_owned(), (body, etag.clone()));
            Ok(etag)
        })
        .await
    }

    async fn create_multipart(&self, key: &str, _: &PutOptions) -> Result<UploadId> {
        error(Kind::Unsupported, "create_multipart", key)
    }

    async fn upload_part(&self, key: &str, _: &UploadId, _: u32, _: Bytes) -> Result<Part> {
        error(Kind::Unsupported, "upload_part", key)
    }

    async fn upload_part_copy(
        &self,
        key: &str,
        _: &UploadId,
        _: u32,
        _: &str,
        _: Range<u64>,
    ) -> Result<Part> {
        error(Kind::Unsupported, "upload_part_copy", key)
    }

    async fn complete_multipart(&self, key: &str, _: &UploadId, _: &[Part], _: &Condition) -> Result<ETag> {
        error(Kind::Unsupported, "complete_multipart", key)
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        self.run("abort", key, |shared| {
            shared.uploads.lock().retain(|(k, id)| k != key || id != upload);
            Ok(())
        })
        .await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        self.run("list_multipart", prefix, |shared| {
            let uploads = shared.uploads.lock();
            Ok(uploads.iter().filter(|(key, _)| key.starts_with(prefix)).cloned().collect())
        })
        .await
    }

    async fn copy(&self, from: &str, _: &str, _: &CopyOptions) -> Result<ETag> {
        error(Kind::Unsupported, "copy", from)
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        self.run("delete", key, |shared| {
            let mut objects = shared.objects.lock();
            if !holds(condition, objects.get(key).map(|(_, etag)| etag)) {
                return error(Kind::Precondition, "delete", key);
            }
            objects.remove(key);
            Ok(())
        })
        .await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let gone: HashSet<&String> = keys.iter().collect();
        self.run("delete_many", "", |shared| {
            shared.objects.lock().retain(|key, _| !gone.contains(key));
            Ok(Vec::new())
        })
        .await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        error(Kind::Unsupported, "folders", "")
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        self.run("list", prefix, |shared| {
            let objects = shared.objects.lock();
            let mut found = objects
                .iter()
                .filter(|(key, _)| key.starts_with(prefix) && start_after.is_none_or(|a| key.as_str() > a));
            let page: Vec<Listed> = found
                .by_ref()
                .take(limit.min(1000))
                .map(|(key, (body, etag))| Listed {
                    key: key.clone(),
                    size: body.len() as u64,
                    etag: etag.clone(),
                    modified: SystemTime::UNIX_EPOCH,
                })
                .collect();
            Ok(ListPage { objects: page, more: found.next().is_some() })
        })
        .await
    }
}
