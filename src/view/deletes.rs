//! DELETEs of ours that may still be on their way: what one of them takes away later, no outside client took.
//!
//! Neither an answer nor a condition rules that out: a request that was given up and sent again may arrive after the
//! second, and the same bytes at the same key have the same ETag (all objects without bytes share one).
//!
//! Invariants:
//! - a DELETE is noted in the log before it is sent, so every later mount knows of it;
//! - its note stays for [`DOUBT`], unless it was the only one at its key and was answered at once;
//! - the notes here and those in the log change together, under one lock.

use super::settle::millis;
use crate::journal::Journal;
use crate::log::row::{Key, Record, Row, meta, prefix_end};
use crate::log::source::Seq;
use crate::view::error::Result;
use crate::view::tree::after;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// How long a DELETE may be on its way.
const DOUBT: Duration = Duration::from_secs(15 * 60);
/// An earlier mount's note counts for [`DOUBT`] from now on, unless it is so old by a clock that may be wrong.
const SURELY_OVER_MS: u64 = 60 * 60 * 1000;
/// A request answered within this was sent once.
const ONE_ATTEMPT: Duration = Duration::from_secs(1);
/// Notes read at a time.
const PAGE: usize = 1000;

/// The notes by the key of the object.
pub(super) struct Deletes(Mutex<HashMap<String, Note>>);

struct Note {
    /// The change of the journal that made it.
    seq: Seq,
    /// The DELETE may be on its way until then.
    until: Instant,
    /// Whether one may have been sent.
    sent: bool,
}

/// A DELETE that was sent.
pub(super) struct Sent {
    at: Instant,
    /// No other may be on its way.
    only: bool,
}

impl Deletes {
    /// Those that earlier mounts noted.
    pub fn load(journal: &Journal) -> Result<Deletes> {
        let mut from = Key::Meta { name: meta::DELETE.to_vec() }.encode();
        let (end, now) = (prefix_end(&from), Instant::now());
        let mut notes = HashMap::new();
        loop {
            let page = journal.scan(&from, end.as_deref(), PAGE)?;
            let Some((last, _)) = page.last() else { return Ok(Deletes(Mutex::new(notes))) };
            from = after(last);
            for (row, value) in page {
                let Some(key) = noted_key(&row) else { continue };
                let is_over = wall_ms().abs_diff(u64::decode(&value)?) > SURELY_OVER_MS;
                let until = if is_over { now } else { now + DOUBT };
                notes.insert(key, Note { seq: 0, until, sent: true });
            }
        }
    }

    /// The change that noted the DELETE of `key`.
    pub fn noted(&self, key: &str) -> Option<Seq> {
        self.0.lock().get(key).map(|note| note.seq)
    }

    /// Notes DELETEs that are about to be sent.
    pub fn note(&self, keys: Vec<String>, record: impl FnOnce(Vec<Record>) -> Result<Seq>) -> Result<Seq> {
        let (mut notes, now) = (self.0.lock(), wall_ms());
        let seq = record(keys.iter().map(|key| Record::put(&row_of(key), &now)).collect())?;
        let until = Instant::now() + DOUBT;
        for key in keys {
            notes.entry(key).or_insert(Note { seq, until, sent: false });
        }
        Ok(seq)
    }

    /// A DELETE of `key`, which is noted, is sent now.
    pub fn sending(&self, key: &str) -> Sent {
        let mut notes = self.0.lock();
        let at = Instant::now();
        let before = notes.get_mut(key).map(|note| {
            note.until = at + DOUBT;
            std::mem::replace(&mut note.sent, true)
        });
        Sent { at, only: before == Some(false) }
    }

    /// It was answered: `record` writes that none is on its way any more, if so.
    pub fn answered(
        &self,
        key: &str,
        sent: &Sent,
        record: impl FnOnce(Option<Record>) -> Result<()>,
    ) -> Result<()> {
        if !sent.only || sent.at.elapsed() >= ONE_ATTEMPT {
            return record(None);
        }
        let mut notes = self.0.lock();
        let noted = notes.remove(key);
        record(noted.map(|_| Record::delete(&row_of(key))))
    }

    /// Whether one may be what made `key` vanish, though it was written again since.
    pub fn may_have_removed(&self, key: &str) -> bool {
        self.0.lock().get(key).is_some_and(|note| note.sent && note.until > Instant::now())
    }

    /// Drops the notes of what cannot be on its way any more.
    pub fn sweep(&self, record: impl FnOnce(Vec<Record>) -> Result<()>) -> Result<()> {
        let (mut notes, now) = (self.0.lock(), Instant::now());
        let over: Vec<_> = notes.extract_if(|_, note| note.until <= now).map(|(key, _)| key).collect();
        match over.is_empty() {
            true => Ok(()),
            false => record(over.iter().map(|key| Record::delete(&row_of(key))).collect()),
        }
    }
}

fn row_of(key: &str) -> Key {
    Key::Meta { name: [meta::DELETE, key.as_bytes()].concat() }
}

fn noted_key(row: &[u8]) -> Option<String> {
    let Some(Key::Meta { name }) = Key::decode(row) else { return None };
    String::from_utf8(name.strip_prefix(meta::DELETE)?.to_vec()).ok()
}

/// Milliseconds since 1970.
fn wall_ms() -> u64 {
    millis(SystemTime::now()).unsigned_abs()
}
