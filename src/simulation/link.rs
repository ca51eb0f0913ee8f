//! A process's way to the store: delays, faults, crashes and suspensions, as the dice or a script will have them.
//!
//! Invariant: a request that was sent takes its course whatever becomes of who sent it, as on a network.

use super::bucket::Bucket;
use super::faults::Fault;
use super::life::Life;
use super::world::World;
use crate::log::ids::keys;
use crate::store::{
    Condition, CopyOptions, ETag, Kind, ListPage, Object, ObjectMeta, ObjectStore, Part, PutOptions, Result,
    StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::sync::oneshot;

/// A process's way to the store.
pub struct Link {
    pub world: Arc<World>,
    pub life: Arc<Life>,
}

impl Link {
    pub fn store(world: &Arc<World>, life: &Arc<Life>) -> Arc<dyn ObjectStore> {
        Arc::new(Link { world: world.clone(), life: life.clone() })
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: &'static str,
        key: &str,
        effect: impl Fn(&mut Bucket, SystemTime) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.life.pass().await;
        let fault = self.world.fault(&self.life.host.name, operation, key);
        let request = Request {
            world: self.world.clone(),
            life: self.life.clone(),
            operation,
            key: key.to_owned(),
            sent: self.life.host.clock.now(),
            delays: (self.world.delay(), self.world.delay()),
        };
        if matches!(fault, Some(Fault::CrashBefore)) {
            self.world.note(format_args!("{} dies before {operation} {key}", self.life.host.name));
            self.life.die();
        }
        self.life.pass().await;
        let (sender, answer) = oneshot::channel();
        tokio::spawn(request.meet(fault, sender, effect));
        let Ok(answer) = answer.await else { return std::future::pending().await };
        self.life.pass().await;
        answer
    }
}

struct Request {
    world: Arc<World>,
    life: Arc<Life>,
    operation: &'static str,
    key: String,
    sent: Duration,
    delays: (Duration, Duration),
}

impl Request {
    fn fail<T>(&self, kind: Kind) -> Result<T> {
        Err(StoreError::new(kind, self.operation, &self.key, "injected"))
    }

    fn effect<T>(&self, effect: &impl Fn(&mut Bucket, SystemTime) -> Result<T>) -> Result<T> {
        let result = self.world.effect(Some(&self.life), (self.operation, &self.key), effect);
        if self.key == keys::LEASE && self.operation == "put" && result.is_ok() {
            let mut renewed = self.life.renewed.lock();
            *renewed = (*renewed).max(Some(self.sent));
        }
        result
    }

    /// Runs its course; whoever asked may not be there any more to hear the answer.
    async fn meet<T: Send + 'static>(
        self,
        fault: Option<Fault>,
        answer: oneshot::Sender<Result<T>>,
        effect: impl Fn(&mut Bucket, SystemTime) -> Result<T> + Send + 'static,
    ) {
        tokio::time::sleep(self.delays.0).await;
        let result = match fault {
            Some(Fault::Refused(kind)) => self.fail(kind),
            Some(Fault::Late(after)) => {
                drop(answer.send(self.fail(Kind::Timeout)));
                tokio::time::sleep(after).await;
                drop(self.effect(&effect));
                return;
            }
            Some(Fault::Lost(kind)) => {
                drop(self.effect(&effect));
                self.fail(kind)
            }
            Some(Fault::Doubled) => {
                drop(self.effect(&effect));
                tokio::time::sleep(self.delays.1).await;
                self.effect(&effect)
            }
            Some(Fault::Truncated) => {
                drop(self.effect(&effect));
                self.fail(Kind::Corrupt)
            }
            Some(Fault::CrashAfter) => {
                drop(self.effect(&effect));
                self.world
                    .note(format_args!("{} dies after {} {}", self.life.host.name, self.operation, self.key));
                self.life.die();
                return;
            }
            Some(Fault::HoldBefore(gate)) => {
                gate.pass().await;
                self.effect(&effect)
            }
            Some(Fault::HoldAfter(gate)) => {
                let result = self.effect(&effect);
                gate.pass().await;
                result
            }
            Some(Fault::CrashBefore) | None => self.effect(&effect),
        };
        tokio::time::sleep(self.delays.1).await;
        drop(answer.send(result));
    }
}

#[async_trait]
impl ObjectStore for Link {
    fn describe(&self) -> String {
        "simulated:".into()
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        let (owned, etag) = (key.to_owned(), if_match.cloned());
        self.run("get", key, move |bucket, _| bucket.get(&owned, range.clone(), etag.as_ref())).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        let owned = key.to_owned();
        let blind = self.world.faults.lock().blind;
        let elsewhere = Bucket::default();
        self.run("head", key, move |bucket, now| {
            bucket.look(&owned, now);
            if blind { &elsewhere } else { bucket }.head(&owned)
        })
        .await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        let (owned, options) = (key.to_owned(), options.clone());
        self.run("put", key, move |bucket, now| bucket.put(&owned, body.clone(), &options, now)).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        let (owned, options) = (key.to_owned(), options.clone());
        self.run("create_multipart", key, move |bucket, _| Ok(bucket.create_multipart(&owned, &options)))
            .await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        let (owned, upload) = (key.to_owned(), upload.clone());
        self.run("upload_part", key, move |bucket, _| {
            bucket.upload_part(&owned, &upload, number, body.clone())
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
        self.run("upload_part_copy", key, move |bucket, _| {
            let body = bucket.get(&source, Some(range.clone()), None)?.body;
            bucket.upload_part(&owned, &upload, number, body)
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
        self.run("complete_multipart", key, move |bucket, now| {
            bucket.complete(&owned, &upload, &parts, &condition, now)
        })
        .await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        let (owned, upload) = (key.to_owned(), upload.clone());
        self.run("abort_multipart", key, move |bucket, _| {
            bucket.abort(&owned, &upload);
            Ok(())
        })
        .await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        let owned = prefix.to_owned();
        self.run("list_multipart", prefix, move |bucket, _| Ok(bucket.uploads(&owned))).await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        let (source, target, options) = (from.to_owned(), to.to_owned(), options.clone());
        self.run("copy", to, move |bucket, now| bucket.copy(&source, &target, &options, now)).await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        let (owned, condition) = (key.to_owned(), condition.clone());
        self.run("delete", key, move |bucket, _| bucket.delete(&owned, &condition)).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let Some(first) = keys.iter().min().cloned() else { return Ok(Vec::new()) };
        let spares = self.world.spares();
        let keys = keys.to_vec();
        self.run("delete_many", &first, move |bucket, _| {
            let mut failed = Vec::new();
            for key in &keys {
                // By the key's own hash: the order in which they came does not matter.
                let hash = BuildHasherDefault::<DefaultHasher>::default().hash_one((spares, key));
                if spares.is_some() && hash % 2 == 0 {
                    let error =
                        StoreError::new(Kind::Unavailable, "delete_many", key, "injected for this key");
                    failed.push((key.clone(), error));
                } else {
                    bucket.delete(key, &Condition::None)?;
                }
            }
            Ok(failed)
        })
        .await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        let (owned, after) = (prefix.to_owned(), start_after.map(str::to_owned));
        // Pages end where they like.
        let limit = limit.min(1000).min(self.world.draw(1..=40) as usize * self.world.draw(1..=40) as usize);
        let blind = self.world.faults.lock().blind;
        let elsewhere = Bucket::default();
        self.run("list", prefix, move |bucket, _| {
            Ok(if blind { &elsewhere } else { bucket }.list(&owned, after.as_deref(), limit))
        })
        .await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
}
