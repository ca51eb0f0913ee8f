//! Answers: a session's result becomes a reply, at once or from a task.

use super::convert;
use super::interrupt;
use super::report::{self, Op};
use crate::session::api::{Attr, Outcome, ReadBytes, Result};
use crate::session::{Session, SessionError};
use fuser::{Errno, Generation, ReplyAttr, ReplyData, ReplyEmpty, ReplyEntry, ReplyLseek, ReplyWrite};
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;

/// How long the kernel may believe what it was told.
#[derive(Debug, Clone, Copy)]
pub struct Ttl {
    /// Attributes.
    pub attr: Duration,
    /// Names, also those that are not there.
    pub entry: Duration,
}

/// A reply that carries a `T`.
pub trait Carries<T>: Send + 'static {
    /// Whether a caller that is being killed may be let go without the result. Not where the kernel counts
    /// on what the session then holds for it.
    const LETS_GO: bool;
    /// Sends the result.
    fn send(self, value: T, ttl: &Ttl);
    /// Sends an errno.
    fn refuse(self, errno: Errno);
}

/// What answering needs.
pub struct Answers {
    pub session: Arc<Session>,
    pub runtime: tokio::runtime::Handle,
    pub ttl: Ttl,
}

impl Answers {
    /// Answers with a result that is there.
    pub fn now<T, R: Carries<T>>(&self, op: Op, result: Result<T>, reply: R) {
        match result {
            Ok(value) => reply.send(value, &self.ttl),
            Err(error) => reply.refuse(self.errno(op, &error)),
        }
    }

    /// Answers now where the result is there, else from a task.
    pub fn give<T: Send + 'static, R: Carries<T>>(self: &Arc<Self>, op: Op, outcome: Outcome<T>, reply: R) {
        match outcome {
            Outcome::Ready(result) => self.now(op, result, reply),
            Outcome::Later(wait) => {
                let answers = Arc::clone(self);
                self.runtime.spawn(async move { answers.wait(op, wait, reply).await });
            }
        }
    }

    async fn wait<T, R: Carries<T>>(&self, op: Op, mut wait: BoxFuture<'static, Result<T>>, reply: R) {
        if !R::LETS_GO {
            return self.now(op, wait.await, reply);
        }
        tokio::select! {
            result = &mut wait => self.now(op, result, reply),
            () = interrupt::killed(op.pid) => {
                reply.refuse(Errno::EINTR);
                // What the caller began goes on without it.
                if let Err(error) = wait.await {
                    report::failed(&self.session, op, &error);
                }
            }
        }
    }

    /// The errno of an error, which is also written to the log.
    pub fn errno(&self, op: Op, error: &SessionError) -> Errno {
        report::failed(&self.session, op, error);
        Errno::from_i32(error.errno())
    }
}

macro_rules! refuses {
    () => {
        fn refuse(self, errno: Errno) {
            self.error(errno);
        }
    };
}

impl Carries<()> for ReplyEmpty {
    const LETS_GO: bool = true;
    fn send(self, (): (), _ttl: &Ttl) {
        self.ok();
    }
    refuses!();
}

impl Carries<Attr> for ReplyAttr {
    const LETS_GO: bool = true;
    fn send(self, value: Attr, ttl: &Ttl) {
        self.attr(&ttl.attr, &convert::attr(&value));
    }
    refuses!();
}

impl Carries<Attr> for ReplyEntry {
    const LETS_GO: bool = false;
    fn send(self, value: Attr, ttl: &Ttl) {
        self.entry_with_ttls(&ttl.attr, &ttl.entry, &convert::attr(&value), Generation(0));
    }
    refuses!();
}

impl Carries<Option<Attr>> for ReplyEntry {
    const LETS_GO: bool = false;
    fn send(self, value: Option<Attr>, ttl: &Ttl) {
        let found = value.as_ref().map_or_else(convert::nothing, convert::attr);
        self.entry_with_ttls(&ttl.attr, &ttl.entry, &found, Generation(0));
    }
    refuses!();
}

impl Carries<Vec<u8>> for ReplyData {
    const LETS_GO: bool = true;
    fn send(self, value: Vec<u8>, _ttl: &Ttl) {
        self.data(&value);
    }
    refuses!();
}

impl Carries<ReadBytes> for ReplyData {
    const LETS_GO: bool = true;
    fn send(self, value: ReadBytes, _ttl: &Ttl) {
        self.data(&value);
    }
    refuses!();
}

impl Carries<u32> for ReplyWrite {
    const LETS_GO: bool = true;
    fn send(self, value: u32, _ttl: &Ttl) {
        self.written(value);
    }
    refuses!();
}

impl Carries<u64> for ReplyWrite {
    const LETS_GO: bool = true;
    fn send(self, value: u64, _ttl: &Ttl) {
        // A copy is asked for in ranges that fit (see the request).
        self.written(u32::try_from(value).unwrap_or(u32::MAX));
    }
    refuses!();
}

impl Carries<u64> for ReplyLseek {
    const LETS_GO: bool = true;
    fn send(self, value: u64, _ttl: &Ttl) {
        match i64::try_from(value) {
            Ok(offset) => self.offset(offset),
            Err(_) => self.error(Errno::EOVERFLOW),
        }
    }
    refuses!();
}
