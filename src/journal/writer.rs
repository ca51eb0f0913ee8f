//! The one thread that writes: takes what has gathered, in order, as one transaction, again and again.

use super::Result;
use super::db::During;
use super::queue::{Op, Queue, Run, stopped, write};
use super::reserve::Reserve;
use crate::log::source::{LocalError, LocalKind};
use rusqlite::Connection;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

/// Pause before a failed batch is tried again.
const PAUSE: Duration = Duration::from_millis(200);
/// How often a batch is tried again once the journal is being closed.
const LAST_TRIES: u32 = 5;

pub(super) struct Writer {
    conn: Connection,
    queue: Arc<Queue>,
    reserve: Reserve,
    /// Most bytes of clean pieces.
    clean: u64,
}

impl Writer {
    pub fn new(conn: Connection, queue: Arc<Queue>, reserve: Reserve, clean: u64) -> Writer {
        Writer { conn, queue, reserve, clean }
    }

    /// Runs until the queue is closed and empty. However it ends, whoever waits is told.
    pub fn run(self) {
        let queue = self.queue.clone();
        let end = match catch_unwind(AssertUnwindSafe(|| self.serve())) {
            Ok(Ok(())) => stopped(),
            Ok(Err(error)) => {
                tracing::error!(%error, "the journal could not be written to the end; some changes are lost");
                error
            }
            Err(_) => {
                tracing::error!("the journal's writer has panicked; nothing more is written");
                stopped()
            }
        };
        queue.end(end);
    }

    fn serve(mut self) -> Result<()> {
        let mut batch: Vec<Op> = Vec::new();
        let mut failures = 0;
        loop {
            let leftover = (!batch.is_empty()).then_some(PAUSE);
            match self.queue.take(leftover) {
                Some(more) => batch.extend(more),
                None if batch.is_empty() => return Ok(()),
                None => {}
            }
            match self.write_batch(&mut batch) {
                Ok(()) => failures = 0,
                Err(error) => {
                    if failures == 0 {
                        tracing::error!(%error, "the journal cannot be written; it is tried again");
                    }
                    failures += 1;
                    if self.queue.is_closed() && failures > LAST_TRIES {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Writes all of `batch`, or tells those who wait and leaves the rest in it.
    fn write_batch(&mut self, batch: &mut Vec<Op>) -> Result<()> {
        #[cfg(test)]
        self.limit_pages();
        let mut answers = Vec::new();
        let result = self.transaction(batch, &mut answers).inspect_err(|_| self.roll_back());
        match &result {
            Ok(()) => {
                self.reserve.restore();
                self.queue.written(batch, self.reserve.is_full().then(full));
                batch.clear();
                answers.into_iter().for_each(|(to, answer)| reply(&to, answer));
                self.evict(self.clean);
            }
            Err(error) => {
                if error.kind == LocalKind::Full {
                    self.reserve.release();
                    self.evict(0);
                }
                self.queue.failed(error);
                answers.into_iter().for_each(|(to, _)| reply(&to, Err(error.clone())));
                for op in std::mem::take(batch) {
                    match op {
                        Op::Job(job) => reply(&job.answer, Err(error.clone())),
                        other => batch.push(other),
                    }
                }
            }
        }
        result
    }

    fn transaction(&self, batch: &mut Vec<Op>, answers: &mut Vec<Answer>) -> Result<()> {
        self.conn.execute_batch("BEGIN IMMEDIATE").during("starting to write")?;
        let mut done = Vec::with_capacity(batch.len());
        let mut written = 0;
        let mut failure = Ok(());
        for op in std::mem::take(batch) {
            let job = match op {
                Op::Job(job) if failure.is_ok() => job,
                other => {
                    done.push(other);
                    continue;
                }
            };
            // A job sees what was asked for before it.
            let before = write(&self.conn, &done[written..]);
            written = done.len();
            let answer = before.and_then(|()| self.savepoint(job.run));
            failure = answer.as_ref().map(drop).map_err(Clone::clone);
            answers.push((job.answer, answer.flatten()));
        }
        *batch = done;
        failure?;
        write(&self.conn, &batch[written..])?;
        self.conn.execute_batch("COMMIT").during("committing")
    }

    /// Runs a job so that its failure undoes its own effects only. The outer error is the transaction's.
    fn savepoint(&self, run: Run) -> Result<Result<()>> {
        self.conn.execute_batch("SAVEPOINT job").during("starting to write")?;
        let result = run(&self.conn);
        if let Err(error) = &result {
            // A full disk ends the whole transaction by itself.
            if self.conn.is_autocommit() || error.kind == LocalKind::Full {
                return Err(error.clone());
            }
            self.conn.execute_batch("ROLLBACK TO job").during("undoing a failed write")?;
        }
        self.conn.execute_batch("RELEASE job").during("writing")?;
        Ok(result)
    }

    #[cfg(test)]
    fn limit_pages(&self) {
        let limit = self.queue.page_limit.load(std::sync::atomic::Ordering::Relaxed);
        let limit = if limit == 0 { 1 << 30 } else { limit };
        self.conn.pragma_update_and_check(None, "max_page_count", limit, |_| Ok(())).unwrap();
    }

    fn roll_back(&self) {
        if !self.conn.is_autocommit()
            && let Err(error) = self.conn.execute_batch("ROLLBACK")
        {
            // The next BEGIN fails then, and tells everybody.
            tracing::error!(%error, "a failed write to the journal could not be undone");
        }
    }

    fn evict(&self, limit: u64) {
        if let Err(error) = super::clean::evict(&self.conn, limit) {
            // Only what may be evicted stays longer; the next batch tries again.
            tracing::warn!(%error, "clean content could not be evicted from the journal");
        }
    }
}

fn full() -> LocalError {
    LocalError::new(LocalKind::Full, "the disk with the cache directory is full; free space there")
}

type Answer = (SyncSender<Result<()>>, Result<()>);

fn reply(to: &SyncSender<Result<()>>, answer: Result<()>) {
    // Whoever asked may have gone away; the effect stands either way.
    let _ = to.try_send(answer);
}
