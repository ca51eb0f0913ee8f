//! What all files of a session share, and making room.

use super::budget::Budget;
use super::chunks::{self, ChunkKey, Chunks};
use super::fetch::Fetcher;
use super::file::{File, State};
use super::image::Image;
use super::keep::Record;
use super::pool::Pool;
use super::ranges::Ranges;
use super::read::Filling;
use super::upload::Uploader;
use super::{ContentConfig, ContentError, Rows, keep};
use crate::log::ids::Ino;
use crate::measure::Count;
use parking_lot::{Mutex, MutexGuard};
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a writer waits for one who makes room.
const PATIENCE: Duration = Duration::from_millis(100);

/// What all files of a session share.
pub(super) struct Core {
    pub pool: Arc<Pool>,
    pub budget: Arc<Budget>,
    pub rows: Arc<dyn Rows>,
    pub fetcher: Arc<Fetcher>,
    /// `None` of a follower.
    pub uploader: Option<Uploader>,
    pub runtime: tokio::runtime::Handle,
    /// Files that have an image on the disk; they are kept though nobody uses them.
    pub files: Mutex<HashMap<Ino, Arc<File>>>,
    /// Fetches under way, by inode, range and the generation they began in: a later one's reader asks anew.
    pub filling: Mutex<HashMap<(Ino, u64, u64, u64), Filling>>,
    /// Images of an earlier mount that nobody asked for yet.
    pub records: Mutex<HashMap<Ino, Record>>,
    pub counts: Counts,
    stopped: AtomicBool,
}

/// How reads found the cache, and what left it.
#[derive(Default)]
pub(super) struct Counts {
    pub hits: Count,
    pub misses: Count,
    pub evicted: Count,
    pub evicted_bytes: Count,
}

/// What can be evicted.
enum Victim {
    File(Arc<File>),
    Chunk(ChunkKey, u64),
}

impl Core {
    pub fn open(config: ContentConfig) -> Result<Arc<Core>, ContentError> {
        let rows = config.rows;
        let mut taken = HashSet::new();
        let records = keep::load(&*rows, config.same_boot, &mut taken)?;
        let kept = chunks::kept(&*rows, &mut taken)?;
        // From here on no record calls clean what this process may overwrite.
        rows.settle()?;
        let pool = Pool::open(&config.dir.join("data"), |id| taken.contains(&id))?;
        let budget = Arc::new(Budget::new(config.cache_size));
        let chunks = Chunks::new(pool.clone(), budget.clone(), rows.clone(), kept);
        let store = config.store;
        let fetcher = Fetcher::new(store.clone(), rows.clone(), chunks, config.runtime.clone());
        Ok(Arc::new(Core {
            pool,
            budget,
            rows,
            fetcher: Arc::new(fetcher),
            uploader: config.names.map(|names| Uploader::new(store, names)),
            runtime: config.runtime,
            files: Mutex::default(),
            filling: Mutex::default(),
            records: Mutex::new(records),
            counts: Counts::default(),
            stopped: AtomicBool::new(false),
        }))
    }

    /// A file has an image on the disk from now on.
    pub fn adopt(&self, file: &File) {
        let Some(file) = file.this.upgrade() else { return };
        let old = self.files.lock().insert(file.ino, file);
        // Another object of the same inode, if any, frees its image outside the lock.
        drop(old);
    }

    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
        self.budget.wake();
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    /// Keeps the cache within its bound: evicts in the background, or at once when it is far over.
    pub fn relieve(self: &Arc<Self>) {
        let excess = self.budget.excess();
        if excess == 0 {
            return;
        }
        if self.budget.used() > self.budget.limit() + self.budget.limit() / 8 {
            if !self.make_room(excess) {
                // One evicts already, and is waited for: no writer outruns it.
                drop(self.budget.evicting.try_lock_for(PATIENCE));
            }
            return;
        }
        let this = self.clone();
        // It runs on its own; what it cannot evict the next one may.
        drop(self.runtime.spawn_blocking(move || this.make_room(excess)));
    }

