//! Whatever lies in a bucket is hostile input: its keys, leases, segments, checkpoints, rows and headers, often well
//! formed to the last checksum.
//!
//! - `bytes.rs`: objects of a real session (`corpus/`), changed at random, half of them with a checksum that is right
//!   again, given to whatever decodes them;
//! - `answers.rs`: what a store answers to requests (`answers/`), changed: XML, headers, lengths, sent by `server.rs` to
//!   the S3 store;
//! - `sessions.rs`: a session with rows that no writer makes, under right checksums, opened and used as a mount would.
//!
//! Nothing may panic, hang, ask for memory that the input does not have, or leave a file outside the cache folder and
//! the store. What once failed is tried first: `regressions/`, and every object in `corpus/`, which also shows that
//! what an earlier cwdfs wrote is still read.

mod answers;
mod bytes;
mod mutate;
mod rows;
mod server;
mod sessions;
mod visit;

use cap::Cap;
use proptest::test_runner::{Config, FileFailurePersistence};
use std::alloc::System;
use std::env::var_os;

/// The most memory of the whole process, tests side by side: an allocation beyond it ends the process.
const MEMORY: usize = 1 << 30;

#[global_allocator]
static MEMORY_OF_ALL: Cap<System> = Cap::new(System, MEMORY);

/// `cases` in CI, a hundred times as many with `CWDFS_TEST_FULL`; what failed before is tried first.
fn config(cases: u32, regressions: &'static str) -> Config {
    let times = if var_os("CWDFS_TEST_FULL").is_some() { 100 } else { 1 };
    Config {
        cases: cases * times,
        max_shrink_iters: 2000,
        failure_persistence: Some(Box::new(FileFailurePersistence::Direct(regressions))),
        ..Config::default()
    }
}
