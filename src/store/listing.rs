//! Whole listings, page by page.

use super::{Listed, ObjectStore, Result};

/// Objects asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// A listing that is gone through page by page: for prefixes of any size.
pub struct Pages<'a> {
    store: &'a dyn ObjectStore,
    prefix: &'a str,
    after: Option<String>,
    ended: bool,
}

impl<'a> Pages<'a> {
    /// The objects below `prefix` and behind the key `after`.
    pub fn of(store: &'a dyn ObjectStore, prefix: &'a str, after: Option<&str>) -> Pages<'a> {
        Pages { store, prefix, after: after.map(str::to_owned), ended: false }
    }

    /// The next objects, up to 1,000; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.list(self.prefix, self.after.as_deref(), PAGE).await?;
        // A page that is empty cannot be gone on from.
        self.ended = !page.more || page.objects.is_empty();
        self.after = page.objects.last().map(|last| last.key.clone());
        Ok(Some(page.objects))
    }
}

/// Every object below `prefix` and behind the key `after`, in memory: for prefixes that hold few.
pub async fn list_all(store: &dyn ObjectStore, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
    let (mut pages, mut found) = (Pages::of(store, prefix, after), Vec::new());
    while let Some(objects) = pages.next().await? {
        found.extend(objects);
    }
    Ok(found)
}
