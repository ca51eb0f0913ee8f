//! The objects: a bucket in memory with conditional writes, multipart uploads and metadata. No faults here.
//!
//! Invariants: each operation is whole and takes no time; an ETag is a hash of the bytes alone, as stores give
//! it, so equal bytes share one.

use crate::store::{
    Condition, CopyOptions, ETag, Kind, ListPage, Listed, Object, ObjectMeta, Part, PutOptions, StoreError,
    UploadId,
};
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::time::{Duration, SystemTime};

type Result<T> = std::result::Result<T, StoreError>;

/// An object.
#[derive(Debug, Clone)]
pub struct Stored {
    pub body: Bytes,
    pub etag: ETag,
    pub modified: SystemTime,
    pub metadata: BTreeMap<String, String>,
}

#[derive(Debug, Clone)]
struct Upload {
    key: String,
    metadata: BTreeMap<String, String>,
    parts: BTreeMap<u32, Bytes>,
}

/// What is done because of a look at an object takes effect within this.
const LOOK_COUNTS: Duration = Duration::from_secs(60);

/// All there is in a store.
#[derive(Debug, Default)]
pub struct Bucket {
    objects: BTreeMap<String, Stored>,
    /// Keys at which there is or was an object without bytes: the next such one has its ETag.
    empty: BTreeSet<String>,
    /// When a machine last looked at a key.
    looked: BTreeMap<String, SystemTime>,
    uploads: BTreeMap<u64, Upload>,
    next_upload: u64,
}

fn refuse<T>(kind: Kind, operation: &'static str, key: &str) -> Result<T> {
    Err(StoreError::new(kind, operation, key, "as the store sees it"))
}

fn etag_of(body: &[u8]) -> ETag {
    ETag(format!("\"{}\"", &blake3::hash(body).to_hex()[..16]))
}

impl Bucket {
    pub fn object(&self, key: &str) -> Option<&Stored> {
        self.objects.get(key)
    }

    /// Whether an object without bytes that is put at this key `now` may go unseen: another one was there, and somebody
    /// has looked at it and may be about to change it on condition of its ETag.
    pub fn hides_empty(&self, key: &str, now: SystemTime) -> bool {
        let since = self.looked.get(key).and_then(|at| now.duration_since(*at).ok());
        self.empty.contains(key) && since.is_some_and(|since| since < LOOK_COUNTS)
    }

    /// A machine looks at a key.
    pub fn look(&mut self, key: &str, now: SystemTime) {
        self.looked.insert(key.to_owned(), now);
    }

