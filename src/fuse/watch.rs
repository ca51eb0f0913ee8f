//! The watchdog: which requests have been under way for long, and what they wait for.
//!
//! Invariants:
//! - a request that is answered at once costs two stores into a place of its thread's own;
//! - the watchdog looks only at what has taken [`LONG`], and hangs with nothing that others wait for: what `status`
//!   shows was found out before.

use super::report::{Op, path};
use crate::session::Session;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use std::cell::OnceCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

/// A request that takes longer is told of.
pub const LONG: Duration = Duration::from_secs(5);
/// How often it is looked at the most.
const LOOK: Duration = Duration::from_secs(1);

/// A request that has been under way for long.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Slow {
    /// Which operation.
    pub operation: String,
    /// The inode that it is about; of a name, its directory.
    pub ino: u64,
    /// Where that is, if it can be told.
    pub path: String,
    /// The task that asks; 0 when it cannot be seen.
    pub pid: u32,
    /// How long it has taken so far.
    pub seconds: f64,
    /// For people.
    pub waits_for: String,
}

/// What a thread that reads requests is doing.
type Place = Mutex<Option<Op>>;

/// The places of all such threads of this process.
static PLACES: Mutex<Vec<Weak<Place>>> = Mutex::new(Vec::new());

thread_local! {
    static PLACE: OnceCell<Arc<Place>> = const { OnceCell::new() };
}

/// This thread begins to answer a request.
pub(super) fn begins(op: Op) {
    PLACE.with(|place| {
        let place = place.get_or_init(|| {
            let place = Arc::new(Place::default());
            PLACES.lock().push(Arc::downgrade(&place));
            place
        });
        *place.lock() = Some(op);
    });
}

/// It has answered it, or a task will.
pub(super) fn ends() {
    PLACE.with(|place| {
        if let Some(place) = place.get() {
            *place.lock() = None;
        }
    });
}

/// Requests that wait on tasks, and those that have been found to take long.
#[derive(Debug, Default)]
pub struct Watch {
    waiting: Mutex<HashMap<u64, Op>>,
    next: AtomicU64,
    slow: Mutex<Vec<(Key, Slow)>>,
}

/// Tells one request from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Key {
    Task(u64),
    /// A thread's, by when it began.
    Thread(std::time::Instant),
}

impl Watch {
    /// A request waits from now on, until this is dropped.
    pub(super) fn waits(&self, op: Op) -> Waiting<'_> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting.lock().insert(id, op);
        Waiting { watch: self, id }
    }

    /// What takes long, as of the last look; longest first.
    pub fn slow(&self) -> Vec<Slow> {
        self.slow.lock().iter().map(|(_, slow)| slow.clone()).collect()
    }

    /// All that are under way, the oldest first.
    fn under_way(&self) -> Vec<(Key, Op)> {
        let waiting = self.waiting.lock();
        let mut all: Vec<(Key, Op)> = waiting.iter().map(|(id, op)| (Key::Task(*id), *op)).collect();
        drop(waiting);
        let mut places = PLACES.lock();
        places.retain(|place| place.strong_count() > 0);
        let ops = places.iter().filter_map(|place| *place.upgrade()?.lock());
        all.extend(ops.map(|op| (Key::Thread(op.began), op)));
        all.sort_by_key(|(_, op)| op.began);
        all
    }

    /// Those of them that have taken long.
    fn long(&self) -> Vec<(Key, Op)> {
        let mut all = self.under_way();
        all.retain(|(_, op)| op.began.elapsed() >= LONG);
        all
    }

    /// How long until something can be there to tell of: an idle mount is not to wake up for nothing.
    fn pause(&self) -> Duration {
        if !self.slow.lock().is_empty() {
            return LOOK;
        }
        until_long(self.under_way().first().map_or(Duration::ZERO, |(_, op)| op.began.elapsed()))
    }

    /// Looks once, and logs what it has not logged yet.
    fn look(&self, session: &Session) {
        let known: Vec<Key> = self.slow.lock().iter().map(|(key, _)| *key).collect();
        let mut found = Vec::new();
        for (key, op) in self.long() {
            let seconds = op.began.elapsed().as_secs_f64();
            let (path, waits_for) = match key {
                Key::Task(_) => (path(session, op.ino), session.waits_for(op.ino)),
                // It may hold what a look at the session would wait for.
                Key::Thread(_) => {
                    (String::new(), "the local disk, or a lock: nothing else is waited for there".into())
                }
            };
            let operation = op.operation.name();
            if !known.contains(&key) {
                let Op { ino, pid, .. } = op;
                tracing::warn!(
                    operation,
                    ino = ino.0,
                    path,
                    pid,
                    seconds,
                    waits_for,
                    "an operation takes long"
                );
            }
            let operation = operation.to_owned();
            found.push((key, Slow { operation, ino: op.ino.0, path, pid: op.pid, seconds, waits_for }));
        }
        *self.slow.lock() = found;
    }
}

