//! What was seen of a store.

use super::{Kind, StoreError};
use crate::measure::{Count, Histogram, Times};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

/// The operations of a store, by the names that errors and counts have.
pub const REQUESTS: [&str; 14] = [
    "abort_multipart",
    "complete_multipart",
    "copy",
    "create_multipart",
    "delete",
    "delete_many",
    "folders",
    "get",
    "head",
    "list",
    "list_multipart",
    "put",
    "upload_part",
    "upload_part_copy",
];

/// How an attempt may end.
pub const OUTCOMES: [&str; 8] =
    ["ok", "not_found", "condition", "denied", "throttled", "unavailable", "timeout", "other"];

fn outcome(result: Result<(), Kind>) -> usize {
    match result {
        Ok(()) => 0,
        Err(Kind::NotFound) => 1,
        Err(Kind::Precondition | Kind::Conflict) => 2,
        Err(Kind::AccessDenied | Kind::Expired | Kind::NoSuchBucket) => 3,
        Err(Kind::Throttled) => 4,
        Err(Kind::Unavailable) => 5,
        Err(Kind::Timeout) => 6,
        Err(_) => 7,
    }
}

/// What one operation has met.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counts {
    /// Requests that were asked for.
    pub calls: u64,
    /// Attempts beyond the first.
    pub retries: u64,
    /// Calls that failed in the end, a condition that did not hold and a missing object not counted.
    pub failures: u64,
    /// A moving average of the time of successful attempts, in milliseconds.
    pub latency_ms: f64,
}

/// The attempts of one operation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Attempts {
    /// How many ended so, by [`OUTCOMES`].
    pub outcomes: [u64; OUTCOMES.len()],
    /// How long all of them took.
    pub took: Times,
}

#[derive(Default)]
struct Seen {
    counts: Counts,
    outcomes: [u64; OUTCOMES.len()],
    took: Histogram,
}

/// What was seen of a store.
#[derive(Default)]
pub struct Stats {
    seen: Mutex<BTreeMap<&'static str, Seen>>,
    latency_ms: Mutex<Option<f64>>,
    last_error: Mutex<Option<(SystemTime, StoreError)>>,
    sent: Count,
    received: Count,
}

impl Stats {
    /// By operation.
    pub fn counts(&self) -> BTreeMap<&'static str, Counts> {
        self.seen.lock().iter().map(|(operation, seen)| (*operation, seen.counts)).collect()
    }

    /// The attempts by operation; those of [`REQUESTS`] that are missing were never made.
    pub fn attempts(&self) -> BTreeMap<&'static str, Attempts> {
        let of = |seen: &Seen| Attempts { outcomes: seen.outcomes, took: seen.took.times() };
        self.seen.lock().iter().map(|(operation, seen)| (*operation, of(seen))).collect()
    }

    /// Bytes of bodies that were stored, and that were fetched.
    pub fn moved(&self) -> (u64, u64) {
        (self.sent.get(), self.received.get())
    }

    /// A moving average of the time of successful attempts of any kind, in milliseconds; `None` before the
    /// first.
    pub fn latency_ms(&self) -> Option<f64> {
        *self.latency_ms.lock()
    }

    /// The last attempt that failed for a reason worth telling, and when.
    pub fn last_error(&self) -> Option<(SystemTime, StoreError)> {
        self.last_error.lock().clone()
    }

    fn note(&self, operation: &'static str, change: impl FnOnce(&mut Seen)) {
        change(self.seen.lock().entry(operation).or_default());
    }

    /// Somebody asks for a request.
    pub(super) fn called(&self, operation: &'static str) {
        self.note(operation, |seen| seen.counts.calls += 1);
    }

    /// An attempt is made again.
    pub(super) fn retried(&self, operation: &'static str) {
        self.note(operation, |seen| seen.counts.retries += 1);
    }

    /// A request failed in the end.
    pub(super) fn gave_up(&self, operation: &'static str) {
        self.note(operation, |seen| seen.counts.failures += 1);
    }

    /// A body was stored.
    pub(super) fn sent(&self, bytes: u64) {
        self.sent.add(bytes);
    }

    /// A body was fetched.
    pub(super) fn received(&self, bytes: u64) {
        self.received.add(bytes);
    }

    /// An attempt succeeded.
    pub(super) fn succeeded(&self, operation: &'static str, took: Duration) {
        let millis = took.as_secs_f64() * 1000.0;
        self.note(operation, |seen| {
            seen.outcomes[outcome(Ok(()))] += 1;
            seen.took.observe(took);
            let before = (seen.counts.latency_ms > 0.0).then_some(seen.counts.latency_ms);
            seen.counts.latency_ms = average(before, millis);
        });
        let mut latency = self.latency_ms.lock();
        *latency = Some(average(*latency, millis));
    }

    /// An attempt failed.
    pub(super) fn failed(&self, operation: &'static str, error: &StoreError, took: Duration) {
        self.note(operation, |seen| {
            seen.outcomes[outcome(Err(error.kind))] += 1;
            seen.took.observe(took);
        });
        if !matches!(error.kind, Kind::NotFound | Kind::Precondition | Kind::InvalidRange) {
            *self.last_error.lock() = Some((SystemTime::now(), error.clone()));
        }
    }
}

fn average(before: Option<f64>, now: f64) -> f64 {
    before.map_or(now, |before| before * 0.8 + now * 0.2)
}
