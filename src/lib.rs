//! cwdfs mounts an S3 prefix as a durable working directory.
//!
//! A write travels fuse -> session -> content + journal -> log -> store, and afterwards view -> store; a
//! cold read travels fuse -> session -> content -> store. Each folder depends only downwards; `src/README.md`
//! is the tour.

// One module has it: `fuse::sys`.
#![deny(unsafe_code)]

pub mod cli;
pub mod content;
pub mod control;
pub mod fsck;
pub mod fuse;
pub mod journal;
pub mod log;
pub mod measure;
pub mod metrics;
pub mod salvage;
pub mod session;
#[cfg(test)]
mod simulation;
pub mod store;
pub mod view;
