//! The view in the same world: whole sessions that publish and import, and clients that change the plain objects
//! behind their backs.
//!
//! Every content is made of tokens that are written once each, so what became of an edit can be told without knowing
//! how: the ledger notes who was promised what, and the end of a run looks for it ([`ledger`]).
//!
//! Invariants:
//! - what an operation takes away is read from the rows in the same moment in which it is taken away;
//! - a run ends with a mount elsewhere, after which tree and objects have to be the same.

mod ledger;
mod machine;
mod outside;
mod run;
mod scenarios;
mod site;
mod tests;
mod tree;
