//! Brings one object up to the committed tree.
//!
//! Invariants:
//! - what is written is a committed version, under the condition that the object is as we last saw it (but for
//!   the marker of a folder that a store takes for an object, where no condition holds: it has no bytes);
//! - an object whose bytes are still the content of a file is neither overwritten nor deleted;
//! - a folder's marker is written only once the store knows that it is about to be: some stores keep no tag on it, and
//!   left behind by a crash it would be taken for somebody else's;
//! - a key is done when its row shows the committed tree as it is then: what was committed while a request was under way
//!   was compared with the row of before;
//! - an answer that surprises is settled by looking at the object, never by trying again blindly.

use super::changes::shows;
use super::upload::upload;
use crate::log::ids::{Blob, Ino, keys};
use crate::log::row::{InodeRow, ViewRow};
use crate::log::rules::{Rule, holds};
use crate::session::SessionError;
use crate::session::outside::UNREAD;
use crate::store::{Condition, ETag, Kind, StoreError};
use crate::view::error::{Result, ViewError};
use crate::view::import::read_headers;
use crate::view::settle::{Settled, settle};
use crate::view::shared::{Shared, gone_row};
use crate::view::tree::Shown;
use std::time::Duration;
use tokio::time::Instant;

/// After this many surprises in a row the key waits for its next turn.
const MAX_STEPS: usize = 8;

/// So many keys that are due next are looked at for what may be noted with one commit.
const NOTED_TOGETHER: usize = 500;

/// How long ago we were surely the writer when something is deleted: many deletes share one write of the lease.
const CONFIRMED: Duration = Duration::from_secs(1);

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
        Want::Unpublished => return leave(shared, row.as_ref()).await,
        Want::Nothing => None,
        Want::Object(shown) => Some(shown),
    };
    shared.writable().await?;
    if let Some(row) = &row
        && free_object(shared, key, row).await?
    {
        return Ok(Step::Again);
    }
    if want.is_some() && row.as_ref().is_none_or(ViewRow::is_about_to_be) {
        has_room(shared, key)?;
    }
    match (want, row) {
        (Some(shown), None) if key.ends_with('/') => announce(shared, key, shown.ino).await,
        (Some(shown), row) => write(shared, key, &shown, row.as_ref()).await,
        (None, Some(row)) if row.is_about_to_be() => forget(shared, key, &row).await,
        (None, Some(row)) => remove(shared, key, &row).await,
        (None, None) => Ok(Step::Done),
    }
}

/// Says, in the log, that a marker is about to be written.
async fn announce(shared: &Shared, key: &str, ino: Ino) -> Result<Step> {
    let seq = shared.put_row(key, &ViewRow::about_to_be(ino))?;
    shared.committed(seq).await?;
    Ok(Step::Again)
}

/// A marker that was about to be written is not wanted any more.
async fn forget(shared: &Shared, key: &str, row: &ViewRow) -> Result<Step> {
    match settle(shared, key, Some(row)).await? {
        Settled::Unchanged => {
            shared.remove_row(key)?;
            Ok(Step::Done)
        }
        _ => Ok(Step::Again),
    }
}

enum Want {
    /// The object is right.
    Shown,
    /// The object is left alone, whatever it is.
    Unpublished,
    /// There should be none.
    Nothing,
    /// It should show this.
    Object(Box<Shown>),
}

fn want(shared: &Shared, key: &str, row: Option<&ViewRow>) -> Result<Want> {
    let mut tree = shared.tree()?;
    let there = tree.at(key)?;
    if shows(row, there.as_ref()) {
        return Ok(Want::Shown);
    }
    if !shared.options.publishes(key) {
        return Ok(Want::Unpublished);
    }
    let Some((ino, inode)) = there else { return Ok(Want::Nothing) };
    let inode: InodeRow = inode;
    Ok(Want::Object(Box::new(tree.shown(ino, inode)?)))
}

