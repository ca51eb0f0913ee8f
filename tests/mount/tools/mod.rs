//! Real tools in the mount, each with an oracle: its own verifier, and the same run on a local disk. Each is
//! run in the way the seed draws, at full size in every way, and its tree again after the machine was lost.

mod acknowledged;
mod git;
mod lmdb;
mod postgres;
mod sqlite;
mod transcripts;
