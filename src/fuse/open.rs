//! Answering open and create: with a backing file where the session wants one and the kernel takes it.

use super::answer::Answers;
use super::backing::Backings;
use super::convert;
use super::report::{self, Op};
use crate::session::api::{Attr, Opened};
use fuser::{BackingId, Errno, FileHandle, FopenFlags, Generation, ReplyCreate, ReplyOpen};
use std::io;

/// How an open of a directory is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opendir {
    /// It need not be asked, and listings are kept.
    Never,
    /// It is asked, as this kernel has no other way, and listings are kept.
    Kept,
    /// Each listing is asked for anew: the tree changes without the kernel.
    Fresh,
}

/// What open and create answer with.
pub(super) trait OpenReply: Send + 'static {
    type Found: Send + 'static;
    fn opened(found: &mut Self::Found) -> &mut Opened;
    fn register(&self, fd: std::os::fd::OwnedFd) -> io::Result<BackingId>;
    fn send(self, found: Self::Found, flags: FopenFlags, backing: Option<&BackingId>, answers: &Answers);
    fn refuse(self, errno: Errno);
}

impl OpenReply for ReplyOpen {
    type Found = Opened;
    fn opened(found: &mut Opened) -> &mut Opened {
        found
    }
    fn register(&self, fd: std::os::fd::OwnedFd) -> io::Result<BackingId> {
        self.open_backing(fd)
    }
    fn send(self, found: Opened, flags: FopenFlags, backing: Option<&BackingId>, _answers: &Answers) {
        let handle = FileHandle(found.fh.0);
        match backing {
            Some(id) => self.opened_passthrough(handle, flags, id),
            None => self.opened(handle, flags),
        }
    }
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

impl OpenReply for ReplyCreate {
    type Found = (Attr, Opened);
    fn opened(found: &mut (Attr, Opened)) -> &mut Opened {
        &mut found.1
    }
    fn register(&self, fd: std::os::fd::OwnedFd) -> io::Result<BackingId> {
        self.open_backing(fd)
    }
    fn send(self, found: (Attr, Opened), flags: FopenFlags, backing: Option<&BackingId>, answers: &Answers) {
        let (attr, handle) = (convert::attr(&found.0), FileHandle(found.1.fh.0));
        let (ttl, generation) = (&answers.ttl.entry, Generation(0));
        match backing {
            Some(id) => self.created_passthrough(ttl, &attr, generation, handle, flags, id),
            None => self.created(ttl, &attr, generation, handle, flags),
        }
    }
    fn refuse(self, errno: Errno) {
        self.error(errno);
    }
}

/// Sends what an open found. A backing file that the kernel refuses is done without.
pub(super) fn send_open<R: OpenReply>(
    answers: &Answers,
    backings: &Backings,
    op: Op,
    mut found: R::Found,
    reply: R,
) {
    let opened = *R::opened(&mut found);
    let flags = convert::fopen_flags(&opened);
    if !convert::is_passthrough(opened.mode) {
        answers.opened(op, opened.mode);
        return reply.send(found, flags, None, answers);
    }
    let file = match answers.session.backing(opened.fh) {
        Ok(file) => file,
        Err(error) => {
            answers.session.release(opened.fh);
            return reply.refuse(answers.errno(op, &error));
        }
    };
    match backings.of_open(op.ino, opened.fh, || reply.register(file)) {
        Ok(id) => {
            answers.opened(op, opened.mode);
            reply.send(found, flags, Some(&id), answers);
        }
        Err(error) => {
            report::trouble(op, &error);
            match answers.session.open_without_backing(opened.fh) {
                Ok(instead) => {
                    *R::opened(&mut found) = instead;
                    answers.opened(op, instead.mode);
                    reply.send(found, convert::fopen_flags(&instead), None, answers);
                }
                Err(error) => reply.refuse(answers.errno(op, &error)),
            }
        }
    }
}
