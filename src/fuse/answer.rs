//! Answers: a session's result becomes a reply, at once or from a task.

use super::convert;
use super::count::{Answer, Counts};
use super::interrupt;
use super::linger::Linger;
use super::report::{self, Op};
use super::watch::{self, Watch};
use crate::session::api::{Attr, IoMode, Outcome, ReadBytes, Result};
use crate::session::{Session, SessionError};
use fuser::{
    Errno, Generation, ReplyAttr, ReplyData, ReplyDirectory, ReplyDirectoryPlus, ReplyEmpty, ReplyEntry,
    ReplyIoctl, ReplyLseek, ReplyWrite, ReplyXattr,
};
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
    /// How a result counts.
    fn answer(_value: &T) -> Answer {
        Answer::Ok
    }
    /// What a result moves between us and the caller.
    fn moves(_value: &T) -> Moved {
        Moved::Nothing
    }
}

/// Bytes of a file that an answer is about.
pub enum Moved {
    /// None.
    Nothing,
    /// The caller gets so many.
    Read(u64),
    /// The caller brought so many.
    Written(u64),
}

/// What answering needs.
pub struct Answers {
    pub session: Arc<Session>,
    pub runtime: tokio::runtime::Handle,
    pub ttl: Ttl,
    pub counts: Arc<Counts>,
    pub watch: Arc<Watch>,
    pub linger: Linger,
}

impl Answers {
    /// Answers with a result that is there, on a thread that reads requests.
    pub fn now<T, R: Carries<T>>(&self, op: Op, result: Result<T>, reply: R) {
        self.answer(op, result, reply);
        self.linger.after(op.began);
    }

    fn answer<T, R: Carries<T>>(&self, op: Op, result: Result<T>, reply: R) {
        match result {
            Ok(value) => {
                match R::moves(&value) {
                    Moved::Nothing => {}
                    Moved::Read(bytes) => self.counts.read(bytes),
                    Moved::Written(bytes) => self.counts.written(bytes),
                }
                self.answered(op, R::answer(&value));
                reply.send(value, &self.ttl);
            }
            Err(error) => reply.refuse(self.errno(op, &error)),
        }
    }

    /// Answers now where the result is there, else from a task.
    pub fn give<T: Send + 'static, R: Carries<T>>(self: &Arc<Self>, op: Op, outcome: Outcome<T>, reply: R) {
        match outcome {
            Outcome::Ready(result) => self.now(op, result, reply),
            Outcome::Later(wait) => {
                watch::ends();
                let answers = Arc::clone(self);
                self.runtime.spawn(async move { answers.wait(op, wait, reply).await });
            }
        }
    }

    async fn wait<T, R: Carries<T>>(&self, op: Op, mut wait: BoxFuture<'static, Result<T>>, reply: R) {
        let _waits = (self.counts.waits(), self.watch.waits(op));
        if !R::LETS_GO {
            return self.answer(op, wait.await, reply);
        }
        tokio::select! {
            result = &mut wait => self.answer(op, result, reply),
            () = interrupt::killed(op.pid) => {
                reply.refuse(self.refused(op, Errno::EINTR));
                // What the caller began goes on without it.
                if let Err(error) = wait.await {
                    report::failed(&self.session, op, &error);
                }
            }
        }
    }

    /// Answers with a value, or with its length where nothing has been asked for.
    pub fn xattr(&self, op: Op, size: u32, value: Result<Vec<u8>>, reply: ReplyXattr) {
        match value {
            Err(error) => reply.error(self.errno(op, &error)),
            Ok(value) if size != 0 && value.len() > size as usize => {
                reply.error(self.refused(op, Errno::ERANGE));
            }
            Ok(value) => {
                self.done(op);
                match size {
                    // A value is far below 4 GiB: the kernel takes no more than 64 KiB.
                    0 => reply.size(value.len() as u32),
                    _ => reply.data(&value),
                }
            }
        }
        self.linger.after(op.began);
    }

    /// The errno of an error, which is counted, and written to the log.
    pub fn errno(&self, op: Op, error: &SessionError) -> Errno {
        report::failed(&self.session, op, error);
        self.refused(op, Errno::from_i32(error.errno()))
    }

    /// An operation is answered with this errno: counts it.
    pub fn refused(&self, op: Op, errno: Errno) -> Errno {
        self.answered(op, Answer::of(errno.code()));
        errno
    }

    /// An open has its answer: counts it, and how its reads and writes travel.
    pub fn opened(&self, op: Op, mode: IoMode) {
        self.counts.opened(mode);
        self.done(op);
    }

    /// An operation has its answer: counts it. Before it is sent, so that who has it finds it counted.
    pub fn done(&self, op: Op) {
        self.answered(op, Answer::Ok);
    }

    fn answered(&self, op: Op, answer: Answer) {
        watch::ends();
        self.counts.answered(op.operation, answer, op.began.elapsed());
    }
}

macro_rules! refuses {
    () => {
        fn refuse(self, errno: Errno) {
            self.error(errno);
        }
    };
}

/// Replies that say only that it is done; what is listed is in them already.
macro_rules! done {
    ($($reply:ty),*) => {
        $(impl Carries<()> for $reply {
            const LETS_GO: bool = true;
            fn send(self, (): (), _ttl: &Ttl) {
                self.ok();
            }
            refuses!();
        })*
    };
}

done!(ReplyEmpty, ReplyDirectory, ReplyDirectoryPlus);

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
    fn answer(value: &Option<Attr>) -> Answer {
        match value {
            Some(_) => Answer::Ok,
            // It is sent as a name that is known not to be there.
            None => Answer::NotFound,
        }
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
    fn moves(value: &ReadBytes) -> Moved {
        Moved::Read(value.len() as u64)
    }
    refuses!();
}

impl Carries<u32> for ReplyWrite {
    const LETS_GO: bool = true;
    fn send(self, value: u32, _ttl: &Ttl) {
        self.written(value);
    }
    fn moves(value: &u32) -> Moved {
        Moved::Written(u64::from(*value))
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

impl Carries<Vec<u8>> for ReplyIoctl {
    const LETS_GO: bool = true;
    fn send(self, value: Vec<u8>, _ttl: &Ttl) {
        self.ioctl(0, &value);
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
