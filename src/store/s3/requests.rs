//! Small translations between our values and the SDK's.

use super::refusal::Refusal;
use crate::store::{Condition, ETag, Kind, Listed, ObjectMeta};
use aws_sdk_s3::primitives::DateTime;
use aws_sdk_s3::types::Object;
use base64::Engine;
use md5::Digest;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::time::SystemTime;

/// What stays as it is in a copy source, which is a path in a header.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// `If-None-Match` and `If-Match`.
pub(super) fn headers(condition: &Condition) -> (Option<String>, Option<String>) {
    match condition {
        Condition::None => (None, None),
        Condition::Absent => (Some("*".to_owned()), None),
        Condition::Match(etag) => (None, Some(etag.0.clone())),
    }
}

/// An ETag as headers have it: some stores leave the quotes away in listings.
pub(super) fn etag(raw: &str) -> ETag {
    if raw.starts_with("W/") {
        return ETag(raw.to_owned());
    }
    ETag(format!("\"{}\"", raw.trim_matches('"')))
}

/// The ETag that a write answered with.
pub(super) fn written(raw: Option<&str>) -> Result<ETag, Refusal> {
    raw.map(etag).ok_or_else(|| Refusal::new(Kind::Unsupported, "the store answered a write without an ETag"))
}

/// `bytes=0-9`.
pub(super) fn range_header(range: &Range<u64>) -> Result<String, Refusal> {
    if range.start >= range.end {
        return Err(Refusal::new(Kind::Invalid, format!("the range {range:?} is empty")));
    }
    Ok(format!("bytes={}-{}", range.start, range.end - 1))
}

/// First byte and object size of a `Content-Range: bytes 0-9/100`.
fn content_range(header: &str) -> Option<(u64, u64)> {
    let (range, size) = header.strip_prefix("bytes ")?.split_once('/')?;
    let (start, _) = range.split_once('-')?;
    Some((start.trim().parse().ok()?, size.trim().parse().ok()?))
}

/// [`content_range`], where the answer has one: what is not understood may stand for any bytes.
pub(super) fn placed(header: Option<&str>) -> Result<Option<(u64, u64)>, Refusal> {
    let unread = |header| Refusal::new(Kind::Corrupt, format!("the answer has the Content-Range {header:?}"));
    header.map(|header| content_range(header).ok_or_else(|| unread(header))).transpose()
}

pub(super) fn copy_source(bucket: &str, key: &str) -> String {
    utf8_percent_encode(&format!("{bucket}/{key}"), PATH).to_string()
}

/// `Content-MD5`, which many stores ask for where AWS takes newer checksums too.
pub(super) fn content_md5(body: &[u8]) -> String {
    base64::engine::general_purpose::STANDARD.encode(md5::Md5::digest(body))
}

/// Whether XML 1.0 has a way to write this key.
pub(super) fn fits_xml(key: &str) -> bool {
    !key.chars()
        .any(|c| (c.is_control() && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}'))
}

pub(super) fn time(time: Option<&DateTime>) -> SystemTime {
    time.and_then(|time| SystemTime::try_from(*time).ok()).unwrap_or(SystemTime::UNIX_EPOCH)
}

pub(super) fn meta(
    size: u64,
    raw: Option<&str>,
    modified: Option<&DateTime>,
    metadata: Option<&HashMap<String, String>>,
) -> Result<ObjectMeta, Refusal> {
    let raw = raw.ok_or_else(|| Refusal::new(Kind::Unsupported, "the store gave the object no ETag"))?;
    let metadata: BTreeMap<String, String> =
        metadata.into_iter().flatten().map(|(name, value)| (name.to_lowercase(), value.clone())).collect();
    Ok(ObjectMeta { size, etag: etag(raw), modified: time(modified), metadata })
}

/// A length that came as a signed number.
pub(super) fn length(length: Option<i64>) -> Result<u64, Refusal> {
    length
        .and_then(|length| u64::try_from(length).ok())
        .ok_or_else(|| Refusal::new(Kind::Corrupt, "the answer has no Content-Length"))
}

/// A row of a listing, if it is an object below the store's `prefix` and starts with `asked`.
pub(super) fn listed(object: &Object, prefix: &str, asked: &str) -> Option<Listed> {
    let key = object.key()?.strip_prefix(prefix).filter(|key| !key.is_empty())?;
    key.starts_with(asked).then(|| Listed {
        key: key.to_owned(),
        size: object.size().and_then(|size| u64::try_from(size).ok()).unwrap_or(0),
        etag: etag(object.e_tag().unwrap_or_default()),
        modified: time(object.last_modified()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_have_quotes() {
        assert_eq!(etag("abc-1").0, "\"abc-1\"");
        assert_eq!(etag("\"abc\"").0, "\"abc\"");
        assert_eq!(etag("W/\"abc\"").0, "W/\"abc\"");
    }

    #[test]
    fn ranges_are_inclusive_in_headers() {
        assert_eq!(range_header(&(0..10)).unwrap(), "bytes=0-9");
        assert_eq!(range_header(&(5..5)).unwrap_err().kind, Kind::Invalid);
        assert_eq!(content_range("bytes 5-9/100"), Some((5, 100)));
        assert_eq!(content_range("bytes */100"), None);
        assert_eq!(content_range("nonsense"), None);
    }

    #[test]
    fn copy_sources_are_escaped() {
        assert_eq!(copy_source("b", "a b/ü+%"), "b/a%20b/%C3%BC%2B%25");
    }

    #[test]
    fn keys_that_xml_cannot_say_are_known() {
        assert!(fits_xml("ordinary/ü\n"));
        assert!(!fits_xml("a\u{1}"));
        assert!(!fits_xml("\u{ffff}"));
    }
}
