//! The listing of the prefix beside the rows of the view, key by key.
//!
//! Invariant: every object whose listing differs from its row is told, each row without an object too, in
//! whatever order the store lists; keys that cannot be paths are counted and passed over.

use crate::log::ids::keys;
use crate::log::row::{Key, Row, ViewRow, prefix_end};
use crate::measure::Progress;
use crate::store::{Listed, Onward};
use crate::view::error::{Result, ViewError};
use crate::view::names::place_of;
use crate::view::settle::{millis, same_second};
use crate::view::shared::Shared;
use crate::view::tree::after;
use std::collections::{BTreeMap, BTreeSet};

/// Objects and rows read at a time.
const PAGE: usize = 1000;
/// Behind every key of ours.
const BEHIND_OURS: &str = ".cwdfs/\u{10ffff}";

/// All differences by key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Differences {
    /// Objects without a row.
    pub new: BTreeMap<String, Listed>,
    /// Objects that are not what their row says.
    pub changed: BTreeSet<String>,
    /// Rows without an object.
    pub gone: BTreeMap<String, ViewRow>,
}

impl Differences {
    /// Objects that came before or behind where their row was expected.
    fn pair(&mut self) {
        let paired = self.new.keys().filter(|key| self.gone.contains_key(*key)).cloned();
        for key in paired.collect::<Vec<_>>() {
            if let (Some(object), Some(row)) = (self.new.remove(&key), self.gone.remove(&key))
                && differs(&object, &row)
            {
                self.changed.insert(key);
            }
        }
    }
}

/// What was listed.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub objects: u64,
    pub hostile: u64,
    pub shadowed: u64,
}

/// Lists the prefix and compares. Fails when the listing does not show our own lease.
pub(super) async fn list(shared: &Shared) -> Result<(Differences, Counts)> {
    let mut walk = Walk::new(shared)?;
    let progress = Progress::new("list objects");
    let (mut start, mut onward): (Option<String>, _) = (None, Onward::default());
    let mut sees_lease = false;
    loop {
        let page = shared.store.list("", start.as_deref(), PAGE).await?;
        progress.step(page.objects.len() as u64, 0);
        if let Some(last) = page.objects.last() {
            onward.page(shared.store.as_ref(), start.as_deref(), &last.key)?;
        }
        let mut next = page.objects.last().map(|last| last.key.clone());
        for object in page.objects {
            sees_lease |= object.key == keys::LEASE;
            if object.key.starts_with(keys::ROOT) {
                // Ours end a page, so the next one begins behind all of them.
                next = next.filter(|last| !last.starts_with(keys::ROOT)).or(Some(BEHIND_OURS.to_owned()));
            } else {
                walk.object(object)?;
            }
        }
        match next {
            Some(last) if page.more => start = Some(last),
            _ => break,
        }
    }
    // Usually it comes by the way; where more of ours is before it, it is asked for by itself.
    if !sees_lease && !shared.sees_lease().await? {
        return Err(ViewError::BadListing { store: shared.store.describe() });
    }
    walk.rest()
}

/// Whether an object may not be what its row says. All empty ones share an ETag: their time counts.
fn differs(object: &Listed, row: &ViewRow) -> bool {
    let same_time = || row.modified_ms.is_some_and(|known| same_second(known, millis(object.modified)));
    object.etag.0 != row.etag || object.size != row.size || object.size == 0 && !same_time()
}

/// Goes through the rows of the view beside the listing.
struct Walk<'a> {
    shared: &'a Shared,
    found: Differences,
    counts: Counts,
    /// The first row that no object was compared with.
    row: Option<(String, ViewRow)>,
    from: Vec<u8>,
    page: std::vec::IntoIter<(Vec<u8>, bytes::Bytes)>,
    end: bool,
}

impl<'a> Walk<'a> {
    fn new(shared: &'a Shared) -> Result<Walk<'a>> {
        let (from, page) = (Key::views(""), Vec::new().into_iter());
        let mut walk = Walk {
            shared,
            found: Differences::default(),
            counts: Counts::default(),
            row: None,
            from,
            page,
            end: false,
        };
        walk.row = walk.next()?;
        Ok(walk)
    }

    fn object(&mut self, object: Listed) -> Result<()> {
        self.counts.objects += 1;
        let Ok(place) = place_of(&object.key) else {
            self.counts.hostile += 1;
            return Ok(());
        };
        while let Some((key, row)) = self.row.take_if(|(key, _)| *key < object.key) {
            self.found.gone.insert(key, row);
            self.row = self.next()?;
        }
        if let Some((key, known)) = self.row.take_if(|(key, _)| *key == object.key) {
            if differs(&object, &known) {
                self.found.changed.insert(key);
            }
            self.row = self.next()?;
        } else if !place.directory && self.shared.session.is_directory_at(place.path)? {
            self.counts.shadowed += 1;
        } else {
            self.found.new.insert(object.key.clone(), object);
        }
        Ok(())
    }

    fn rest(mut self) -> Result<(Differences, Counts)> {
        while let Some((key, row)) = self.row.take() {
            self.found.gone.insert(key, row);
            self.row = self.next()?;
        }
        self.found.pair();
        Ok((self.found, self.counts))
    }

    fn next(&mut self) -> Result<Option<(String, ViewRow)>> {
        loop {
            for (key, value) in self.page.by_ref() {
                if let Some(Key::View { key }) = Key::decode(&key) {
                    return Ok(Some((key, ViewRow::decode(&value)?)));
                }
            }
            if self.end {
                return Ok(None);
            }
            let behind = prefix_end(&Key::views(""));
            let page = self.shared.journal.scan(&self.from, behind.as_deref(), PAGE)?;
            self.end = page.len() < PAGE;
            if let Some((last, _)) = page.last() {
                self.from = after(last);
            }
            self.page = page.into_iter();
        }
    }
}
