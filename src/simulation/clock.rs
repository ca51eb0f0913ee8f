//! A machine's clocks: they stand while it is suspended, and may jump or stop.

use crate::log::clock::Clock;
use crate::log::rules::{Rule, holds};
use parking_lot::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;

#[derive(Debug, Default)]
struct State {
    /// Ahead of the world's time.
    ahead: Duration,
    /// It stands there, as the world's time and `ahead` were then.
    stands_at: Option<Duration>,
    /// The machine is suspended since.
    suspended_at: Option<Duration>,
    /// For how long it was suspended in all.
    slept: Duration,
    wall_ahead: i64,
    /// It did something that no clock of a sound machine does.
    unsound: bool,
}

/// A machine's clock.
#[derive(Debug)]
pub struct SimClock {
    start: Instant,
    state: Mutex<State>,
}

impl SimClock {
    pub fn new(start: Instant) -> SimClock {
        SimClock { start, state: Mutex::default() }
    }

    /// From now on time stands, for what runs here, until [`SimClock::resume`].
    pub fn suspend(&self) {
        let now = self.now();
        self.state.lock().suspended_at = Some(now);
    }

    /// Time is what it is again.
    pub fn resume(&self) {
        let Some(since) = self.state.lock().suspended_at.take() else { return };
        let now = self.now();
        self.state.lock().slept += now.saturating_sub(since);
    }

    /// A defect: it stands until [`SimClock::heal`].
    pub fn stand(&self) {
        let now = self.now();
        let mut state = self.state.lock();
        state.stands_at = Some(now);
        state.unsound = true;
    }

    /// A defect: it is ahead at once.
    pub fn jump(&self, ahead: Duration) {
        let mut state = self.state.lock();
        state.ahead += ahead;
        state.unsound = true;
    }

    /// The time of day is wrong by so many more seconds; nothing may depend on it.
    pub fn jump_wall(&self, seconds: i64) {
        self.state.lock().wall_ahead += seconds;
    }

    /// It goes on from where it is.
    pub fn heal(&self) {
        self.state.lock().stands_at = None;
    }

    /// Whether its ages could always be believed.
    pub fn is_sound(&self) -> bool {
        !self.state.lock().unsound
    }

    /// The defects are of an earlier process.
    pub fn trust_again(&self) {
        let mut state = self.state.lock();
        state.unsound = state.stands_at.is_some();
    }

    /// Time since the machine started, suspended time included, as it truly is.
    pub fn now(&self) -> Duration {
        let state = self.state.lock();
        state.suspended_at.or(state.stands_at).unwrap_or(self.start.elapsed() + state.ahead)
    }
}

impl Clock for SimClock {
    fn boottime(&self) -> Duration {
        let now = self.now();
        if holds(Rule::SuspendCounts) { now } else { now.saturating_sub(self.state.lock().slept) }
    }

    fn wall(&self) -> SystemTime {
        let shift = self.state.lock().wall_ahead;
        let seconds = 1_700_000_000_i64.saturating_add(shift).unsigned_abs();
        UNIX_EPOCH + Duration::from_secs(seconds) + self.start.elapsed()
    }
}
