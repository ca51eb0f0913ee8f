//! `--version`: of the tool, and of the formats that it writes and reads.

use crate::{journal, log};

/// What `--version` prints behind the program's name.
pub fn long() -> String {
    format!(
        "{}\nwrites: lease format {}, segment format {}, checkpoint format {}, local journal format {}\n\
         reads: each of these formats from 1 up to the one it writes; refuses newer ones, changing nothing",
        env!("CARGO_PKG_VERSION"),
        log::lease::FORMAT,
        log::segment::FORMAT,
        log::checkpoint::FORMAT,
        journal::FORMAT,
    )
}
