//! What goes wrong below the directory store, before it is known for which operation.

use crate::store::{Kind, StoreError};
use rustix::io::Errno;
use std::fmt::Display;

/// A failure with its kind; the public methods add the operation and the key.
#[derive(Debug)]
pub(super) struct Fail {
    pub kind: Kind,
    pub message: String,
}

/// The result of the store's inner functions.
pub(super) type Try<T> = Result<T, Fail>;

impl Fail {
    pub fn new(kind: Kind, message: impl Into<String>) -> Self {
        Fail { kind, message: message.into() }
    }

    pub fn of(self, operation: &'static str, key: &str) -> StoreError {
        StoreError::new(self.kind, operation, key, self.message)
    }
}

/// Says what was tried, on what, when a system call fails.
pub(super) trait Context<T> {
    fn because(self, what: &str, on: impl Display) -> Try<T>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn because(self, what: &str, on: impl Display) -> Try<T> {
        self.map_err(|errno| {
            let message = format!("cannot {what} {on}: {}{}", std::io::Error::from(errno), advice(errno));
            Fail::new(kind_of(errno), message)
        })
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn because(self, what: &str, on: impl Display) -> Try<T> {
        self.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)).because(what, on)
    }
}

fn kind_of(errno: Errno) -> Kind {
    match errno {
        Errno::NOENT => Kind::NotFound,
        Errno::ACCESS | Errno::PERM => Kind::AccessDenied,
        Errno::ROFS => Kind::ReadOnly,
        Errno::NOSPC | Errno::DQUOT | Errno::FBIG => Kind::NoSpace,
        Errno::OPNOTSUPP | Errno::XDEV => Kind::Unsupported,
        Errno::NAMETOOLONG | Errno::INVAL | Errno::NOTDIR | Errno::LOOP => Kind::Invalid,
        Errno::TIMEDOUT => Kind::Timeout,
        _ => Kind::Unavailable,
    }
}

fn advice(errno: Errno) -> &'static str {
    match errno {
        Errno::OPNOTSUPP => {
            "; the store needs extended attributes: use ext4, xfs, btrfs, or tmpfs of Linux 6.6 or later"
        }
        Errno::XDEV => "; the store's directory must be one file system, with nothing mounted below it",
        _ => "",
    }
}
