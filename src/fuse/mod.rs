//! The kernel's protocol only: requests in, replies out, mounting, invalidation.
//!
//! Invariants:
//! - what an operation means is decided in [`crate::session`]; here a request is translated, asked, answered;
//! - a thread that reads requests never waits for the store: an answer that has to is awaited on a task;
//! - every errno comes from [`crate::session::SessionError::errno`], or refuses a request that no session
//!   could be asked;
//! - a mount appears at its mount point only once it is served, and only a mount of ours is ever taken away.

mod answer;
mod backing;
pub mod batch;
mod convert;
mod count;
mod flags;
mod fs;
mod interrupt;
mod invalidate;
mod linger;
mod open;
pub mod probe;
mod refresh;
mod report;
mod serve;
#[allow(unsafe_code)]
pub mod sys;
pub mod table;
mod utab;
mod watch;

pub use count::{Answer, Counts, MODES, Operation};
pub use probe::Passthrough;
pub use refresh::RefreshAttr;
pub use serve::{Ended, FuseOptions, Served, serve};
pub use watch::Slow;
