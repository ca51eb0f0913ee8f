//! What can go wrong between the session and its plain objects.

use super::headers;
use crate::log::LogError;
use crate::log::ids::Ino;
use crate::log::row::BadRow;
use crate::log::source::LocalError;
use crate::session::SessionError;
use crate::store::StoreError;

/// A failure of publish or import.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ViewError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local journal failed.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// We are not the writer any more, or a commit failed.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A change of the tree failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// A row of the tree could not be read.
    #[error(transparent)]
    Row(#[from] BadRow),
    /// The file cannot be shown as an object.
    #[error("{key} cannot be published: {why}")]
    Unpublishable { key: String, why: headers::TooLong },
    /// The file is longer than an object may be.
    #[error("{key} cannot be published: {size} bytes are more than an object may have")]
    TooLarge { key: String, size: u64 },
    /// Imported content went with its object before it was copied.
    #[error(
        "inode {ino}: another client replaced or deleted {object} before its content was copied; it cannot be read"
    )]
    Lost { ino: Ino, object: String },
    /// Content in the store is not what it should be.
    #[error("{object}: bytes {offset}.. do not match their checksum")]
    Corrupt { object: String, offset: u64 },
    /// The store keeps another client's object where the marker of a directory would be.
    #[error("{key} is not published: another client's object {object} has its place in this store")]
    InTheWay { key: String, object: String },
    /// Something has to be committed first, or a file to be closed; tried again soon.
    #[error("{key} waits: {what}")]
    NotYet { key: String, what: &'static str },
    /// A listing did not show our own lease: it proves nothing.
    #[error(
        "a listing of {store} did not show the session's own lease; nothing was imported, the next pass tries again"
    )]
    BadListing { store: String },
    /// The first import could not read everything.
    #[error("{failed} objects of the prefix could not be imported ({why}); mount again to go on from here")]
    Incomplete { failed: u64, why: String },
    /// The view was stopped.
    #[error("the view is stopped: {0}")]
    Stopped(String),
}

/// The result of a step of publish or import.
pub type Result<T> = std::result::Result<T, ViewError>;
