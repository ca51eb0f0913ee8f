//! The committed rows in the database, and the accounts kept with them: which rows changed since when, and
//! which blobs they refer to.

use super::Result;
use super::db::{During, get_meta, meta, pack, put_meta};
use crate::log::ids::{Blob, Epoch, Ino, Slot};
use crate::log::row::{ExtentRow, Key, KeyBytes, Record, Row, prefix_end};
use crate::log::source::{Checksum, LocalError, LocalKind};
use rusqlite::{Connection, OptionalExtension};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// What the committed rows are the state after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Base {
    pub epoch: Epoch,
    pub slot: Slot,
    pub checksum: Option<Checksum>,
}

impl Base {
    /// The empty tree before the first slot.
    pub const EMPTY: Base = Base { epoch: Epoch { counter: 0, nonce: 0 }, slot: Slot(0), checksum: None };

    pub fn read(conn: &Connection) -> Result<Option<Base>> {
        get_meta(conn, meta::BASE)
    }

    pub fn write(&self, conn: &Connection) -> Result<()> {
        put_meta(conn, meta::BASE, self)
    }
}

/// Bytes that rows refer to, more or fewer, by blob.
pub(super) type BlobDelta = HashMap<Blob, i64>;

/// Applies a committed slot's records to the rows, in order.
pub(super) fn apply(conn: &Connection, slot: Slot, records: &[Record]) -> Result<()> {
    let mut blobs = BlobDelta::new();
    for record in records {
        apply_one(conn, slot, record, &mut blobs)?;
    }
    book(conn, slot, &blobs)
}

/// Applies one record; what it does to blobs goes into `blobs`.
pub(super) fn apply_one(conn: &Connection, slot: Slot, record: &Record, blobs: &mut BlobDelta) -> Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO recent VALUES (?, ?)")
        .and_then(|mut s| s.execute((&record.key, slot.0 as i64)))
        .during("noting a changed row")?;
    if Key::is_extent(&record.key) {
        if let Some(old) = get(conn, &record.key)? {
            count(blobs, &old, -1)?;
        }
        if let Some(new) = &record.value {
            count(blobs, new, 1)?;
        }
    }
    match &record.value {
        Some(value) => put(conn, &record.key, value),
        None => {
            if let Some(ino) = Key::own_row_of(&record.key) {
                remove_children(conn, ino, blobs)?;
            }
            delete(conn, &record.key)
        }
    }
}

pub(super) fn get(conn: &Connection, key: &[u8]) -> Result<Option<Vec<u8>>> {
    conn.prepare_cached("SELECT value FROM base WHERE key = ?")
        .and_then(|mut s| s.query_row([key], |r| r.get(0)).optional())
        .during("reading a row")
}

pub(super) fn put(conn: &Connection, key: &[u8], value: &[u8]) -> Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO base VALUES (?, ?)")
        .and_then(|mut s| s.execute((key, value)))
        .during("writing a row")?;
    Ok(())
}

/// Puts rows in, tombstones left out: many with each statement, which costs half of what one by one does where
/// they come in the order of their keys.
pub(super) fn put_many(conn: &Connection, records: &[Record]) -> Result<()> {
    const AT_ONCE: usize = 64;
    let sql = format!("INSERT OR REPLACE INTO base VALUES (?, ?){}", ", (?, ?)".repeat(AT_ONCE - 1));
    let rows: Vec<(&KeyBytes, &Vec<u8>)> =
        records.iter().filter_map(|record| Some((&record.key, record.value.as_ref()?))).collect();
    let mut groups = rows.chunks_exact(AT_ONCE);
    let mut many = conn.prepare_cached(&sql).during("writing rows")?;
    for group in &mut groups {
        for (n, (key, value)) in group.iter().enumerate() {
            many.raw_bind_parameter(2 * n + 1, key).during("writing rows")?;
            many.raw_bind_parameter(2 * n + 2, value).during("writing rows")?;
        }
        many.raw_execute().during("writing rows")?;
    }
    groups.remainder().iter().try_for_each(|(key, value)| put(conn, key, value))
}

