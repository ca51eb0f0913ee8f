//! What a failed request means: one place, from the SDK's error to a [`Kind`].

use super::credentials::Lack;
use crate::store::{Kind, StoreError};
use aws_sdk_s3::config::http::HttpResponse;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use std::error::Error;

/// The most characters of what a store said.
const WORDS: usize = 1000;

/// A failed request: its kind, and what the store said.
#[derive(Debug)]
pub(super) struct Refusal {
    pub kind: Kind,
    /// The store's error code, where it sent one.
    pub code: Option<String>,
    /// The answer's status, where there was one.
    pub status: Option<u16>,
    /// It was never sent: there were no credentials.
    pub unsigned: bool,
    pub message: String,
}

impl Refusal {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Refusal { kind, code: None, status: None, unsigned: false, message: message.into() }
    }

    /// What one error of an answer to many deletions says.
    pub fn by_code(code: Option<&str>, message: Option<&str>) -> Self {
        let kind = code.and_then(by_code).unwrap_or(Kind::Unavailable);
        let name = code.unwrap_or("no error code");
        let message = format!("{name}: {}", message.unwrap_or("no explanation"));
        Refusal { code: code.map(str::to_owned), ..Refusal::new(kind, message) }
    }

    /// Whether the object, not the bucket or the upload, is missing.
    pub fn is_no_such_key(&self) -> bool {
        self.kind == Kind::NotFound && self.code.as_deref() != Some("NoSuchUpload")
    }

    /// Whether the store does not know what it was signed with, or no longer.
    pub fn is_of_unknown_keys(&self) -> bool {
        matches!(self.code.as_deref(), Some("InvalidAccessKeyId" | "InvalidToken" | "InvalidSecurity"))
    }

    pub fn of(self, operation: &'static str, key: &str) -> StoreError {
        StoreError::new(self.kind, operation, key, plain(&self.message))
    }
}

impl<E> From<SdkError<E, HttpResponse>> for Refusal
where
    E: ProvideErrorMetadata + Error + 'static,
{
    fn from(error: SdkError<E, HttpResponse>) -> Self {
        if let Some(lack) = lack(&error) {
            return Refusal { unsigned: true, ..Refusal::new(lack.kind, lack.to_string()) };
        }
        match &error {
            // Done, it says, and then what makes no sense: what became of the request is unknown.
            SdkError::ServiceError(answer)
                if answer.raw().status().is_success() && answer.err().code().is_none() =>
            {
                Refusal::new(
                    Kind::Unavailable,
                    format!("the answer makes no sense: {}", causes(answer.err())),
                )
            }
            SdkError::ServiceError(answer) => {
                let status = answer.raw().status().as_u16();
                let code = answer.err().code().map(str::to_owned);
                let kind = code.as_deref().and_then(by_code).unwrap_or_else(|| by_status(status));
                let said = answer.err().message().unwrap_or("no explanation");
                let name = code.as_deref().unwrap_or("no error code");
                let denied = kind == Kind::AccessDenied && !name.contains("Denied");
                let denied = if denied { "access denied: " } else { "" };
                let said = said.trim_end_matches('.');
                let message = format!("{denied}{name} ({status}): {said}{}", advice(name));
                Refusal { code, status: Some(status), ..Refusal::new(kind, message) }
            }
            SdkError::TimeoutError(_) => Refusal::new(Kind::Timeout, causes(&error)),
            SdkError::DispatchFailure(failure) => {
                let kind = match failure {
                    failure if failure.is_timeout() => Kind::Timeout,
                    failure if failure.is_user() => Kind::Invalid,
                    _ => Kind::Unavailable,
                };
                Refusal::new(kind, causes(&error))
            }
            // The answer began and made no sense: whether the request had its effect is unknown.
            SdkError::ResponseError(_) => Refusal::new(Kind::Unavailable, causes(&error)),
            SdkError::ConstructionFailure(_) => Refusal::new(Kind::Invalid, causes(&error)),
            _ => Refusal::new(Kind::Unavailable, causes(&error)),
        }
    }
}

