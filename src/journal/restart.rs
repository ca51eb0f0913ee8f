//! What a journal holds when it is opened, and what becomes of the changes in it.

use super::base::{self, Base};
use super::clean;
use super::commit::{self, Chosen};
use super::db::{During, check, delete_meta, get_meta, meta, put_meta, unpack};
use super::locals::Place;
use super::overlay::Change;
use super::{Found, Journal, Result};
use crate::log::ids::{Blob, Epoch, LocalId};
use crate::log::lease::SessionId;
use crate::log::recover::LocalBase;
use crate::log::row::Key;
use crate::log::source::{LocalError, Seq};
use bytes::Bytes;
use rusqlite::Connection;
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;

/// Bytes of a database that is checked at each opening, not only after a reboot.
const SMALL: i64 = 64 << 20;

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// What names this boot of the machine.
pub(super) fn this_boot() -> Result<String> {
    let read = std::fs::read_to_string(BOOT_ID);
    Ok(read.map_err(|e| LocalError::failed(format!("{BOOT_ID}: {e}")))?.trim().to_owned())
}

/// Looks at a database that was just opened, and notes that this boot has it.
pub(super) fn look(conn: &Connection, existed: bool) -> Result<Found> {
    let boot = this_boot()?;
    let same_boot = get_meta::<String>(conn, meta::BOOT)?.as_ref() == Some(&boot);
    if existed && (!same_boot || is_small(conn)?) {
        check(conn)?;
    }
    put_meta(conn, meta::BOOT, &boot)?;
    let session: Option<SessionId> = get_meta(conn, meta::SESSION)?;
    let chosen = slots(conn)?.iter().map(|c| (c.epoch, c.slot, c.checksum, c.last_seq)).collect();
    let landed = get_meta(conn, meta::LANDED)?;
    let diverged = get_meta(conn, meta::DIVERGED)?.unwrap_or(false);
    // Bound, and based on no slot: the session was new, and nothing is known to be committed. While a
    // checkpoint is being loaded it is not bound either.
    let base = session.map(|_| Base::read(conn)).transpose()?;
    let base = base.map(|base| base.unwrap_or(Base::EMPTY)).zip(session).map(|(base, session)| LocalBase {
        session,
        epoch: base.epoch,
        slot: base.slot,
        checksum: base.checksum,
        chosen,
        landed,
        diverged,
    });
    let uncommitted: i64 = conn
        .query_row("SELECT count(*) FROM change", [], |r| r.get(0))
        .during("counting uncommitted changes")?;
    let writer = get_meta(conn, meta::WRITER)?;
    Ok(Found { session, base, writer, uncommitted: uncommitted as u64, same_boot })
}

/// Whether checking the whole database takes no time to speak of.
fn is_small(conn: &Connection) -> Result<bool> {
    let of =
        |name| conn.pragma_query_value(None, name, |r| r.get::<_, i64>(0)).during("measuring the database");
    Ok(of("page_count")?.saturating_mul(of("page_size")?) <= SMALL)
}

/// The last change number that was given out and may still be spoken of.
pub(super) fn last_seq(conn: &Connection) -> Result<Seq> {
    let last: i64 = conn
        .query_row("SELECT coalesce(max(seq), 0) FROM change", [], |r| r.get(0))
        .during("reading the last change")?;
    Ok(slots(conn)?.iter().map(|c| c.last_seq).fold(last as u64, Seq::max))
}

/// The first free number of a local piece.
pub(super) fn next_local(conn: &Connection) -> Result<u64> {
    let last: i64 = conn
        .query_row("SELECT coalesce(max(id), 0) FROM piece", [], |r| r.get(0))
        .during("reading the last piece")?;
    Ok(last as u64 + 1)
}

/// The chosen slots that are not known to be committed, in order.
pub(super) fn slots(conn: &Connection) -> Result<Vec<Chosen>> {
    let rows: Vec<Vec<u8>> = conn
        .prepare_cached("SELECT chosen FROM slot ORDER BY slot")
        .and_then(|mut s| s.query_map([], |r| r.get(0))?.collect())
        .during("reading chosen slots")?;
    rows.iter().map(|row| unpack(row)).collect()
}

/// What was kept of an earlier process's changes: its steps, and the sizes of the pieces they name.
struct Kept {
    steps: Vec<Vec<Change>>,
    pieces: Vec<(LocalId, u64)>,
}

/// What becomes of the changes of an earlier process.
impl Journal {
    /// Binds an empty journal to a session, or checks that it is of this one.
    pub fn bind(&self, session: SessionId) -> Result<()> {
        self.shared.queue.run(move |conn| match get_meta::<SessionId>(conn, meta::SESSION)? {
            Some(bound) if bound == session => Ok(()),
            Some(_) => Err(LocalError::failed("it belongs to another session; use another --cache-dir")),
            None => put_meta(conn, meta::SESSION, &session),
        })
    }

