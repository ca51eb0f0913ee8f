//! A store whose keys end, in front of one that does not know of ends: requests are checked as AWS checks them, and
//! go on signed with the key that the store behind knows.

use super::http::Head;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use std::time::SystemTime;

const ALGORITHM: &str = "AWS4-HMAC-SHA256";

/// A key that was issued, with the token that belongs to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The access key.
    pub id: String,
    /// What is signed with.
    pub secret: String,
    /// What goes with each request.
    pub token: Option<String>,
    /// From then on it is refused.
    pub ends: Option<SystemTime>,
}

/// Why a request is refused: status and code, as AWS has them.
pub type Refused = (u16, &'static str);

/// What of an Authorization header says who signed what.
struct Signed<'h> {
    id: &'h str,
    /// `date/region/service/aws4_request`.
    scope: &'h str,
    headers: Vec<&'h str>,
    signature: &'h str,
}

/// The head as it goes on, with the token gone and signed with `real`; or why it does not.
pub fn admit(head: &Head, issued: &[Issued], real: (&str, &str)) -> Result<Vec<u8>, Refused> {
    let authorization = head.header("authorization").ok_or((403, "AccessDenied"))?;
    let signed = parse(authorization).ok_or((400, "AuthorizationHeaderMalformed"))?;
    let key = issued.iter().find(|key| key.id == signed.id).ok_or((403, "InvalidAccessKeyId"))?;
    if head.header("x-amz-security-token") != key.token.as_deref() {
        return Err((400, "InvalidToken"));
    }
    if key.ends.is_some_and(|end| end <= SystemTime::now()) {
        return Err((400, "ExpiredToken"));
    }
    if signature(head, &signed.headers, signed.scope, &key.secret) != signed.signature {
        return Err((403, "SignatureDoesNotMatch"));
    }
    let kept: Vec<&str> =
        signed.headers.iter().copied().filter(|name| *name != "x-amz-security-token").collect();
    let (id, secret) = real;
    let anew = format!(
        "authorization: {ALGORITHM} Credential={id}/{}, SignedHeaders={}, Signature={}",
        signed.scope,
        kept.join(";"),
        signature(head, &kept, signed.scope, secret)
    );
    let text = String::from_utf8_lossy(&head.raw);
    let goes = |line: &&str| {
        let name = line.split(':').next().unwrap_or_default();
        name.eq_ignore_ascii_case("authorization") || name.eq_ignore_ascii_case("x-amz-security-token")
    };
    let mut lines: Vec<&str> = text.trim_end().lines().filter(|line| !goes(line)).collect();
    lines.push(&anew);
    Ok(format!("{}\r\n\r\n", lines.join("\r\n")).into_bytes())
}

fn parse(authorization: &str) -> Option<Signed<'_>> {
    let rest = authorization.strip_prefix(ALGORITHM)?.trim_start();
    let field =
        |name: &str| rest.split(',').find_map(|part| part.trim().strip_prefix(name)?.strip_prefix('='));
    let (id, scope) = field("Credential")?.split_once('/')?;
    Some(Signed {
        id,
        scope,
        headers: field("SignedHeaders")?.split(';').collect(),
        signature: field("Signature")?,
    })
}

fn signature(head: &Head, headers: &[&str], scope: &str, secret: &str) -> String {
    let mut words = head.start.split(' ');
    let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let mut pairs: Vec<String> = query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| if pair.contains('=') { pair.to_owned() } else { format!("{pair}=") })
        .collect();
    pairs.sort();
    let value = |name: &&str| format!("{name}:{}\n", head.header(name).unwrap_or_default());
    let canonical = format!(
        "{method}\n{path}\n{}\n{}\n{}\n{}",
        pairs.join("&"),
        headers.iter().map(value).collect::<String>(),
        headers.join(";"),
        head.header("x-amz-content-sha256").unwrap_or("UNSIGNED-PAYLOAD"),
    );
    let date = head.header("x-amz-date").unwrap_or_default();
    let text = format!("{ALGORITHM}\n{date}\n{scope}\n{}", hex(&Sha256::digest(canonical.as_bytes())));
    let first = format!("AWS4{secret}").into_bytes();
    let key = scope.split('/').fold(first, |key, part| mac(&key, part));
    hex(&mac(&key, &text))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("a key of any length");
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
