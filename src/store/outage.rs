//! A store that is away is asked by one request at a time; the others wait until it has answered.
//!
//! Invariants: while the store answers nothing is held up; while it is away, the next try begins a pause after the
//! last one ended, or once that has hung for long, whoever makes it. Who makes it is left to chance, so that a part
//! of the store that stays away cannot hold up what goes to the others.

use super::Kind;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;

/// Failures in a row, none of them an answer, after which the store is taken to be away.
const AWAY: u32 = 4;

/// The first pause between tries; each next is at most twice the one before, at random.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// The longest for a request that was not tried yet: it may go where the store is well.
const NEW_PAUSE: Duration = Duration::from_millis(500);

/// How long a try may hang before another is made beside it.
const PATIENCE: Duration = Duration::from_secs(5);

/// Over how long those who waited spread when the store is back.
const SPREAD: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct State {
    /// In a row.
    failures: u32,
    /// When the try that is under way began.
    trying: Option<Instant>,
    /// When the last one ended.
    ended: Instant,
    pause: Duration,
}

impl State {
    fn is_away(&self) -> bool {
        self.failures >= AWAY
    }

    /// When the next try may begin.
    fn next(&self, new: bool) -> Instant {
        match self.trying {
            Some(began) => began + PATIENCE,
            None if new => self.ended + self.pause.min(NEW_PAUSE),
            None => self.ended + self.pause,
        }
    }
}

/// What is known of whether the store is there.
pub(super) struct Outage(watch::Sender<State>);

/// A place to try a store that is away.
pub(super) struct Try<'a>(&'a Outage);

impl Drop for Try<'_> {
    fn drop(&mut self) {
        self.0.0.send_modify(|state| {
            state.trying = None;
            state.ended = Instant::now();
        });
    }
}

impl Default for Outage {
    fn default() -> Self {
        // The instant is looked at only after a try.
        let state = State { failures: 0, trying: None, ended: Instant::now(), pause: FIRST_PAUSE };
        Outage(watch::Sender::new(state))
    }
}

impl Outage {
    pub fn is_away(&self) -> bool {
        self.0.borrow().is_away()
    }

    /// Waits until a request may be sent: at once where the store answers. `new`: it was not tried yet.
    pub async fn enter(&self, new: bool) -> Option<Try<'_>> {
        if !self.is_away() {
            return None;
        }
        let mut states = self.0.subscribe();
        // Different for each who waits: chance decides who is next.
        let scatter = a_part_of(FIRST_PAUSE);
        loop {
            let state = *states.borrow_and_update();
            if !state.is_away() {
                tokio::time::sleep(a_part_of(SPREAD)).await;
                return None;
            }
            if state.next(new) + scatter <= Instant::now() && self.claim(new) {
                return Some(Try(self));
            }
            tokio::select! {
                // The sender is ours: it lives as long.
                _ = states.changed() => {}
                () = tokio::time::sleep_until(state.next(new) + scatter) => {}
            }
        }
    }

    /// Takes the next try, unless another has.
    fn claim(&self, new: bool) -> bool {
        let now = Instant::now();
        self.0.send_if_modified(|state| {
            let free = state.is_away() && state.next(new) <= now;
            if free {
                state.trying = Some(now);
            }
            free
        })
    }

    /// What became of a request: `None` is a success.
    pub fn ended(&self, with: Option<Kind>, tried: Option<Try<'_>>) {
        match with {
            // The store, or what is before it, says nothing of use.
            Some(Kind::Unavailable | Kind::Timeout) => self.0.send_modify(|state| {
                state.failures = state.failures.saturating_add(1);
                if tried.is_some() {
                    state.pause = (state.pause + a_part_of(state.pause)).min(LONGEST_PAUSE);
                }
            }),
            // It broke off: that is neither.
            Some(Kind::Corrupt) => {}
            _ => {
                self.0.send_if_modified(|state| {
                    let news = state.failures > 0;
                    (state.failures, state.pause) = (0, FIRST_PAUSE);
                    news
                });
            }
        }
        // Now the next may try.
        drop(tried);
    }
}

/// So that many clients do not come back together.
fn a_part_of(time: Duration) -> Duration {
    time.mul_f64(rand::random())
}
