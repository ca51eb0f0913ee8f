//! Requests on many objects: listings, uploads under way, deletion of many.
//!
//! Invariants: what is listed lies below the prefix that was asked for; a listing goes on, or it ends, or it fails:
//! one that is cut short is never taken for a whole one.

use super::refusal::Refusal;
use super::requests::{content_md5, listed};
use super::{S3Store, answer};
use crate::store::listing::is_behind;
use crate::store::{Kind, ListPage, StoreError, UploadId};
use aws_sdk_s3::operation::list_objects_v2::ListObjectsV2Output;
use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};

/// Pages of a listing that may hold nothing for the caller, one after the other.
const EMPTY: usize = 100;

/// Bytes of names that are kept of a listing that goes to memory, a page counted as [`LEAST`] at least.
const NAMES: usize = 256 << 20;

/// What a page of such a listing counts at least.
const LEAST: usize = 4096;

/// One page of objects below `prefix`.
pub(super) async fn page(
    store: &S3Store,
    prefix: &str,
    start_after: Option<&str>,
    limit: usize,
) -> Result<ListPage, Refusal> {
    let full = format!("{}{prefix}", store.prefix);
    let mut after = start_after.map(|key| format!("{}{key}", store.prefix));
    let mut token: Option<String> = None;
    for _ in 0..EMPTY {
        let request = store
            .client
            .list_objects_v2()
            .bucket(&store.bucket)
            .set_prefix(Some(full.clone()).filter(|prefix| !prefix.is_empty()))
            .set_start_after(after.clone())
            .set_continuation_token(token.clone())
            // One more for the marker of the prefix itself, which comes first; at most 1,000.
            .max_keys(if after.is_none() { limit + 1 } else { limit }.min(1000) as i32);
        let found = answer(0, request.send()).await?;
        // What does not lie behind is given again by a store that does not know where to start.
        let behind = |key: &str| start_after.is_none_or(|after| is_behind(key, after));
        let rows = found.contents().iter().filter_map(|object| listed(object, &store.prefix, prefix));
        let mut objects: Vec<_> = rows.filter(|object| behind(&object.key)).collect();
        let more = found.is_truncated().unwrap_or(false) || objects.len() > limit;
        objects.truncate(limit);
        if !more || !objects.is_empty() {
            return Ok(ListPage { more, objects });
        }
        (after, token) = next(&found, &full, (after, token))?;
    }
    Err(Refusal::new(Kind::Corrupt, format!("the listing goes on for {EMPTY} pages without an object")))
}

/// Where a listing goes on behind a page with nothing for the caller, who cannot tell: only the marker of the prefix
/// itself was in it, or what is deleted. `at` is where that page began: a key, and the store's own mark.
fn next(
    found: &ListObjectsV2Output,
    full: &str,
    at: (Option<String>, Option<String>),
) -> Result<(Option<String>, Option<String>), Refusal> {
    let last = found.contents().iter().filter_map(|object| object.key()).next_back();
    let last =
        last.filter(|last| last.starts_with(full) && at.0.as_deref().is_none_or(|at| is_behind(last, at)));
    let token = found.next_continuation_token().filter(|token| at.1.as_deref() != Some(token));
    match (last, token) {
        (Some(last), _) => Ok((Some(last.to_owned()), None)),
        (None, Some(token)) => Ok((at.0, Some(token.to_owned()))),
        (None, None) => {
            let message = "the listing says that it goes on, and does not: it cannot be believed";
            Err(Refusal::new(Kind::Corrupt, message))
        }
    }
}

/// How much of a listing is still taken into memory.
struct Budget(usize);

impl Budget {
    /// Takes a page of these names.
    fn take<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<(), Refusal> {
        let bytes = names.map(str::len).sum::<usize>().max(LEAST);
        self.0 = self.0.checked_sub(bytes).ok_or_else(|| {
            let message = format!("the listing has more than {} MiB of names, or does not end", NAMES >> 20);
            Refusal::new(Kind::Invalid, message)
        })?;
        Ok(())
    }
}

