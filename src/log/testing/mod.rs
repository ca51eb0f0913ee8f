//! What the log's tests stand on: a store in memory that several clients share, each with faults of its own,
//! and journals in memory.

mod entropy;
mod journal;
mod store;

pub use entropy::{drawn, is_seeded, seed};
pub use journal::FakeJournal;
pub use store::{Chaos, Client, Fault, Gate, Shared};

use super::clock::TokioClock;
use super::lease::{LeaseOptions, Succession};
use std::time::Duration;

/// The ttl that the tests' writers use.
pub const TTL: Duration = Duration::from_secs(15);

/// Options of a writer called `holder`.
pub fn options(holder: &str) -> LeaseOptions {
    LeaseOptions {
        holder: holder.to_owned(),
        ttl: TTL,
        succession: Succession::WhenDue,
        dead: None,
        clock: TokioClock::shared(),
    }
}

/// The same, which does not wait for a holder.
pub fn takeover(holder: &str) -> LeaseOptions {
    LeaseOptions { succession: Succession::AtOnce, ..options(holder) }
}
