//! The values that pass between a store and its callers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::time::SystemTime;

/// An opaque version of an object's bytes, as the store gave it (quotes included, where it has them).
/// It says nothing of user metadata, and equal content may share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ETag(pub String);

/// The handle of a multipart upload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UploadId(pub String);

/// A finished part of a multipart upload.
#[derive(Debug, Clone)]
pub struct Part {
    /// From 1.
    pub number: u32,
    /// The part's own ETag.
    pub etag: ETag,
}

/// What must be true of the destination for a write or delete to happen.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    #[default]
    None,
    /// No object has this key (`If-None-Match: *`).
    Absent,
    /// The object has this ETag (`If-Match`).
    Match(ETag),
}

/// How an object is written.
#[derive(Debug, Clone, Default)]
pub struct PutOptions {
    /// What must be true of the key.
    pub condition: Condition,
    /// User metadata without the `x-amz-meta-` prefix; names lower case, values printable ASCII.
    pub metadata: BTreeMap<String, String>,
    /// `Content-Type`, where it matters.
    pub content_type: Option<String>,
}

/// How an object is copied.
#[derive(Debug, Clone, Default)]
pub struct CopyOptions {
    /// What the source must be.
    pub source_match: Option<ETag>,
    /// What must be true of the destination.
    pub condition: Condition,
    /// New user metadata; `None` keeps the source's.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// What a store says of an object.
#[derive(Debug, Clone)]
pub struct ObjectMeta {
    /// Bytes of the whole object.
    pub size: u64,
    /// Its version.
    pub etag: ETag,
    /// When it was last written, to the store's precision.
    pub modified: SystemTime,
    /// User metadata without the `x-amz-meta-` prefix, names lower case.
    pub metadata: BTreeMap<String, String>,
}

/// An object, or a range of one.
#[derive(Debug, Clone)]
pub struct Object {
    /// The bytes asked for.
    pub body: Bytes,
    /// About the whole object.
    pub meta: ObjectMeta,
}

/// One row of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Relative to the session's prefix.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// Its version.
    pub etag: ETag,
    /// When it was last written.
    pub modified: SystemTime,
}

/// A page of a listing, in byte order of the keys.
#[derive(Debug, Clone, Default)]
pub struct ListPage {
    /// The objects.
    pub objects: Vec<Listed>,
    /// Whether a further page, after the last key here, may hold more.
    pub more: bool,
}
