//! Every metric there is.

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows, from 0 at the mount.
    Counter,
    /// It goes up and down.
    Gauge,
    /// Times by class.
    Histogram,
}

impl Kind {
    /// As in the text form.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Family {
    /// Its name; a counter's ends in `_total`, after its unit.
    pub name: &'static str,
    /// What it is.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says, in a line.
    pub help: &'static str,
}

impl Family {
    /// Its base unit (`seconds`, `bytes`), where it has one: the name says it.
    pub fn unit(&self) -> Option<&'static str> {
        ["seconds", "bytes"].into_iter().find(|unit| self.base().ends_with(unit))
    }

    /// The name without `_total`.
    pub fn base(&self) -> &'static str {
        self.name.strip_suffix("_total").unwrap_or(self.name)
    }
}

/// Makes the constants, and the list of all.
macro_rules! families {
    ($($constant:ident $kind:ident $name:literal [$($label:literal),*] $help:literal;)+) => {
        $(
            #[allow(missing_docs)]
            pub const $constant: Family =
                Family { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help };
        )+

        /// All, in the order of a page.
        pub const ALL: &[Family] = &[$($constant),+];
    };
}

families! {
    BUILD Gauge "cwdfs_build_info" ["version"] "Always 1; the label tells the version of the daemon.";
    MOUNT Gauge "cwdfs_mount_info" ["mode", "durability", "passthrough"] "Always 1; the labels tell how the session is mounted.";
    MOUNTED Gauge "cwdfs_mount_time_seconds" [] "When the mount answered first, since 1970.";

    OPERATIONS Counter "cwdfs_operations_total" ["operation", "answer"] "Requests of the kernel that were answered.";
    OPERATION_TIME Histogram "cwdfs_operation_duration_seconds" ["operation"] "From when a request was read until its answer was sent.";
    WAITING Gauge "cwdfs_operations_waiting" [] "Requests that wait for the store, a capture or room.";
    BATCHES_RUNNING Gauge "cwdfs_batches_running" [] "Commands under `cwdfs batch`.";
    BATCHES Counter "cwdfs_batches_total" [] "Such commands since the mount.";
    READ Counter "cwdfs_read_bytes_total" [] "Bytes that callers got from the daemon.";
    WRITTEN Counter "cwdfs_written_bytes_total" [] "Bytes that callers brought to the daemon.";
    OPENS Counter "cwdfs_opens_total" ["mode"] "Files opened, by how their reads and writes travel.";

    REQUESTS Counter "cwdfs_store_requests_total" ["request", "outcome"] "Attempts to do something in the store.";
    REQUEST_TIME Histogram "cwdfs_store_request_duration_seconds" ["request"] "How long an attempt took, whatever its outcome.";
    RETRIES Counter "cwdfs_store_retries_total" ["request"] "Attempts beyond the first of a request.";
    FAILURES Counter "cwdfs_store_failures_total" ["request"] "Requests that were given up.";
    SENT Counter "cwdfs_store_sent_bytes_total" [] "Bytes of content and metadata stored.";
    RECEIVED Counter "cwdfs_store_received_bytes_total" [] "Bytes of content and metadata fetched.";
    CREDENTIALS Gauge "cwdfs_credentials_expiry_time_seconds" [] "When the credentials in use end, since 1970.";

    UNCOMMITTED_ROWS Gauge "cwdfs_uncommitted_rows" [] "Changed rows of the tree that wait for a commit.";
    UNCOMMITTED_FILES Gauge "cwdfs_uncommitted_files" [] "Files with changes that are not in the store.";
    UNCOMMITTED Gauge "cwdfs_uncommitted_bytes" [] "Content that is not in the store.";
    COMMIT_LAG Gauge "cwdfs_commit_lag_seconds" [] "Age of the oldest change that is not in the store; 0 when all is.";
    IN_FLIGHT Gauge "cwdfs_commits_in_flight" [] "Commits on their way to the store.";
    COMMITS Counter "cwdfs_commits_total" [] "Commits in the store.";
    COMMITTED Counter "cwdfs_committed_bytes_total" [] "Bytes of the segments of these commits.";
    LAST_COMMIT Gauge "cwdfs_last_commit_time_seconds" [] "When the last of them was known to be in the store, since 1970.";
    COMMIT_FAILING Gauge "cwdfs_commit_failing" [] "1 while the last try to commit failed.";

    VIEW_LAG Gauge "cwdfs_view_lag_seconds" [] "Age of the oldest commit that plain objects do not show; 0 when they show all.";
    VIEW_PENDING_OBJECTS Gauge "cwdfs_view_pending_objects" [] "Plain objects to be written or removed.";
    VIEW_PENDING Gauge "cwdfs_view_pending_bytes" [] "Bytes to be written to them.";
    VIEW_PUBLISHED Counter "cwdfs_view_published_total" [] "Plain objects written.";
    VIEW_REMOVED Counter "cwdfs_view_removed_total" [] "Plain objects removed.";
    VIEW_IMPORTED Counter "cwdfs_view_imported_total" [] "Edits and deletes by other clients taken into the tree.";
    VIEW_CONFLICTS Counter "cwdfs_view_conflicts_total" [] "Files that both sides changed; both contents are kept.";
    VIEW_UNPUBLISHABLE Gauge "cwdfs_view_unpublishable_names" [] "Names that cannot be keys.";
    VIEW_STOPPED Gauge "cwdfs_view_stopped" [] "1 once nothing is published and imported any more.";

    CACHE Gauge "cwdfs_cache_bytes" [] "Local content.";
    CACHE_LIMIT Gauge "cwdfs_cache_limit_bytes" [] "The bound of local content that is in the store too.";
    CACHE_HITS Counter "cwdfs_cache_hits_total" [] "Reads answered by local content.";
    CACHE_MISSES Counter "cwdfs_cache_misses_total" [] "Reads for which something was fetched.";
    EVICTIONS Counter "cwdfs_cache_evictions_total" [] "Files and chunks that made room.";
    EVICTED Counter "cwdfs_cache_evicted_bytes_total" [] "Their bytes.";

    LEASE Gauge "cwdfs_lease_state" ["state"] "1 for the state that the lease is in, 0 for the others.";
    LEASE_LEFT Gauge "cwdfs_lease_remaining_seconds" [] "Until a successor may take a held lease that is not renewed; 0 when it is not held.";
    JOURNAL Gauge "cwdfs_journal_bytes" [] "The journal's files on the local disk.";
    QUOTA Gauge "cwdfs_quota_bytes" [] "The bound of what the session holds.";
    QUOTA_USED Gauge "cwdfs_quota_used_bytes" [] "What counts against it.";
    LOGGED Counter "cwdfs_log_events_total" ["level"] "Warnings and errors, those that the log left out included.";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        for family in ALL {
            assert!(family.name.starts_with("cwdfs_"), "{family:?}");
            assert!(family.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'), "{family:?}");
            assert_eq!(family.name.ends_with("_total"), family.kind == Kind::Counter, "{family:?}");
            assert!(family.kind != Kind::Histogram || family.unit().is_some(), "{family:?}");
            assert!(!family.labels.contains(&"le") && family.help.ends_with('.'), "{family:?}");
        }
        let mut names: Vec<_> = ALL.iter().map(|family| family.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len(), "each is there once");
    }
}
