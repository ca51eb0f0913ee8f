//! Taking in what recovery, or a follower, finds in the store.
//!
//! Invariant: while a checkpoint is being loaded the journal has no base, so a crash in the middle makes
//! the next mount load it again.
//! Invariant: changes of an earlier process that are none of the history that is taken in leave the journal in the
//! step that first shows it, so that no crash puts them on top of rows they were not made for.

use super::base::{self, Base, BlobDelta};
use super::db::{During, delete_meta, meta, put_meta};
use super::queue::Pending;
use super::salvage;
use super::{Journal, Result, Shared};
use crate::log::ids::{Epoch, Slot};
use crate::log::row::{ExtentRow, Key, Record};
use crate::log::rules::{Rule, holds};
use crate::log::source::{Checksum, LocalError, Part, RecoverySink};
use bytes::Bytes;
use parking_lot::Mutex;
use rusqlite::Connection;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Batches of rows under way to the writer.
const AHEAD: usize = 3;

/// Where recovery or a follower puts what it finds; see [`Journal::sink`].
pub struct JournalSink {
    shared: Arc<Shared>,
    under_way: VecDeque<Pending>,
    /// Of the rows loaded since the reset.
    blobs: Arc<Mutex<BlobDelta>>,
}

impl Journal {
    /// The sink for recovery, and for a follower that has no changes of its own.
    pub fn sink(&self) -> JournalSink {
        JournalSink { shared: self.shared.clone(), under_way: VecDeque::new(), blobs: Arc::default() }
    }
}

impl JournalSink {
    /// What has to be done, once, before the rows become those of another history.
    fn departure(&self, why: &str) -> Option<salvage::Departure> {
        let unsettled = self.shared.unsettled.load(Ordering::Acquire);
        unsettled.then(|| salvage::Departure::new(&self.shared, why))
    }

    fn wait_for(&mut self, left: usize) -> Result<()> {
        while self.under_way.len() > left
            && let Some(first) = self.under_way.pop_front()
        {
            first.wait()?;
        }
        Ok(())
    }

    /// Runs a change of the committed rows with readers kept out, and lets them see it as one.
    fn change<T: Send + 'static>(
        &mut self,
        records: &[Record],
        job: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        self.wait_for(0)?;
        let mut overlay = self.shared.overlay.write();
        let result = self.shared.queue.run(job)?;
        // Not what nobody has asked for: a log may hold more than there is room for.
        let known = |r: &&Record| Key::xattr_of(&r.key).is_some() || self.shared.rows.contains_key(&r.key);
        records.iter().filter(known).for_each(|record| self.shared.cache_committed(record));
        overlay.generation += 1;
        Ok(result)
    }
}

impl RecoverySink for JournalSink {
    fn reset(&mut self) -> Result<()> {
        self.blobs.lock().clear();
        // What is under way is of a checkpoint that is given up; the reset behind it removes it.
        self.under_way.clear();
        let departure = self.departure("the session's history does not contain what they were based on");
        self.change(&[], move |conn| {
            departure.map_or(Ok(()), |departure| departure.leave(conn))?;
            for name in [meta::BASE, meta::SESSION, meta::CHANGES_FROM, meta::ACCOUNTS_FROM] {
                delete_meta(conn, name)?;
            }
            conn.execute_batch("DELETE FROM base; DELETE FROM recent; DELETE FROM blob;")
                .during("forgetting the committed rows")
        })?;
        let _keep_readers_out = self.shared.overlay.write();
        self.shared.rows.invalidate_all();
        Ok(())
    }

    fn rows(&mut self, part: Part, rows: Vec<Record>) -> Result<()> {
        self.wait_for(AHEAD - 1)?;
        let blobs = self.blobs.clone();
        self.under_way
            .push_back(self.shared.queue.send(move |conn| load(conn, part, &rows, &mut blobs.lock())));
        Ok(())
    }

    fn segment(&mut self, epoch: Epoch, slot: Slot, checksum: &Checksum, records: Vec<Record>) -> Result<()> {
        let records = Arc::new(records);
        let (theirs, checksum) = (records.clone(), Some(*checksum));
        let departure = self.departure(&format!("another writer, of epoch {epoch}, has committed since"));
        // Asked here: a test breaks rules on its own thread only.
        let departure = departure.filter(|_| holds(Rule::ReplayOverOwn));
        self.change(&records, move |conn| {
            if let Some(departure) = departure
                && !salvage::is_own(conn, epoch, slot, checksum)?
            {
                departure.leave(conn)?;
            }
            if let Some(base) = Base::read(conn)?.filter(|base| base.slot >= slot) {
                let what = format!("slot {slot} came after slot {}", base.slot);
                return Err(LocalError::failed(what));
            }
            note_whose(conn, epoch, slot, checksum)?;
            base::apply(conn, slot, &theirs)?;
            Base { epoch, slot, checksum }.write(conn)
        })?;
        self.shared.tell(&records);
        Ok(())
    }

    fn keep(&mut self, extent: &ExtentRow, bytes: &Bytes) {
        self.shared.keep_piece(extent, bytes);
    }

    fn checkpoint_loaded(&mut self, epoch: Epoch, slot: Slot, image: Slot) -> Result<()> {
        let blobs = std::mem::take(&mut *{
            self.wait_for(0)?;
            self.blobs.lock()
        });
        self.change(&[], move |conn| {
            conn.execute("UPDATE recent SET slot = ?", [slot.0 as i64]).during("noting changed rows")?;
            base::book(conn, slot, &blobs)?;
            put_meta(conn, meta::CHANGES_FROM, &image)?;
            put_meta(conn, meta::ACCOUNTS_FROM, &slot)?;
            Base { epoch, slot, checksum: None }.write(conn)
        })?;
        // Who read while the rows came in found some of them missing.
        let _keep_readers_out = self.shared.overlay.write();
        self.shared.rows.invalidate_all();
        Ok(())
    }
}

/// A slot comes into the rows while changes of an earlier process wait for a decision. They must not forget whether
/// it was theirs: a process that dies before the decision leaves rows that do not tell any more.
fn note_whose(conn: &Connection, epoch: Epoch, slot: Slot, checksum: Option<Checksum>) -> Result<()> {
    let chosen = super::restart::slots(conn)?;
    let own = chosen.iter().find(|c| (c.epoch, c.slot, Some(c.checksum)) == (epoch, slot, checksum));
    if let Some(own) = own {
        return put_meta(conn, meta::LANDED, &own.last_seq);
    }
    let waiting: bool = conn
        .prepare_cached("SELECT EXISTS (SELECT 1 FROM change)")
        .and_then(|mut s| s.query_row([], |r| r.get(0)))
        .during("looking for uncommitted changes")?;
    if waiting { put_meta(conn, meta::DIVERGED, &true) } else { Ok(()) }
}

/// Writes a batch of a checkpoint's rows.
fn load(conn: &Connection, part: Part, rows: &[Record], blobs: &mut BlobDelta) -> Result<()> {
    match part {
        Part::Image => {
            for record in rows.iter().filter(|record| Key::is_extent(&record.key)) {
                record.value.as_ref().map_or(Ok(()), |value| base::count(blobs, value, 1))?;
            }
            base::put_many(conn, rows)
        }
        // The slot is known, and put in, once all is loaded.
        Part::Delta => base::apply_all(conn, Slot(0), rows, blobs),
    }
}
