//! Finds out what an object is that we did not expect, and brings the rows, and the tree, in line with it.
//!
//! Invariants (whoever calls holds the key's lock):
//! - an object is an outside edit only if its ETag is not the one in the row and it is not a version of ours;
//! - an object is gone only if HEAD says so and the session itself is still there;
//! - outside bytes that cannot have their name are committed under another before they are overwritten.

use super::error::{Result, ViewError};
use super::headers;
use super::names::{NoPath, outside_name, place_of};
use super::shared::Shared;
use super::tag::Tag;
use crate::log::row::ViewRow;
use crate::session::outside::{Kept, Outside, Placed, Removed};
use crate::store::ObjectMeta;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How many names are tried for an outside edit that is kept beside ours.
const MAX_BESIDE: u32 = 1000;

/// What became of an object that was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// It is what the row says.
    Unchanged,
    /// It is a version of ours whose row was missing, or a marker that tells nothing of a directory of ours.
    Adopted,
    /// An outside edit is in the tree now.
    Imported,
    /// An outside delete is in the tree now.
    Deleted,
    /// Both contents are kept.
    Conflict,
    /// The tree keeps the name; it is published again.
    PublishAgain,
    /// A directory has its name.
    Shadowed,
    /// It changed while it was looked at.
    Raced,
    /// Its key cannot be a path.
    Hostile,
}

/// Milliseconds since 1970.
pub(super) fn millis(time: SystemTime) -> i64 {
    match time.duration_since(UNIX_EPOCH) {
        Ok(since) => i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
        Err(before) => i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |ms| -ms),
    }
}

/// Whether two times are the same second; HEAD tells no more than that.
pub(super) fn same_second(a: i64, b: i64) -> bool {
    a.div_euclid(1000) == b.div_euclid(1000)
}

/// Looks at the object `key`, of which we know `row`.
pub(super) async fn settle(shared: &Shared, key: &str, row: Option<&ViewRow>) -> Result<Settled> {
    let place = match place_of(key) {
        Ok(place) => place,
        Err(NoPath::Ours | NoPath::Component | NoPath::TooLong) => return Ok(Settled::Hostile),
    };
    let Some(head) = shared.head(key).await? else { return gone(shared, key, place.path, row).await };
    if let Some(row) = row
        && row.etag == head.etag.0
        && row.size == head.size
        && (head.size > 0 || empty_unchanged(shared, key, row, &head)?)
    {
        return Ok(Settled::Unchanged);
    }
    // A store that keeps markers' metadata has our tag on ours, below: what has another's is another's.
    if let Some(row) = row.filter(|row| row.is_about_to_be() && head.size == 0 && head.metadata.is_empty()) {
        let row = ViewRow { etag: head.etag.0, modified_ms: Some(millis(head.modified)), ..row.clone() };
        shared.put_row(key, &row)?;
        shared.mark(key, 0, Duration::ZERO);
        return Ok(Settled::Adopted);
    }
    if let Some(tag) = shared.ours(key, &head).await? {
        let row = ViewRow {
            ino: tag.ino,
            version: tag.version,
            etag: head.etag.0,
            size: head.size,
            modified_ms: Some(millis(head.modified)),
        };
        shared.put_row(key, &row)?;
        shared.mark(key, 0, Duration::ZERO);
        return Ok(Settled::Adopted);
    }
    let outside = Outside {
        key: key.to_owned(),
        path: place.path.to_owned(),
        directory: place.directory,
        etag: head.etag.0.clone(),
        size: head.size,
        modified_ms: millis(head.modified),
        headers: Some(headers::read(&head.metadata)),
    };
    place_outside(shared, &outside, row).await
}

