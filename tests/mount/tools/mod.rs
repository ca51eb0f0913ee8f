//! Real tools in the mount, each with an oracle: its own verifier, and the same run on a local disk. Each is
//! run in the way the seed draws, at full size in every way, and its tree again after the machine was lost.

mod acknowledged;
mod beside;
mod cargo;
mod copies;
mod everyday;
mod git;
mod lmdb;
mod node;
mod postgres;
mod python;
mod sqlite;
mod transcripts;
mod watchers;