fn delete(conn: &Connection, key: &[u8]) -> Result<()> {
    conn.prepare_cached("DELETE FROM base WHERE key = ?")
        .and_then(|mut s| s.execute([key]))
        .during("removing a row")?;
    Ok(())
}

fn remove_children(conn: &Connection, ino: Ino, blobs: &mut BlobDelta) -> Result<()> {
    for prefix in Key::children_of(ino) {
        // Ends with an inode number's bytes after a tag below 0xff, so there is an end.
        let Some(end) = prefix_end(&prefix) else { continue };
        let children = scan(conn, &prefix, Some(&end), usize::MAX)?;
        if children.is_empty() {
            continue;
        }
        for (_, value) in children.iter().filter(|(key, _)| Key::is_extent(key)) {
            count(blobs, value, -1)?;
        }
        for sql in
            ["DELETE FROM base WHERE key >= ? AND key < ?", "DELETE FROM recent WHERE key >= ? AND key < ?"]
        {
            conn.prepare_cached(sql)
                .and_then(|mut s| s.execute([&prefix, &end]))
                .during("removing an inode's rows")?;
        }
    }
    Ok(())
}

/// Up to `limit` rows with `from <= key < end`, in key order.
pub(super) fn scan(
    conn: &Connection,
    from: &[u8],
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Vec<(KeyBytes, Vec<u8>)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let row = |r: &rusqlite::Row<'_>| Ok((r.get(0)?, r.get(1)?));
    let rows = match end {
        Some(end) => conn
            .prepare_cached("SELECT key, value FROM base WHERE key >= ? AND key < ? ORDER BY key LIMIT ?")
            .and_then(|mut s| s.query_map((from, end, limit), row)?.collect()),
        None => conn
            .prepare_cached("SELECT key, value FROM base WHERE key >= ? ORDER BY key LIMIT ?")
            .and_then(|mut s| s.query_map((from, limit), row)?.collect()),
    };
    rows.during("reading rows")
}

/// Up to `limit` rows with `from <= key < end`, the last first.
pub(super) fn scan_down(
    conn: &Connection,
    from: &[u8],
    end: &[u8],
    limit: usize,
) -> Result<Vec<(KeyBytes, Vec<u8>)>> {
    conn.prepare_cached("SELECT key, value FROM base WHERE key >= ? AND key < ? ORDER BY key DESC LIMIT ?")
        .and_then(|mut s| s.query_map((from, end, limit as i64), |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .during("reading rows")
}

/// Adds an extent row's bytes, `sign` times, to its blob's account.
pub(super) fn count(blobs: &mut BlobDelta, extent: &[u8], sign: i64) -> Result<()> {
    let row = extent_row(extent)?;
    if matches!(row.blob, Blob::Segment { .. } | Blob::Data { .. }) {
        let bytes = i64::try_from(row.len).unwrap_or(i64::MAX);
        *blobs.entry(row.blob).or_default() += sign * bytes;
    }
    Ok(())
}

pub(super) fn extent_row(bytes: &[u8]) -> Result<ExtentRow> {
    ExtentRow::decode(bytes).map_err(|e| LocalError::new(LocalKind::Damaged, e.to_string()))
}

/// Enters what `slot` changed into the blobs' accounts.
pub(super) fn book(conn: &Connection, slot: Slot, blobs: &BlobDelta) -> Result<()> {
    let mut upsert = conn
        .prepare_cached(
            "INSERT INTO blob VALUES (?1, ?2, CASE WHEN ?2 <= 0 THEN ?3 END) ON CONFLICT (name) DO UPDATE
             SET live = live + ?2, dead = CASE WHEN live + ?2 <= 0 THEN ?3 END",
        )
        .during("keeping the blobs' accounts")?;
    for (blob, delta) in blobs {
        upsert.execute((pack(blob), delta, slot.0 as i64)).during("keeping the blobs' accounts")?;
    }
    Ok(())
}