/// The codes of AWS, and of SeaweedFS, MinIO, Ceph and R2 where they have their own.
fn by_code(code: &str) -> Option<Kind> {
    Some(match code {
        "NoSuchKey" | "NoSuchUpload" | "NoSuchVersion" | "NotFound" => Kind::NotFound,
        "NoSuchBucket" => Kind::NoSuchBucket,
        "PreconditionFailed" => Kind::Precondition,
        "ConditionalRequestConflict" | "OperationAborted" => Kind::Conflict,
        "InvalidRange" => Kind::InvalidRange,
        "ExpiredToken"
        | "ExpiredTokenException"
        | "TokenRefreshRequired"
        | "RequestTimeTooSkewed"
        | "RequestExpired" => Kind::Expired,
        "AccessDenied"
        | "AllAccessDisabled"
        | "AccountProblem"
        | "Forbidden"
        | "InvalidAccessKeyId"
        | "InvalidSecurity"
        | "InvalidToken"
        | "NotSignedUp"
        | "SignatureDoesNotMatch"
        | "UnauthorizedAccess"
        | "Unauthorized"
        | "InvalidObjectState" => Kind::AccessDenied,
        "SlowDown"
        | "SlowDownRead"
        | "SlowDownWrite"
        | "Throttling"
        | "ThrottlingException"
        | "TooManyRequests"
        | "RequestLimitExceeded"
        | "BandwidthLimitExceeded" => Kind::Throttled,
        "RequestTimeout" => Kind::Timeout,
        "InternalError" | "ServiceUnavailable" | "ServerNotInitialized" => Kind::Unavailable,
        "QuotaExceeded"
        | "StorageFull"
        | "InsufficientStorage"
        | "NotEnoughSpace"
        | "XMinioStorageFull"
        | "XMinioAdminBucketQuotaExceeded" => Kind::NoSpace,
        "BadDigest" | "IncompleteBody" | "InvalidDigest" | "XAmzContentSHA256Mismatch" => Kind::Corrupt,
        "NotImplemented" | "MethodNotAllowed" => Kind::Unsupported,
        "AuthorizationHeaderMalformed"
        | "BucketAlreadyExists"
        | "EntityTooLarge"
        | "EntityTooSmall"
        | "IllegalLocationConstraintException"
        | "InvalidArgument"
        | "InvalidBucketName"
        | "InvalidPart"
        | "InvalidPartOrder"
        | "InvalidRequest"
        | "InvalidURI"
        | "KeyTooLongError"
        | "MalformedXML"
        | "MetadataTooLarge"
        | "MissingContentLength"
        | "PermanentRedirect" => Kind::Invalid,
        _ => return None,
    })
}

/// Of a code we do not know, and of a HEAD, whose answer has no body and so no code.
fn by_status(status: u16) -> Kind {
    match status {
        304 | 412 => Kind::Precondition,
        401 | 403 | 423 => Kind::AccessDenied,
        404 => Kind::NotFound,
        405 | 501 => Kind::Unsupported,
        408 => Kind::Timeout,
        409 => Kind::Conflict,
        416 => Kind::InvalidRange,
        429 => Kind::Throttled,
        507 => Kind::NoSpace,
        500.. => Kind::Unavailable,
        _ => Kind::Invalid,
    }
}

/// What a stranger said, as it may go to logs and terminals: not long, and without control characters.
fn plain(said: &str) -> String {
    let mut plain: String = said.chars().take(WORDS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if said.chars().nth(WORDS).is_some() {
        plain.push_str(" ...");
    }
    plain
}

/// What to do about a code whose own words do not say it.
fn advice(code: &str) -> &'static str {
    match code {
        "AuthorizationHeaderMalformed" | "PermanentRedirect" | "IllegalLocationConstraintException" => {
            "; the bucket is in another region: give it with --region"
        }
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "InvalidToken" => {
            "; check the credentials (AWS_ACCESS_KEY_ID and the like, or --profile)"
        }
        "RequestTimeTooSkewed" => "; set this machine's clock",
        _ => "",
    }
}

/// Why there were no credentials to sign with, where that is the cause.
fn lack<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e Lack> {
    let next = |error: &&'e (dyn Error + 'static)| (*error).source();
    std::iter::successors(Some(error), next).find_map(|error| error.downcast_ref())
}

/// An error with all its causes, each said once, on one line.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut said = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        if !said.ends_with(&words) {
            said = format!("{said}: {words}");
        }
        next = cause.source();
    }
    said.lines().map(str::trim).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_store_says_can_be_shown() {
        let said = format!("gone\u{1b}[2J\n{}", "x".repeat(10 << 20));
        let told = Refusal::by_code(Some("Odd\u{7}"), Some(&said)).of("delete_many", "k").to_string();
        assert!(told.contains("gone [2J") && !told.contains(char::is_control), "{told}");
        assert!(told.len() < 2000);
    }

    #[test]
    fn codes_come_before_statuses() {
        assert_eq!(by_code("NoSuchBucket"), Some(Kind::NoSuchBucket));
        assert_eq!(by_code("ExpiredToken"), Some(Kind::Expired));
        assert_eq!(by_code("SlowDown"), Some(Kind::Throttled));
        assert_eq!(by_code("Something"), None);
    }

    #[test]
    fn every_status_has_a_kind() {
        let kinds = [
            (304, Kind::Precondition),
            (400, Kind::Invalid),
            (403, Kind::AccessDenied),
            (404, Kind::NotFound),
            (409, Kind::Conflict),
            (412, Kind::Precondition),
            (416, Kind::InvalidRange),
            (429, Kind::Throttled),
            (500, Kind::Unavailable),
            (501, Kind::Unsupported),
            (503, Kind::Unavailable),
            (507, Kind::NoSpace),
        ];
        for (status, kind) in kinds {
            assert_eq!(by_status(status), kind, "{status}");
        }
    }
}
