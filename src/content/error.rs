//! What can go wrong with content.

use crate::log::source::LocalError;
use crate::store::StoreError;

/// A failure to keep, fetch or ship content.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ContentError {
    /// The journal failed.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the store returned, twice, is not what was stored.
    #[error("{object}: bytes {offset}.. do not match their checksum")]
    Corrupt { object: String, offset: u64 },
    /// The local disk has no room left.
    #[error("no room for content in {0}")]
    Full(String),
    /// This process has no descriptor left.
    #[error("{0}: the daemon has too many files open; raise its limit (ulimit -n) for the next mount")]
    Descriptors(String),
    /// A local file of content failed.
    #[error("{what}: {why}")]
    Io { what: String, why: String },
    /// The session is being closed, or was fenced.
    #[error("stopped before the content was stored; it is kept")]
    Stopped,
}
