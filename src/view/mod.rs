//! The view: the session as plain objects that any S3 tool reads and writes.

pub mod headers;
pub mod names;
pub mod tag;
