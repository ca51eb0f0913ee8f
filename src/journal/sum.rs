//! A checksum of the whole database, from a clean end to the next opening: SQLite has none of its own, and a bit that
//! flipped in a row would be believed.
//!
//! Invariant: where there is a sum, nothing has written the database since; it is removed before anything does.

use super::Result;
use super::db::{self, During};
use crate::log::source::{LocalError, LocalKind};
use rusqlite::Connection;
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;

const FILE: &str = "journal.sum";

/// Databases larger than this are left without a sum: it would be felt.
const MOST: u64 = 512 << 20;

/// Compares the database with the sum that its last process left, if one did.
pub(super) fn verify(dir: &Path) -> Result<()> {
    let path = dir.join(FILE);
    let kept = match std::fs::read_to_string(&path) {
        Ok(kept) => kept,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        // What the disk gives back as no text is no sum.
        Err(e) if e.kind() == ErrorKind::InvalidData => String::new(),
        Err(e) => return Err(failed(&path, &e)),
    };
    let database = dir.join(db::FILE);
    let sum = match sum_of(&database) {
        // Somebody has removed it: there is nothing to be wrong.
        Err(e) if e.kind() == ErrorKind::NotFound => None,
        other => Some(other.map_err(|e| failed(&database, &e))?),
    };
    std::fs::remove_file(&path).map_err(|e| failed(&path, &e))?;
    let ahead = std::fs::metadata(dir.join(db::AHEAD)).map_or(0, |meta| meta.len());
    match sum.is_none_or(|sum| sum == kept.trim() && ahead == 0) {
        true => Ok(()),
        false => {
            let what = format!("{}: journal.db is damaged (it is not as it was left)", database.display());
            Err(LocalError::new(LocalKind::Damaged, what))
        }
    }
}

/// Leaves a sum, when nothing is written any more. Without one the next opening believes what it can read.
pub(super) fn leave(dir: &Path) {
    if let Err(error) = try_leave(dir) {
        tracing::debug!(%error, "the journal is left without a checksum");
    }
}

fn try_leave(dir: &Path) -> Result<()> {
    let database = dir.join(db::FILE);
    if std::fs::metadata(&database).map_err(|e| failed(&database, &e))?.len() > MOST {
        return Ok(());
    }
    let conn = Connection::open(&database).during("ending the journal")?;
    let busy: i64 =
        conn.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |r| r.get(0)).during("ending the journal")?;
    drop(conn);
    if busy != 0 {
        return Ok(());
    }
    let (path, new) = (dir.join(FILE), dir.join("journal.sum.new"));
    let sum = sum_of(&database).map_err(|e| failed(&database, &e))?;
    std::fs::write(&new, sum).and_then(|()| std::fs::rename(&new, &path)).map_err(|e| failed(&path, &e))
}

fn sum_of(path: &Path) -> std::io::Result<String> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(File::open(path)?)?;
    Ok(hasher.finalize().to_hex().to_string())
}

fn failed(path: &Path, error: &std::io::Error) -> LocalError {
    LocalError::failed(format!("{}: {error}", path.display()))
}
