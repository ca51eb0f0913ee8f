//! What can go wrong with the history in the store.

use super::ids::{Epoch, Slot};
use super::source::LocalError;
use crate::store::StoreError;

/// A failure of the log, lease, checkpoint or recovery.
#[derive(Debug, Clone, thiserror::Error)]
pub enum LogError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The local journal failed.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// An object of ours cannot be read.
    #[error("{key} is damaged: {what}")]
    Damaged { key: String, what: String },
    /// An object was written by a newer cwdfs.
    #[error("{key} has format {found}, this cwdfs reads up to {known}: use a newer cwdfs")]
    NewerFormat { key: String, found: u32, known: u32 },
    /// A live writer holds the session.
    #[error(
        "the session is held by {holder} (lease renewed every {renew_s} s): unmount it there, or mount with --takeover"
    )]
    Held { holder: String, renew_s: u64 },
    /// A writer has parked the session, and we are told to leave it then.
    #[error("the session is parked by {holder}, which may be live: unmount it there, or give --takeover")]
    Parked { holder: String },
    /// A removal of the session was begun and broken off.
    #[error(
        "`cwdfs {command}` of this session was begun and not finished: run it again; nothing was mounted"
    )]
    Ending { command: &'static str },
    /// A successor has taken the session from us.
    #[error("fenced: another writer ({by}) has taken the session; nothing more is written here")]
    Fenced { by: String },
    /// A key of ours is gone, and a listing agrees.
    #[error("{key} is gone from the store: the session was deleted from outside; nothing more is written")]
    Deleted { key: String },
    /// The time allowed ran out before the commit was in the store.
    #[error("not in the store after {seconds} s; it is kept in the local journal and retried ({last})")]
    Timeout { seconds: u64, last: String },
    /// A segment that a later one calls committed is missing.
    #[error("slot {slot} of epoch {epoch} is missing, but a later segment says that it was committed")]
    Gap { epoch: Epoch, slot: Slot },
}
