//! What a filesystem operation can fail with, and the one place where errors become errno.

use crate::log::LogError;
use crate::log::source::{LocalError, LocalKind};
use crate::store::{Kind, StoreError};

/// A failed filesystem operation.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SessionError {
    /// A plain POSIX refusal: the errno says it all.
    #[error("{}", std::io::Error::from_raw_os_error(*.0))]
    Errno(i32),
    /// The commit failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// Content could not be fetched or uploaded.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local disk or database failed.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Content in the store is not what it should be.
    #[error("{object}: bytes {offset}.. do not match their checksum")]
    Corrupt { object: String, offset: u64 },
    /// The local disk is full of content that is not in the store yet.
    #[error("the cache directory is full ({0}); free space or let the store catch up")]
    CacheFull(String),
    /// A batch cannot begin, or is none of the caller's.
    #[error("{0}")]
    NoBatch(String),
}

impl SessionError {
    /// The errno the caller gets.
    pub fn errno(&self) -> i32 {
        match self {
            SessionError::Errno(errno) => *errno,
            SessionError::Log(log) => log_errno(log),
            SessionError::Store(store) => store_errno(store.kind),
            SessionError::Local(local) => local_errno(local),
            SessionError::Corrupt { .. } => libc::EIO,
            SessionError::CacheFull(_) => libc::ENOSPC,
            SessionError::NoBatch(_) => libc::EOPNOTSUPP,
        }
    }
}

fn log_errno(error: &LogError) -> i32 {
    match error {
        LogError::Store(store) => store_errno(store.kind),
        LogError::Fenced { .. } | LogError::Deleted { .. } => libc::ESTALE,
        LogError::Local(local) => local_errno(local),
        LogError::Damaged { .. }
        | LogError::NewerFormat { .. }
        | LogError::Held { .. }
        | LogError::Parked { .. }
        | LogError::Timeout { .. }
        | LogError::Ending { .. }
        | LogError::Gap { .. } => libc::EIO,
    }
}

fn local_errno(error: &LocalError) -> i32 {
    match error.kind {
        LocalKind::Full => libc::ENOSPC,
        LocalKind::Descriptors => libc::ENFILE,
        LocalKind::Damaged | LocalKind::Newer | LocalKind::Busy | LocalKind::Failed => libc::EIO,
    }
}

fn store_errno(kind: Kind) -> i32 {
    match kind {
        Kind::NoSpace => libc::ENOSPC,
        Kind::ReadOnly => libc::EROFS,
        Kind::NotFound
        | Kind::Precondition
        | Kind::Conflict
        | Kind::InvalidRange
        | Kind::AccessDenied
        | Kind::Expired
        | Kind::NoSuchBucket
        | Kind::Throttled
        | Kind::Unavailable
        | Kind::Timeout
        | Kind::Corrupt
        | Kind::Unsupported
        | Kind::Invalid => libc::EIO,
    }
}