/// The folders directly below the prefix.
pub(super) async fn folders(store: &S3Store) -> Result<Vec<String>, Refusal> {
    let (mut all, mut budget) = (Vec::new(), Budget(NAMES));
    let mut next: Option<String> = None;
    loop {
        let request = store
            .client
            .list_objects_v2()
            .bucket(&store.bucket)
            .set_prefix(Some(store.prefix.clone()).filter(|prefix| !prefix.is_empty()))
            .delimiter("/")
            .set_continuation_token(next.clone());
        let found = answer(0, request.send()).await?;
        let below = found.common_prefixes().iter().filter_map(|common| common.prefix());
        let names = below.filter_map(|path| path.strip_prefix(&store.prefix)?.strip_suffix('/'));
        let names: Vec<&str> = names.filter(|name| !name.is_empty() && !name.contains('/')).collect();
        budget.take(names.iter().copied())?;
        all.extend(names.into_iter().map(str::to_owned));
        if !found.is_truncated().unwrap_or(false) {
            return Ok(all);
        }
        next = Some(goes_on(found.next_continuation_token().filter(|token| next.as_deref() != Some(token)))?);
    }
}

/// The mark behind which a listing that says so goes on.
fn goes_on<T: ToOwned + ?Sized>(mark: Option<&T>) -> Result<T::Owned, Refusal> {
    let stuck = "the listing says that it goes on, and not where: it cannot be believed";
    mark.map(ToOwned::to_owned).ok_or_else(|| Refusal::new(Kind::Corrupt, stuck))
}

/// All uploads under way below `prefix`.
pub(super) async fn uploads(store: &S3Store, prefix: &str) -> Result<Vec<(String, UploadId)>, Refusal> {
    let full = format!("{}{prefix}", store.prefix);
    let (mut all, mut budget) = (Vec::new(), Budget(NAMES));
    let mut next: (Option<String>, Option<String>) = (None, None);
    loop {
        let request = store
            .client
            .list_multipart_uploads()
            .bucket(&store.bucket)
            .set_prefix(Some(full.clone()).filter(|prefix| !prefix.is_empty()))
            .set_key_marker(next.0.clone())
            .set_upload_id_marker(next.1.clone());
        let found = answer(0, request.send()).await?;
        let told =
            found.uploads().iter().flat_map(|upload| upload.key().into_iter().chain(upload.upload_id()));
        budget.take(told)?;
        for upload in found.uploads() {
            // Stores have been seen to leave fields away, and to ignore the prefix.
            if let (Some(key), Some(id)) = (upload.key(), upload.upload_id())
                && key.starts_with(&full)
                && let Some(key) = key.strip_prefix(&store.prefix).filter(|key| !key.is_empty())
            {
                all.push((key.to_owned(), UploadId(id.to_owned())));
            }
        }
        if !found.is_truncated().unwrap_or(false) {
            return Ok(all);
        }
        let after =
            (found.next_key_marker().map(str::to_owned), found.next_upload_id_marker().map(str::to_owned));
        let is_mark = |(key, _): &&(Option<String>, _)| key.as_ref().is_some_and(|key| !key.is_empty());
        next = goes_on(Some(&after).filter(is_mark).filter(|after| **after != next))?;
    }
}

/// Deletes at most 1,000 keys with one request; the keys that failed, with why.
pub(super) async fn delete_objects(
    store: &S3Store,
    keys: &[String],
) -> Result<Vec<(String, StoreError)>, Refusal> {
    let mut delete = Delete::builder().quiet(true);
    for key in keys {
        let object = ObjectIdentifier::builder().key(store.full(key)?).build();
        delete = delete.objects(object.map_err(|error| Refusal::new(Kind::Invalid, error.to_string()))?);
    }
    let delete = delete.build().map_err(|error| Refusal::new(Kind::Invalid, error.to_string()))?;
    let request = store.client.delete_objects().bucket(&store.bucket).delete(delete).customize();
    let request = request.mutate_request(|request| {
        // The body was just made from the keys, so it is in memory.
        if let Some(sum) = request.body().bytes().map(content_md5) {
            request.headers_mut().insert("content-md5", sum);
        }
    });
    let deleted = answer(0, request.send()).await?;
    let failures = deleted.errors().iter().map(|error| failure(store, keys, error));
    failures.filter_map(Result::transpose).collect()
}

/// What an error of a deletion says of one of `keys`; of none of them, all have failed.
fn failure(store: &S3Store, keys: &[String], error: &Error) -> Result<Option<(String, StoreError)>, Refusal> {
    let refusal = Refusal::by_code(error.code(), error.message());
    if refusal.kind == Kind::NotFound {
        return Ok(None);
    }
    let key = error.key().and_then(|key| key.strip_prefix(&store.prefix));
    match keys.iter().find(|asked| Some(asked.as_str()) == key) {
        Some(key) => Ok(Some((key.clone(), refusal.of("delete_many", key)))),
        None => Err(refusal),
    }
}
