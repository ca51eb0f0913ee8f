//! The committed rows in the database, and the accounts kept with them: which rows changed since when, and
//! which blobs they refer to.

use super::Result;
use super::db::{During, get_meta, insert_many, meta, pack, put_meta};
use crate::log::ids::{Blob, Epoch, Ino, Slot};
use crate::log::row::{ExtentRow, Key, KeyBytes, Record, Row, prefix_end};
use crate::log::source::{Checksum, LocalError, LocalKind};
use rusqlite::{Connection, OptionalExtension, ToSql};
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
    apply_all(conn, slot, records, &mut blobs)?;
    book(conn, slot, &blobs)
}

/// Applies records in order; what they do to blobs goes into `blobs`.
pub(super) fn apply_all(
    conn: &Connection,
    slot: Slot,
    records: &[Record],
    blobs: &mut BlobDelta,
) -> Result<()> {
    // Rows that are only put, each another one, do not depend on each other: they are written together.
    let together = |a: &Record, b: &Record| a.value.is_some() && b.value.is_some() && a.key < b.key;
    for group in records.chunk_by(together) {
        let keys: Vec<_> = group.iter().map(|record| (&record.key, slot.0 as i64)).collect();
        insert_pairs(conn, "recent", &keys).during("noting changed rows")?;
        group.iter().try_for_each(|record| account(conn, record, blobs))?;
        match group {
            [Record { key, value: None }] => remove(conn, key, blobs)?,
            rows => put_many(conn, rows)?,
        }
    }
    Ok(())
}

/// Counts what a record takes from a blob, and what it adds to one.
fn account(conn: &Connection, record: &Record, blobs: &mut BlobDelta) -> Result<()> {
    if !Key::is_extent(&record.key) {
        return Ok(());
    }
    if let Some(old) = get(conn, &record.key)? {
        count(blobs, &old, -1)?;
    }
    record.value.as_ref().map_or(Ok(()), |new| count(blobs, new, 1))
}

fn remove(conn: &Connection, key: &[u8], blobs: &mut BlobDelta) -> Result<()> {
    if let Some(ino) = Key::own_row_of(key) {
        remove_children(conn, ino, blobs)?;
    }
    delete(conn, key)
}

pub(super) fn get(conn: &Connection, key: &[u8]) -> Result<Option<Vec<u8>>> {
    conn.prepare_cached("SELECT value FROM base WHERE key = ?")
        .and_then(|mut s| s.query_row([key], |r| r.get(0)).optional())
        .during("reading a row")
}

/// Puts the rows of records in, tombstones left out.
pub(super) fn put_many(conn: &Connection, records: &[Record]) -> Result<()> {
    let rows = records.iter().filter_map(|record| Some((&record.key, record.value.as_ref()?)));
    put_rows(conn, &rows.collect::<Vec<_>>())
}

/// Puts rows in, each a key and its value.
pub(super) fn put_rows(conn: &Connection, rows: &[(&KeyBytes, impl ToSql)]) -> Result<()> {
    insert_pairs(conn, "base", rows).during("writing rows")
}

fn insert_pairs<V: ToSql>(conn: &Connection, table: &str, rows: &[(&KeyBytes, V)]) -> rusqlite::Result<()> {
    insert_many(conn, table, 2, rows, |insert, at, (key, value)| {
        insert.raw_bind_parameter(at, key)?;
        insert.raw_bind_parameter(at + 1, value)
    })
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