/// How long until what is so old has taken long; a look comes no sooner than after [`LOOK`].
fn until_long(age: Duration) -> Duration {
    LONG.saturating_sub(age).max(LOOK)
}

/// A request that waits.
pub(super) struct Waiting<'w> {
    watch: &'w Watch,
    id: u64,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.watch.waiting.lock().remove(&self.id);
    }
}

/// Looks when it may be time, as long as the session is there.
pub(super) async fn run(watch: Arc<Watch>, session: Weak<Session>) {
    loop {
        tokio::time::sleep(watch.pause()).await;
        let Some(session) = session.upgrade() else { return };
        if watch.long().is_empty() {
            watch.slow.lock().clear();
            continue;
        }
        let watch = watch.clone();
        // It may hang with what it looks at, on a thread that nobody needs.
        if tokio::task::spawn_blocking(move || watch.look(&session)).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::count::Operation;
    use super::*;
    use crate::log::ids::Ino;
    use std::time::Instant;

    fn op(ago: Duration) -> Op {
        let began = Instant::now().checked_sub(ago).expect("the machine runs longer");
        Op { operation: Operation::Flush, ino: Ino(7), pid: 1, began }
    }

    #[test]
    fn the_next_look_comes_when_something_has_taken_long() {
        assert_eq!(until_long(Duration::ZERO), LONG);
        assert_eq!(until_long(LONG - LOOK * 2), LOOK * 2);
        assert_eq!(until_long(LONG * 2), LOOK);
        // Threads of other tests can only make it shorter.
        let watch = Watch::default();
        let _begun = watch.waits(op(LONG - LOOK * 2));
        assert!(watch.pause() <= LOOK * 2, "{:?}", watch.pause());
        let _old = watch.waits(op(LONG * 2));
        assert_eq!(watch.pause(), LOOK);
    }

    #[test]
    fn only_what_takes_long_is_found_longest_first() {
        let watch = Watch::default();
        let old = watch.waits(op(LONG * 2));
        let _young = watch.waits(op(Duration::ZERO));
        let older = watch.waits(op(LONG * 3));
        let ids = |watch: &Watch| -> Vec<Key> {
            let all = watch.long().into_iter().map(|(key, _)| key);
            all.filter(|key| matches!(key, Key::Task(_))).collect()
        };
        assert_eq!(ids(&watch), [Key::Task(older.id), Key::Task(old.id)]);
        drop(older);
        assert_eq!(ids(&watch), [Key::Task(old.id)]);
    }

    #[test]
    fn a_thread_that_hangs_in_a_request_is_found() {
        let long = op(LONG * 4);
        let mine = |watch: &Watch| watch.long().iter().any(|(key, _)| *key == Key::Thread(long.began));
        let watch = Watch::default();
        begins(long);
        assert!(mine(&watch));
        ends();
        assert!(!mine(&watch));
    }
}