    /// Evicts clean content that was used longest ago, about `bytes` of it; `false` where another does so right now.
    pub fn make_room(&self, bytes: u64) -> bool {
        let Some(_one) = self.budget.evicting.try_lock() else { return false };
        let mut victims: Vec<(u64, Victim)> = Vec::new();
        let files: Vec<Arc<File>> = self.files.lock().values().cloned().collect();
        for file in files {
            // A file whose lock is held is in use right now: it goes last, but it may be all there is.
            let used_at = file.state.try_lock().map_or(u64::MAX, |state| state.used_at);
            victims.push((used_at, Victim::File(file)));
        }
        let chunks = self.fetcher.chunks.uses();
        victims.extend(chunks.into_iter().map(|(at, key, len)| (at, Victim::Chunk(key, len))));
        victims.sort_by_key(|(used_at, _)| *used_at);
        let mut freed = 0;
        for (_, victim) in victims {
            if freed >= bytes {
                break;
            }
            match self.evict(victim, bytes - freed) {
                Ok(0) => {}
                Ok(bytes) => {
                    freed += bytes;
                    self.counts.evicted.one();
                    self.counts.evicted_bytes.add(bytes);
                }
                Err(e) => tracing::warn!("cannot evict cached content: {e}"),
            }
        }
        true
    }

    fn evict(&self, victim: Victim, most: u64) -> Result<u64, ContentError> {
        match victim {
            Victim::Chunk(key, len) => {
                self.fetcher.chunks.forget(&key)?;
                Ok(len)
            }
            Victim::File(file) => file.evict(most),
        }
    }
}

/// What of `clean` goes first for `bytes`, with a reader at `reader`: what lies behind it, and then what it comes to last.
fn furthest(clean: &Ranges, reader: u64, mut bytes: u64) -> Vec<Range<u64>> {
    let mut going = Vec::new();
    for range in clean.within(0..reader) {
        let end = range.end.min(range.start.saturating_add(bytes));
        bytes -= end - range.start;
        going.push(range.start..end);
    }
    for range in clean.within(reader..u64::MAX).into_iter().rev() {
        let start = range.start.max(range.end.saturating_sub(bytes));
        bytes -= range.end - start;
        going.push(start..range.end);
    }
    going.retain(|range| !range.is_empty());
    going
}

impl File {
    /// Gives about `bytes` of the clean bytes on the disk up, or all where that is most of them; returns how many. A file
    /// without an image is no longer in the list, and comes back to it with the next one: both under its lock, so that
    /// no image is ever out of the list.
    fn evict(&self, bytes: u64) -> Result<u64, ContentError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        if state.backing.is_some() || state.frozen.is_some() {
            return Ok(0);
        }
        if !matches!(state.image, Image::Disk(_)) {
            return Ok(self.unlist(guard, 0));
        }
        let before = state.valid.bytes();
        if state.dirty.is_empty() && before / 2 <= bytes {
            state.generation += 1;
            state.image = Image::Empty;
            state.valid.clear();
        } else {
            let mut clean: Ranges = state.valid.clone();
            state.dirty.iter().for_each(|r| clean.remove(r));
            for range in furthest(&clean, state.reader, bytes) {
                state.image.punch(range.clone())?;
                state.valid.remove(range);
            }
        }
        let freed = before - state.valid.bytes();
        let empty = state.valid.is_empty();
        self.account(&mut guard);
        Ok(if empty { self.unlist(guard, freed) } else { freed })
    }

    /// Takes a file without an image off the list, while its lock is held; returns `freed`.
    fn unlist(&self, guard: MutexGuard<'_, State>, freed: u64) -> u64 {
        let gone = self.core.files.lock().remove(&self.ino);
        drop(guard);
        // Its last use may end here.
        drop(gone);
        freed
    }

    /// Closes its local file until it is used again.
    pub fn rest(&self) {
        if let Some(state) = self.state.try_lock()
            && let Image::Disk(file) = &state.image
        {
            file.rest();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_has_passed_goes_first_and_what_it_comes_to_next_goes_last() {
        let clean: Ranges = [10..30, 40..60, 80..100].into_iter().collect();
        assert_eq!(furthest(&clean, 50, 15), vec![10..25]);
        assert_eq!(furthest(&clean, 50, 25), [10..30, 40..45]);
        assert_eq!(furthest(&clean, 50, 45), [10..30, 40..50, 85..100]);
        assert_eq!(furthest(&clean, 50, 1000), [10..30, 40..50, 80..100, 50..60]);
        assert_eq!(furthest(&clean, 0, 30), [80..100, 50..60]);
    }
}
