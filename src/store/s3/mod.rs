//! A store on S3 or what speaks its protocol.
//!
//! Invariants: every key asked for lies below the prefix, and nothing is asked of the bucket itself but
//! listings below the prefix; every upload has a fixed length; a request is sent once (retries are
//! [`super::retry`]'s); an answer's body has the length it declared.

mod connect;
mod credentials;
mod extra;
mod guard;
mod hand;
mod limits;
mod list;
mod refusal;
mod requests;

pub use connect::S3Options;
pub use extra::{Encryption, Extra};

use super::{
    Condition, CopyOptions, ETag, Kind, ListPage, MOST_WHOLE, Object, ObjectMeta, ObjectStore, Part,
    PutOptions, Result, StoreError, UploadId,
};
use async_trait::async_trait;
use aws_sdk_s3::Client;
use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, MetadataDirective};
use bytes::Bytes;
use connect::Connected;
use credentials::CredentialSource;
use futures::StreamExt;
use limits::{Limits, answer};
use refusal::Refusal;
use requests::{copy_source, fits_xml, headers, length, meta, placed, range_header, written};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

/// The most keys that one request deletes.
const DELETE_AT_ONCE: usize = 1000;

/// Deletions at once where each needs a request of its own.
const DELETES: usize = 16;

/// A session below a prefix of a bucket.
pub struct S3Store {
    client: Client,
    bucket: String,
    /// Empty, or ending in a slash.
    prefix: String,
    credentials: Arc<CredentialSource>,
    /// For messages.
    server: String,
    limits: Limits,
    /// The store deletes one object at a time only.
    single_delete: AtomicBool,
}

impl S3Store {
    /// The store at `prefix` (without a slash at its end; empty for the whole bucket). Sends nothing to the
    /// store; may ask IMDS for a region.
    pub async fn open(bucket: &str, prefix: &str, options: &S3Options) -> Result<S3Store> {
        let Connected { client, credentials, server } = connect::connect(options, bucket).await?;
        Ok(S3Store {
            client,
            bucket: bucket.to_owned(),
            prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") },
            credentials,
            server,
            limits: Limits::new(),
            single_delete: AtomicBool::new(false),
        })
    }

    /// The store at `folder` below this one's prefix, with the same client.
    pub fn below(&self, folder: &str) -> S3Store {
        let (client, credentials) = (self.client.clone(), Arc::clone(&self.credentials));
        self.over(client, credentials, format!("{}{folder}/", self.prefix))
    }

    /// The store at another prefix, or over another client.
    fn over(&self, client: Client, credentials: Arc<CredentialSource>, prefix: String) -> S3Store {
        S3Store {
            client,
            bucket: self.bucket.clone(),
            prefix,
            credentials,
            server: self.server.clone(),
            limits: Limits::new(),
            single_delete: AtomicBool::new(self.single_delete.load(Ordering::Relaxed)),
        }
    }

    /// When the credentials in use end; `None` if they do not say, or none were used yet.
    pub fn credential_expiry(&self) -> Option<SystemTime> {
        self.credentials.expiry()
    }

    /// Why no new credentials can be had just now, and since when that is known.
    pub fn credential_trouble(&self) -> Option<(SystemTime, String)> {
        self.credentials.trouble()
    }

