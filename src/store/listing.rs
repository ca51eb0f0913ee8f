//! Whole listings, page by page.

use super::{Listed, ObjectStore, Result};

/// Objects asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// Every object below `prefix` and behind the key `after`, in memory: for prefixes that hold few.
pub async fn list_all(store: &dyn ObjectStore, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
    let mut found: Vec<Listed> = Vec::new();
    loop {
        let after = found.last().map(|last| last.key.as_str()).or(after);
        let page = store.list(prefix, after, PAGE).await?;
        // A page that is empty cannot be gone on from.
        let more = page.more && !page.objects.is_empty();
        found.extend(page.objects);
        if !more {
            return Ok(found);
        }
    }
}
