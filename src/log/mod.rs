//! The session's history in the store: rows, segments, the committer, lease and seal, checkpoints, collection.

pub mod blobs;
pub(crate) mod blocking;
pub mod checkpoint;
pub mod clock;
pub mod collect;
pub mod committer;
mod error;
pub mod follow;
pub mod ids;
pub mod inspect;
pub mod lease;
pub mod pack;
pub mod records;
pub mod recover;
pub mod removal;
pub mod row;
pub(crate) mod rules;
pub mod run;
pub mod segment;
mod sound;
pub mod source;
pub mod summary;
#[cfg(test)]
pub(crate) mod testing;

pub use error::LogError;
