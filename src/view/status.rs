//! The figures of the view, for `status` and for whoever waits.

use super::shared::Shared;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// What publish and import count.
#[derive(Default)]
pub(super) struct Figures {
    pub published: u64,
    pub deleted: u64,
    /// Paths that cannot be in the view.
    pub unpublishable: BTreeSet<Vec<u8>>,
    pub imported: u64,
    pub outside_deletes: u64,
    pub conflicts: u64,
    /// Of the last listing: keys that cannot be paths.
    pub hostile: u64,
    /// Of the last listing: objects whose name a directory has.
    pub shadowed: u64,
    /// Imported files whose headers are not read yet.
    pub headers_pending: u64,
    pub last_import: Option<SystemTime>,
    pub last_error: Option<(SystemTime, String)>,
    pub stopped: Option<String>,
}

/// How far the view is.
#[derive(Debug, Clone, Serialize)]
pub struct ViewStatus {
    /// Objects that do not show the committed tree yet, removals included.
    pub pending_objects: u64,
    /// The bytes that are still to be written for them.
    pub pending_bytes: u64,
    /// How long the oldest of them has been waiting; `None`: the view shows the committed tree.
    pub lag: Option<Duration>,
    /// Objects written since the mount.
    pub published: u64,
    /// Objects removed since the mount.
    pub deleted: u64,
    /// Paths that cannot be in the view: not UTF-8, or too long.
    pub unpublishable: u64,
    /// Outside edits brought into the tree since the mount.
    pub imported: u64,
    /// Outside deletes brought into the tree since the mount.
    pub outside_deletes: u64,
    /// Files that both sides changed, since the mount.
    pub conflicts: u64,
    /// Keys of the last listing that cannot be paths, and were skipped.
    pub hostile_keys: u64,
    /// Objects of the last listing that are not shown because a directory has their name.
    pub shadowed: u64,
    /// Imported files whose mode, owner and times are still to be read.
    pub headers_pending: u64,
    /// When the last listing ended well.
    pub last_import: Option<SystemTime>,
    /// The last failure, and when.
    pub last_error: Option<(SystemTime, String)>,
    /// Why nothing is published and imported any more.
    pub stopped: Option<String>,
}

impl Shared {
    /// How far the view is.
    pub fn status(&self) -> ViewStatus {
        let (pending_objects, pending_bytes, lag) = self.dirty.lock().figures(Instant::now());
        let figures = self.figures.lock();
        ViewStatus {
            pending_objects,
            pending_bytes,
            lag,
            published: figures.published,
            deleted: figures.deleted,
            unpublishable: figures.unpublishable.len() as u64,
            imported: figures.imported,
            outside_deletes: figures.outside_deletes,
            conflicts: figures.conflicts,
            hostile_keys: figures.hostile,
            shadowed: figures.shadowed,
            headers_pending: figures.headers_pending,
            last_import: figures.last_import,
            last_error: figures.last_error.clone(),
            stopped: figures.stopped.clone(),
        }
    }
}
