//! The bound of what a session holds (`--quota`), and the count that is held against it.
//!
//! What counts is what du(1) shows: each inode once, however many names it has; a directory 4 KiB, a file its
//! bytes that are not holes, in blocks of 4 KiB, anything else nothing. Content of deleted files is not the
//! session's, and does not count.
//!
//! Invariants:
//! - the cheap count is never less than the exact one, and only the exact one refuses a change;
//! - from the look at the count to the change it allows, nobody else takes the same room ([`Turn`]);
//! - rows of a store may say of each file that it is as large as any can be: nothing here adds without saturating;
//! - what is there already is never given up for the bound: what was stored through a mapping, or imported, is
//!   counted even beyond it.

use super::api::Result;
use super::{Session, SessionError};
use crate::journal::Journal;
use crate::log::row::{InodeRow, Key, Row, prefix_end};
use crate::log::source::{LocalError, LocalKind};
use parking_lot::{Mutex, MutexGuard};

/// What content is counted in, and what a directory counts.
pub(super) const BLOCK: u64 = 4096;

/// Rows read at once where all are counted.
const BATCH: usize = 4096;

/// How much is taken, and of how much.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct QuotaStatus {
    /// The bound, bytes.
    pub limit: u64,
    /// What counts, bytes.
    pub used: u64,
}

/// A writer's bound, and what counts.
pub(super) struct Quota {
    pub limit: u64,
    count: Mutex<Count>,
    turn: Mutex<()>,
}

/// Held from a look at the count to the change that it allowed. Taken before every other lock.
pub(super) type Turn<'a> = MutexGuard<'a, ()>;

/// What is known of the count.
#[derive(Debug, Clone, Copy)]
pub(super) struct Count {
    /// What the rows count.
    pub rows: u64,
    /// By how much content that is not captured was lately found to count less than all of its bytes.
    pub spare: u64,
    /// Rises when that stops to be true.
    pub generation: u64,
}

impl Quota {
    /// A bound of `limit` bytes for the rows of a session.
    pub fn of(limit: u64, journal: &Journal) -> Result<Quota> {
        let count = Count { rows: count_rows(journal)?, spare: 0, generation: 0 };
        Ok(Quota { limit, count: Mutex::new(count), turn: Mutex::default() })
    }

    /// Keeps others from taking room.
    pub fn turn(&self) -> Turn<'_> {
        self.turn.lock()
    }

    /// What is known of the count.
    pub fn count(&self) -> Count {
        *self.count.lock()
    }

    /// Rows that counted `old` count `new` now.
    pub fn moved(&self, old: u64, new: u64) {
        let mut count = self.count.lock();
        count.rows = count.rows.saturating_add(new).saturating_sub(old);
        count.spare = 0;
        count.generation += 1;
    }

    /// Content counts `spare` less than all of its bytes, if nothing was captured or removed since
    /// `generation`: whether that is so.
    pub fn found_spare(&self, generation: u64, spare: u64) -> bool {
        let mut count = self.count.lock();
        let still = count.generation == generation;
        if still {
            count.spare = spare;
        }
        still
    }
}

/// What an inode counts, as of its row; also what stat shows as its blocks.
pub(super) fn counted(row: &InodeRow) -> u64 {
    match row.kind() {
        libc::S_IFDIR => BLOCK,
        libc::S_IFREG => in_blocks(row.allocated),
        _ => 0,
    }
}

/// Bytes in whole blocks.
pub(super) fn in_blocks(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

/// EDQUOT.
pub(super) fn exceeded() -> SessionError {
    SessionError::Errno(libc::EDQUOT)
}

fn count_rows(journal: &Journal) -> Result<u64> {
    let (mut from, end) = (Key::inodes(), prefix_end(&Key::inodes()));
    let mut sum = 0_u64;
    loop {
        let rows = journal.scan(&from, end.as_deref(), BATCH)?;
        for (_, value) in &rows {
            let row = InodeRow::decode(value)
                .map_err(|error| LocalError::new(LocalKind::Damaged, error.to_string()))?;
            sum = sum.saturating_add(counted(&row));
        }
        match rows.last() {
            Some((last, _)) if rows.len() == BATCH => from = [last, &[0][..]].concat(),
            _ => return Ok(sum),
        }
    }
}

impl Session {
    /// The bound, where there is one.
    pub(super) fn quota(&self) -> Option<&Quota> {
        self.writer.as_ref()?.quota.as_ref()
    }

    /// Room for a new directory: EDQUOT where there is none. The change is to be made while the answer is held.
    pub(super) fn room_for_directory(&self) -> Result<Option<Turn<'_>>> {
        let Some(quota) = self.quota() else { return Ok(None) };
        let turn = quota.turn();
        match self.has_room(quota, BLOCK)? {
            true => Ok(Some(turn)),
            false => Err(exceeded()),
        }
    }

    /// Whether `more` bytes fit.
    pub(super) fn has_room(&self, quota: &Quota, more: u64) -> Result<bool> {
        let fits = |used: u64| used.saturating_add(more) <= quota.limit;
        Ok(fits(self.most_used(quota)) || fits(self.used(quota)?))
    }

    /// The bound and what counts, exactly.
    pub(super) fn quota_status(&self) -> Result<Option<QuotaStatus>> {
        let of = |quota: &Quota| Ok(QuotaStatus { limit: quota.limit, used: self.used(quota)? });
        self.quota().map(of).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_of_files_as_large_as_any_add_up_to_no_panic() {
        let quota = Quota {
            limit: 1,
            count: Mutex::new(Count { rows: 0, spare: 0, generation: 0 }),
            turn: Mutex::default(),
        };
        for _ in 0..3 {
            quota.moved(0, 1 << 63);
        }
        assert_eq!(quota.count().rows, u64::MAX);
        quota.moved(1 << 63, 0);
        assert_eq!(quota.count().rows, u64::MAX - (1 << 63));
    }
}
