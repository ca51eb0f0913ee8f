//! Keeping what this process knows to itself: it holds the keys of the store, in memory and in its environment.

use rustix::process::{DumpableBehavior, set_dumpable_behavior};

/// From now on this process leaves no core dump, and other processes of the same user, an agent among them, can
/// neither trace it nor read its memory and environment.
pub fn keep() {
    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        eprintln!("cwdfs: a core dump of this process would have the store's keys: prctl: {error}");
    }
}