/// The object stays, but not as the only copy of content that has another path now, or none that it shows.
async fn leave(shared: &Shared, row: Option<&ViewRow>) -> Result<Step> {
    let Some(row) = row else { return Ok(Step::Done) };
    match shared.session.own_content(row.ino).await {
        Ok(_) => Ok(Step::Done),
        Err(SessionError::Store(error)) if is_gone(&error) => {
            Err(ViewError::Lost { ino: row.ino, object: error.key })
        }
        Err(error) => Err(error.into()),
    }
}

/// Sees to it that nothing of a file lies only in the object that is about to change, neither content nor
/// headers; true if that took time, so that everything has to be looked at again.
async fn free_object(shared: &Shared, key: &str, row: &ViewRow) -> Result<bool> {
    if shared.session.object_in_use(key) {
        return Err(ViewError::NotYet { key: key.to_owned(), what: "a deleted file that is open reads it" });
    }
    if row.version == UNREAD {
        read_headers(shared, key, row).await?;
        if shared.row(key)?.as_ref() != Some(row) {
            return Ok(true);
        }
    }
    if !holds(Rule::OwnedBeforeChange) {
        return Ok(false);
    }
    match shared.session.own_content(row.ino).await {
        Ok(None) => Ok(false),
        Ok(Some(seq)) => {
            shared.committed(seq).await?;
            Ok(true)
        }
        // It is another one by now: what that means is settled first.
        Err(SessionError::Store(error)) if is_gone(&error) && error.key == key => {
            let settled = settle(shared, key, Some(row)).await?;
            // As its row says: what the file had of an older one is gone, and there is nothing to wait for.
            Ok(settled != Settled::Unchanged)
        }
        Err(SessionError::Store(error)) if is_gone(&error) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

async fn write(shared: &Shared, key: &str, shown: &Shown, row: Option<&ViewRow>) -> Result<Step> {
    if shown.row.version == UNREAD {
        return Err(ViewError::NotYet { key: key.to_owned(), what: "its headers are not read yet" });
    }
    // Imported content that is at another key now (a copy in its own name was freed before).
    if shown.extents.iter().any(|(_, extent)| matches!(extent.blob, Blob::Object { .. })) {
        return own(shared, key, shown).await;
    }
    let row = row.filter(|row| !row.is_about_to_be());
    // Objects without bytes share one ETag: look whether it is still ours.
    if let Some(row) = row.filter(|row| row.size == 0 && holds(Rule::EmptyByHeaders))
        && settle(shared, key, Some(row)).await? != Settled::Unchanged
    {
        return Ok(Step::Again);
    }
    let condition = match row {
        _ if !holds(Rule::WrittenIfKnown) => Condition::None,
        Some(row) => Condition::Match(ETag(row.etag.clone())),
        None => Condition::Absent,
    };
    let written = match upload(shared, key, shown, condition).await {
        Err(ViewError::Store(error)) if error.is_precondition() && is_implied(shared, key, row).await? => {
            upload(shared, key, shown, Condition::None).await
        }
        written => written,
    };
    match written {
        Ok((etag, size)) => {
            let (ino, version) = (shown.ino, shown.row.version);
            shared.put_row(key, &ViewRow { ino, version, etag: etag.0, size, modified_ms: None })?;
            shared.figures.lock().published += 1;
            tracing::debug!(key, version, size, "published");
            Ok(Step::Again)
        }
        Err(ViewError::Store(error)) => surprised(shared, key, row, error).await,
        Err(error) => Err(error),
    }
}

/// Whether `key` is a folder that only keys below it imply, for which some stores let no condition hold.
/// Such a store keeps an object of the folder's name in the same place: that must not be there.
async fn is_implied(shared: &Shared, key: &str, row: Option<&ViewRow>) -> Result<bool> {
    let (None, Some(file)) = (row, key.strip_suffix('/')) else { return Ok(false) };
    if shared.head(key).await?.is_some() {
        return Ok(false);
    }
    match shared.head(file).await? {
        Some(_) => Err(ViewError::InTheWay { key: key.to_owned(), object: file.to_owned() }),
        None => Ok(true),
    }
}

/// Fails while objects of ours are still to go that a store with folders keeps in the way of a new one.
fn has_room(shared: &Shared, key: &str) -> Result<()> {
    let is_ours = |row: &str| shared.options.publishes(row);
    let path = key.strip_suffix('/').unwrap_or(key);
    let above = path.match_indices('/').map(|(end, _)| &path[..end]);
    for file in above.chain(key.ends_with('/').then_some(path)) {
        if is_ours(file) && shared.row(file)?.is_some() {
            return Err(ViewError::NotYet { key: key.to_owned(), what: "a file above it has to go first" });
        }
    }
    let below = match key.ends_with('/') {
        true => None,
        false => shared.first_row(&format!("{key}/"))?,
    };
    match below.is_some_and(|row| is_ours(&row)) {
        true => Err(ViewError::NotYet { key: key.to_owned(), what: "what is below it has to go first" }),
        false => Ok(()),
    }
}

/// Copies content to where only we write, so that the next look publishes it from there.
async fn own(shared: &Shared, key: &str, shown: &Shown) -> Result<Step> {
    match shared.session.own_content(shown.ino).await {
        Ok(Some(seq)) => {
            shared.committed(seq).await?;
            Ok(Step::Again)
        }
        Ok(None) => Err(ViewError::NotYet { key: key.to_owned(), what: "its content is not committed" }),
        Err(SessionError::Store(error)) if is_gone(&error) => {
            Err(ViewError::Lost { ino: shown.ino, object: error.key })
        }
        Err(error) => Err(error.into()),
    }
}

/// The object that content was imported from is another one by now, or none.
fn is_gone(error: &StoreError) -> bool {
    matches!(error.kind, Kind::Precondition | Kind::NotFound | Kind::InvalidRange)
}

async fn remove(shared: &Shared, key: &str, row: &ViewRow) -> Result<Step> {
    if shared.options.delete_conditions && holds(Rule::NotedBeforeDelete) {
        note_deletes(shared, key).await?;
    }
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
    // A successor may have put the same bytes there again, and what a DELETE leaves tells nobody whose it was.
    if holds(Rule::DeletedByTheWriter) {
        shared.lease.confirm_within(CONFIRMED).await?;
    }
    let sent = shared.deletes.sending(key);
    match shared.store.delete(key, &condition).await {
        Ok(()) => {
            let gone =
                |note| shared.record([Some(gone_row(key)), note].into_iter().flatten().collect()).map(drop);
            shared.deletes.answered(key, &sent, gone)?;
            shared.figures.lock().deleted += 1;
            Ok(Step::Again)
        }
        Err(error) => {
            if matches!(error.kind, Kind::Precondition | Kind::NotFound) {
                let over = |note: Option<_>| note.map_or(Ok(()), |note| shared.record(vec![note]).map(drop));
                shared.deletes.answered(key, &sent, over)?;
            }
            surprised(shared, key, Some(row), error).await
        }
    }
}

/// Returns once the log says that `key` is about to be deleted, and others that are due, so that many share the commit.
async fn note_deletes(shared: &Shared, key: &str) -> Result<()> {
    let seq = match shared.deletes.noted(key) {
        Some(seq) => seq,
        None => {
            let mut keys = vec![key.to_owned()];
            keys.extend(due_deletes(shared)?);
            shared.deletes.note(keys, |rows| shared.record(rows))?
        }
    };
    shared.committed(seq).await
}

/// Keys that are due and whose object is going to be deleted, as far as can be told without looking at it.
fn due_deletes(shared: &Shared) -> Result<Vec<String>> {
    let mut tree = shared.tree()?;
    let mut found = Vec::new();
    let due = shared.dirty.lock().due_by(Instant::now(), NOTED_TOGETHER);
    for key in due {
        let is_there = shared.row(&key)?.is_some_and(|row| !row.is_about_to_be());
        if is_there
            && shared.deletes.noted(&key).is_none()
            && shared.options.publishes(&key)
            && tree.at(&key)?.is_none()
        {
            found.push(key);
        }
    }
    Ok(found)
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
