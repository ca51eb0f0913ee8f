//! Where sessions live: the [`ObjectStore`] trait and its implementations.
//!
//! A store handle is bound to one session's prefix: every key is relative to it (`.cwdfs/lease`,
//! `src/main.rs`), so nothing here can reach outside the prefix.
//!
//! Invariants every implementation keeps (the conformance suite holds them to it):
//! - a conditional write has exactly one winner, also between processes;
//! - a `put` is atomic: a reader sees the whole old object or the whole new one;
//! - a write that returned is durable;
//! - a body that arrives shorter than its declared length is an error, never data.

mod access;
mod dir;
mod error;
pub mod faulty;
mod gate;
mod listing;
mod location;
mod outage;
mod probe;
mod retry;
mod s3;
mod stats;
mod types;
mod unfenced;

pub use access::{Access, Handed, Keys};
pub use dir::DirStore;
pub use error::{Kind, StoreError};
pub use gate::Gate;
pub use listing::{Onward, Pages, list_all};
pub use location::{Location, Opened, StoreOptions, open};
pub use probe::{Capabilities, probe};
pub use retry::Retrying;
pub use s3::{Encryption, Extra, S3Options, S3Store};
pub use stats::{Attempts, Counts, OUTCOMES, REQUESTS, Stats};
pub use types::{
    Condition, CopyOptions, ETag, ListPage, Listed, Object, ObjectMeta, Part, PutOptions, UploadId,
};
pub use unfenced::Unfenced;

use async_trait::async_trait;
use bytes::Bytes;
use std::ops::Range;

/// The result of a store operation.
pub type Result<T> = std::result::Result<T, StoreError>;

/// The largest object that is read whole, in bytes; segments, the largest of ours, are half as large at most.
const MOST_WHOLE: u64 = 256 << 20;

/// What cwdfs needs from an object store, for the keys below one session's prefix.
///
/// Every method may be retried by a wrapper after an ambiguous failure, so a conditional write that answers
/// [`Kind::Precondition`] may be the caller's own earlier attempt: the caller reads back and compares.
#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// How a person names this store and prefix, without secrets: `s3://demo/sid42`, `file:///srv/sid42`.
    fn describe(&self) -> String;

    /// The object's bytes, or those in `range` (clamped to its end; a range that starts at or past the end
    /// is [`Kind::InvalidRange`]); of more than 256 MiB only by ranges ([`Kind::Invalid`]). With `if_match`, [`Kind::Precondition`] when the object has another ETag.
    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object>;

    /// Size, ETag, time and user metadata. [`Kind::NotFound`] when there is none.
    async fn head(&self, key: &str) -> Result<ObjectMeta>;

    /// Writes a whole object and returns its ETag.
    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag>;

    /// Starts a multipart upload; `options.condition` is applied by [`ObjectStore::complete_multipart`].
    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId>;

    /// Uploads part `number` (from 1; every part but the last at least 5 MiB).
    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part>;

    /// Like [`ObjectStore::upload_part`], with the bytes taken from `range` of another object of this prefix.
    async fn upload_part_copy(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        range: Range<u64>,
    ) -> Result<Part>;

    /// Makes the parts, in order, the object, under `condition`.
    async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<ETag>;

    /// Forgets an upload and its parts. An upload that is not there is success.
    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()>;

    /// Uploads begun under `prefix` and neither completed nor aborted: key and upload.
    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>>;

    /// Copies an object inside the store.
    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag>;

    /// Deletes an object. Without a condition, a missing object is success.
    async fn delete(&self, key: &str, condition: &Condition) -> Result<()>;

    /// Deletes many objects and returns the keys that could not be deleted, each with its error.
    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>>;

    /// Up to `limit` objects (at most 1,000) whose key starts with `prefix` and is greater than
    /// `start_after`. Going on after the last key of each page meets every object. The order is that of the
    /// keys' bytes, but SeaweedFS's is that of folders' names (`a/b` before `a-`): rely on it within one folder
    /// only.
    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage>;

    /// The folders directly below this handle's prefix, by name, in memory: `a` where a key starts with `a/`.
    async fn folders(&self) -> Result<Vec<String>>;
}
