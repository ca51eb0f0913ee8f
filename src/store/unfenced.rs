//! A store without conditional writes, made usable for one writer: conditions are looked at before a write
//! instead of being sent with it.
//!
//! Between look and write another client may write: whoever mounts like this sees to it that there is one
//! writer. What a look can still catch is caught: a successor that is there already, an object that another
//! tool has changed.

use super::{
    Condition, CopyOptions, ETag, Kind, ListPage, Object, ObjectMeta, ObjectStore, Part, PutOptions, Result,
    StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;
use std::sync::Arc;

/// A store whose writes are sent without conditions.
pub struct Unfenced {
    inner: Arc<dyn ObjectStore>,
}

impl Unfenced {
    /// Looks before it writes to `inner`.
    pub fn new(inner: Arc<dyn ObjectStore>) -> Self {
        Unfenced { inner }
    }

    async fn look(&self, operation: &'static str, key: &str, condition: &Condition) -> Result<()> {
        if *condition == Condition::None {
            return Ok(());
        }
        let stored = match self.inner.head(key).await {
            Ok(meta) => Some(meta.etag),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(error),
        };
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => stored.is_none(),
            Condition::Match(etag) => stored.as_ref() == Some(etag),
        };
        let refuse = || StoreError::new(Kind::Precondition, operation, key, "the object is another by now");
        holds.then_some(()).ok_or_else(refuse)
    }
}

fn without_condition(options: &PutOptions) -> PutOptions {
    PutOptions { condition: Condition::None, ..options.clone() }
}

#[async_trait]
impl ObjectStore for Unfenced {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        self.inner.get(key, range, if_match).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.inner.head(key).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        self.look("put", key, &options.condition).await?;
        self.inner.put(key, body, &without_condition(options)).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        // The condition comes once more with the completion, and is looked at there.
        self.inner.create_multipart(key, &without_condition(options)).await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        self.inner.upload_part(key, upload, number, body).await
    }

    async fn upload_part_copy(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        range: Range<u64>,
    ) -> Result<Part> {
        self.inner.upload_part_copy(key, upload, number, source, range).await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<ETag> {
        self.look("complete_multipart", key, condition).await?;
        self.inner.complete_multipart(key, upload, parts, &Condition::None).await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        self.inner.abort_multipart(key, upload).await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        self.inner.list_multipart(prefix).await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        self.look("copy", to, &options.condition).await?;
        let options = CopyOptions { condition: Condition::None, ..options.clone() };
        self.inner.copy(from, to, &options).await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        self.look("delete", key, condition).await?;
        self.inner.delete(key, &Condition::None).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        self.inner.delete_many(keys).await
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        self.inner.list(prefix, start_after, limit).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.inner.folders().await
    }
}
