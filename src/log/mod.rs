//! The session's history in the store: rows, segments, the committer, lease and seal, checkpoints, collection.

pub mod ids;
pub mod row;
