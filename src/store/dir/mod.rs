//! A store in a local directory: `file:///srv/sessions/sid42`.
//!
//! A key is the path of a plain file below the directory, so a person sees the tree that an S3 tool would
//! list; a marker `dir/` is a folder. A file that a person copies there is an object. An empty folder made
//! by hand is none, as S3 has none. Keys that cannot be paths, or whose path is taken (`a` beside `a/b`), lie
//! in the store's own folder `.cwdfs-store/odd`. ETags are content hashes. User metadata and hashes are kept
//! in the extended attribute `user.cwdfs`; content types are not kept.
//!
//! Invariants: an object changes by one rename of a file that is on disk, while the key's lock is held, so
//! conditional writes hold between threads and processes (edits by hand take no lock: one between the check
//! and the rename is lost); a write that returned is on disk, its folders too; symbolic links are neither
//! objects nor followed; reading creates nothing.

mod fail;
mod files;
mod find;
mod list;
mod lock;
mod multipart;
mod note;
mod place;
mod write;

use super::{
    Condition, CopyOptions, ETag, Kind, ListPage, Object, ObjectMeta, ObjectStore, Part, PutOptions, Result,
    StoreError, UploadId,
};
use async_trait::async_trait;
use bytes::Bytes;
use fail::{Context, Fail, Try};
use files::Root;
use find::{Found, check, find};
use lock::Locks;
use note::Digest;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio::sync::Semaphore;
use write::{New, Unfinished};

/// How many operations use the disk at once.
const CONCURRENCY: usize = 32;

/// A session in a local directory.
pub struct DirStore {
    inner: Arc<Inner>,
    permits: Arc<Semaphore>,
}

struct Inner {
    root: Root,
    locks: Locks,
    swept: AtomicBool,
}

impl DirStore {
    /// The store in the directory `path` (absolute). Nothing is made or looked at before the first use.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        let root = Root { path: path.into() };
        DirStore {
            inner: Arc::new(Inner { root, locks: Locks::new(), swept: AtomicBool::new(false) }),
            permits: Arc::new(Semaphore::new(CONCURRENCY)),
        }
    }

    /// Runs `work` on a thread that may block, for an operation that needs no directory to be there.
    async fn reading<T, F>(&self, operation: &'static str, key: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(Option<BorrowedFd<'_>>, &str) -> Try<T> + Send + 'static,
    {
        self.run(operation, key, move |inner, key| {
            let root = inner.root.open()?;
            work(root.as_ref().map(OwnedFd::as_fd), key)
        })
        .await
    }

    /// Runs `work` on a thread that may block, with the directory made if it was not there.
    async fn writing<T, F>(&self, operation: &'static str, key: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(BorrowedFd<'_>, &Locks, &str) -> Try<T> + Send + 'static,
    {
        self.run(operation, key, move |inner, key| {
            let root = inner.root.open_or_create()?;
            if !inner.swept.swap(true, Ordering::Relaxed) {
                write::sweep(root.as_fd())?;
            }
            work(root.as_fd(), &inner.locks, key)
        })
        .await
    }

    async fn run<T, F>(&self, operation: &'static str, key: &str, work: F) -> Result<T>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &str) -> Try<T> + Send + 'static,
    {
        let failed = |kind, message: String| StoreError::new(kind, operation, key, message);
        if key.len() > place::MAX_KEY {
            return Err(failed(Kind::Invalid, format!("a key has at most {} bytes", place::MAX_KEY)));
        }
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|closed| failed(Kind::Unavailable, closed.to_string()))?;
        let inner = Arc::clone(&self.inner);
        let owned = key.to_owned();
        let task = tokio::task::spawn_blocking(move || {
            let _permit = permit;
            work(&inner, &owned)
        });
        match task.await {
            Ok(result) => result.map_err(|fail| fail.of(operation, key)),
            Err(died) => Err(failed(Kind::Unavailable, format!("the work was not finished: {died}"))),
        }
    }
}

