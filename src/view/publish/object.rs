//! Brings one object up to the committed tree.
//!
//! Invariants:
//! - what is written is a committed version, under the condition that the object is as we last saw it;
//! - an object whose bytes are still the content of a file is neither overwritten nor deleted;
//! - an answer that surprises is settled by looking at the object, never by trying again blindly.

use super::changes::shows;
use super::upload::upload;
use crate::log::ids::{Blob, keys};
use crate::log::row::{InodeRow, ViewRow};
use crate::store::{Condition, ETag, Kind, StoreError};
use crate::view::error::{Result, ViewError};
use crate::view::settle::{Settled, settle};
use crate::view::shared::Shared;
use crate::view::tree::Shown;

/// After this many surprises in a row the key waits for its next turn.
const MAX_STEPS: usize = 8;

enum Step {
    Done,
    Again,
}

/// Publishes `key`: its object then shows the committed tree.
pub(super) async fn publish(shared: &Shared, key: &str) -> Result<()> {
    let _lock = shared.keys.lock(key).await;
    for _ in 0..MAX_STEPS {
        match step(shared, key).await? {
            Step::Done => return Ok(()),
            Step::Again => continue,
        }
    }
    Err(ViewError::NotYet { key: key.to_owned(), what: "the object keeps changing" })
}

async fn step(shared: &Shared, key: &str) -> Result<Step> {
    shared.import_settled(key)?;
    let row = shared.row(key)?;
    let want = match want(shared, key, row.as_ref())? {
        Want::Shown => return Ok(Step::Done),
        Want::Nothing => None,
        Want::Object(shown) => Some(shown),
    };
    if let Some(row) = &row
        && free_object(shared, key, row).await?
    {
        return Ok(Step::Again);
    }
    shared.writable().await?;
    match (want, row) {
        (Some(shown), row) => write(shared, key, &shown, row.as_ref()).await,
        (None, Some(row)) => remove(shared, key, &row).await,
        (None, None) => Ok(Step::Done),
    }
}

enum Want {
    /// The object is right.
    Shown,
    /// There should be none.
    Nothing,
    /// It should show this.
    Object(Box<Shown>),
}

fn want(shared: &Shared, key: &str, row: Option<&ViewRow>) -> Result<Want> {
    if !shared.options.publishes(key) {
        return Ok(Want::Shown);
    }
    let mut tree = shared.tree()?;
    let there = tree.at(key)?;
    if shows(row, there.as_ref()) {
        return Ok(Want::Shown);
    }
    let Some((ino, inode)) = there else { return Ok(Want::Nothing) };
    let inode: InodeRow = inode;
    Ok(Want::Object(Box::new(tree.shown(ino, inode)?)))
}

/// Sees to it that no file's content lies in the object that is about to change; true if that took time, so
/// that everything has to be looked at again.
async fn free_object(shared: &Shared, key: &str, row: &ViewRow) -> Result<bool> {
    if shared.session.object_in_use(key) {
        return Err(ViewError::NotYet { key: key.to_owned(), what: "a deleted file that is open reads it" });
    }
    let Some(seq) = shared.session.own_content(row.ino).await? else { return Ok(false) };
    shared.committed(seq).await?;
    Ok(true)
}

async fn write(shared: &Shared, key: &str, shown: &Shown, row: Option<&ViewRow>) -> Result<Step> {
    // Only a version of the tree whose content was just copied away from its object has such extents.
    if shown.extents.iter().any(|(_, extent)| matches!(extent.blob, Blob::Object { .. })) {
        let seq = shared.session.own_content(shown.ino).await?;
        if let Some(seq) = seq {
            shared.committed(seq).await?;
        }
        return match seq {
            Some(_) => Ok(Step::Again),
            None => Err(ViewError::NotYet { key: key.to_owned(), what: "its content is not committed" }),
        };
    }
    let condition = row.map_or(Condition::Absent, |row| Condition::Match(ETag(row.etag.clone())));
    match upload(shared, key, shown, condition).await {
        Ok((etag, size)) => {
            let (ino, version) = (shown.ino, shown.row.version);
            shared.put_row(key, &ViewRow { ino, version, etag: etag.0, size, modified_ms: None })?;
            shared.figures.lock().published += 1;
            tracing::debug!(key, version, size, "published");
            Ok(Step::Done)
        }
        Err(ViewError::Store(error)) => surprised(shared, key, row, error).await,
        Err(error) => Err(error),
    }
}

async fn remove(shared: &Shared, key: &str, row: &ViewRow) -> Result<Step> {
    // Objects without bytes share one ETag, and some stores take no condition: look first.
    if row.size == 0 || !shared.options.delete_conditions {
        match settle(shared, key, Some(row)).await? {
            Settled::Unchanged => (),
            _ => return Ok(Step::Again),
        }
        if shared.row(key)?.is_none() {
            return Ok(Step::Done);
        }
    }
    let condition = match shared.options.delete_conditions {
        true => Condition::Match(ETag(row.etag.clone())),
        false => Condition::None,
    };
    shared.note_deleted(key);
    match shared.store.delete(key, &condition).await {
        Ok(()) => {
            shared.remove_row(key)?;
            shared.figures.lock().deleted += 1;
            Ok(Step::Done)
        }
        Err(error) => surprised(shared, key, Some(row), error).await,
    }
}

/// A write or delete failed: a condition that did not hold is settled, the rest is tried again later.
async fn surprised(shared: &Shared, key: &str, row: Option<&ViewRow>, error: StoreError) -> Result<Step> {
    let ours = error.key.starts_with(keys::ROOT);
    match error.kind {
        Kind::Precondition if !ours => (),
        Kind::NotFound if !ours => (),
        Kind::NotFound => {
            shared.check_alive(&error.key).await?;
            return Err(error.into());
        }
        _ => return Err(error.into()),
    }
    match settle(shared, key, row).await? {
        // Neither ours nor changed, and yet refused: somebody writes at this moment.
        Settled::Unchanged if shared.row(key)?.as_ref() == row => Err(error.into()),
        Settled::Shadowed => {
            Err(ViewError::NotYet { key: key.to_owned(), what: "an outside object is in its place" })
        }
        _ => Ok(Step::Again),
    }
}
