//! What the journal promises, against a model of it.

mod helper;
mod model;
mod promises;
