//! How far long work is, told every few seconds as an event of the log.
//!
//! An event has the target [`TARGET`] and the fields `work`, `done`, `total` (where it is known), `bytes` (where
//! bytes are counted), `rate` (of `done` a second, since the beginning), `seconds` and `ended`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Of the events, also for whoever shows them elsewhere.
pub const TARGET: &str = "cwdfs::progress";

/// At most one event of a work in this time; work that takes less is not told of at all.
pub const EVERY: Duration = Duration::from_secs(3);

/// Work whose total is not known.
const UNKNOWN: u64 = u64::MAX;

/// Work that may take long. Dropped, it has ended.
#[derive(Debug)]
pub struct Progress {
    work: &'static str,
    began: Instant,
    done: AtomicU64,
    total: AtomicU64,
    bytes: AtomicU64,
    /// Milliseconds since the beginning when the next event is due.
    next: AtomicU64,
}

impl Progress {
    /// Work that begins now: what is done, as a word for people (`list objects`).
    pub fn new(work: &'static str) -> Progress {
        Progress {
            work,
            began: Instant::now(),
            done: AtomicU64::new(0),
            total: AtomicU64::new(UNKNOWN),
            bytes: AtomicU64::new(0),
            next: AtomicU64::new(millis(EVERY)),
        }
    }

    /// The same, of so many steps.
    pub fn of(work: &'static str, total: u64) -> Progress {
        let progress = Progress::new(work);
        progress.total.store(total, Ordering::Relaxed);
        progress
    }

    /// So many steps more are done, which moved so many bytes.
    pub fn step(&self, steps: u64, bytes: u64) {
        self.done.fetch_add(steps, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.tell_if_due();
    }

    /// All that is done until now, where it is counted elsewhere; and what the total is by now.
    pub fn at(&self, done: u64, total: u64, bytes: u64) {
        self.done.store(done, Ordering::Relaxed);
        self.total.store(total, Ordering::Relaxed);
        self.bytes.store(bytes, Ordering::Relaxed);
        self.tell_if_due();
    }

    fn tell_if_due(&self) {
        let (now, next) = (millis(self.began.elapsed()), self.next.load(Ordering::Relaxed));
        let then = now + millis(EVERY);
        let ours = || self.next.compare_exchange(next, then, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if now >= next && ours() {
            self.tell(false);
        }
    }

    fn tell(&self, ended: bool) {
        let (took, done) = (self.began.elapsed().as_secs_f64(), self.done.load(Ordering::Relaxed));
        let total = Some(self.total.load(Ordering::Relaxed)).filter(|total| *total != UNKNOWN);
        let bytes = Some(self.bytes.load(Ordering::Relaxed)).filter(|bytes| *bytes > 0);
        let (rate, seconds) = (tenths(done as f64 / took.max(0.001)), tenths(took));
        tracing::info!(target: TARGET, work = self.work, done, total, bytes, rate, seconds, ended, "progress");
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.next.load(Ordering::Relaxed) > millis(EVERY) {
            self.tell(true);
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}
