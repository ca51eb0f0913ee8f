//! What a session can say of itself.

pub use super::quota::QuotaStatus;
use super::{Durability, Session};
use crate::log::ids::{Epoch, Ino, Slot};
use crate::log::lease::{Hold, SessionId};
use crate::log::source::{CommitSource, LocalError};
use parking_lot::Mutex;
use serde::Serialize;
use std::collections::VecDeque;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The most notices that are kept; the oldest go.
const MOST: usize = 32;

/// Something that happened which a person should know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Notice {
    /// When, milliseconds since 1970.
    pub at_ms: u64,
    /// What happened, to what, and what to do.
    pub message: String,
}

/// The newest notices.
#[derive(Default)]
pub(super) struct Notices(Mutex<VecDeque<Notice>>);

impl Notices {
    /// Adds one, and logs it as a warning.
    pub fn add(&self, message: String) {
        tracing::warn!("{message}");
        let mut notices = self.0.lock();
        if notices.len() == MOST {
            notices.pop_front();
        }
        notices.push_back(Notice { at_ms: millis(SystemTime::now()), message });
    }

    fn all(&self) -> Vec<Notice> {
        self.0.lock().iter().cloned().collect()
    }
}

/// A session's state, as `cwdfs status --json` shows it. Fields are only ever added.
#[derive(Debug, Clone, Serialize)]
pub struct Status {
    /// Where it lives.
    pub store: String,
    /// Its id; `None` of a follower.
    pub session: Option<SessionId>,
    /// `writing`, `following` or `lost`.
    pub state: &'static str,
    /// `sync`, `close` or `fsync`.
    pub durability: &'static str,
    /// When it was opened, milliseconds since 1970.
    pub opened_ms: u64,
    /// What only a writer has.
    pub writer: Option<WriterStatus>,
    /// Where a follower is.
    pub following: Option<Position>,
    /// What is changed and not in the store yet.
    pub uncommitted: Unstored,
    /// The local cache.
    pub cache: Cache,
    /// The bound of what the session holds, and what counts; `None`: there is none.
    pub quota: Option<QuotaStatus>,
    /// Batches that are open, and all that were begun.
    pub batches: (u64, u64),
    /// Whether files may be opened in passthrough mode.
    pub passthrough: bool,
    /// What happened that a person should know, oldest first.
    pub notices: Vec<Notice>,
    /// Why what changes cannot be kept locally at the moment.
    pub cache_error: Option<String>,
}

/// A place in a session's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Position {
    /// The writer's epoch.
    pub epoch: Epoch,
    /// The slot.
    pub slot: Slot,
}

/// What a writer says of its hold and its commits.
#[derive(Debug, Clone, Serialize)]
pub struct WriterStatus {
    /// Its epoch, as in the store's keys.
    pub epoch: String,
    /// Host, process and mount point.
    pub holder: String,
    /// `held`, `parked`, `free`, `fenced` or `deleted`.
    pub lease: &'static str,
    /// Who fenced us, or the key that is gone.
    pub lost_to: Option<String>,
    /// Time since the lease was last renewed, milliseconds.
    pub lease_age_ms: u64,
    /// The last slot committed by this mount; 0 when none is.
    pub slot: Slot,
    /// When that was learnt, milliseconds since 1970.
    pub committed_ms: Option<u64>,
    /// The floor of collection: what lies before this slot is collected.
    pub floor: Slot,
    /// Slots under way.
    pub in_flight: usize,
    /// The last failure since the last success.
    pub error: Option<Notice>,
}

/// What is changed and not in the store yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Unstored {
    /// Changed rows in the journal.
    pub rows: u64,
    /// Files that they belong to, and files whose content was not captured yet.
    pub files: u64,
    /// Bytes of content of both.
    pub bytes: u64,
}

impl Unstored {
    /// Whether everything is in the store.
    pub fn is_nothing(&self) -> bool {
        *self == Unstored::default()
    }
}

/// The local cache's size.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Cache {
    /// Bytes of content kept locally.
    pub used: u64,
    /// The bound.
    pub limit: u64,
}

