//! The keys whose objects may not show the committed tree yet, and when each is due.
//!
//! Invariants:
//! - a key is in here once, however often it changes; it is due one delay after its first change;
//! - a key that is being published stays in here until it is done, and is due anew if it changed meanwhile;
//! - stamps rise: what is marked after a stamp was taken has a higher one;
//! - the first attempts at a folder that the store does not have end before anything below it is taken: some stores
//!   lose the marker of a folder that is written while an object below it makes the folder, too.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;
use tokio::time::Instant;

/// The longest wait between two attempts.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// The first.
const MIN_BACKOFF: Duration = Duration::from_millis(200);
/// After so many attempts at a folder, what is below it goes without.
const FOLDER_ATTEMPTS: u32 = 3;

/// The keys to publish.
#[derive(Default)]
pub(in crate::view) struct Dirty {
    keys: HashMap<String, Waiting>,
    /// Those that are neither being published nor held.
    due: BTreeSet<(Instant, String)>,
    /// Due keys that wait for a folder above them.
    held: HashMap<String, Vec<String>>,
    stamps: BTreeSet<u64>,
    next_stamp: u64,
    bytes: u64,
}

struct Waiting {
    stamp: u64,
    since: Instant,
    due: Instant,
    bytes: u64,
    attempts: u32,
    running: bool,
    /// A folder that the store does not have.
    opens: bool,
    /// It changed while it was being published.
    again: Option<Change>,
}

impl Waiting {
    /// Whether what is below it waits for it.
    fn is_to_come(&self) -> bool {
        self.opens && self.attempts < FOLDER_ATTEMPTS
    }
}

/// When a key changed, and when that is due.
#[derive(Clone, Copy)]
struct Change {
    stamp: u64,
    since: Instant,
    due: Instant,
}

impl Dirty {
    /// A key has changed; `bytes` is what its object is going to have.
    pub fn mark(&mut self, key: &str, bytes: u64, now: Instant, delay: Duration) {
        let Some(waiting) = self.keys.get_mut(key) else {
            let change = self.change(now, delay);
            return self.insert(key, bytes, change);
        };
        self.bytes = self.bytes - waiting.bytes + bytes;
        waiting.bytes = bytes;
        if waiting.running && waiting.again.is_none() {
            let change = self.change(now, delay);
            self.keys.entry(key.to_owned()).and_modify(|waiting| waiting.again = Some(change));
        }
    }

    /// The key, which is marked, is a folder that the store does not have.
    pub fn opens(&mut self, key: &str) {
        if let Some(waiting) = self.keys.get_mut(key) {
            waiting.opens = true;
        }
    }

    fn insert(&mut self, key: &str, bytes: u64, Change { stamp, since, due }: Change) {
        let (running, opens) = (false, false);
        let waiting = Waiting { stamp, since, due, bytes, attempts: 0, running, opens, again: None };
        self.bytes += bytes;
        self.due.insert((due, key.to_owned()));
        self.keys.insert(key.to_owned(), waiting);
    }

    /// The next key that is due, which the caller now publishes.
    pub fn take(&mut self, now: Instant) -> Option<String> {
        let key = loop {
            let (at, key) = self.due.pop_first()?;
            if at > now {
                self.due.insert((at, key));
                return None;
            }
            match self.folder_to_come(&key) {
                None => break key,
                Some(folder) => {
                    self.bring_forward(&folder, at);
                    self.held.entry(folder).or_default().push(key);
                }
            }
        };
        let waiting = self.keys.get_mut(&key).expect("every due key is waiting");
        (waiting.running, waiting.again) = (true, None);
        Some(key)
    }

    /// The first keys that are due by `now`.
    pub fn due_by(&self, now: Instant, most: usize) -> Vec<String> {
        self.due.iter().take_while(|(at, _)| *at <= now).take(most).map(|(_, key)| key.clone()).collect()
    }

