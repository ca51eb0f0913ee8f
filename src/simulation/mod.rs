//! The session's history in a world made of nothing but a seed: time, scheduling, what the store answers, faults,
//! crashes and clocks all come from it, so a failing seed fails again in the same way.
//!
//! Writers, followers and collectors run the real code of the log on real journals; below them are objects in memory,
//! whose answers come late, wrong or not at all (`faults`). Beside them a model knows what was done (`model`), and
//! after each change of the store another reader, as simple as can be (`oracle`), looks what is there: `world` says what
//! has to hold. `scenarios` are the interleavings that break simpler designs, each shown to be caught when its rule
//! is switched off.
//!
//! Invariants:
//! - one thread, a paused clock, one seed: nothing here or below asks for the time, a thread or a random number
//!   otherwise;
//! - a run checks what is promised, not how it is kept: it knows nothing of leases, slots and floors but in `oracle`.

mod bucket;
mod clock;
mod disk;
mod faults;
mod follower;
mod keep;
mod life;
mod link;
mod local;
mod machine;
mod model;
mod oracle;
mod process;
mod run;
mod scenarios;
mod tests;
mod trace;
mod view;
mod world;