fn existing(root: Option<BorrowedFd<'_>>, key: &str) -> Try<Found> {
    let found = root.map(|root| find(root, key)).transpose()?.flatten();
    found.ok_or_else(|| Fail::new(Kind::NotFound, "there is no such object"))
}

fn check_key(key: &str) -> Try<()> {
    if key.is_empty() { Err(Fail::new(Kind::Invalid, "a key cannot be empty")) } else { Ok(()) }
}

#[async_trait]
impl ObjectStore for DirStore {
    fn describe(&self) -> String {
        format!("file://{}", self.inner.root.path.display())
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        let condition = if_match.cloned().map_or(Condition::None, Condition::Match);
        self.reading("get", key, move |root, key| {
            let found = existing(root, key)?;
            check(&condition, Some(&found))?;
            found.read(range)
        })
        .await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.reading("head", key, |root, key| existing(root, key).map(|found| found.meta())).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        let options = options.clone();
        self.writing("put", key, move |root, locks, key| {
            check_key(key)?;
            let file = Unfinished::of(root, &body)?;
            let new = New::seal(file, Digest::of(&body), options.metadata)?;
            write::put(root, locks, key, new, &options.condition)
        })
        .await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        let metadata = options.metadata.clone();
        self.writing("create_multipart", key, move |root, _, key| {
            check_key(key)?;
            multipart::create(root, key, &metadata)
        })
        .await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        let upload = upload.clone();
        self.writing("upload_part", key, move |root, _, key| {
            multipart::upload_part(root, key, &upload, number, &body)
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
        let (upload, source) = (upload.clone(), source.to_owned());
        self.writing("upload_part_copy", key, move |root, _, key| {
            multipart::upload_part_copy(root, (key, &upload, number), &source, range)
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
        let (upload, parts, condition) = (upload.clone(), parts.to_vec(), condition.clone());
        self.writing("complete_multipart", key, move |root, locks, key| {
            multipart::complete(root, locks, (key, &upload), &parts, &condition)
        })
        .await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        let upload = upload.clone();
        self.reading("abort_multipart", key, move |root, _| match root {
            Some(root) => multipart::abort(root, &upload),
            None => Ok(()),
        })
        .await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        self.reading("list_multipart", prefix, |root, prefix| match root {
            Some(root) => multipart::list(root, prefix),
            None => Ok(Vec::new()),
        })
        .await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        let (from, options) = (from.to_owned(), options.clone());
        self.writing("copy", to, move |root, locks, to| {
            check_key(to)?;
            let source = existing(Some(root), &from)
                .map_err(|fail| Fail { message: format!("the source {from}: {}", fail.message), ..fail })?;
            let source_is = options.source_match.map_or(Condition::None, Condition::Match);
            check(&source_is, Some(&source))?;
            let mut target = Unfinished::new(root)?;
            if let Some(mut file) = source.file.as_ref() {
                std::io::copy(&mut file, &mut target.file).because("copy", &from)?;
                source.check_unchanged()?;
            }
            let metadata = options.metadata.unwrap_or_else(|| source.metadata.clone());
            let new = New::seal(target, source.digest, metadata)?;
            write::put(root, locks, to, new, &options.condition)
        })
        .await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        let condition = condition.clone();
        self.run("delete", key, move |inner, key| match inner.root.open()? {
            Some(root) => write::delete(root.as_fd(), &inner.locks, key, &condition),
            None => check(&condition, None),
        })
        .await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let mut failed = Vec::new();
        for key in keys {
            if let Err(error) = self.delete(key, &Condition::None).await {
                failed.push((key.clone(), error));
            }
        }
        Ok(failed)
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        let after = start_after.unwrap_or_default().to_owned();
        self.reading("list", prefix, move |root, prefix| match root {
            Some(root) => list::list(root, prefix, &after, limit.clamp(1, 1000)),
            None => Ok(ListPage::default()),
        })
        .await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.reading("folders", "", |root, _| match root {
            Some(root) => list::folders(root),
            None => Ok(Vec::new()),
        })
        .await
    }
}

#[cfg(test)]
mod tests;
