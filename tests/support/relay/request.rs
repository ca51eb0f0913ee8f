//! What a request asks of an S3 store, told from its head.

use super::http::Head;
use std::collections::BTreeMap;

/// What a request does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// Reads an object or a range of one.
    Get,
    /// Asks about an object.
    Head,
    /// Writes a whole object.
    Put,
    /// Copies an object inside the store.
    Copy,
    /// Deletes one object.
    Delete,
    /// Deletes many objects.
    DeleteMany,
    /// Lists objects.
    List,
    /// Begins a multipart upload.
    CreateMultipart,
    /// Uploads a part.
    UploadPart,
    /// Makes a part of a range of another object.
    UploadPartCopy,
    /// Makes the parts the object.
    CompleteMultipart,
    /// Forgets an upload.
    AbortMultipart,
    /// Lists uploads or parts.
    ListMultipart,
    /// Anything else: bucket creation, tags, ...
    Other,
}

impl Kind {
    /// Whether the request, once it has reached the store, may change it.
    pub fn changes_the_store(self) -> bool {
        !matches!(self, Kind::Get | Kind::Head | Kind::List | Kind::ListMultipart)
    }
}

/// A request, as far as a rule or a count cares.
#[derive(Debug, Clone)]
pub struct Request {
    /// What it does.
    pub kind: Kind,
    /// `GET`, `PUT`, ...
    pub method: String,
    /// The first component of the path.
    pub bucket: String,
    /// What follows the bucket, percent-decoded; empty for requests on the bucket itself.
    pub key: String,
    /// The query string as it came, without `?`.
    pub query: String,
    /// Whether it carries `If-Match` or `If-None-Match`.
    pub conditional: bool,
    /// The access key that it is signed with.
    pub access_key: String,
    /// Its headers that begin with `x-amz-`, in lower case.
    pub amz: BTreeMap<String, String>,
}

impl Request {
    /// Classifies a request in path style (`/bucket/key?query`).
    pub fn of(head: &Head) -> Request {
        let mut words = head.start.split(' ');
        let method = words.next().unwrap_or_default().to_owned();
        let target = words.next().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = path.trim_start_matches('/');
        let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
        let copies = head.header("x-amz-copy-source").is_some();
        Request {
            kind: kind(&method, key, query, copies),
            bucket: decode(bucket),
            key: decode(key),
            query: query.to_owned(),
            conditional: head.header("if-match").is_some() || head.header("if-none-match").is_some(),
            amz: head.amz_headers(),
            access_key: head.header("authorization").map(access_key).unwrap_or_default().to_owned(),
            method,
        }
    }
}

/// Of `AWS4-HMAC-SHA256 Credential=KEY/date/...`.
fn access_key(authorization: &str) -> &str {
    let credential = authorization.split_once("Credential=").map_or("", |(_, rest)| rest);
    credential.split('/').next().unwrap_or_default()
}

fn kind(method: &str, key: &str, query: &str, copies: bool) -> Kind {
    let has = |name: &str| query.split('&').any(|p| p.split('=').next() == Some(name));
    match method {
        "GET" if has("uploads") || has("uploadId") => Kind::ListMultipart,
        "GET" if key.is_empty() => Kind::List,
        "GET" => Kind::Get,
        "HEAD" => Kind::Head,
        "PUT" if has("partNumber") && copies => Kind::UploadPartCopy,
        "PUT" if has("partNumber") => Kind::UploadPart,
        "PUT" if key.is_empty() || has("tagging") || has("acl") => Kind::Other,
        "PUT" if copies => Kind::Copy,
        "PUT" => Kind::Put,
        "DELETE" if has("uploadId") => Kind::AbortMultipart,
        "DELETE" if !key.is_empty() => Kind::Delete,
        "POST" if has("delete") => Kind::DeleteMany,
        "POST" if has("uploads") => Kind::CreateMultipart,
        "POST" if has("uploadId") => Kind::CompleteMultipart,
        _ => Kind::Other,
    }
}

fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|h| std::str::from_utf8(h).ok());
        match (bytes[at], hex.and_then(|h| u8::from_str_radix(h, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
