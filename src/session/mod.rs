//! What a filesystem operation means: the tree operations, open files, durability, recovery. Testable
//! without FUSE and without S3.
//!
//! Invariants:
//! - every change of rows is made under one lock ([`change`]) and as one [`crate::journal::Journal::apply`],
//!   so no reader, commit or crash sees half an operation;
//! - nothing on the path of a reply waits for the store, unless the durability level says so, or too much is
//!   unstored: such an answer is an [`api::Outcome::Later`];
//! - locks are taken in this order: the turn at a quota, the lock of changes, an inode's slot (its file, its modes), a file's
//!   content, the list of changed inodes, a shard of the node table, an orphan, the journal's own; none of
//!   them is held across an await, and no file's content is locked while another's is.

mod acl;
pub mod api;
mod attr;
mod background;
mod batch;
mod change;
mod close;
mod error;
mod file;
mod follow;
mod invalidate;
mod keeper;
mod level;
mod link;
mod lookup;
mod make;
pub mod measures;
mod node;
mod open;
pub mod options;
pub mod outside;
mod owners;
mod path;
mod quota;
mod readdir;
mod reads;
mod remove;
mod rename;
mod set_id;
pub mod status;
mod table;
#[cfg(test)]
pub(crate) mod testing;
mod xattr;

pub use close::CloseReport;
pub use error::SessionError;
pub use invalidate::Queue;
pub use options::{Durability, KeepOptions, Modes, SessionOptions};
pub use owners::Owners;

use crate::journal::Journal;
use crate::log::blobs::BlobNames;
use crate::log::committer::Committer;
use crate::log::lease::Lease;
use crate::store::ObjectStore;
use node::Nodes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::SystemTime;
use tokio_util::sync::{CancellationToken, DropGuard};

/// One mounted session.
pub struct Session {
    /// The tree, and what is not yet in the store.
    pub(crate) journal: Arc<Journal>,
    /// Where the session lives.
    pub(crate) store: Arc<dyn ObjectStore>,
    /// What makes us the writer; `None` of a follower.
    pub(crate) writer: Option<Writer>,
    /// How it was opened.
    pub(crate) options: SessionOptions,
    /// Where waits and background work run.
    pub(crate) runtime: tokio::runtime::Handle,
    /// Inodes in use: open, changed, or known to the kernel.
    pub(crate) nodes: Arc<Nodes>,
    /// The data path's own state: local content, open files.
    pub(crate) data: file::Data,
    /// Access times that no row has yet.
    reads: reads::Reads,
    /// A successor has taken the session, or it was deleted: every operation is ESTALE.
    lost: AtomicBool,
    /// What a change of content takes of set-id bits is left to us.
    privileges_are_ours: AtomicBool,
    /// When the last change was made, nanoseconds of the boot clock; parking looks at it.
    changed_at: AtomicU64,
    /// Commands whose closes do not wait one by one.
    batches: batch::Batches,
    /// What the kernel must forget.
    invalidate: Arc<invalidate::Invalidations>,
    /// What happened that a person should know.
    notices: status::Notices,
    /// Where a follower is.
    following: Mutex<Option<status::Position>>,
    /// When it was opened.
    opened: SystemTime,
    /// Ends the background work.
    stop: CancellationToken,
    /// The same when the session is dropped.
    _stop_when_dropped: DropGuard,
}

/// What a session has that may write.
pub(crate) struct Writer {
    /// Our hold.
    pub lease: Arc<Lease>,
    /// Writes our slots.
    pub committer: Arc<Committer>,
    /// Gives names to our data objects.
    pub names: Arc<BlobNames>,
    /// Held while rows are read, decided upon and changed; see [`change::Change`].
    numbers: Mutex<change::Numbers>,
    /// The key of the directory cookies.
    cookie_key: [u8; 16],
    /// The bound of what the session holds.
    quota: Option<quota::Quota>,
    /// How short the log is; held while it is being shortened.
    keeping: tokio::sync::Mutex<keeper::Keeping>,
}