    /// A request that moves `bytes` bytes, of which `upload` are sent.
    async fn ask<T>(
        &self,
        (operation, key): (&'static str, &str),
        bytes: u64,
        request: impl Future<Output = std::result::Result<T, Refusal>>,
    ) -> Result<T> {
        let _room = self.limits.room(bytes).await;
        match request.await {
            Ok(answer) => {
                self.credentials.taken();
                Ok(answer)
            }
            Err(refusal) => Err(self.understand(refusal).of(operation, key)),
        }
    }

    /// What a refusal says of the credentials, and what they say of it.
    fn understand(&self, mut refusal: Refusal) -> Refusal {
        // The store took them before: they may be replaced as those that have expired.
        let over =
            self.credentials.have_ended() || self.credentials.have_served() && refusal.is_of_unknown_keys();
        match refusal.kind {
            Kind::NotFound | Kind::Precondition => self.credentials.taken(),
            Kind::AccessDenied if over => refusal.kind = Kind::Expired,
            Kind::AccessDenied => self.credentials.doubted(),
            _ => {}
        }
        if refusal.kind == Kind::Expired && !refusal.unsigned {
            self.credentials.refused(&refusal.message);
        }
        let silent = refusal.status.is_none() && !refusal.unsigned;
        if silent && matches!(refusal.kind, Kind::Unavailable | Kind::Timeout) {
            refusal.message = format!("no answer from {}: {}", self.server, refusal.message);
        }
        refusal
    }

    fn full(&self, key: &str) -> std::result::Result<String, Refusal> {
        if key.is_empty() {
            return Err(Refusal::new(Kind::Invalid, "a key cannot be empty"));
        }
        Ok(format!("{}{key}", self.prefix))
    }

    async fn get_object(
        &self,
        key: &str,
        range: Option<Range<u64>>,
        if_match: Option<&ETag>,
    ) -> std::result::Result<Object, Refusal> {
        let mut request = self.client.get_object().bucket(&self.bucket).key(self.full(key)?);
        request = request.set_if_match(if_match.map(|etag| etag.0.clone()));
        if let Some(range) = &range {
            request = request.range(range_header(range)?);
        }
        let mut found = answer(0, request.send()).await?;
        let declared = length(found.content_length())?;
        let body = std::mem::take(&mut found.body);
        let placed = placed(found.content_range())?;
        let size = placed.map_or(declared, |(_, size)| size);
        let about = meta(size, found.e_tag(), found.last_modified(), found.metadata())?;
        if let Some(asked) = if_match.filter(|asked| **asked != about.etag) {
            let message = format!("asked for the object with the ETag {}, got {}", asked.0, about.etag.0);
            return Err(Refusal::new(Kind::Precondition, message));
        }
        let Some(range) = range else {
            return whole(body, declared, about).await;
        };
        if range.start >= size {
            return Err(Refusal::new(
                Kind::InvalidRange,
                format!("the range {range:?} is past {size} bytes"),
            ));
        }
        // A store may answer with the whole object where the range is all of it.
        let start = placed.map_or(0, |(start, _)| start);
        let expected = range.end.min(size) - range.start;
        if start != range.start || declared != expected {
            let message = format!("asked for {range:?} of {size} bytes, got {declared} bytes from {start}");
            return Err(Refusal::new(Kind::Corrupt, message));
        }
        Ok(Object { body: limits::read(body, expected).await?, meta: about })
    }

    async fn head_object(&self, key: &str) -> std::result::Result<ObjectMeta, Refusal> {
        let request = self.client.head_object().bucket(&self.bucket).key(self.full(key)?);
        let found = answer(0, request.send()).await.map_err(|mut refusal| {
            // The answer has no body to say so: this is how AWS refuses expired credentials here.
            if refusal.code.is_none() && refusal.status == Some(400) {
                refusal.kind = Kind::Expired;
            }
            refusal
        })?;
        meta(length(found.content_length())?, found.e_tag(), found.last_modified(), found.metadata())
    }

    async fn put_object(
        &self,
        key: &str,
        body: Bytes,
        options: &PutOptions,
    ) -> std::result::Result<ETag, Refusal> {
        let (none_match, if_match) = headers(&options.condition);
        let upload = body.len() as u64;
        let request = self
            .client
            .put_object()
            .bucket(&self.bucket)
            .key(self.full(key)?)
            .set_if_none_match(none_match)
            .set_if_match(if_match)
            .set_metadata(Some(options.metadata.clone().into_iter().collect()))
            .set_content_type(options.content_type.clone())
            .content_length(upload as i64)
            .body(ByteStream::from(body));
        let put =
            answer(upload, request.send()).await.map_err(|e| missing_means_changed(e, &options.condition))?;
        written(put.e_tag())
    }

    async fn copy_part(
        &self,
        (key, upload, number): (&str, &UploadId, u32),
        source: &str,
        range: Range<u64>,
    ) -> std::result::Result<Part, Refusal> {
        let request = self
            .client
            .upload_part_copy()
            .bucket(&self.bucket)
            .key(self.full(key)?)
            .upload_id(&upload.0)
            .part_number(part_number(number)?)
            .copy_source(copy_source(&self.bucket, &self.full(source)?))
            .copy_source_range(range_header(&range)?);
        let copied = answer(range.end - range.start, request.send()).await?;
        let etag = written(copied.copy_part_result().and_then(|part| part.e_tag()))?;
        Ok(Part { number, etag })
    }

    async fn complete(
        &self,
        (key, upload): (&str, &UploadId),
        parts: &[Part],
        condition: &Condition,
    ) -> std::result::Result<ETag, Refusal> {
        let (none_match, if_match) = headers(condition);
        let mut completed = CompletedMultipartUpload::builder();
        let mut total = 0u64;
        for part in parts {
            let number = part_number(part.number)?;
            completed =
                completed.parts(CompletedPart::builder().part_number(number).e_tag(&part.etag.0).build());
            total += 1;
        }
        let request = self
            .client
            .complete_multipart_upload()
            .bucket(&self.bucket)
            .key(self.full(key)?)
            .upload_id(&upload.0)
            .multipart_upload(completed.build())
            .set_if_none_match(none_match)
            .set_if_match(if_match);
        // The store may put the parts together before it answers: as if each were a mebibyte sent.
        let done =
            answer(total << 20, request.send()).await.map_err(|e| missing_means_changed(e, condition))?;
        written(done.e_tag())
    }

    async fn copy_object(
        &self,
        from: &str,
        to: &str,
        options: &CopyOptions,
    ) -> std::result::Result<ETag, Refusal> {
        let (none_match, if_match) = headers(&options.condition);
        let mut request = self
            .client
            .copy_object()
            .bucket(&self.bucket)
            .key(self.full(to)?)
            .copy_source(copy_source(&self.bucket, &self.full(from)?))
            .set_copy_source_if_match(options.source_match.as_ref().map(|etag| etag.0.clone()))
            .set_if_none_match(none_match)
            .set_if_match(if_match);
        if let Some(metadata) = &options.metadata {
            request = request
                .metadata_directive(MetadataDirective::Replace)
                .set_metadata(Some(metadata.clone().into_iter().collect()));
        }
        // Objects of up to 5 GB are copied in one request.
        let copied = answer(4 << 20, request.send()).await?;
        written(copied.copy_object_result().and_then(|copy| copy.e_tag()))
    }

    /// Deletes up to [`DELETE_AT_ONCE`] keys with one request.
    async fn delete_page(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let first = keys.first().map(String::as_str).unwrap_or_default();
        self.ask(("delete_many", first), 0, list::delete_objects(self, keys)).await
    }

    async fn delete_each(&self, keys: Vec<String>) -> Vec<(String, StoreError)> {
        futures::stream::iter(keys)
            .map(|key| async move {
                let deleted = self.delete(&key, &Condition::None).await;
                deleted.err().map(|error| (key, error))
            })
            .buffer_unordered(DELETES)
            .filter_map(async |failed| failed)
            .collect()
            .await
    }
}

/// The body of a whole object.
async fn whole(body: ByteStream, declared: u64, meta: ObjectMeta) -> std::result::Result<Object, Refusal> {
    if declared != meta.size {
        let message = format!("asked for all of {} bytes, got {declared}", meta.size);
        return Err(Refusal::new(Kind::Corrupt, message));
    }
    if declared > MOST_WHOLE {
        let message =
            format!("the object has {declared} bytes: none that is read at once has over {MOST_WHOLE}");
        return Err(Refusal::new(Kind::Invalid, message));
    }
    Ok(Object { body: limits::read(body, declared).await?, meta })
}

/// With If-Match a missing object is a changed one: AWS answers 404, others 412.
fn missing_means_changed(mut refusal: Refusal, condition: &Condition) -> Refusal {
    if matches!(condition, Condition::Match(_)) && refusal.is_no_such_key() {
        refusal.kind = Kind::Precondition;
    }
    refusal
}

fn part_number(number: u32) -> std::result::Result<i32, Refusal> {
    i32::try_from(number)
        .ok()
        .filter(|number| (1..=10_000).contains(number))
        .ok_or_else(|| Refusal::new(Kind::Invalid, format!("a part's number is 1 to 10000, not {number}")))
}

#[async_trait]
impl ObjectStore for S3Store {
    fn describe(&self) -> String {
        format!("s3://{}/{}", self.bucket, self.prefix.trim_end_matches('/'))
    }

