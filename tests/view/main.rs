//! The view of a real session, without FUSE: publish and import over a directory store that can be made bad,
//! with an outside client that looks at the store by itself.

mod conflicts;
mod hostile;
mod imported;
mod interleavings;
mod outside;
mod published;
mod random;
mod rig;
mod tree;
