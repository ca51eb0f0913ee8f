//! The suites that others wrote for file systems, each run in every way of mounting, held against the same
//! run on an ext4 of the local disk, and the tree that they leave held against the one that comes back after
//! the machine was lost.
//!
//! Each prints its counts: `cargo test --test mount -- suites:: --show-output`. The programs that are crates
//! are those of `CWDFS_TEST_TOOLS`, or of `target/tools/bin`, where tests/run installs them.

/// One test for each way of mounting: they run side by side, and a failure's name says the way.
macro_rules! in_every_way {
    ($run:ident) => {
        #[test]
        fn close_passthrough() {
            $run($crate::support::way::Way::ALL[0]);
        }
        #[test]
        fn close_daemon() {
            $run($crate::support::way::Way::ALL[1]);
        }
        #[test]
        fn fsync_passthrough() {
            $run($crate::support::way::Way::ALL[2]);
        }
        #[test]
        fn fsync_daemon() {
            $run($crate::support::way::Way::ALL[3]);
        }
    };
}

mod ext4;
mod fsx;
mod pjdfstest;
mod short;
mod stress;
mod stress_ng;

use crate::support::installed;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A program that tests/run installs as a crate; panics when it is not there.
fn tool(name: &str) -> PathBuf {
    installed("CWDFS_TEST_TOOLS", "target/tools/bin", name)
}

/// What a list of skips says: `NAME REASON` a line, `#` begins a comment. A name without a reason panics.
fn skips(list: &str) -> BTreeMap<&str, &str> {
    let lines = list.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines
        .filter(|line| !line.is_empty())
        .map(|line| line.split_once(' ').unwrap_or_else(|| panic!("the skip of {line} has no reason")))
        .collect()
}
