//! What the body of an answer may be, but for an object's own bytes: as large as such an answer can be, and whole.
//!
//! The SDK reads these bodies into memory whatever their size, and takes XML that ends in the middle for all there
//! is: a listing that was cut off would be one of a bucket in which the rest is gone.

use aws_sdk_s3::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_s3::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_s3::error::BoxError;
use aws_sdk_s3::primitives::{ByteStream, SdkBody};
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use bytes::{Bytes, BytesMut};
use http_body::Frame;
use http_body_util::StreamBody;

/// Bytes: a page of 1,000 keys of 1,024 bytes, each written as an entity of six, has fewer.
const MOST: usize = 8 << 20;

/// Tags: a page of 1,000 objects has a quarter of them. The SDK makes some hundred bytes of each.
const TAGS: usize = 100_000;

/// Bounds the bodies of answers.
#[derive(Debug)]
pub(super) struct GuardBodies;

impl Intercept for GuardBodies {
    fn name(&self) -> &'static str {
        "GuardBodies"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map_or("", Metadata::name);
        let response = context.response_mut();
        let succeeded = response.status().is_success();
        // An object's bytes are counted as they are read.
        if !(succeeded && operation == "GetObject") {
            let body = response.take_body();
            let read = futures::stream::once(read(body, succeeded));
            *response.body_mut() = SdkBody::from_body_1_x(StreamBody::new(read));
        }
        Ok(())
    }
}

/// The whole body. What is said with an error may be cut off: its status tells enough.
async fn read(body: SdkBody, succeeded: bool) -> Result<Frame<Bytes>, BoxError> {
    let mut body = ByteStream::new(body);
    let mut all = BytesMut::new();
    while let Some(part) = body.try_next().await? {
        if all.len() + part.len() > MOST {
            return Err(format!("the answer has more than {MOST} bytes").into());
        }
        all.extend_from_slice(&part);
    }
    if all.iter().filter(|byte| **byte == b'<').count() > TAGS {
        return Err(format!("the answer has more than {TAGS} tags").into());
    }
    if succeeded && !ends(&all) {
        return Err("the answer's XML ends in the middle".into());
    }
    Ok(Frame::data(all.freeze()))
}

/// Whether XML ends with the end of its first element. What is no XML is not judged.
fn ends(xml: &[u8]) -> bool {
    let xml = xml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(xml).trim_ascii();
    if xml.first().is_none_or(|first| *first != b'<') {
        return true;
    }
    let Some(root) = root(xml) else { return false };
    let name = root[1..].split(|c| c.is_ascii_whitespace() || matches!(c, b'/' | b'>')).next();
    let Some(name) = name.filter(|name| !name.is_empty()) else { return false };
    let Some(rest) = xml.strip_suffix(b">") else { return false };
    let alone = !root[1..].contains(&b'<') && rest.ends_with(b"/");
    alone || rest.trim_ascii_end().strip_suffix(name).is_some_and(|rest| rest.ends_with(b"</"))
}

/// From the first element on, behind declarations and comments.
fn root(mut xml: &[u8]) -> Option<&[u8]> {
    loop {
        let end: &[u8] = match xml {
            [b'<', b'?', ..] => b"?>",
            [b'<', b'!', b'-', b'-', ..] => b"-->",
            [b'<', b'!', ..] => b">",
            [b'<', ..] => return Some(xml),
            _ => return None,
        };
        let at = xml.windows(end.len()).position(|part| part == end)?;
        xml = xml[at + end.len()..].trim_ascii_start();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xml_that_was_cut_off_is_known_wherever_it_was() {
        let whole = "<?xml version=\"1.0\"?>\n<!-- > -->\n<List xmlns=\"u\"><Key>a</Key><List>b</List><Key/></List >\n";
        assert!(ends(whole.as_bytes()));
        let closed = whole.find("<Key/>").unwrap();
        for cut in 1..whole.trim_end().len() {
            // An element of the root's own name, within it, is what no answer has.
            assert_eq!(ends(&whole.as_bytes()[..cut]), cut == closed, "{}", &whole[..cut]);
        }
        for whole in
            ["", "  ", "not XML", "<A/>", "\u{feff}<A x='/'></A>", "<?xml version='1.0'?><A b='c' />"]
        {
            assert!(ends(whole.as_bytes()), "{whole}");
        }
        for cut in ["<", "<>", "</>", "<?", "<!--", "<?xml?>", "<A", "<A>", "<A><B/>", "<A></B>", "<A></AA>"]
        {
            assert!(!ends(cut.as_bytes()), "{cut}");
        }
    }

    #[tokio::test]
    async fn what_is_too_much_is_not_read() {
        let parts =
            futures::stream::repeat_with(|| Ok::<_, BoxError>(Frame::data(Bytes::from(vec![b' '; 1 << 20]))));
        let endless = SdkBody::from_body_1_x(StreamBody::new(parts));
        assert!(read(endless, false).await.unwrap_err().to_string().contains("more than"));
        let tags = SdkBody::from(format!("<A>{}</A>", "<B/>".repeat(TAGS)));
        assert!(read(tags, true).await.unwrap_err().to_string().contains("tags"));
    }
}
