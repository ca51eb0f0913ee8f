//! When the log is shortened: by what it would cost to replay.

use super::Keeping;
use crate::log::committer::Progress;
use crate::log::ids::Slot;
use crate::session::KeepOptions;
use tokio::time::Instant;

/// What a slot costs a mount besides its bytes: it is one request.
const SLOT: u64 = 64 << 10;
/// The same, where the log is weighed against a new image: that is one stream of bytes.
const SLOT_FOR_IMAGE: u64 = 16 << 10;

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// Pack, checkpoint, raise the floor.
    Round,
    /// Delete.
    Sweep,
}

/// When.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once.
    Now(Due),
    /// Not before then, unless something is committed.
    At(Instant),
    /// Not before something is committed.
    Never,
}

impl Next {
    /// The same, but not before `at`.
    pub fn not_before(self, at: Option<Instant>) -> Next {
        match (self, at) {
            (Next::Now(_), Some(at)) if at > Instant::now() => Next::At(at),
            (Next::At(soon), Some(at)) => Next::At(soon.max(at)),
            (next, _) => next,
        }
    }
}

impl Keeping {
    /// What is to be done next, given how far the committer is and since when nothing was committed.
    pub(super) fn next(&self, options: &KeepOptions, progress: &Progress, quiet_since: Instant) -> Next {
        let now = Instant::now();
        let cost = self.cost(progress);
        if cost >= options.busy {
            return Next::Now(Due::Round);
        }
        let mut soonest: Option<(Instant, Due)> = None;
        let mut consider = |at: Instant, due| {
            if soonest.is_none_or(|(earlier, _)| at < earlier) {
                soonest = Some((at, due));
            }
        };
        if cost >= options.quiet {
            consider(quiet_since + options.idle, Due::Round);
        }
        if let Some((raised, _)) = self.floors.front() {
            consider(*raised + options.grace, Due::Sweep);
        }
        match soonest {
            Some((at, due)) if at <= now => Next::Now(due),
            Some((at, _)) => Next::At(at),
            None => Next::Never,
        }
    }

    /// The newest slot that is committed.
    pub(super) fn newest(&self, progress: &Progress) -> Slot {
        progress.slot.max(self.inherited)
    }

    /// What the log since the newest checkpoint costs to replay.
    fn cost(&self, progress: &Progress) -> u64 {
        let slots = self.newest(progress).0.saturating_sub(self.checkpoint.0);
        progress.bytes.saturating_sub(self.bytes).saturating_add(slots.saturating_mul(SLOT))
    }

    /// Whether the log since the newest image, which is kept as long as there is no newer one, weighs as much
    /// as a new image would.
    pub(super) fn is_image_due(&self, options: &KeepOptions, progress: &Progress) -> bool {
        let slots = self.newest(progress).0.saturating_sub(self.image.0);
        let log = progress.bytes.saturating_sub(self.image_bytes);
        log.saturating_add(slots.saturating_mul(SLOT_FOR_IMAGE)) >= self.image_size.max(options.image)
    }

    /// Whether the log, which is kept from its beginning as long as there is only one image, weighs as much as the
    /// second one that lets go of it.
    pub(super) fn is_second_image_due(&self, progress: &Progress) -> bool {
        let inherited = self.inherited.0.saturating_mul(SLOT_FOR_IMAGE);
        progress.bytes.saturating_add(inherited) >= self.image_size
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;
    use std::time::Duration;

    fn keeping(checkpoint: u64) -> Keeping {
        Keeping {
            checkpoint: Slot(checkpoint),
            bytes: 0,
            image: Slot(checkpoint),
            image_bytes: 0,
            image_size: 0,
            inherited: Slot(100),
            floors: VecDeque::new(),
            listed: None,
            told: false,
        }
    }

    fn progress(slot: u64, bytes: u64) -> Progress {
        Progress { seq: 1, slot: Slot(slot), bytes, commits: slot, at: None, in_flight: 0, error: None }
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_is_due_by_cost_and_a_sweep_by_time() {
        let options = KeepOptions::default();
        let start = Instant::now();
        assert_eq!(keeping(100).next(&options, &progress(0, 0), start), Next::Never);
        assert_eq!(keeping(100).next(&options, &progress(131, 0), start), Next::Never, "31 slots");
        let idle = Next::At(start + options.idle);
        assert_eq!(keeping(100).next(&options, &progress(132, 0), start), idle, "32 slots");
        assert_eq!(keeping(68).next(&options, &progress(0, 0), start), idle, "inherited ones count");
        let busy = Next::Now(Due::Round);
        assert_eq!(keeping(100).next(&options, &progress(101, 16 << 20), start), busy);
        assert_eq!(keeping(100).next(&options, &progress(356, 0), start), busy);
        let mut swept = keeping(100);
        swept.floors.push_back((start, Slot(50)));
        assert_eq!(swept.next(&options, &progress(0, 0), start), Next::At(start + options.grace));
        tokio::time::advance(options.grace).await;
        assert_eq!(swept.next(&options, &progress(0, 0), start), Next::Now(Due::Sweep));
        let quiet = Next::Now(Due::Round);
        assert_eq!(swept.next(&options, &progress(140, 0), start), quiet, "what was due first");
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_nothing_is_tried_before_its_time() {
        let at = Instant::now() + Duration::from_secs(5);
        let due = Next::Now(Due::Sweep);
        assert_eq!(due.not_before(Some(at)), Next::At(at));
        assert_eq!(Next::Never.not_before(Some(at)), Next::Never);
        tokio::time::advance(Duration::from_secs(6)).await;
        assert_eq!(due.not_before(Some(at)), due);
    }

    #[test]
    fn an_image_is_due_when_the_log_weighs_as_much() {
        let options = KeepOptions::default();
        let mut keeping = keeping(100);
        assert!(!keeping.is_image_due(&options, &progress(355, 0)));
        assert!(keeping.is_image_due(&options, &progress(356, 0)));
        keeping.image_size = 64 << 20;
        assert!(!keeping.is_image_due(&options, &progress(356, 48 << 20)));
        assert!(keeping.is_image_due(&options, &progress(356, 60 << 20)));
        assert!(!keeping.is_second_image_due(&progress(356, 62 << 20)));
        assert!(keeping.is_second_image_due(&progress(356, 63 << 20)), "100 slots are from earlier mounts");
    }
}
