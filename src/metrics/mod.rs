//! Metrics: what there is to be measured, its text form, and serving it over HTTP to whoever scrapes.
//!
//! Invariants:
//! - a page has every family of [`families::ALL`] and no other, each once; `packaging/metrics/README.md` documents
//!   them, and a test compares;
//! - no label has values without bound, and none is a path, a key or a secret;
//! - nothing here is waited for by the file system: a scraper that is slow is hung up on, one too many too, and a
//!   page that takes long keeps only other pages waiting.

mod address;
pub mod families;
mod http;
mod page;

pub use address::{Address, Bound};
pub use http::{Pages, serve};
pub use page::{Form, Page, Samples};
