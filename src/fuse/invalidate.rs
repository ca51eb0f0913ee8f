//! Tells the kernel what to forget, mostly from a thread of its own: the kernel may make it wait behind a lock that
//! a request of ours holds.

use crate::log::ids::Ino;
use crate::session::Queue;
use crate::session::api::Invalidation;
use fuser::{INodeNo, Notifier};
use std::ffi::OsStr;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::ffi::OsStrExt;

/// Runs until the session has no more to tell or the connection is gone.
pub fn run(invalidations: Queue, notifier: &Notifier) {
    for what in invalidations {
        if told(&what, tell(notifier, &what)).is_break() {
            return;
        }
    }
}

/// Has the kernel forget a directory's attributes, on the thread that answers its change: it has no page that the
/// kernel would have to write back first.
pub fn forget_directory(notifier: &Notifier, ino: Ino) {
    let what = Invalidation::Attributes(ino);
    // Where the connection is over there is nothing that could be out of date.
    let _ = told(&what, tell(notifier, &what));
}

fn told(what: &Invalidation, result: io::Result<()>) -> ControlFlow<()> {
    match result {
        Ok(()) => {}
        Err(error) if is_over(&error) => return ControlFlow::Break(()),
        // It was not cached, or no longer.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(?what, %error, "the kernel did not take an invalidation"),
    }
    ControlFlow::Continue(())
}

fn tell(notifier: &Notifier, what: &Invalidation) -> io::Result<()> {
    match what {
        // From 0 on, to the end.
        Invalidation::Inode(ino) => notifier.inval_inode(INodeNo(ino.0), 0, 0),
        // From nowhere on: no page.
        Invalidation::Attributes(ino) => notifier.inval_inode(INodeNo(ino.0), -1, 0),
        Invalidation::Entry { parent, name } => {
            notifier.inval_entry(INodeNo(parent.0), OsStr::from_bytes(name))
        }
    }
}

fn is_over(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENODEV | libc::ENOTCONN | libc::ECONNABORTED | libc::EBADF))
}
