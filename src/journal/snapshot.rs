//! What checkpoints, packing and collection ask of the committed rows.

use super::base::{self, Base};
use super::db::{During, get_meta, meta, pack, put_meta, unpack};
use super::overlay::Hold;
use super::{Journal, Result, Shared};
use crate::log::ids::{Blob, Epoch, Slot};
use crate::log::row::{ExtentRow, KeyBytes, Record};
use crate::log::rules::{Rule, holds};
use crate::log::source::{Committed, LocalError, Move, Snapshot};
use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension};
use std::sync::Arc;

/// A read transaction over the committed rows.
struct Frozen {
    shared: Arc<Shared>,
    /// Taken only by drop.
    conn: Option<Connection>,
    base: Base,
    changes_from: Slot,
}

impl Frozen {
    fn take(shared: &Arc<Shared>) -> Result<Frozen> {
        let conn = shared.readers.take()?;
        conn.execute_batch("BEGIN").during("starting to read")?;
        let base = Base::read(&conn)?
            .ok_or_else(|| LocalError::failed("nothing is committed yet, so there is nothing to snapshot"))?;
        let changes_from = get_meta(&conn, meta::CHANGES_FROM)?.unwrap_or_default();
        Ok(Frozen { shared: shared.clone(), conn: Some(conn), base, changes_from })
    }

    fn conn(&self) -> Result<&Connection> {
        self.conn.as_ref().ok_or_else(|| LocalError::failed("a snapshot was used after its end"))
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        if let Some(conn) = self.conn.take()
            && conn.execute_batch("COMMIT").is_ok()
        {
            self.shared.readers.put_back(conn);
        }
    }
}

impl Snapshot for Frozen {
    fn base(&self) -> (Epoch, Slot) {
        (self.base.epoch, self.base.slot)
    }