    /// The first folder above `key` that the store is to get before it.
    fn folder_to_come(&self, key: &str) -> Option<String> {
        let inner = key.strip_suffix('/').unwrap_or(key);
        let folders = inner.match_indices('/').map(|(end, _)| &inner[..=end]);
        folders.into_iter().find(|at| self.keys.get(*at).is_some_and(Waiting::is_to_come)).map(str::to_owned)
    }

    /// Makes a key that was not tried yet due by `at`.
    fn bring_forward(&mut self, key: &str, at: Instant) {
        let untried = |waiting: &&mut Waiting| !waiting.running && waiting.attempts == 0;
        let Some(waiting) = self.keys.get_mut(key).filter(untried) else { return };
        self.due.remove(&(waiting.due, key.to_owned()));
        waiting.due = waiting.due.min(at);
        self.due.insert((waiting.due, key.to_owned()));
    }

    /// Lets go of what waited for a folder.
    fn release(&mut self, folder: &str) {
        for key in self.held.remove(folder).unwrap_or_default() {
            let due = self.keys.get(&key).expect("a held key is waiting").due;
            self.due.insert((due, key));
        }
    }

    /// A key that was taken is published.
    pub fn done(&mut self, key: &str) {
        self.release(key);
        let Some(waiting) = self.keys.remove(key) else { return };
        self.stamps.remove(&waiting.stamp);
        self.bytes -= waiting.bytes;
        if let Some(change) = waiting.again {
            self.insert(key, waiting.bytes, change);
        }
    }

    /// A key that was taken could not be published: it is due again later, ever later.
    pub fn failed(&mut self, key: &str, now: Instant) {
        let Some(waiting) = self.keys.get_mut(key) else { return };
        let backoff = MIN_BACKOFF * 2u32.pow(waiting.attempts.min(10));
        waiting.attempts += 1;
        waiting.running = false;
        // The next attempt takes that change along.
        if let Some(change) = waiting.again.take() {
            self.stamps.remove(&change.stamp);
        }
        waiting.due = now + backoff.min(MAX_BACKOFF);
        self.due.insert((waiting.due, key.to_owned()));
        if !waiting.is_to_come() {
            self.release(key);
        }
    }

    /// Makes everything due now.
    pub fn hurry(&mut self, now: Instant) {
        let due = std::mem::take(&mut self.due);
        self.due = due.into_iter().map(|(at, key)| (at.min(now), key)).collect();
        for (at, key) in &self.due {
            self.keys.get_mut(key).expect("every due key is waiting").due = *at;
        }
        for key in self.held.values().flatten() {
            let held = self.keys.get_mut(key).expect("a held key is waiting");
            held.due = held.due.min(now);
        }
        for again in self.keys.values_mut().filter_map(|waiting| waiting.again.as_mut()) {
            again.due = again.due.min(now);
        }
    }