    async fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        // A whole object may be large.
        let bytes = range.as_ref().map_or(u64::MAX, |range| range.end.saturating_sub(range.start));
        self.ask(("get", key), bytes, self.get_object(key, range, if_match)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.ask(("head", key), 0, self.head_object(key)).await
    }

    async fn put(&self, key: &str, body: Bytes, options: &PutOptions) -> Result<ETag> {
        self.ask(("put", key), body.len() as u64, self.put_object(key, body, options)).await
    }

    async fn create_multipart(&self, key: &str, options: &PutOptions) -> Result<UploadId> {
        let request = async {
            let request = self
                .client
                .create_multipart_upload()
                .bucket(&self.bucket)
                .key(self.full(key)?)
                .set_metadata(Some(options.metadata.clone().into_iter().collect()))
                .set_content_type(options.content_type.clone());
            let created = answer(0, request.send()).await?;
            let id = created.upload_id().filter(|id| !id.is_empty());
            id.map(|id| UploadId(id.to_owned()))
                .ok_or_else(|| Refusal::new(Kind::Unsupported, "the store gave the upload no id"))
        };
        self.ask(("create_multipart", key), 0, request).await
    }

    async fn upload_part(&self, key: &str, upload: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        let bytes = body.len() as u64;
        let request = async {
            let request = self
                .client
                .upload_part()
                .bucket(&self.bucket)
                .key(self.full(key)?)
                .upload_id(&upload.0)
                .part_number(part_number(number)?)
                .content_length(bytes as i64)
                .body(ByteStream::from(body));
            let uploaded = answer(bytes, request.send()).await?;
            Ok(Part { number, etag: written(uploaded.e_tag())? })
        };
        self.ask(("upload_part", key), bytes, request).await
    }

