//! Whole listings, page by page.
//!
//! Invariant: they end. A store that gives the same keys again and again, or more than anybody has, is refused.

use super::{Kind, Listed, ObjectStore, Result, StoreError};

/// Objects asked for at once; S3 gives no more.
const PAGE: usize = 1000;

/// The most objects of a listing in memory, some hundred bytes each.
const MOST: usize = if cfg!(test) { 10_000 } else { 1_000_000 };

/// Whether a key comes behind another, in an order that stores have: that of the bytes, or of the folders' names.
pub(super) fn is_behind(key: &str, other: &str) -> bool {
    key > other || is_behind_by_names(key, other)
}

fn is_behind_by_names(key: &str, other: &str) -> bool {
    key.split('/').gt(other.split('/'))
}

/// Sees to it that a listing goes on, in one of the orders that stores have.
pub struct Onward {
    by_bytes: bool,
    by_names: bool,
}

impl Default for Onward {
    fn default() -> Self {
        Onward { by_bytes: true, by_names: true }
    }
}

impl Onward {
    /// The page behind `after` ends with `last`. Fails where the listing goes back.
    pub fn page(&mut self, store: &dyn ObjectStore, after: Option<&str>, last: &str) -> Result<()> {
        let Some(after) = after else { return Ok(()) };
        self.by_bytes &= last > after;
        self.by_names &= is_behind_by_names(last, after);
        if self.by_bytes || self.by_names {
            return Ok(());
        }
        let message =
            format!("the listing of {} goes back to {last:?}, and so would never end", store.describe());
        Err(StoreError::new(Kind::Invalid, "list", after, message))
    }
}

/// A listing that is gone through page by page: for prefixes of any size.
pub struct Pages<'a> {
    store: &'a dyn ObjectStore,
    prefix: &'a str,
    after: Option<String>,
    onward: Onward,
    ended: bool,
}

impl<'a> Pages<'a> {
    /// The objects below `prefix` and behind the key `after`.
    pub fn of(store: &'a dyn ObjectStore, prefix: &'a str, after: Option<&str>) -> Pages<'a> {
        Pages { store, prefix, after: after.map(str::to_owned), onward: Onward::default(), ended: false }
    }

    /// The next objects, up to 1,000; `None` behind the last.
    pub async fn next(&mut self) -> Result<Option<Vec<Listed>>> {
        if self.ended {
            return Ok(None);
        }
        let page = self.store.list(self.prefix, self.after.as_deref(), PAGE).await?;
        // A page that is empty cannot be gone on from.
        self.ended = !page.more || page.objects.is_empty();
        if let Some(last) = page.objects.last() {
            self.onward.page(self.store, self.after.as_deref(), &last.key)?;
            self.after = Some(last.key.clone());
        }
        Ok(Some(page.objects))
    }
}

/// Every object below `prefix` and behind the key `after`, in memory: for prefixes that hold few.
pub async fn list_all(store: &dyn ObjectStore, prefix: &str, after: Option<&str>) -> Result<Vec<Listed>> {
    let (mut pages, mut found) = (Pages::of(store, prefix, after), Vec::new());
    while let Some(objects) = pages.next().await? {
        if found.len() + objects.len() > MOST {
            let message =
                format!("more than {MOST} objects lie below {prefix:?}: no session has as many there");
            return Err(StoreError::new(Kind::Invalid, "list", prefix, message));
        }
        found.extend(objects);
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_behind_each_other_as_bytes_or_as_names() {
        assert!(is_behind("b", "a") && is_behind("a/b", "a") && is_behind("a/c", "a/b"));
        assert!(is_behind("a/b", "a-") && is_behind("a-", "a/b"), "each in one order");
        assert!(!is_behind("a", "a") && !is_behind("a", "b") && !is_behind("a", "a/b"));
    }

    #[test]
    fn a_listing_that_goes_back_is_refused() {
        let store = crate::store::DirStore::new(std::path::Path::new("/nowhere"));
        let goes = |keys: &[&str]| {
            let mut onward = Onward::default();
            keys.windows(2).try_for_each(|two| onward.page(&store, Some(two[0]), two[1]))
        };
        assert!(goes(&["a", "a-", "a/b", "b"]).is_ok(), "in the order of bytes");
        assert!(goes(&["a", "a/b", "a-", "b"]).is_ok(), "in the order of names");
        assert!(goes(&["a", "a"]).is_err());
        // Onwards each time, in one order or the other, and round and round.
        assert!(goes(&["a-", "a/b", "a-", "a/b"]).is_err());
    }
}
