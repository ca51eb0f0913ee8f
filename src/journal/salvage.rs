//! Keeping, for a person, changes that can never be committed: a successor has gone on without them.

use super::db::During;
use super::lock::fresh_folder;
use super::overlay::Change;
use super::restart::changes;
use super::{Journal, Result, base, clean};
use crate::log::ids::{Blob, LocalId};
use crate::log::records;
use crate::log::row::{DentryRow, ExtentRow, InodeRow, Key, Record, Row, ViewRow};
use crate::log::source::LocalError;
use rusqlite::Connection;
use serde_json::json;
use std::fs::{DirBuilder, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::atomic::Ordering;

const README: &str = "\
These changes were made here and are not in the session: another writer had gone on without them.

changes.jsonl  one changed row a line, in the order of the changes
changes.bin    the same rows as the session's log encodes them
pieces/<n>     the content that extent rows call Local(<n>)
";

impl Journal {
    /// Drops every uncommitted change after moving it to `salvage/` beside the database; returns how many.
    pub fn salvage_changes(&self, why: &str) -> Result<u64> {
        let mut commits = self.shared.commits.lock();
        let mut overlay = self.shared.overlay.write();
        let (dir, why) = (self.shared.dir.join("salvage"), why.to_owned());
        // Behind everything that was written before, so all of it is there.
        let count = self.shared.queue.run(move |conn| {
            let changes: Vec<Change> = changes(conn)?.into_iter().map(|(_, change)| change).collect();
            if !changes.is_empty() {
                write_out(conn, &dir, &why, &changes)?;
            }
            forget(conn)?;
            Ok(changes.len() as u64)
        })?;
        overlay.clear();
        commits.clear();
        self.shared.undecided.store(false, Ordering::Release);
        Ok(count)
    }
}

fn forget(conn: &Connection) -> Result<()> {
    conn.execute_batch(
        "DELETE FROM change; DELETE FROM slot; DELETE FROM piece WHERE id NOT IN (SELECT id FROM place);",
    )
    .during("dropping salvaged changes")
}

/// Writes a folder with all there is to know, and makes sure that it is on disk.
fn write_out(conn: &Connection, dir: &Path, why: &str, changes: &[Change]) -> Result<()> {
    let failed = |e: std::io::Error| LocalError::failed(format!("salvaging into {}: {e}", dir.display()));
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let folder = fresh_folder(dir, "changes")?;
    std::fs::create_dir(folder.join("pieces")).map_err(failed)?;
    let pieces = changes.iter().map(local_piece).collect::<Result<Vec<_>>>()?;
    for id in pieces.into_iter().flatten() {
        if let Some(bytes) = clean::read(conn, id)? {
            write_file(&folder.join("pieces").join(id.0.to_string()), &bytes).map_err(failed)?;
        }
    }
    let record = |c: &Change| Record { key: c.key.clone(), value: c.value.as_deref().map(<[u8]>::to_vec) };
    let all: Vec<Record> = changes.iter().map(record).collect();
    let lines: String = changes.iter().zip(&all).map(|(c, r)| format!("{}\n", line(c.seq, r))).collect();
    write_file(&folder.join("changes.bin"), &records::encode(&all)).map_err(failed)?;
    write_file(&folder.join("changes.jsonl"), lines.as_bytes()).map_err(failed)?;
    write_file(&folder.join("README"), format!("{README}\nWhy: {why}\n").as_bytes()).map_err(failed)?;
    for made in [&folder.join("pieces"), &folder, dir] {
        File::open(made).and_then(|d| d.sync_all()).map_err(failed)?;
    }
    tracing::warn!(changes = changes.len(), folder = %folder.display(), why, "changes were salvaged");
    Ok(())
}

fn write_file(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(bytes)?;
    file.into_inner().map_err(|e| e.into_error())?.sync_all()
}

fn local_piece(change: &Change) -> Result<Option<LocalId>> {
    let Some(value) = change.value.as_ref().filter(|_| Key::is_extent(&change.key)) else { return Ok(None) };
    Ok(match base::extent_row(value)?.blob {
        Blob::Local(id) => Some(id),
        _ => None,
    })
}

/// A change as people read it.
fn line(seq: u64, record: &Record) -> serde_json::Value {
    let key = Key::decode(&record.key);
    let value = record.value.as_deref().map(|v| match &key {
        Some(Key::Inode { .. }) => show(InodeRow::decode(v)),
        Some(Key::Dentry { .. }) => show(DentryRow::decode(v)),
        Some(Key::Extent { .. }) => show(ExtentRow::decode(v)),
        Some(Key::View { .. }) => show(ViewRow::decode(v)),
        _ => v.escape_ascii().to_string(),
    });
    let name = match &key {
        Some(Key::Dentry { name, .. } | Key::Link { name, .. } | Key::Xattr { name, .. }) => {
            Some(String::from_utf8_lossy(name).into_owned())
        }
        _ => None,
    };
    json!({ "seq": seq, "row": format!("{key:?}"), "name": name, "value": value })
}

fn show<T: std::fmt::Debug, E: std::fmt::Display>(row: std::result::Result<T, E>) -> String {
    row.map_or_else(|e| e.to_string(), |row| format!("{row:?}"))
}
