//! What the journal promises, against a model of it.

mod checkpoint;
mod costs;
mod helper;
mod model;
mod promises;
mod salvage;
mod together;