    /// When the next key is due.
    pub fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(at, _)| *at)
    }

    fn change(&mut self, now: Instant, delay: Duration) -> Change {
        self.next_stamp += 1;
        self.stamps.insert(self.next_stamp);
        Change { stamp: self.next_stamp, since: now, due: now + delay }
    }

    /// The highest stamp given out: no key that is in here now has a higher one.
    pub fn newest_stamp(&self) -> u64 {
        self.next_stamp
    }

    /// Whether every key marked up to `stamp` is published.
    pub fn clean_up_to(&self, stamp: u64) -> bool {
        self.stamps.first().is_none_or(|first| *first > stamp)
    }

    /// Keys, bytes, and the age of the oldest change.
    pub fn figures(&self, now: Instant) -> (u64, u64, Option<Duration>) {
        let oldest = self.keys.values().map(|waiting| waiting.since).min();
        (self.keys.len() as u64, self.bytes, oldest.map(|since| now - since))
    }

    /// Whether there is nothing to publish.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_secs(1);

    #[test]
    fn many_changes_within_the_delay_are_one() {
        let (mut dirty, now) = (Dirty::default(), Instant::now());
        for ms in [0, 300, 900] {
            dirty.mark("a", 10 + ms, now + Duration::from_millis(ms), DELAY);
        }
        assert_eq!(dirty.take(now + Duration::from_millis(999)), None);
        assert_eq!(dirty.take(now + DELAY).as_deref(), Some("a"));
        assert_eq!(dirty.take(now + DELAY * 9), None);
        assert_eq!(dirty.figures(now + DELAY), (1, 910, Some(DELAY)));
        dirty.done("a");
        assert!(dirty.is_empty() && dirty.figures(now).1 == 0);
    }

    #[test]
    fn a_change_during_publishing_is_published_after_it() {
        let (mut dirty, now) = (Dirty::default(), Instant::now());
        dirty.mark("a", 1, now, DELAY);
        let before = dirty.newest_stamp();
        dirty.take(now + DELAY).unwrap();
        dirty.mark("a", 2, now + DELAY, DELAY);
        let with = dirty.newest_stamp();
        assert!(!dirty.clean_up_to(before));
        dirty.done("a");
        assert!(dirty.clean_up_to(before) && !dirty.clean_up_to(with) && !dirty.is_empty());
        assert_eq!(dirty.take(now + DELAY), None);
        assert_eq!(dirty.take(now + DELAY * 2).as_deref(), Some("a"));
        // Whoever waits for it does not wait for the delay.
        dirty.mark("a", 3, now + DELAY * 2, DELAY);
        dirty.hurry(now + DELAY * 2);
        dirty.done("a");
        assert_eq!(dirty.take(now + DELAY * 2).as_deref(), Some("a"));
        // A failed attempt is made again with whatever changed during it.
        dirty.mark("a", 4, now + DELAY * 2, DELAY);
        dirty.failed("a", now + DELAY * 2);
        dirty.take(now + DELAY * 3).unwrap();
        dirty.done("a");
        assert!(dirty.is_empty() && dirty.clean_up_to(dirty.newest_stamp()));
    }

    #[test]
    fn a_new_folder_goes_before_what_is_below_it() {
        let (mut dirty, now) = (Dirty::default(), Instant::now());
        dirty.mark("a/b/f", 1, now, Duration::ZERO);
        for key in ["a/b/", "a/", "a", "ab"] {
            dirty.mark(key, 1, now, MAX_BACKOFF * 2);
        }
        dirty.opens("a/");
        dirty.opens("a/b/");
        // The first in line waits for the folders above it, which are due for its sake.
        assert_eq!(dirty.take(now).as_deref(), Some("a/"));
        assert_eq!(dirty.take(now), None);
        dirty.done("a/");
        assert_eq!(dirty.take(now).as_deref(), Some("a/b/"));
        assert_eq!(dirty.take(now), None);
        // One that cannot be published is tried at its own pace, and keeps nobody for long.
        for _ in 1..FOLDER_ATTEMPTS {
            dirty.failed("a/b/", now);
            assert_eq!(dirty.take(now), None);
            dirty.take(now + MAX_BACKOFF).unwrap();
        }
        dirty.failed("a/b/", now);
        assert_eq!(dirty.take(now).as_deref(), Some("a/b/f"));
        dirty.done("a/b/f");
        let later = now + MAX_BACKOFF * 2;
        let rest: Vec<String> = std::iter::from_fn(|| dirty.take(later)).collect();
        assert_eq!(rest, ["a/b/", "a", "ab"]);
        rest.iter().for_each(|key| dirty.done(key));
        assert!(dirty.is_empty() && dirty.held.is_empty());
    }

    #[test]
    fn failures_wait_longer_and_hurry_ends_that() {
        let (mut dirty, now) = (Dirty::default(), Instant::now());
        dirty.mark("a", 1, now, Duration::ZERO);
        for _ in 0..12 {
            dirty.hurry(now);
            dirty.take(now).unwrap();
            dirty.failed("a", now);
        }
        assert_eq!(dirty.next_due(), Some(now + MAX_BACKOFF));
        assert!(!dirty.clean_up_to(dirty.newest_stamp()));
    }
}