/// Puts an outside object into the tree, or keeps it beside what the tree has there.
pub(super) async fn place_outside(
    shared: &Shared,
    object: &Outside,
    row: Option<&ViewRow>,
) -> Result<Settled> {
    let settled = match shared.session.outside_put(object, row)? {
        Placed::New(seq) | Placed::Replaced(seq) => {
            shared.note_import(&object.key, seq);
            Settled::Imported
        }
        Placed::Noted(seq) => {
            shared.note_import(&object.key, seq);
            shared.mark(&object.key, 0, shared.options.delay);
            if object.directory && object.tells_nothing() {
                // Stores with folders list one wherever a key implies it, and keep no tag on it.
                return Ok(Settled::Adopted);
            }
            Settled::Imported
        }
        Placed::Conflict => return keep_both(shared, object, row).await,
        Placed::Shadowed => return Ok(Settled::Shadowed),
        Placed::Raced => return Ok(Settled::Raced),
    };
    shared.figures.lock().imported += 1;
    tracing::info!(key = object.key, "an outside edit was imported");
    Ok(settled)
}

/// The tree keeps the name; the outside bytes are committed under another, and only then may ours be
/// published over them.
async fn keep_both(shared: &Shared, object: &Outside, row: Option<&ViewRow>) -> Result<Settled> {
    let name = object.path.rsplit_once('/').map_or(object.path.as_str(), |(_, name)| name);
    let content = shared.session.copy_outside(object).await?;
    for attempt in 0..MAX_BESIDE {
        let beside = outside_name(name, &object.etag, attempt);
        match shared.session.outside_keep(object, &beside, content.clone(), row)? {
            Kept::Taken => continue,
            Kept::Raced => return Ok(Settled::Raced),
            Kept::Beside(seq) => {
                shared.note_import(&object.key, seq);
                shared.figures.lock().conflicts += 1;
                tracing::warn!(key = object.key, beside, "both sides changed a file: both are kept");
                shared.committed(seq).await?;
                shared.mark(&object.key, 0, Duration::ZERO);
                return Ok(Settled::Conflict);
            }
        }
    }
    Err(ViewError::NotYet { key: object.key.clone(), what: "every name to keep its outside edit is taken" })
}

/// There is no object at `key`.
pub(super) async fn gone(shared: &Shared, key: &str, path: &str, row: Option<&ViewRow>) -> Result<Settled> {
    let Some(row) = row.filter(|row| !row.is_about_to_be()) else { return Ok(Settled::Unchanged) };
    shared.check_alive(key).await?;
    // Without conditions a DELETE of ours may have hit what was written since: then it was no outside client.
    let trusted = shared.options.delete_conditions && !shared.deletes.may_have_removed(key);
    match shared.session.outside_delete(key, path, row, trusted)? {
        Removed::Done(seq) => {
            shared.note_import(key, seq);
            shared.figures.lock().outside_deletes += 1;
            tracing::info!(key, "an outside delete was imported");
            Ok(Settled::Deleted)
        }
        Removed::Noted => Ok(Settled::Unchanged),
        Removed::PublishAgain => {
            shared.mark(key, 0, Duration::ZERO);
            Ok(Settled::PublishAgain)
        }
        Removed::Raced => Ok(Settled::Raced),
    }
}

/// All objects without bytes share an ETag: their time, or our tag, tells whether one is still the same.
fn empty_unchanged(shared: &Shared, key: &str, row: &ViewRow, head: &ObjectMeta) -> Result<bool> {
    let modified = millis(head.modified);
    if row.modified_ms.is_some_and(|known| same_second(known, modified)) {
        return Ok(true);
    }
    let tag = Tag::of(shared.session_id, key, head);
    // Some stores keep no metadata of markers, and no tag.
    let untold = || key.ends_with('/') && row.modified_ms.is_none() && head.metadata.is_empty();
    let ours = tag.map_or_else(untold, |tag| (tag.ino, tag.version) == (row.ino, row.version));
    if ours {
        shared.put_row(key, &ViewRow { modified_ms: Some(modified), ..row.clone() })?;
    }
    Ok(ours)
}
