//! Keeping changes that can never be committed, because a successor has gone on without them, and reading what
//! was kept.
//!
//! A *set* is a folder laid out as a session's folder in the cache: `journal.db` with the uncommitted changes, the
//! committed rows that they were made on, and the small contents they name; `data/` with local files. So the
//! changes that wait in a cache nobody has mounted are read by the same code: [`Set`].
//!
//! Invariants:
//! - a set is on the disk before what it holds leaves the journal, in the step that first takes in another history;
//! - a set never changes afterwards, but for `info.json`, which tells why;
//! - reading changes nothing, and never happens beside a process that has the folder.

mod set;
mod tree;
mod write;

pub use set::{Ground, Set, sets_in};
pub use tree::{Item, What};
pub(super) use write::note_damage;

use super::Result;
use super::db::During;
use super::restart;
use super::{Journal, Shared};
use crate::content::keep;
use crate::log::ids::{Epoch, Ino, SessionId, Slot};
use crate::log::source::{Checksum, LocalError};
use keep::Record as Image;
use rusqlite::Connection;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The folder of the sets, in a session's folder.
pub const FOLDER: &str = "salvage";
/// Tells why a set was made.
pub(super) const INFO: &str = "info.json";

/// Why and when a set was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Info {
    /// When, in RFC 3339.
    pub when: String,
    /// Why its changes could not be committed.
    pub why: String,
    /// Who held the session when this was found out, where known.
    pub by: Option<String>,
    /// Of which session the changes are, where the journal knew.
    pub session: Option<SessionId>,
    /// They were made in the boot of the machine in which they were set aside; else what was written last before
    /// the reboot may be missing or wrong.
    pub same_boot: bool,
}

/// What was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Salvaged {
    /// The set's folder.
    pub folder: PathBuf,
    /// Changed rows in it.
    pub changes: u64,
    /// Files in it whose content was not captured.
    pub images: u64,
}

/// The changes of an earlier process are about to leave the journal.
pub(super) struct Departure {
    shared: Arc<Shared>,
    why: String,
}

impl Departure {
    pub fn new(shared: &Arc<Shared>, why: &str) -> Departure {
        Departure { shared: shared.clone(), why: why.to_owned() }
    }

    /// Sets everything aside that is neither committed nor of the history to come. Inside the transaction that
    /// takes that in.
    pub fn leave(self, conn: &Connection) -> Result<()> {
        if !self.shared.unsettled.load(Ordering::Acquire) {
            return Ok(());
        }
        restart::drop_landed(conn, landed(conn)?)?;
        let salvaged = write::write(conn, &self.shared.dir, &self.why, self.shared.same_boot)?;
        write::forget(conn)?;
        self.shared.unsettled.store(false, Ordering::Release);
        if let Some(salvaged) = salvaged {
            let (folder, why) = (salvaged.folder.display(), &self.why);
            tracing::warn!(changes = salvaged.changes, images = salvaged.images, %folder, why, "changes were salvaged");
            *self.shared.departed.lock() = Some(salvaged);
        }
        Ok(())
    }
}

/// The last change that the slots up to the base have carried.
fn landed(conn: &Connection) -> Result<u64> {
    let Some(base) = super::base::Base::read(conn)? else { return Ok(0) };
    let slots = restart::slots(conn)?;
    let landed = slots.iter().filter(|c| c.epoch == base.epoch && c.slot <= base.slot);
    Ok(landed.map(|c| c.last_seq).max().unwrap_or(0))
}

/// Whether a committed slot is one that this journal has chosen.
pub(super) fn is_own(
    conn: &Connection,
    epoch: Epoch,
    slot: Slot,
    checksum: Option<Checksum>,
) -> Result<bool> {
    let own = restart::slots(conn)?;
    Ok(own.iter().any(|c| (c.epoch, c.slot, Some(c.checksum)) == (epoch, slot, checksum)))
}

/// Whether an earlier process has left content that it had not captured.
pub(super) fn has_unstored_images(conn: &Connection) -> Result<bool> {
    Ok(images(conn)?.values().any(|image| image.changed))
}

/// The images that an earlier process has left.
fn images(conn: &Connection) -> Result<BTreeMap<Ino, Image>> {
    let rows: Vec<(Vec<u8>, Vec<u8>)> = conn
        .prepare_cached("SELECT key, value FROM local WHERE tbl = ?")
        .and_then(|mut s| s.query_map([keep::TABLE], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .during("reading what is kept of local content")?;
    Ok(rows.iter().filter_map(|(key, value)| keep::decode(key, value)).collect())
}

impl Journal {
    /// Drops every uncommitted change, and content that was not captured, of an earlier process, after setting it
    /// aside in a folder below `salvage/`, if that has not happened while the store's history was taken in. The
    /// set's `info.json` tells `why`, and `by` whom.
    pub fn salvage_changes(&self, why: &str, by: Option<&str>) -> Result<Option<Salvaged>> {
        let mut commits = self.shared.commits.lock();
        let mut overlay = self.shared.overlay.write();
        self.shared.unsettled.store(true, Ordering::Release);
        let departure = Departure::new(&self.shared, why);
        // Behind everything that was written before, so all of it is there.
        self.shared.queue.run(move |conn| departure.leave(conn))?;
        overlay.clear();
        commits.clear();
        self.shared.undecided.store(false, Ordering::Release);
        let salvaged = self.shared.departed.lock().take();
        if let Some(salvaged) = &salvaged {
            write::explain(&salvaged.folder, why, by)?;
        }
        Ok(salvaged)
    }
}

fn failed(what: &Path, error: impl std::fmt::Display) -> LocalError {
    LocalError::failed(format!("salvage: {}: {error}", what.display()))
}
