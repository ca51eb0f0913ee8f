//! Odd use: mount points that move or vanish, mounts in mounts, callers that are killed while they wait, daemons that
//! stand still. The right errno, nothing lost, no hang, no panic.

mod ends;
mod places;
mod waits;
