//! What waits for the writer: a queue that keeps the order of everything, and its failures.
//!
//! Invariant: an operation leaves the queue only into the database, or, if somebody waits for it, with the
//! error told to that somebody. A failure to write what nobody waits for is shown to every later caller
//! until it has been written after all.

use super::Result;
use super::db::{During, insert_many};
use super::overlay::Change;
use crate::log::ids::{Blob, LocalId};
use crate::log::source::{LocalError, LocalKind};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use rusqlite::Connection;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

/// How long the writer gathers what nobody waits for.
const GATHER: Duration = Duration::from_millis(3);
/// Unwritten bytes at which it stops gathering, and at which callers are slowed down.
const SOON: usize = 4 << 20;
const FULL: usize = 12 << 20;
/// How long callers wait on a full disk for room to be made.
const GRACE: Duration = Duration::from_secs(5);

/// Something to write.
pub(super) enum Op {
    /// Uncommitted changes, one step.
    Changes(Arc<Vec<Change>>),
    /// A small content.
    Piece { id: LocalId, bytes: Bytes },
    /// A piece that lies in the store; dropped where it is known already.
    Keep { id: LocalId, blob: Blob, off: u64, bytes: Bytes },
    /// A fact of this machine.
    Local { table: String, key: Vec<u8>, value: Option<Vec<u8>> },
    /// Anything that somebody waits for.
    Job(Job),
}

/// What is done inside the transaction.
pub(super) type Run = Box<dyn FnOnce(&Connection) -> Result<()> + Send>;

/// Work that somebody waits for; its effects are in the database when the answer says so.
pub(super) struct Job {
    pub run: Run,
    pub answer: SyncSender<Result<()>>,
}

impl Op {
    fn bytes(&self) -> usize {
        const ROW: usize = 64;
        match self {
            Op::Changes(changes) => {
                changes.iter().map(|c| ROW + c.key.len() + c.value.as_ref().map_or(0, Bytes::len)).sum()
            }
            Op::Piece { bytes, .. } | Op::Keep { bytes, .. } => bytes.len(),
            Op::Local { key, value, .. } => ROW + key.len() + value.as_ref().map_or(0, Vec::len),
            Op::Job(_) => 0,
        }
    }
}

#[derive(Default)]
struct Waiting {
    ops: Vec<Op>,
    bytes: usize,
    /// Of a batch that the writer has taken and not finished.
    taken: usize,
    urgent: bool,
    closed: bool,
    failure: Option<LocalError>,
    /// All is written, but only into the space that was set aside for a full disk.
    tight: Option<LocalError>,
    /// When the disk was found full, while it is.
    full_since: Option<Instant>,
    /// It was found full since [`Queue::wait_until_full`] returned.
    filled: bool,
    /// Somebody makes room then.
    helped: bool,
    /// The writer is no more; nothing will ever be written.
    gone: bool,
    /// Small contents that are not in the database yet.
    pieces: HashMap<LocalId, Bytes>,
}

#[derive(Default)]
pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    /// Pages that the database may have, where tests fill it; 0: any number.
    #[cfg(test)]
    pub page_limit: std::sync::atomic::AtomicU32,
    /// How often the writer was woken.
    #[cfg(test)]
    pub woken: std::sync::atomic::AtomicU32,
    work: Condvar,
    space: Condvar,
    full: Condvar,
}

impl Waiting {
    /// Why nothing new is taken; `freeing`: not even what may free space.
    fn refusal(&self, freeing: bool) -> Option<&LocalError> {
        let tight = self.tight.as_ref().filter(|_| !freeing);
        self.failure.as_ref().or(tight)
    }

    /// Until when it is waited for whoever makes room.
    fn patience(&self) -> Option<Instant> {
        self.full_since.filter(|_| self.helped && !self.closed && !self.gone).map(|since| since + GRACE)
    }

    fn look_at_space(&mut self) -> bool {
        let is_full = self.refusal(false).is_some_and(|error| error.kind == LocalKind::Full);
        match is_full {
            true => _ = self.full_since.get_or_insert_with(Instant::now),
            false => self.full_since = None,
        }
        self.filled = is_full;
        is_full
    }
}

impl Queue {
    /// Refuses new changes while the writer fails or the disk is as good as full, and nobody makes room in time;
    /// nothing made before is lost by that.
    pub fn check(&self) -> Result<()> {
        self.wait_for_room(&mut self.waiting.lock(), false)
    }