    /// Every object whose key starts so, in the order of keys.
    pub fn below<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a String, &'a Stored)> {
        self.objects.range(prefix.to_owned()..).take_while(move |(key, _)| key.starts_with(prefix))
    }

    /// Changes an object's bytes past everything, as damage does.
    pub fn damage(&mut self, key: &str, body: Bytes) {
        if let Some(stored) = self.objects.get_mut(key) {
            stored.body = body;
        }
    }

    fn check(&self, operation: &'static str, key: &str, condition: &Condition) -> Result<()> {
        let now = self.objects.get(key).map(|stored| &stored.etag);
        let holds = match condition {
            Condition::None => true,
            Condition::Absent => now.is_none(),
            Condition::Match(etag) => now == Some(etag),
        };
        if holds { Ok(()) } else { refuse(Kind::Precondition, operation, key) }
    }

    fn found(&self, operation: &'static str, key: &str) -> Result<&Stored> {
        self.objects.get(key).map_or_else(|| refuse(Kind::NotFound, operation, key), Ok)
    }

    pub fn get(&self, key: &str, range: Option<Range<u64>>, if_match: Option<&ETag>) -> Result<Object> {
        let stored = self.found("get", key)?;
        if if_match.is_some_and(|wanted| *wanted != stored.etag) {
            return refuse(Kind::Precondition, "get", key);
        }
        let len = stored.body.len() as u64;
        let range = range.unwrap_or(0..len);
        if range.start >= len && len > 0 {
            return refuse(Kind::InvalidRange, "get", key);
        }
        let body = stored.body.slice(range.start as usize..range.end.min(len) as usize);
        Ok(Object { body, meta: meta(stored) })
    }

    pub fn head(&self, key: &str) -> Result<ObjectMeta> {
        self.found("head", key).map(meta)
    }

    pub fn put(&mut self, key: &str, body: Bytes, options: &PutOptions, now: SystemTime) -> Result<ETag> {
        self.check("put", key, &options.condition)?;
        Ok(self.insert(key, body, options.metadata.clone(), now))
    }

    fn insert(
        &mut self,
        key: &str,
        body: Bytes,
        metadata: BTreeMap<String, String>,
        modified: SystemTime,
    ) -> ETag {
        let etag = etag_of(&body);
        if body.is_empty() {
            self.empty.insert(key.to_owned());
        }
        self.objects.insert(key.to_owned(), Stored { body, etag: etag.clone(), modified, metadata });
        etag
    }

    pub fn delete(&mut self, key: &str, condition: &Condition) -> Result<()> {
        self.check("delete", key, condition)?;
        self.objects.remove(key);
        Ok(())
    }

    pub fn list(&self, prefix: &str, start_after: Option<&str>, limit: usize) -> ListPage {
        let mut found =
            self.below(prefix).filter(|(key, _)| start_after.is_none_or(|after| key.as_str() > after));
        let listed = |(key, stored): (&String, &Stored)| Listed {
            key: key.clone(),
            size: stored.body.len() as u64,
            etag: stored.etag.clone(),
            modified: stored.modified,
        };
        let objects = found.by_ref().take(limit).map(listed).collect();
        ListPage { objects, more: found.next().is_some() }
    }

    pub fn copy(&mut self, from: &str, to: &str, options: &CopyOptions, now: SystemTime) -> Result<ETag> {
        let source = self.found("copy", from)?.clone();
        if options.source_match.as_ref().is_some_and(|wanted| *wanted != source.etag) {
            return refuse(Kind::Precondition, "copy", from);
        }
        self.check("copy", to, &options.condition)?;
        let metadata = options.metadata.clone().unwrap_or(source.metadata);
        Ok(self.insert(to, source.body, metadata, now))
    }

    pub fn create_multipart(&mut self, key: &str, options: &PutOptions) -> UploadId {
        self.next_upload += 1;
        let upload =
            Upload { key: key.to_owned(), metadata: options.metadata.clone(), parts: BTreeMap::new() };
        self.uploads.insert(self.next_upload, upload);
        UploadId(self.next_upload.to_string())
    }

    fn upload(&mut self, operation: &'static str, key: &str, id: &UploadId) -> Result<&mut Upload> {
        let known = id.0.parse().ok().and_then(|id: u64| self.uploads.get_mut(&id));
        known.filter(|upload| upload.key == key).map_or_else(|| refuse(Kind::NotFound, operation, key), Ok)
    }

    pub fn upload_part(&mut self, key: &str, id: &UploadId, number: u32, body: Bytes) -> Result<Part> {
        let etag = etag_of(&body);
        self.upload("upload_part", key, id)?.parts.insert(number, body);
        Ok(Part { number, etag })
    }

    pub fn complete(
        &mut self,
        key: &str,
        id: &UploadId,
        parts: &[Part],
        condition: &Condition,
        now: SystemTime,
    ) -> Result<ETag> {
        let upload = self.upload("complete_multipart", key, id)?.clone();
        self.check("complete_multipart", key, condition)?;
        let mut body = Vec::new();
        for part in parts {
            let Some(bytes) = upload.parts.get(&part.number).filter(|bytes| etag_of(bytes) == part.etag)
            else {
                return refuse(Kind::Invalid, "complete_multipart", key);
            };
            body.extend_from_slice(bytes);
        }
        self.abort(key, id);
        Ok(self.insert(key, body.into(), upload.metadata, now))
    }

    pub fn abort(&mut self, _key: &str, id: &UploadId) {
        if let Ok(id) = id.0.parse::<u64>() {
            self.uploads.remove(&id);
        }
    }

    pub fn uploads(&self, prefix: &str) -> Vec<(String, UploadId)> {
        let below = self.uploads.iter().filter(|(_, upload)| upload.key.starts_with(prefix));
        below.map(|(id, upload)| (upload.key.clone(), UploadId(id.to_string()))).collect()
    }
}

fn meta(stored: &Stored) -> ObjectMeta {
    ObjectMeta {
        size: stored.body.len() as u64,
        etag: stored.etag.clone(),
        modified: stored.modified,
        metadata: stored.metadata.clone(),
    }
}
