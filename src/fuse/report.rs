//! Failed operations in the daemon's log.

use super::count::Operation;
use crate::log::ids::Ino;
use crate::session::{Session, SessionError};
use std::time::Instant;

/// An operation, for messages.
#[derive(Debug, Clone, Copy)]
pub struct Op {
    /// Which.
    pub operation: Operation,
    /// The inode it is about; of a name, its directory.
    pub ino: Ino,
    /// The task that asks; 0 when it cannot be seen.
    pub pid: u32,
    /// When we had read the request.
    pub began: Instant,
}

/// A plain refusal (no such file) is an answer and not an event; anything else is, and is written to the log.
pub(super) fn failed(session: &Session, op: Op, error: &SessionError) {
    if matches!(error, SessionError::Errno(_)) {
        return;
    }
    let path = path(session, op.ino);
    let Op { operation, ino, pid, .. } = op;
    tracing::error!(operation = operation.name(), ino = ino.0, path, pid, %error, "operation failed");
}

/// Where an inode is; empty where that cannot be told.
pub(super) fn path(session: &Session, ino: Ino) -> String {
    match session.path_of(ino) {
        Ok(Some(path)) => String::from_utf8_lossy(&path).into_owned(),
        Ok(None) | Err(_) => String::new(),
    }
}

/// A failure of the protocol's own.
pub(super) fn trouble(op: Op, error: &std::io::Error) {
    tracing::error!(operation = op.operation.name(), ino = op.ino.0, %error, "the kernel refused");
}
