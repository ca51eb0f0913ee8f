//! When the changes that are not committed were made.
//!
//! Invariant: the age of the oldest is at most [`STEP`], or a 64th of what it was when it was noted, too high; and
//! however many changes there are, a few hundred times are kept.

use crate::log::source::Seq;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Changes within this time count as made when the first of them was.
const STEP: Duration = Duration::from_millis(50);

/// The times of changes, oldest first: each is that of its change and of those up to the next.
#[derive(Debug, Default)]
pub(super) struct Births(VecDeque<(Seq, Instant)>);

impl Births {
    /// Changes from `first` on are made now.
    pub fn note(&mut self, first: Seq, now: Instant) {
        let step = STEP.max(self.oldest(now) / 64);
        if self.0.back().is_none_or(|(_, last)| now.saturating_duration_since(*last) >= step) {
            self.0.push_back((first, now));
        }
    }

    /// Changes up to `committed` are; the last there is is `last`.
    pub fn settle(&mut self, committed: Seq, last: Seq) {
        if committed >= last {
            return self.0.clear();
        }
        while self.0.get(1).is_some_and(|(first, _)| *first <= committed + 1) {
            self.0.pop_front();
        }
    }

    /// The age of the oldest change; zero when there is none.
    pub fn oldest(&self, now: Instant) -> Duration {
        self.0.front().map_or(Duration::ZERO, |(_, at)| now.saturating_duration_since(*at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_change_that_is_left_counts() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut births = Births::default();
        for (seq, ms) in [(1, 0), (2, 10), (5, 1000), (6, 3000)] {
            births.note(seq, at(ms));
        }
        assert_eq!(births.oldest(at(4000)), Duration::from_millis(4000));
        births.settle(3, 6);
        assert_eq!(births.oldest(at(4000)), Duration::from_millis(4000), "4 is of the first");
        births.settle(4, 6);
        assert_eq!(births.oldest(at(4000)), Duration::from_millis(3000));
        births.settle(5, 6);
        assert_eq!(births.oldest(at(4000)), Duration::from_millis(1000));
        births.settle(6, 6);
        assert_eq!(births.oldest(at(4000)), Duration::ZERO);
    }

    #[test]
    fn a_day_of_changes_is_kept_in_a_few_hundred_times() {
        let start = Instant::now();
        let mut births = Births::default();
        for seq in 0..864_000 {
            births.note(seq, start + Duration::from_millis(seq * 100));
        }
        assert!(births.0.len() < 1000, "{}", births.0.len());
        births.settle(432_000, 863_999);
        let oldest = births.oldest(start + Duration::from_secs(86_400)).as_secs();
        assert!((43_200..44_600).contains(&oldest), "{oldest}");
    }
}
