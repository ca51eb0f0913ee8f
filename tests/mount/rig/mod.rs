//! The real thing, killed: processes work in a real mount on a machine with a network of its own, and note what
//! they do outside of it; then the daemon, its machine, the relay or the store is killed, the session is mounted
//! elsewhere, and what is there is held against what they noted.
//!
//! - `ops`: what a process does, one system call at a time, and how it is noted
//! - `worker`: the processes that do it, drawn from the seed
//! - `crew`: those of one round
//! - `names`: the names that there are after some of it
//! - `history`: what a process noted, and what of it was acknowledged
//! - `found`: what another mount shows
//! - `judge`: whether that is a state that everything acknowledged is in
//! - `kill`: rounds of all this
//! - `power`: a machine whose disk loses what was not synced
//! - `succession`: hosts that fight for one session
//! - `weather`: a store in every bad state

mod crew;
mod found;
mod history;
mod judge;
mod kill;
mod names;
mod ops;
mod power;
mod succession;
mod weather;
mod worker;
