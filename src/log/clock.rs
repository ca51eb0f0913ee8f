//! Time, as the log reads it: replaceable, so that tests run on a paused clock.

use super::rules::{Rule, holds};
use rustix::time::ClockId;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the log reads the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Time since some fixed moment, suspended time included (`CLOCK_BOOTTIME`).
    fn boottime(&self) -> Duration;

    /// The time of day; for people only, nothing is decided by it.
    fn wall(&self) -> SystemTime;

    /// [`Clock::wall`] in milliseconds since 1970.
    fn wall_ms(&self) -> i64 {
        match self.wall().duration_since(UNIX_EPOCH) {
            Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
        }
    }
}

/// The machine's clocks.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl SystemClock {
    /// As the log's parts take it.
    pub fn shared() -> Arc<dyn Clock> {
        #[cfg(test)]
        if super::testing::is_seeded() {
            return TokioClock::shared();
        }
        Arc::new(SystemClock)
    }
}

impl Clock for SystemClock {
    fn boottime(&self) -> Duration {
        let clock = if holds(Rule::SuspendCounts) { ClockId::Boottime } else { ClockId::Monotonic };
        let now = rustix::time::clock_gettime(clock);
        // Both are never negative: the clock counts up from zero.
        Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or(0))
    }

    fn wall(&self) -> SystemTime {
        SystemTime::now()
    }
}

/// Tokio's clock, which a test can pause.
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    start: tokio::time::Instant,
}

impl TokioClock {
    /// Starts at zero.
    pub fn shared() -> Arc<dyn Clock> {
        Arc::new(TokioClock { start: tokio::time::Instant::now() })
    }
}

impl Clock for TokioClock {
    fn boottime(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.start.elapsed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machines_clocks_run_forward() {
        let clock = SystemClock;
        let before = clock.boottime();
        std::thread::sleep(Duration::from_millis(2));
        assert!(clock.boottime() > before);
        assert!(clock.wall_ms() > 1_600_000_000_000);
    }
}
