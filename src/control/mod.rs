//! The daemon's socket: status, flush, refresh, unmount.
//!
//! Invariants:
//! - a daemon is found from its mount point without touching the mount, which may hang: by a file in the
//!   runtime directory, named after the mount point;
//! - only the daemon's own user and root are answered;
//! - a request and its answer are one line of JSON each.

pub mod client;
pub mod registry;
pub mod server;
pub mod status;

pub use status::Status;

use crate::store::Keys;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What a client asks, one line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Request {
    /// What is in the store, and what is not.
    Status,
    /// Everything changed before now into the store; with `view`, also published.
    Flush {
        /// Bound, in milliseconds; the mount's own without.
        timeout_ms: Option<u64>,
        /// Also wait for publishing.
        view: bool,
    },
    /// Import outside changes now.
    Refresh,
    /// Whether all is well; the store is asked for it.
    Check {
        /// Bound of asking the store, in milliseconds.
        timeout_ms: u64,
    },
    /// Other credentials for the store.
    Credentials {
        /// Never shown.
        keys: Keys,
    },
    /// Unmount, drain, end.
    Unmount {
        /// Bound of the draining, in milliseconds; the mount's own without.
        timeout_ms: Option<u64>,
        /// Also when processes hold the mount.
        force: bool,
    },
}

/// What the daemon answers, one line.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Response {
    /// To [`Request::Status`].
    Status(Box<Status>),
    /// To [`Request::Check`].
    Checked {
        /// What is wrong, for people; empty where all is well.
        problems: Vec<String>,
        /// The rest.
        status: Box<Status>,
    },
    /// It is done.
    Done {
        /// What people should know besides.
        notes: Vec<String>,
    },
    /// Processes hold the mount; nothing was changed.
    Busy,
    /// It failed.
    Failed {
        /// The exit code for the command.
        exit: u8,
        /// For people.
        message: String,
    },
}

/// Why a daemon could not be asked, or what it said.
#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    /// There is no mount of ours.
    #[error("{}: not mounted by cwdfs", .mountpoint.display())]
    NotMounted { mountpoint: PathBuf },
    /// The mount is there, its daemon is not.
    #[error(
        "{}: the daemon of this mount is dead; `cwdfs mount` it again (what was not stored is in the cache and will be sent), or `cwdfs unmount` it",
        .mountpoint.display()
    )]
    Dead { mountpoint: PathBuf },
    /// A user's daemon, which has told of itself in a place that root does not know.
    #[error("{}: mounted by user {uid}, whose daemon cannot be found from here: ask as that user", .mountpoint.display())]
    Elsewhere { mountpoint: PathBuf, uid: u32 },
    /// Somebody else's daemon.
    #[error("{}: the mount belongs to another user: ask as that user or as root", .mountpoint.display())]
    NotYours { mountpoint: PathBuf },
    /// No answer in time.
    #[error("{}: the daemon did not answer within {seconds} s", .mountpoint.display())]
    Silent { mountpoint: PathBuf, seconds: u64 },
    /// What came is not of this protocol.
    #[error("{}: the daemon's answer makes no sense ({what}); is it another version?", .mountpoint.display())]
    Protocol { mountpoint: PathBuf, what: String },
    /// The local system failed.
    #[error("{what}: {error}")]
    Local { what: String, error: std::io::Error },
    /// The daemon could not do it.
    #[error("{message}")]
    Failed { exit: u8, message: String },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_come_back() {
        let request = Request::Unmount { timeout_ms: Some(5), force: true };
        let line = serde_json::to_string(&request).expect("JSON");
        assert_eq!(line, r#"{"command":"unmount","timeout_ms":5,"force":true}"#);
        assert_eq!(serde_json::from_str::<Request>(&line).expect("it comes back"), request);
        let response = Response::Failed { exit: 4, message: "m".into() };
        let line = serde_json::to_string(&response).expect("JSON");
        assert_eq!(serde_json::from_str::<Response>(&line).expect("it comes back"), response);
        assert!(serde_json::from_str::<Request>(r#"{"command":"dance"}"#).is_err());
    }
}
