//! What was kept of changes that could not be committed, as files again: what happened to which path, and a copy of it
//! in a directory.
//!
//! Invariants:
//! - nothing is written but below the directory that is given, and no symlink is followed there, nor one in the cache,
//!   whatever the rows say: they may be anybody's;
//! - a byte is written only if it is the changed file's: by its checksum, or from a local file that can be believed;
//!   what is missing is named, and no file passes for whole that is not;
//! - nothing that was kept is changed or removed.

mod content;
mod copy;
mod report;

#[cfg(test)]
mod tests;

pub use content::{Contents, Missing};
pub use copy::copy;
pub use report::{Entry, Report, list};

use crate::log::LogError;
use crate::log::source::LocalError;
use std::path::PathBuf;

/// Why salvaging failed.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// What was kept cannot be read.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// The store says something that makes it no source.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The directory to copy into.
    #[error("{}: {why}", path.display())]
    Output {
        /// What could not be written.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

type Result<T> = std::result::Result<T, SalvageError>;
