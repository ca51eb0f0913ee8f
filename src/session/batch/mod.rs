//! Batches: what a command and its descendants close does not wait one by one, the end of the batch waits for all.
//!
//! A batch belongs to a process, its wrapper, which started the command. A caller is in it while the wrapper is above
//! it in the line of parents.
//!
//! Invariants:
//! - a caller that cannot be seen, or whose line is not seen whole, is in no batch: its closes wait;
//! - a wrapper is a handle of its process, so that no later process of its number is taken for it; once it has ended,
//!   however, nobody is in its batch any more;
//! - whoever goes on without waiting has told a batch that is open, after its rows were made: its end waits for them;
//! - only what waits differs: changes are made in the order in which they happen, in a batch or not.

mod ends;
mod kin;

use super::api::{Caller, Result};
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::measure::Count;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::sync::CancellationToken;

/// More at once are refused.
const MOST: usize = 1024;
/// Callers whose batches are remembered.
const REMEMBERED: usize = 4096;

/// A batch.
struct Batch {
    id: u64,
    /// Its process's number, its own until that has ended.
    wrapper: u32,
    handle: OwnedFd,
    /// What asks for the store by fsync does not wait either.
    fsync: bool,
    /// What was closed and could not be captured at once; `None`: the batch has ended.
    late: Mutex<Option<HashSet<Ino>>>,
    ended: CancellationToken,
}

impl Batch {
    fn is_open(&self) -> bool {
        self.late.lock().is_some() && !kin::has_ended(&self.handle)
    }

    /// Notes what its end has to wait for besides the rows that there are; `false` where it has ended.
    fn takes(&self, late: Option<Ino>) -> bool {
        let mut open = self.late.lock();
        match open.as_mut() {
            Some(all) => {
                all.extend(late);
                true
            }
            None => false,
        }
    }

    /// Ends it; `None` where it had ended before.
    fn end(&self) -> Option<HashSet<Ino>> {
        self.ended.cancel();
        self.late.lock().take()
    }
}

/// The batches that a caller is in.
#[derive(Clone, Default)]
pub(super) struct Within(Vec<Arc<Batch>>);

impl Within {
    /// Whether it is in any.
    pub fn any(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether not even what asks for the store by fsync waits.
    pub fn with_fsync(&self) -> bool {
        self.0.iter().any(|batch| batch.fsync)
    }

    /// The ends of the batches wait for all rows there are, and for `late`. `false` where all have ended meanwhile:
    /// then the caller has to.
    pub fn take(&self, late: Option<Ino>) -> bool {
        // All of them, not only the first that is open.
        self.0.iter().filter(|batch| batch.takes(late)).count() > 0
    }
}

/// All batches of a session.
#[derive(Default)]
pub(super) struct Batches {
    list: Mutex<Vec<Arc<Batch>>>,
    /// How many; looked at without the lock by everything that could wait.
    open: AtomicUsize,
    begun: Count,
    /// By task: who it was, and what it was in. A task never comes into a batch or out of one that is open: its wrapper
    /// takes in what loses its parent, and has no descendants when it begins.
    known: Mutex<HashMap<u32, (u64, Within)>>,
}

impl Batches {
    /// Those that are open, and those ever begun.
    pub fn counts(&self) -> (u64, u64) {
        (self.open.load(Ordering::Acquire) as u64, self.begun.get())
    }

    /// The open ones that a task is in; costs nothing while there is none.
    pub fn of(&self, task: u32) -> Within {
        if self.open.load(Ordering::Acquire) == 0 || task == 0 {
            return Within::default();
        }
        let within = self.known_or_looked_up(task);
        Within(within.0.into_iter().filter(|batch| batch.is_open()).collect())
    }

    fn known_or_looked_up(&self, task: u32) -> Within {
        let Some(identity) = kin::identity(task) else { return self.look_up(task) };
        let known = self.known.lock().get(&task).filter(|(is, _)| *is == identity).map(|(_, w)| w.clone());
        if let Some(within) = known {
            return within;
        }
        let within = self.look_up(task);
        // Still the same one: what was found is its own.
        if kin::identity(task) == Some(identity) {
            let mut known = self.known.lock();
            if known.len() >= REMEMBERED {
                known.clear();
            }
            known.insert(task, (identity, within.clone()));
        }
        within
    }

    fn look_up(&self, task: u32) -> Within {
        let list = self.list.lock().clone();
        let wrappers: Vec<u32> = list.iter().map(|batch| batch.wrapper).collect();
        let above = kin::above(task, &wrappers);
        Within(list.into_iter().filter(|batch| above.contains(&batch.wrapper)).collect())
    }

    fn begin(&self, task: u32, fsync: bool) -> Result<Arc<Batch>> {
        let refused = |why: String| SessionError::NoBatch(why);
        let wrapper = kin::blind_to(task).map_err(refused)?.process;
        let no_handle = |error| refused(format!("the daemon cannot watch this process: pidfd_open: {error}"));
        let handle = kin::handle(wrapper).map_err(no_handle)?;
        let mut list = self.list.lock();
        if list.len() >= MOST {
            return Err(refused(format!("{MOST} are running already")));
        }
        self.begun.one();
        let batch = Arc::new(Batch {
            id: self.begun.get(),
            wrapper,
            handle,
            fsync,
            late: Mutex::new(Some(HashSet::new())),
            ended: CancellationToken::new(),
        });
        list.push(batch.clone());
        self.open.store(list.len(), Ordering::Release);
        drop(list);
        // A task that begins one, with descendants or without, starts anew.
        self.known.lock().clear();
        Ok(batch)
    }

    /// The batch with this number, if it is this task's.
    fn find(&self, task: u32, id: u64) -> Option<Arc<Batch>> {
        let process = kin::of(task)?.process;
        let list = self.list.lock();
        list.iter().find(|batch| batch.id == id && batch.wrapper == process).cloned()
    }

    fn forget(&self, batch: &Arc<Batch>) {
        let mut list = self.list.lock();
        list.retain(|other| !Arc::ptr_eq(other, batch));
        self.open.store(list.len(), Ordering::Release);
        drop(list);
        // It holds batches that are over.
        self.known.lock().clear();
    }
}

impl Session {
    /// The open batches that a caller is in.
    pub(super) fn batches_of(&self, caller: Caller) -> Within {
        self.batches.of(caller.pid)
    }
}

#[cfg(test)]
mod tests;
