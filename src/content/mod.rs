//! Content: extents, local data files, capture, hydrate, evict.

pub mod extents;
pub mod ranges;
