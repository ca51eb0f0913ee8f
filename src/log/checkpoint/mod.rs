//! Checkpoints: a whole tree in the store, as an image or as a delta on one, so that a mount replays only
//! the log's tail.
//!
//! Invariants:
//! - a checkpoint holds the rows after one committed slot, in key order, each key once; a delta holds the
//!   rows changed since its image, tombstones included;
//! - what is read is all that was written, or an error that names the object: every block has a checksum,
//!   and the end has the number of rows and a checksum of the whole;
//! - reading needs memory for one block and the fetches under way, whatever the object claims.
//!
//! The format is described byte by byte in `src/log/FORMAT.md`.

mod format;
mod load;
mod name;
mod read;
mod run;
mod write;

pub use format::{FORMAT, Header};
pub use load::{load, load_rows};
pub use name::{Name, Plan, choose, list, list_sized};
pub use read::Reader;
pub use run::{Made, run};
pub use write::Writer;

#[cfg(test)]
mod tests;
