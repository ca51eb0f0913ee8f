//! What `status` shows. `STATUS.md` beside this file documents the JSON form, which only grows.

use crate::fuse::Slow;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything about a mount. Times are RFC 3339 in UTC, durations are seconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// Of the daemon.
    pub version: String,
    /// The daemon's process.
    pub pid: u32,
    /// As it was given to `mount`: `bucket:prefix` or a URL.
    pub store: String,
    /// The session's id, 32 hexadecimal digits; `null` where there is no session yet.
    pub session: Option<String>,
    /// Where it is mounted.
    pub mountpoint: String,
    /// `mounted`, `fenced`, `deleted`, `unmounting`.
    pub state: String,
    /// `writer` or `follower`.
    pub mode: String,
    /// Nothing can be changed through the mount: a follower, or a writer that was remounted read-only.
    #[serde(default)]
    pub read_only: bool,
    /// `sync`, `close`, `fsync`.
    pub durability: String,
    /// When it was mounted.
    pub mounted_at: String,
    /// Whether large files bypass the daemon.
    pub passthrough: bool,
    /// Why not.
    pub passthrough_off_because: Option<String>,
    /// Our epoch; of a follower, the writer's.
    pub epoch: Option<String>,
    /// Who writes.
    pub holder: Option<String>,
    /// Our hold on the session; `null` for a follower.
    pub lease: Option<LeaseStatus>,
    /// The last slot committed; `null` when none is.
    pub last_slot: Option<u64>,
    /// When that was learnt.
    pub last_commit: Option<String>,
    /// Not yet in the store.
    pub uncommitted: Amount,
    /// Slots on their way.
    pub slots_in_flight: u64,
    /// Not yet published, and unpublishable names.
    pub view: Option<ViewStatus>,
    /// Local content.
    pub cache: CacheStatus,
    /// The bound of what the session holds; `null` where none is set.
    pub quota: Option<QuotaStatus>,
    /// Requests that have taken over five seconds so far, longest first.
    #[serde(default)]
    pub slow: Vec<Slow>,
    /// Commands under `cwdfs batch`.
    #[serde(default)]
    pub batches: BatchStatus,
    /// Uncommitted changes of an earlier writer that could not be replayed: where they are kept.
    pub salvage: Vec<String>,
    /// Of a request to the store, lately, in milliseconds.
    pub store_latency_ms: Option<f64>,
    /// What was asked of the store since the mount, by operation.
    pub requests: BTreeMap<String, Requests>,
    /// Where metrics are served; `null`: nowhere.
    #[serde(default)]
    pub metrics: Option<String>,
    /// A follower shows what was committed this long ago, or newer.
    pub follows_within_seconds: Option<f64>,
    /// When the credentials end, where that is known.
    pub credentials_expire: Option<String>,
    /// Why no new credentials can be had just now; `null` where there is nothing to tell.
    #[serde(default)]
    pub credentials_error: Option<ErrorStatus>,
    /// The last failure of the store or of a commit.
    pub last_error: Option<ErrorStatus>,
    /// Damage that recovery got round, and the like.
    pub warnings: Vec<String>,
}

/// Our hold on the session.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LeaseStatus {
    /// `held`, `parked`, `free`, `fenced`, `deleted`.
    pub state: String,
    /// Since the last renewal that succeeded was sent.
    pub age_seconds: f64,
    /// Who fenced us, or which key is gone.
    pub by: Option<String>,
}

/// An amount of work.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Amount {
    /// Files and directories.
    pub files: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// The view.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ViewStatus {
    /// Not yet published.
    pub unpublished: Amount,
    /// Since the oldest of those was committed.
    pub behind_seconds: Option<f64>,
    /// Names that cannot be keys of objects.
    pub unpublishable_names: u64,
    /// Outside edits and deletes imported.
    pub imported: u64,
    /// Names that both sides changed.
    pub conflicts: u64,
    /// Keys that cannot be names here.
    pub skipped_keys: u64,
    /// Objects that are not shown because a directory has their name.
    pub shadowed: u64,
    /// Imported files whose mode, owner and times are still to be read.
    pub headers_pending: u64,
    /// Objects written since the mount.
    pub published: u64,
    /// Objects removed since the mount.
    pub deleted: u64,
    /// Why nothing is published and imported any more.
    pub stopped: Option<String>,
    /// When an import last ended.
    pub last_import: Option<String>,
}

/// Local content.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct CacheStatus {
    /// The session's folder.
    pub dir: String,
    /// Bytes in it.
    pub used: u64,
    /// The bound of those that are in the store too.
    pub limit: u64,
}

/// A bound and what counts against it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct QuotaStatus {
    /// The bound.
    pub limit: u64,
    /// What counts, as du(1) shows it.
    pub used: u64,
}

/// Commands whose closes wait together, at their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BatchStatus {
    /// Now.
    pub running: u64,
    /// Since the mount.
    pub begun: u64,
}

/// Requests of one kind.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Requests {
    /// Asked for.
    pub calls: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// That failed in the end.
    pub failures: u64,
    /// Of those that succeeded lately.
    pub latency_ms: f64,
}

/// A failure.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ErrorStatus {
    /// When.
    pub at: String,
    /// What.
    pub message: String,
}
