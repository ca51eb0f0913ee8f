//! Small contents in the database that the store has too: kept while there is room.

use super::Result;
use super::db::{During, in_groups, pack};
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
    place(conn, blob, &[(id, off)])
}

/// Notes where in a blob of the store pieces lie, each with its offset there: from now on they are clean.
pub(super) fn place(conn: &Connection, blob: &Blob, pieces: &[(LocalId, u64)]) -> Result<()> {
    let blob = pack(blob);
    // For each of these statements SQLite makes a table of its rows, as there are triggers.
    in_groups(pieces, |group| {
        let more = ", (?, ?)".repeat(group.len() - 1);
        // CROSS JOIN: never by going through all pieces.
        let mut insert = conn.prepare_cached(&format!(
            "INSERT OR IGNORE INTO place SELECT ?, at.column2, piece.id, length(bytes)
             FROM (VALUES (?, ?){more}) AS at CROSS JOIN piece WHERE piece.id = at.column1"
        ))?;
        insert.raw_bind_parameter(1, &blob)?;
        for (n, (id, off)) in group.iter().enumerate() {
            insert.raw_bind_parameter(2 * n + 2, id.0 as i64)?;
            insert.raw_bind_parameter(2 * n + 3, *off as i64)?;
        }
        insert.raw_execute().map(drop)
    })
    .during("noting where content lies")
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