impl Session {
    /// Gives back the memory of the journal's database that can be read again; for a session that nobody uses now.
    pub fn shrink(&self) -> Result<(), LocalError> {
        self.journal.shrink()
    }

    /// Why the cache folder cannot take what changes, if it cannot.
    pub fn cache_error(&self) -> Option<String> {
        let dir = &self.options.cache_dir;
        if !dir.exists() {
            let what = "is gone: unmount and mount again; what is stored is loaded from the store";
            return Some(format!("the cache folder {} {what}", dir.display()));
        }
        let failure = self.journal.failure()?;
        Some(format!("the cache folder {} cannot be written: {failure}", dir.display()))
    }

    /// Its state now.
    pub fn status(&self) -> Status {
        let lost = self.alive().is_err();
        Status {
            store: self.store.describe(),
            session: self.writer.as_ref().map(|writer| writer.lease.session()),
            state: match (&self.writer, lost) {
                (_, true) => "lost",
                (Some(_), false) => "writing",
                (None, false) => "following",
            },
            durability: match self.options.durability {
                Durability::Sync => "sync",
                Durability::Close => "close",
                Durability::Fsync => "fsync",
            },
            opened_ms: millis(self.opened),
            writer: self.writer_status(),
            following: *self.following.lock(),
            uncommitted: self.unstored(),
            cache: self.cache_usage(),
            // A count that cannot be made now is a failure of the disk, which shows elsewhere.
            quota: self.quota_status().ok().flatten(),
            batches: self.batches.counts(),
            passthrough: self.data.passes(),
            notices: self.notices.all(),
            cache_error: self.cache_error(),
        }
    }

    /// What a request about an inode, which takes long, waits for; for people.
    pub fn waits_for(&self, ino: Ino) -> String {
        let Some(writer) = &self.writer else { return "content from the store".into() };
        let progress = writer.committer.progress();
        let failed = progress.error.map(|(_, error)| format!("; the last try failed: {error}"));
        let failed = failed.unwrap_or_default();
        if self.is_crowded() {
            return format!("room: the cache is full of what is not in the store yet{failed}");
        }
        if self.nodes.get(ino).is_some_and(|node| self.live(&node).is_some()) {
            return format!("its content, which is on its way to the store{failed}");
        }
        match self.journal.last_seq() > progress.seq {
            true => format!("a commit, of {} under way{failed}", progress.in_flight),
            false => format!("content from the store, or the local disk{failed}"),
        }
    }

    /// Returns once what is read here is not behind what callers were told, or soon.
    pub async fn settled(&self) {
        if let Some(writer) = &self.writer {
            writer.committer.settled().await;
        }
    }

    /// What is changed and not in the store yet.
    pub fn unstored(&self) -> Unstored {
        let (rows, content) = (self.journal.uncommitted(), self.uncaptured());
        Unstored { rows: rows.rows, files: rows.files + content.files, bytes: rows.bytes + content.bytes }
    }

    pub(super) fn writer_status(&self) -> Option<WriterStatus> {
        let writer = self.writer.as_ref()?;
        let progress = writer.committer.progress();
        let (lease, lost_to) = match writer.lease.hold() {
            Hold::Held => ("held", None),
            Hold::Parked => ("parked", None),
            Hold::Free => ("free", None),
            Hold::Fenced { by } => ("fenced", Some(by)),
            Hold::Deleted { key } => ("deleted", Some(key)),
        };
        let notice = |(at, error): (SystemTime, crate::log::LogError)| Notice {
            at_ms: millis(at),
            message: error.to_string(),
        };
        Some(WriterStatus {
            epoch: writer.lease.epoch().to_string(),
            holder: self.options.holder.clone(),
            lease,
            lost_to,
            lease_age_ms: as_millis(writer.lease.age()),
            slot: progress.slot,
            committed_ms: progress.at.map(millis),
            floor: writer.lease.floor(),
            in_flight: progress.in_flight,
            error: progress.error.map(notice),
        })
    }
}

fn millis(at: SystemTime) -> u64 {
    // A clock set before 1970 shows as 0.
    as_millis(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}

fn as_millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
