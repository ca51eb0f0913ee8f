//! Requests on many objects: listings, uploads under way, deletion of many.

use super::refusal::Refusal;
use super::requests::{content_md5, listed};
use super::{S3Store, answer};
use crate::store::{Kind, ListPage, StoreError, UploadId};
use aws_sdk_s3::types::{Delete, Error, ObjectIdentifier};

/// One page of objects below `prefix`.
pub(super) async fn page(
    store: &S3Store,
    prefix: &str,
    start_after: Option<&str>,
    limit: usize,
) -> Result<ListPage, Refusal> {
    let prefix = format!("{}{prefix}", store.prefix);
    let mut after = start_after.map(|key| format!("{}{key}", store.prefix));
    loop {
        let request = store
            .client
            .list_objects_v2()
            .bucket(&store.bucket)
            .set_prefix(Some(prefix.clone()).filter(|prefix| !prefix.is_empty()))
            .set_start_after(after.clone())
            // One more for the marker of the prefix itself, which comes first; at most 1,000.
            .max_keys(if after.is_none() { limit + 1 } else { limit }.min(1000) as i32);
        let found = answer(0, request.send()).await?;
        let mut objects: Vec<_> =
            found.contents().iter().filter_map(|object| listed(object, &store.prefix)).collect();
        let more = found.is_truncated().unwrap_or(false) || objects.len() > limit;
        objects.truncate(limit);
        let last = found.contents().iter().filter_map(|object| object.key()).next_back();
        if objects.is_empty() && more && last.is_some() && last != after.as_deref() {
            // Only the marker of the prefix itself was in this page: the caller could not go on from it.
            after = last.map(str::to_owned);
            continue;
        }
        return Ok(ListPage { more: more && !objects.is_empty(), objects });
    }
}

/// The folders directly below the prefix.
pub(super) async fn folders(store: &S3Store) -> Result<Vec<String>, Refusal> {
    let mut all = Vec::new();
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
        all.extend(names.filter(|name| !name.is_empty()).map(str::to_owned));
        let after = found.next_continuation_token().map(str::to_owned);
        if !found.is_truncated().unwrap_or(false) || after.is_none() || after == next {
            return Ok(all);
        }
        next = after;
    }
}

/// All uploads under way below `prefix`.
pub(super) async fn uploads(store: &S3Store, prefix: &str) -> Result<Vec<(String, UploadId)>, Refusal> {
    let prefix = format!("{}{prefix}", store.prefix);
    let mut all = Vec::new();
    let mut next: (Option<String>, Option<String>) = (None, None);
    loop {
        let request = store
            .client
            .list_multipart_uploads()
            .bucket(&store.bucket)
            .set_prefix(Some(prefix.clone()).filter(|prefix| !prefix.is_empty()))
            .set_key_marker(next.0.clone())
            .set_upload_id_marker(next.1.clone());
        let found = answer(0, request.send()).await?;
        for upload in found.uploads() {
            // Stores have been seen to leave fields away, and to ignore the prefix.
            if let (Some(key), Some(id)) = (upload.key(), upload.upload_id())
                && let Some(key) = key.strip_prefix(&store.prefix)
                && format!("{}{key}", store.prefix).starts_with(&prefix)
            {
                all.push((key.to_owned(), UploadId(id.to_owned())));
            }
        }
        let after =
            (found.next_key_marker().map(str::to_owned), found.next_upload_id_marker().map(str::to_owned));
        let goes_on = after.0.as_ref().is_some_and(|key| !key.is_empty()) && after != next;
        if !found.is_truncated().unwrap_or(false) || !goes_on {
            return Ok(all);
        }
        next = after;
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
    Ok(deleted.errors().iter().filter_map(|error| failure(store, error)).collect())
}

fn failure(store: &S3Store, error: &Error) -> Option<(String, StoreError)> {
    let key = error.key()?.strip_prefix(&store.prefix)?.to_owned();
    let refusal = Refusal::by_code(error.code(), error.message());
    (refusal.kind != Kind::NotFound).then(|| (key.clone(), refusal.of("delete_many", &key)))
}