    /// Refuses changes by which local content can go only while the writer fails.
    pub fn check_failing(&self) -> Result<()> {
        self.wait_for_room(&mut self.waiting.lock(), true)
    }

    fn wait_for_room(&self, waiting: &mut MutexGuard<'_, Waiting>, freeing: bool) -> Result<()> {
        while let Some(error) = waiting.refusal(freeing) {
            let error = error.clone();
            match waiting.patience().filter(|until| *until > Instant::now()) {
                Some(until) => _ = self.space.wait_until(waiting, until),
                None => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits while too much is unwritten.
    pub fn wait_for_space(&self) -> Result<()> {
        let mut waiting = self.waiting.lock();
        loop {
            self.wait_for_room(&mut waiting, true)?;
            if waiting.bytes + waiting.taken <= FULL {
                return Ok(());
            }
            self.space.wait(&mut waiting);
        }
    }

    /// For who makes room: returns when the disk was found full; false once the queue is closed.
    pub fn wait_until_full(&self) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.helped = true;
        while !waiting.filled && !waiting.closed && !waiting.gone {
            self.full.wait(&mut waiting);
        }
        waiting.filled = false;
        !waiting.closed && !waiting.gone
    }

    /// Nobody makes room any more.
    pub fn without_help(&self) {
        self.waiting.lock().helped = false;
        self.space.notify_all();
    }

    /// Adds an operation that nobody waits for.
    pub fn push(&self, op: Op) {
        let mut waiting = self.waiting.lock();
        if let Op::Piece { id, bytes } = &op {
            waiting.pieces.insert(*id, bytes.clone());
        }
        let (before, first) = (waiting.bytes, waiting.ops.is_empty());
        waiting.bytes += op.bytes();
        waiting.ops.push(op);
        // A writer that gathers looks by itself, in a moment: it is not woken for each.
        if first || (before < SOON && waiting.bytes >= SOON) {
            #[cfg(test)]
            self.woken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            self.work.notify_one();
        }
    }

    /// Adds a job; its answer comes through the receiver.
    pub fn send(&self, run: impl FnOnce(&Connection) -> Result<()> + Send + 'static) -> Pending {
        let (answer, pending) = sync_channel(1);
        let mut waiting = self.waiting.lock();
        if !waiting.gone {
            waiting.ops.push(Op::Job(Job { run: Box::new(run), answer }));
            waiting.urgent = true;
            self.work.notify_one();
        }
        Pending(pending)
    }

    /// Runs a job and waits until it is in the database.
    pub fn run<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (sender, result) = sync_channel(1);
        let pending = self.send(move |conn| {
            let value = job(conn)?;
            // The receiver outlives the job: it is read below, after the answer.
            let _ = sender.send(value);
            Ok(())
        });
        pending.wait()?;
        result.recv().map_err(|_| stopped())
    }

    /// Like [`Queue::run`], and again where the disk was full and room is made in time.
    pub fn run_with_room(
        &self,
        job: impl Fn(&Connection) -> Result<()> + Clone + Send + 'static,
    ) -> Result<()> {
        loop {
            match self.run(job.clone()) {
                Err(error) if error.kind == LocalKind::Full => {
                    let mut waiting = self.waiting.lock();
                    if waiting.patience().is_none_or(|until| until <= Instant::now()) {
                        return Err(error);
                    }
                    self.wait_for_room(&mut waiting, true)?;
                }
                ended => return ended,
            }
        }
    }

    /// A small content that is not in the database yet.
    pub fn piece(&self, id: LocalId) -> Option<Bytes> {
        self.waiting.lock().pieces.get(&id).cloned()
    }

    /// The last failure, while it lasts.
    pub fn failure(&self) -> Option<LocalError> {
        let waiting = self.waiting.lock();
        waiting.failure.clone().or_else(|| waiting.tight.clone())
    }

    /// Asks the writer to end once everything is written.
    pub fn close(&self) {
        self.waiting.lock().closed = true;
        self.work.notify_all();
        self.full.notify_all();
        self.space.notify_all();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.waiting.lock().closed
    }

    /// Gives the writer what has gathered, or `None` when it shall end. With `leftover`, returns soon even
    /// if nothing new comes, so that it is tried again.
    pub(super) fn take(&self, leftover: Option<Duration>) -> Option<Vec<Op>> {
        let mut waiting = self.waiting.lock();
        if let Some(pause) = leftover {
            self.work.wait_for(&mut waiting, pause);
        } else {
            while waiting.ops.is_empty() && !waiting.closed {
                self.work.wait(&mut waiting);
            }
            let until = Instant::now() + GATHER;
            while !waiting.urgent && !waiting.closed && waiting.bytes < SOON {
                if self.work.wait_until(&mut waiting, until).timed_out() {
                    break;
                }
            }
        }
        if waiting.ops.is_empty() && waiting.closed {
            return None;
        }
        waiting.urgent = false;
        waiting.taken += std::mem::take(&mut waiting.bytes);
        Some(std::mem::take(&mut waiting.ops))
    }

    /// A batch is in the database; `tight` tells that there is hardly space for another.
    pub(super) fn written(&self, batch: &[Op], tight: Option<LocalError>) {
        let mut waiting = self.waiting.lock();
        for op in batch {
            if let Op::Piece { id, .. } = op {
                waiting.pieces.remove(id);
            }
        }
        waiting.taken = 0;
        waiting.failure = None;
        waiting.tight = tight;
        if waiting.look_at_space() {
            self.full.notify_one();
        }
        self.space.notify_all();
    }

    /// A batch could not be written.
    pub(super) fn failed(&self, error: &LocalError) {
        let mut waiting = self.waiting.lock();
        waiting.failure = Some(error.clone());
        if waiting.look_at_space() {
            self.full.notify_one();
        }
        self.space.notify_all();
    }

    /// The writer ends: whoever waits, or comes later, is told.
    pub(super) fn end(&self, failure: LocalError) {
        let mut waiting = self.waiting.lock();
        waiting.gone = true;
        waiting.failure.get_or_insert(failure);
        waiting.ops.retain(|op| !matches!(op, Op::Job(_)));
        self.space.notify_all();
        self.full.notify_all();
    }
}

/// An answer to come.
pub(super) struct Pending(Receiver<Result<()>>);

impl Pending {
    pub fn wait(self) -> Result<()> {
        self.0.recv().unwrap_or_else(|_| Err(stopped()))
    }
}

pub(super) fn stopped() -> LocalError {
    LocalError::failed("its writer has stopped; see the log for why")
}

/// Writes operations that are no jobs. Their order among each other does not matter but for that of facts: nothing else
/// is written twice between jobs.
pub(super) fn write(conn: &Connection, ops: &[Op]) -> Result<()> {
    let steps = ops.iter().filter_map(|op| match op {
        Op::Changes(changes) => Some((changes, changes.last()?.seq)),
        _ => None,
    });
    let changes: Vec<_> = steps.flat_map(|(step, last)| step.iter().map(move |c| (c, last))).collect();
    insert_many(conn, "change", 4, &changes, |insert, at, (change, step)| {
        insert.raw_bind_parameter(at, change.seq as i64)?;
        insert.raw_bind_parameter(at + 1, *step as i64)?;
        insert.raw_bind_parameter(at + 2, &change.key)?;
        insert.raw_bind_parameter(at + 3, change.value.as_deref())
    })
    .during("writing changes")?;
    ops.iter().try_for_each(|op| write_one(conn, op))
}

fn write_one(conn: &Connection, op: &Op) -> Result<()> {
    match op {
        Op::Piece { id, bytes } => {
            conn.prepare_cached("INSERT OR REPLACE INTO piece VALUES (?, ?)")
                .and_then(|mut s| s.execute((id.0 as i64, &bytes[..])))
                .during("writing content")?;
        }
        Op::Keep { id, blob, off, bytes } => super::clean::keep(conn, *id, blob, *off, bytes)?,
        Op::Local { table, key, value: Some(value) } => {
            conn.prepare_cached("INSERT OR REPLACE INTO local VALUES (?, ?, ?)")
                .and_then(|mut s| s.execute((table, key, value)))
                .during("writing a local fact")?;
        }
        Op::Local { table, key, value: None } => {
            conn.prepare_cached("DELETE FROM local WHERE tbl = ? AND key = ?")
                .and_then(|mut s| s.execute((table, key)))
                .during("removing a local fact")?;
        }
        // Changes are written together; jobs are run by the writer's loop, which has to answer them.
        Op::Changes(_) | Op::Job(_) => {}
    }
    Ok(())
}
