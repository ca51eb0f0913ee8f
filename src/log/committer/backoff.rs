//! Pauses between tries: longer and longer, different for each session, ended early by somebody who waits.

use std::time::Duration;
use tokio::sync::watch;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(5);

/// The pauses of one sequence of tries.
pub(super) struct Backoff {
    tries: u32,
    salt: u64,
    nudge: watch::Receiver<u64>,
}

impl Backoff {
    /// `salt` spreads the tries of those who failed together.
    pub fn new(salt: u64, nudge: &watch::Sender<u64>) -> Backoff {
        Backoff { tries: 0, salt, nudge: nudge.subscribe() }
    }

    /// Before a try: nudges until now are about this one.
    pub fn begin(&mut self) {
        self.nudge.mark_unchanged();
    }

    /// After a failed try. At least 50 ms, however many wait.
    pub async fn pause(&mut self) {
        let full = self.next();
        tokio::time::sleep(full.min(FIRST)).await;
        tokio::select! {
            biased;
            () = tokio::time::sleep(full.saturating_sub(FIRST)) => {}
            changed = self.nudge.changed() => {
                if changed.is_err() {
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Between half and all of a time that doubles.
    fn next(&mut self) -> Duration {
        let longest = FIRST.saturating_mul(1 << self.tries.min(10)).min(LONGEST);
        self.tries += 1;
        // A few rounds of multiplication scatter well enough; the same salt gives the same pauses.
        self.salt = self.salt.wrapping_mul(0x9e37_79b9_7f4a_7c15).wrapping_add(u64::from(self.tries));
        let part = (self.salt >> 40) as f64 / (1u64 << 24) as f64;
        longest.mul_f64(0.5 + part / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_to_a_bound_and_end_early_when_nudged() {
        let nudge = watch::Sender::new(0);
        let mut backoff = Backoff::new(7, &nudge);
        let mut last = Duration::ZERO;
        for _ in 0..12 {
            let start = Instant::now();
            backoff.begin();
            backoff.pause().await;
            last = start.elapsed();
            assert!(last <= LONGEST + Duration::from_millis(2));
        }
        assert!(last >= LONGEST / 2);
        backoff.begin();
        nudge.send_modify(|n| *n += 1);
        let start = Instant::now();
        backoff.pause().await;
        assert!(start.elapsed() <= FIRST + Duration::from_millis(2));
    }
}
