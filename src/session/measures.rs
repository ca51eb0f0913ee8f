//! A session's figures for monitoring: numbers only, cheap to take.

use super::Session;
use super::status::{QuotaStatus, Unstored};
use crate::content::Usage;
use std::time::{Duration, SystemTime};

/// A session's figures at one moment.
#[derive(Debug, Clone)]
pub struct Measures {
    /// Changed and not in the store.
    pub uncommitted: Unstored,
    /// The age of the oldest of it; zero when there is none.
    pub lag: Duration,
    /// Bytes of the journal on the disk.
    pub journal_bytes: u64,
    /// Local content.
    pub cache: Usage,
    /// The bound of what the session holds, and what counts.
    pub quota: Option<QuotaStatus>,
    /// Large files may be read and written past us.
    pub passthrough: bool,
    /// Batches that are open, and all that were begun.
    pub batches: (u64, u64),
    /// What only a writer has.
    pub writer: Option<WriterMeasures>,
}

/// A writer's figures.
#[derive(Debug, Clone)]
pub struct WriterMeasures {
    /// `held`, `parked`, `free`, `fenced` or `deleted`.
    pub lease: &'static str,
    /// Until a successor may take a held lease that is not renewed.
    pub lease_left: Duration,
    /// Commits of this mount.
    pub commits: u64,
    /// Bytes of their segments.
    pub committed_bytes: u64,
    /// When the last of them was learnt of.
    pub committed_at: Option<SystemTime>,
    /// Commits under way.
    pub in_flight: usize,
    /// The last try failed.
    pub failing: bool,
}

impl Session {
    /// Its figures now.
    pub fn measures(&self) -> Measures {
        Measures {
            uncommitted: self.unstored(),
            lag: self.journal.lag().max(self.uncaptured_for()),
            journal_bytes: self.journal.size(),
            cache: self.content_usage(),
            // A count that cannot be made now is a failure of the disk, which shows elsewhere.
            quota: self.quota_status().ok().flatten(),
            passthrough: self.data.passes(),
            batches: self.batches.counts(),
            writer: self.writer_measures(),
        }
    }

    fn writer_measures(&self) -> Option<WriterMeasures> {
        let status = self.writer_status()?;
        let progress = self.writer.as_ref()?.committer.progress();
        let age = Duration::from_millis(status.lease_age_ms);
        Some(WriterMeasures {
            lease: status.lease,
            lease_left: match status.lease {
                "held" => self.options.lease_ttl.saturating_sub(age),
                _ => Duration::ZERO,
            },
            commits: progress.commits,
            committed_bytes: progress.bytes,
            committed_at: progress.at,
            in_flight: progress.in_flight,
            failing: progress.error.is_some(),
        })
    }
}