    async fn upload_part_copy(
        &self,
        key: &str,
        upload: &UploadId,
        number: u32,
        source: &str,
        range: Range<u64>,
    ) -> Result<Part> {
        let request = self.copy_part((key, upload, number), source, range);
        self.ask(("upload_part_copy", key), 0, request).await
    }

    async fn complete_multipart(
        &self,
        key: &str,
        upload: &UploadId,
        parts: &[Part],
        condition: &Condition,
    ) -> Result<ETag> {
        self.ask(("complete_multipart", key), 0, self.complete((key, upload), parts, condition)).await
    }

    async fn abort_multipart(&self, key: &str, upload: &UploadId) -> Result<()> {
        let request = async {
            let abort = self.client.abort_multipart_upload().bucket(&self.bucket).key(self.full(key)?);
            match answer(0, abort.upload_id(&upload.0).send()).await {
                Ok(_) => Ok(()),
                Err(refusal) if refusal.kind == Kind::NotFound => Ok(()),
                Err(refusal) => Err(refusal),
            }
        };
        self.ask(("abort_multipart", key), 0, request).await
    }

    async fn list_multipart(&self, prefix: &str) -> Result<Vec<(String, UploadId)>> {
        self.ask(("list_multipart", prefix), 0, list::uploads(self, prefix)).await
    }

    async fn copy(&self, from: &str, to: &str, options: &CopyOptions) -> Result<ETag> {
        self.ask(("copy", to), 0, self.copy_object(from, to, options)).await
    }

    async fn delete(&self, key: &str, condition: &Condition) -> Result<()> {
        let request = async {
            let (none_match, if_match) = headers(condition);
            if none_match.is_some() {
                return Err(Refusal::new(Kind::Invalid, "only what is there can be deleted"));
            }
            let delete = self.client.delete_object().bucket(&self.bucket).key(self.full(key)?);
            match answer(0, delete.set_if_match(if_match).send()).await {
                Ok(_) => Ok(()),
                Err(refusal) if *condition == Condition::None && refusal.is_no_such_key() => Ok(()),
                Err(refusal) => Err(missing_means_changed(refusal, condition)),
            }
        };
        self.ask(("delete", key), 0, request).await
    }

    async fn delete_many(&self, keys: &[String]) -> Result<Vec<(String, StoreError)>> {
        let (together, apart): (Vec<String>, Vec<String>) =
            keys.iter().cloned().partition(|key| fits_xml(key));
        let mut failed = self.delete_each(apart).await;
        for page in together.chunks(DELETE_AT_ONCE) {
            if !self.single_delete.load(Ordering::Relaxed) {
                match self.delete_page(page).await {
                    Err(error) if matches!(error.kind, Kind::Unsupported) => {
                        self.single_delete.store(true, Ordering::Relaxed);
                    }
                    answer => {
                        failed.extend(answer?);
                        continue;
                    }
                }
            }
            failed.extend(self.delete_each(page.to_vec()).await);
        }
        Ok(failed)
    }

    async fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> Result<ListPage> {
        self.ask(("list", prefix), 0, list::page(self, prefix, start_after, limit.clamp(1, 1000))).await
    }

    async fn folders(&self) -> Result<Vec<String>> {
        self.ask(("folders", ""), 0, list::folders(self)).await
    }
}