    /// Notes as whom this process has taken the session; returns once it is in the database.
    pub fn writing_as(&self, epoch: Option<Epoch>) -> Result<()> {
        self.shared.queue.run(move |conn| match epoch {
            Some(epoch) => put_meta(conn, meta::WRITER, &epoch),
            None => delete_meta(conn, meta::WRITER),
        })
    }

    /// Drops uncommitted changes up to `seq`, which recovery found to be committed, and keeps the rest;
    /// returns how many are kept. To be called once, before the first change of this process.
    pub fn keep_changes_after(&self, seq: Option<Seq>) -> Result<u64> {
        let kept = self.shared.queue.run(move |conn| {
            drop_landed(conn, seq.unwrap_or(0))?;
            forget_settled(conn)?;
            keep(conn)
        })?;
        let mut overlay = self.shared.overlay.write();
        for (id, len) in kept.pieces {
            overlay.locals.add(id, len);
        }
        let count = kept.steps.iter().map(|s| s.len() as u64).sum();
        self.shared.unsettled.store(false, Ordering::Release);
        overlay.committed_seq = seq.unwrap_or(0);
        for step in kept.steps {
            overlay.restore(step)?;
        }
        self.shared.undecided.store(false, Ordering::Release);
        Ok(count)
    }
}

/// What the changes of an earlier process stand on needs not be remembered any more.
pub(super) fn forget_settled(conn: &Connection) -> Result<()> {
    delete_meta(conn, meta::LANDED)?;
    delete_meta(conn, meta::DIVERGED)
}

/// Settles the slots of an earlier process: those up to `committed` are in the store, the others are not.
pub(super) fn drop_landed(conn: &Connection, committed: Seq) -> Result<()> {
    let mut places: HashMap<LocalId, Place> = HashMap::new();
    for slot in slots(conn)?.iter().filter(|s| s.last_seq <= committed) {
        places.extend(slot.places());
    }
    for (id, place) in &places {
        clean::place(conn, &place.blob(), &[(*id, place.off)])?;
    }
    conn.execute("DELETE FROM change WHERE seq <= ?", [committed as i64])
        .and_then(|_| conn.execute("DELETE FROM slot", []))
        .during("dropping committed changes")?;
    for change in changes(conn)? {
        if let Some(place) = local_of(&change.1)?.and_then(|id| places.get(&id)) {
            commit::rewrite(conn, change.1.seq, place)?;
        }
    }
    Ok(())
}

/// Reads the changes that stay, and drops the pieces that none of them names.
fn keep(conn: &Connection) -> Result<Kept> {
    let mut steps: Vec<Vec<Change>> = Vec::new();
    let mut last_step = None;
    let mut named = HashSet::new();
    for (step, change) in changes(conn)? {
        named.extend(local_of(&change)?);
        if last_step != Some(step) {
            steps.push(Vec::new());
            last_step = Some(step);
        }
        // Pushed right above when there was none.
        if let Some(open) = steps.last_mut() {
            open.push(change);
        }
    }
    let unplaced: Vec<(LocalId, u64)> = conn
        .prepare_cached("SELECT id, length(bytes) FROM piece WHERE id NOT IN (SELECT id FROM place)")
        .and_then(|mut s| {
            let row =
                |r: &rusqlite::Row<'_>| Ok((LocalId(r.get::<_, i64>(0)? as u64), r.get::<_, i64>(1)? as u64));
            s.query_map([], row)?.collect()
        })
        .during("reading uncommitted content")?;
    let (pieces, unused): (Vec<_>, Vec<_>) = unplaced.into_iter().partition(|(id, _)| named.contains(id));
    if pieces.len() < named.len() {
        return Err(LocalError::new(
            crate::log::source::LocalKind::Damaged,
            "content of uncommitted changes is missing",
        ));
    }
    clean::remove(conn, &unused.iter().map(|(id, _)| *id).collect::<Vec<_>>())?;
    Ok(Kept { steps, pieces })
}

/// All uncommitted changes in order, each with its step.
pub(super) fn changes(conn: &Connection) -> Result<Vec<(Seq, Change)>> {
    conn.prepare_cached("SELECT step, seq, key, value FROM change ORDER BY seq")
        .and_then(|mut s| {
            let row = |r: &rusqlite::Row<'_>| {
                let value: Option<Vec<u8>> = r.get(3)?;
                let seq = r.get::<_, i64>(1)? as u64;
                let change = Change { seq, key: r.get(2)?, value: value.map(Bytes::from) };
                Ok((r.get::<_, i64>(0)? as u64, change))
            };
            s.query_map([], row)?.collect()
        })
        .during("reading uncommitted changes")
}

pub(super) fn local_of(change: &Change) -> Result<Option<LocalId>> {
    let Some(value) = change.value.as_ref().filter(|_| Key::is_extent(&change.key)) else { return Ok(None) };
    Ok(match base::extent_row(value)?.blob {
        Blob::Local(id) => Some(id),
        _ => None,
    })
}