    fn changes_from(&self) -> Slot {
        self.changes_from
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>> {
        base::get(self.conn()?, key)
    }

    fn range(&self, from: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(KeyBytes, Vec<u8>)>> {
        base::scan(self.conn()?, from, end, limit)
    }

    fn rows(&self, after: Option<&[u8]>, since: Option<Slot>, limit: usize) -> Result<Vec<Record>> {
        let Some(since) = since else {
            let from = after.map_or_else(Vec::new, |after| [after, &[0]].concat());
            let rows = base::scan(self.conn()?, &from, None, limit)?;
            return Ok(rows.into_iter().map(|(key, value)| Record { key, value: Some(value) }).collect());
        };
        if since < self.changes_from {
            return Err(LocalError::failed(format!(
                "changes since slot {since} were asked for; they are known from slot {} on",
                self.changes_from
            )));
        }
        self.conn()?
            .prepare_cached(
                "SELECT recent.key, base.value FROM recent LEFT JOIN base ON base.key = recent.key
                 WHERE recent.key > ? AND recent.slot > ? ORDER BY recent.key LIMIT ?",
            )
            .and_then(|mut s| {
                let record = |r: &rusqlite::Row<'_>| Ok(Record { key: r.get(0)?, value: r.get(1)? });
                s.query_map((after.unwrap_or_default(), since.0 as i64, limit as i64), record)?.collect()
            })
            .during("reading changed rows")
    }
}

impl Committed for Journal {
    fn snapshot(&self) -> Result<Box<dyn Snapshot>> {
        Ok(Box::new(Frozen::take(&self.shared)?))
    }

    fn dead_blobs(&self, floor: Slot) -> Result<Vec<Blob>> {
        let since = if holds(Rule::DeadAtFloor) { floor.0 as i64 } else { i64::MAX };
        let names: Vec<Vec<u8>> = self.shared.readers.with(|conn| {
            conn.prepare_cached("SELECT name FROM blob WHERE live <= 0 AND dead <= ?")
                .and_then(|mut s| s.query_map([since], |r| r.get(0))?.collect())
                .during("looking for dead blobs")
        })?;
        let mut blobs = names.iter().map(|name| unpack(name)).collect::<Result<Vec<Blob>>>()?;
        // After the database: a change that came in between is seen here, or came after what it names died,
        // which only rows read before that can do.
        let overlay = self.shared.overlay.read();
        blobs.retain(|blob| !overlay.needs(blob));
        Ok(blobs)
    }

    fn dead_among(&self, blobs: &[Blob], floor: Slot) -> Result<Vec<Blob>> {
        let dead = |conn: &Connection| {
            let complete = get_meta::<Slot>(conn, meta::ACCOUNTS_FROM)?.unwrap_or_default();
            let mut since = conn
                .prepare_cached("SELECT CASE WHEN live <= 0 THEN dead ELSE ?2 END FROM blob WHERE name = ?1")
                .during("reading the blobs' accounts")?;
            let mut dead = Vec::new();
            for blob in blobs {
                let known: Option<i64> = since
                    .query_row((pack(blob), i64::MAX), |r| r.get(0))
                    .optional()
                    .during("reading the blobs' accounts")?;
                let since = match (known, blob) {
                    (Some(slot), _) => Slot(slot as u64),
                    // Segments before the accounts begin may have lost their content at any slot up to then.
                    (None, Blob::Segment { slot, .. }) => complete.max(*slot),
                    (None, _) => continue,
                };
                if since <= floor {
                    dead.push(blob.clone());
                }
            }
            Ok(dead)
        };
        let mut dead = self.shared.readers.with(dead)?;
        // After the database, as in dead_blobs.
        let overlay = self.shared.overlay.read();
        dead.retain(|blob| !overlay.needs(blob));
        Ok(dead)
    }

    fn live_segments(&self) -> Result<Vec<(Epoch, Slot, u64)>> {
        self.shared.readers.with(live_segments)
    }

    fn live_bytes(&self, blob: &Blob) -> Result<u64> {
        let live: Option<i64> = self.shared.readers.with(|conn| {
            conn.prepare_cached("SELECT live FROM blob WHERE name = ?")
                .and_then(|mut s| s.query_row([pack(blob)], |r| r.get(0)).optional())
                .during("reading a blob's account")
        })?;
        Ok(live.unwrap_or(0).max(0) as u64)
    }

    fn seen_blobs(&self, blobs: &[Blob]) -> Result<()> {
        let unknown: Vec<Blob> = {
            let overlay = self.shared.overlay.read();
            blobs.iter().filter(|blob| !overlay.needs(blob)).cloned().collect()
        };
        self.shared.queue.run(move |conn| {
            let Some(base) = Base::read(conn)? else { return Ok(()) };
            let mut insert = conn
                .prepare_cached("INSERT OR IGNORE INTO blob VALUES (?, 0, ?)")
                .during("keeping the blobs' accounts")?;
            for blob in &unknown {
                insert.execute((pack(blob), base.slot.0 as i64)).during("keeping the blobs' accounts")?;
            }
            Ok(())
        })
    }

    fn forget_blobs(&self, blobs: &[Blob]) -> Result<()> {
        let names: Vec<Vec<u8>> = blobs.iter().map(pack).collect();
        self.shared.queue.run(move |conn| {
            for name in &names {
                conn.prepare_cached("DELETE FROM blob WHERE name = ? AND live <= 0")
                    .and_then(|mut s| s.execute([name]))
                    .during("keeping the blobs' accounts")?;
            }
            Ok(())
        })
    }

    fn forget_changes(&self, slot: Slot) -> Result<()> {
        self.shared.queue.run(move |conn| {
            let oldest = live_segments(conn)?.iter().map(|(_, slot, _)| Slot(slot.0.saturating_sub(1))).min();
            let slot = oldest.map_or(slot, |oldest| oldest.min(slot));
            if get_meta::<Slot>(conn, meta::CHANGES_FROM)?.unwrap_or_default() >= slot {
                return Ok(());
            }
            conn.execute("DELETE FROM recent WHERE slot <= ?", [slot.0 as i64])
                .during("forgetting which rows changed")?;
            put_meta(conn, meta::CHANGES_FROM, &slot)
        })
    }

    fn piece(&self, blob: &Blob, offset: u64, len: u32) -> Result<Option<Bytes>> {
        let bytes = self.shared.placed_bytes(blob, offset)?;
        Ok(bytes.filter(|b| b.len() == len as usize))
    }

    fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes) {
        Journal::keep_piece(self, extent, bytes);
    }

    fn relocate(&self, moves: &[Move]) -> Result<usize> {
        let mut made = 0;
        // In portions, so that writers are not kept out for long.
        for portion in moves.chunks(256) {
            made += self.relocate_portion(portion)?;
        }
        Ok(made)
    }
}

impl Journal {
    fn relocate_portion(&self, moves: &[Move]) -> Result<usize> {
        self.check_writable()?;
        loop {
            let generation = self.shared.overlay.read().generation;
            let committed = self.shared.readers.with(|conn| {
                let rows = moves.iter().map(|m| {
                    m.expected.iter().map(|(key, _)| base::get(conn, key)).collect::<Result<Vec<_>>>()
                });
                rows.collect::<Result<Vec<_>>>()
            })?;
            let mut overlay = self.shared.overlay.write();
            if overlay.generation != generation {
                continue;
            }
            let still = |(m, rows): &(&Move, &Vec<Option<Vec<u8>>>)| {
                m.expected.iter().zip(rows.iter()).all(|((key, expected), row)| match overlay.get(key) {
                    Some(newest) => newest.as_deref() == Some(expected.as_slice()),
                    None => row.as_ref() == Some(expected),
                })
            };
            let made: Vec<&Move> = moves.iter().zip(&committed).filter(still).map(|(m, _)| m).collect();
            let count = made.len();
            let records = made.into_iter().flat_map(|m| m.records.iter().cloned()).collect();
            self.shared.append(&mut overlay, records, Hold::Free)?;
            return Ok(count);
        }
    }
}

/// The segments that committed rows take content from.
fn live_segments(conn: &Connection) -> Result<Vec<(Epoch, Slot, u64)>> {
    let rows: Vec<(Vec<u8>, i64)> = conn
        .prepare_cached("SELECT name, live FROM blob WHERE live > 0 AND name < ?")
        .and_then(|mut s| s.query_map([FIRST_OTHER], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
        .during("looking for segments with content")?;
    let mut live = Vec::with_capacity(rows.len());
    for (name, bytes) in rows {
        if let Blob::Segment { epoch, slot } = unpack(&name)? {
            live.push((epoch, slot, bytes as u64));
        }
    }
    Ok(live)
}

/// Packed names of segments start with the byte 0, those of other blobs with a greater one.
const FIRST_OTHER: [u8; 1] = [1];
