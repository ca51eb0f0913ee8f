//! What can go wrong in a store, by what the caller can do about it.

use std::fmt;

/// What kind of failure, by what the caller can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// No such object (or, for a parent call, upload).
    NotFound,
    /// A condition did not hold; after a retry this may be our own earlier attempt.
    Precondition,
    /// Two conditional writes met (409): send again.
    Conflict,
    /// The range starts at or past the object's end.
    InvalidRange,
    /// Refused: the credentials do not allow it.
    AccessDenied,
    /// The credentials have expired, are not known any more or cannot be renewed, or the signature's clock is off.
    Expired,
    /// The bucket (or the directory's parent) does not exist.
    NoSuchBucket,
    /// Slow down (429, 503 SlowDown).
    Throttled,
    /// No answer, a reset connection, 5xx: it may or may not have taken effect.
    Unavailable,
    /// The time allowed ran out: it may or may not have taken effect.
    Timeout,
    /// The store is full or a quota is reached.
    NoSpace,
    /// The store cannot be written (read-only file system, bucket policy).
    ReadOnly,
    /// The body was shorter or other than declared.
    Corrupt,
    /// The store does not do this (conditional writes, server-side copy).
    Unsupported,
    /// A bad key, name or option of ours.
    Invalid,
}

impl Kind {
    /// Whether sending the same request again may succeed.
    pub fn is_retryable(self) -> bool {
        matches!(self, Kind::Conflict | Kind::Throttled | Kind::Unavailable | Kind::Timeout | Kind::Corrupt)
    }

    /// Whether a write that failed so may nevertheless have taken effect.
    pub fn is_ambiguous(self) -> bool {
        matches!(self, Kind::Conflict | Kind::Unavailable | Kind::Timeout | Kind::Corrupt)
    }
}

/// A failed store operation: what was tried, on which key, and what the store said.
#[derive(Debug, Clone, thiserror::Error)]
pub struct StoreError {
    /// By what the caller can do.
    pub kind: Kind,
    /// The operation: `get`, `put`, `list` ...
    pub operation: &'static str,
    /// The key, relative to the session's prefix.
    pub key: String,
    /// What the store or the network said; never a secret.
    pub message: String,
}

impl StoreError {
    /// An error of `kind` for `operation` on `key`.
    pub fn new(kind: Kind, operation: &'static str, key: &str, message: impl Into<String>) -> Self {
        StoreError { kind, operation, key: key.to_owned(), message: message.into() }
    }

    /// Whether this says that there is no such object.
    pub fn is_not_found(&self) -> bool {
        self.kind == Kind::NotFound
    }

    /// Whether this says that a condition did not hold.
    pub fn is_precondition(&self) -> bool {
        self.kind == Kind::Precondition
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.operation, self.key, self.message)
    }
}
