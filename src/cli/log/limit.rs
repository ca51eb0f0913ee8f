//! Not more lines of one kind than a person reads.
//!
//! A kind is a place in the code. It has [`BURST`] lines at once, then one each [`INTERVAL`]: the newest, with the
//! number of those that were left out since the last (`left_out`). Nothing else is lost: a flood that has ended
//! leaves its last line too, an interval later, or when the log ends.

use super::output::Output;
use crate::measure::Count;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::HashMap;
use std::hash::Hash;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;

/// Lines of one kind at once.
const BURST: u32 = 5;
/// Then one line each.
const INTERVAL: Duration = Duration::from_secs(10);

/// A place in the code that logs.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// One of ours.
    Ours(Identifier),
    /// One of a library that logs through the `log` crate: module and line.
    Theirs(String, Option<u32>),
}

/// A line, and how it tells the number of those before it.
#[derive(Debug, Clone)]
pub(super) struct Line {
    /// With its end.
    pub text: String,
    /// Adds a number to a line.
    pub counted: fn(&str, u64) -> String,
}

impl Line {
    fn with(&self, left_out: u64) -> String {
        match left_out {
            0 => self.text.clone(),
            some => (self.counted)(&self.text, some),
        }
    }
}

/// What is known of one kind.
struct Known {
    /// Lines that may be written at once.
    spare: u32,
    /// Since when the next one grows.
    since: Instant,
    /// The newest line that is held back, and how many were before it.
    held: Option<(Line, u64)>,
}

impl Known {
    fn new(now: Instant) -> Known {
        Known { spare: BURST, since: now, held: None }
    }

    fn grow(&mut self, now: Instant) {
        let grown = now.saturating_duration_since(self.since).as_nanos() / INTERVAL.as_nanos();
        // Below 2^32 intervals the addition is exact; beyond, all is spare anyway.
        let grown = u32::try_from(grown).unwrap_or(u32::MAX);
        self.spare = self.spare.saturating_add(grown).min(BURST);
        self.since += INTERVAL.saturating_mul(grown);
        if self.spare == BURST {
            self.since = now;
        }
    }

    /// The line, where it may be written now.
    fn admit(&mut self, line: Line, now: Instant) -> Option<Line> {
        self.grow(now);
        if self.held.is_none() && self.spare > 0 {
            self.spare -= 1;
            return Some(line);
        }
        let before = self.held.take().map_or(0, |(_, before)| before + 1);
        self.held = Some((line, before));
        None
    }

    /// What was held back until now.
    fn due(&mut self, now: Instant) -> Option<String> {
        self.grow(now);
        if self.spare == 0 {
            return None;
        }
        let (line, before) = self.held.take()?;
        self.spare -= 1;
        Some(line.with(before))
    }
}

#[derive(Default)]
struct Kinds {
    known: HashMap<Kind, Known>,
    /// Some kind has a line held back.
    holding: bool,
    ended: bool,
}

/// The limits of all kinds.
pub(super) struct Limit {
    kinds: Mutex<Kinds>,
    news: Condvar,
    output: Arc<Output>,
    /// Errors that there were.
    pub errors: Count,
    /// Warnings that there were.
    pub warnings: Count,
}

impl Limit {
    /// With a thread that writes what was held back, and sleeps while there is nothing.
    pub fn start(output: Arc<Output>) -> io::Result<Arc<Limit>> {
        let limit = Arc::new(Limit {
            kinds: Mutex::default(),
            news: Condvar::new(),
            output,
            errors: Count::default(),
            warnings: Count::default(),
        });
        let theirs = Arc::clone(&limit);
        std::thread::Builder::new().name("cwdfs-log".into()).spawn(move || theirs.run())?;
        Ok(limit)
    }

    /// The line, where it may be written now.
    pub fn admit(&self, kind: Kind, line: Line) -> Option<Line> {
        let now = Instant::now();
        let mut kinds = self.kinds.lock();
        if kinds.ended {
            return Some(line);
        }
        let admitted = kinds.known.entry(kind).or_insert_with(|| Known::new(now)).admit(line, now);
        if admitted.is_none() && !kinds.holding {
            kinds.holding = true;
            self.news.notify_all();
        }
        admitted
    }

    /// Writes all that is held back.
    pub fn end(&self) {
        let mut kinds = self.kinds.lock();
        kinds.ended = true;
        for known in kinds.known.values_mut() {
            if let Some((line, before)) = known.held.take() {
                self.output.line(&line.with(before));
            }
        }
        self.news.notify_all();
    }

    fn run(&self) {
        let mut kinds = self.kinds.lock();
        while !kinds.ended {
            if !kinds.holding {
                self.news.wait(&mut kinds);
                continue;
            }
            let next = self.write_due(&mut kinds, Instant::now());
            kinds.holding = next.is_some();
            if let Some(next) = next {
                self.news.wait_until(&mut kinds, next);
            }
        }
    }

    /// Writes what is due; when to look again, if anything is held back still.
    fn write_due(&self, kinds: &mut MutexGuard<'_, Kinds>, now: Instant) -> Option<Instant> {
        let mut next = None;
        for known in kinds.known.values_mut() {
            if let Some(line) = known.due(now) {
                self.output.line(&line);
            }
            if known.held.is_some() {
                let at = known.since + INTERVAL;
                next = Some(next.map_or(at, |earlier: Instant| earlier.min(at)));
            }
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(n: u32) -> Line {
        let counted = |text: &str, left_out| format!("{text}, {left_out} left out");
        Line { text: n.to_string(), counted }
    }

    #[test]
    fn a_flood_is_cut_to_a_line_an_interval_and_counted() {
        let start = Instant::now();
        let mut known = Known::new(start);
        let written: Vec<_> = (0..100).filter_map(|n| known.admit(line(n), start)).collect();
        assert_eq!(
            written.iter().map(|line| line.text.as_str()).collect::<Vec<_>>(),
            ["0", "1", "2", "3", "4"]
        );
        assert_eq!(known.due(start + INTERVAL / 2), None, "too soon");
        assert_eq!(known.due(start + INTERVAL).as_deref(), Some("99, 94 left out"));
        assert_eq!(known.due(start + INTERVAL * 2), None, "nothing came since");
        assert!(known.admit(line(100), start + INTERVAL * 2).is_some());
        assert!(known.admit(line(101), start + INTERVAL * 2).is_none(), "one an interval");
        let later = start + INTERVAL * 100;
        assert_eq!(known.due(later).as_deref(), Some("101"), "none was left out before it");
        let again = (0..100).filter(|n| known.admit(line(*n), later).is_some()).count();
        assert_eq!(again, BURST as usize - 1, "a quiet time makes up for a flood");
    }

    #[test]
    fn what_is_held_back_comes_by_itself_or_with_the_end() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let output = Output::File(file.reopen().expect("the file"));
        let limit = Limit::start(Arc::new(output)).expect("a thread");
        let kind = Kind::Theirs("m".into(), Some(1));
        let written = (0..100).filter(|n| limit.admit(kind.clone(), line(*n)).is_some()).count();
        assert_eq!(written, BURST as usize);
        let other = Kind::Theirs("m".into(), Some(2));
        assert!(limit.admit(other.clone(), line(7)).is_some(), "each kind has its own");
        limit.end();
        assert_eq!(std::fs::read_to_string(file.path()).expect("read"), "99, 94 left out");
        assert!(limit.admit(kind, line(8)).is_some(), "what comes after the end is not held back");
    }
}
