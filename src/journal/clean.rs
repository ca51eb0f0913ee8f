//! Small contents in the database that the store has too: kept while there is room.

use super::Result;
use super::db::{During, pack};
use crate::log::ids::{Blob, LocalId};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};

/// Pieces that are evicted in one go.
const BATCH: i64 = 256;

/// Keeps a piece that lies in the store; one that is there already stays as it is.
pub(super) fn keep(conn: &Connection, id: LocalId, blob: &Blob, off: u64, bytes: &[u8]) -> Result<()> {
    if found_at(conn, blob, off)?.is_some() {
        return Ok(());
    }
    conn.prepare_cached("INSERT OR REPLACE INTO piece VALUES (?, ?)")
        .and_then(|mut s| s.execute((id.0 as i64, bytes)))
        .during("keeping content")?;
    place(conn, id, blob, off)
}

/// Notes where in the store a piece lies: from now on it is clean.
pub(super) fn place(conn: &Connection, id: LocalId, blob: &Blob, off: u64) -> Result<()> {
    conn.prepare_cached(
        "INSERT OR IGNORE INTO place SELECT ?1, ?2, id, length(bytes) FROM piece WHERE id = ?3",
    )
    .and_then(|mut s| s.execute((pack(blob), off as i64, id.0 as i64)))
    .during("noting where content lies")?;
    Ok(())
}

fn found_at(conn: &Connection, blob: &Blob, off: u64) -> Result<Option<i64>> {
    conn.prepare_cached("SELECT id FROM place WHERE blob = ? AND off = ?")
        .and_then(|mut s| s.query_row((pack(blob), off as i64), |r| r.get(0)).optional())
        .during("looking for content")
}

/// The bytes of the piece at `off` of `blob`.
pub(super) fn read_at(conn: &Connection, blob: &Blob, off: u64) -> Result<Option<Bytes>> {
    match found_at(conn, blob, off)? {
        Some(id) => read(conn, LocalId(id as u64)),
        None => Ok(None),
    }
}

/// The bytes of the piece `id`.
pub(super) fn read(conn: &Connection, id: LocalId) -> Result<Option<Bytes>> {
    let bytes: Option<Vec<u8>> = conn
        .prepare_cached("SELECT bytes FROM piece WHERE id = ?")
        .and_then(|mut s| s.query_row([id.0 as i64], |r| r.get(0)).optional())
        .during("reading content")?;
    Ok(bytes.map(Bytes::from))
}

/// Removes pieces, clean or not.
pub(super) fn remove(conn: &Connection, ids: &[LocalId]) -> Result<()> {
    for id in ids {
        for sql in ["DELETE FROM place WHERE id = ?", "DELETE FROM piece WHERE id = ?"] {
            conn.prepare_cached(sql).and_then(|mut s| s.execute([id.0 as i64])).during("dropping content")?;
        }
    }
    Ok(())
}

/// Bytes of clean pieces.
pub(super) fn total(conn: &Connection) -> Result<u64> {
    let sum: i64 = conn
        .prepare_cached("SELECT clean FROM tally")
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .during("measuring clean content")?;
    Ok(sum as u64)
}

/// Removes the oldest clean pieces if there are more than `limit` bytes of them, in a transaction of its own.
pub(super) fn evict(conn: &Connection, limit: u64) -> Result<()> {
    if total(conn)? <= limit {
        return Ok(());
    }
    conn.execute_batch("BEGIN IMMEDIATE").during("evicting content")?;
    let result = evict_oldest(conn, limit / 10 * 9)
        .and_then(|()| conn.execute_batch("COMMIT").during("evicting content"));
    if result.is_err() && !conn.is_autocommit() {
        conn.execute_batch("ROLLBACK").during("evicting content")?;
    }
    result
}

fn evict_oldest(conn: &Connection, limit: u64) -> Result<()> {
    while total(conn)? > limit {
        let oldest: Vec<LocalId> = conn
            .prepare_cached("SELECT id FROM place ORDER BY id LIMIT ?")
            .and_then(|mut s| s.query_map([BATCH], |r| r.get(0).map(|id: i64| LocalId(id as u64)))?.collect())
            .during("evicting content")?;
        if oldest.is_empty() {
            return Ok(());
        }
        remove(conn, &oldest)?;
    }
    Ok(())
}
