//! Reading directories.
//!
//! Invariant: an entry's cookie is a hash of its name, so a listing that is interrupted by any change goes
//! on where it was: what stays is listed once, what comes or goes meanwhile at most once.

use super::api::*;
use super::attr::now;
use super::{Session, SessionError};
use crate::journal::Entry;
use crate::log::ids::Ino;
use std::sync::Arc;

/// The cookies of `.` and `..`; an entry's own is at least 4.
const DOT: u64 = 1;
const DOT_DOT: u64 = 2;

/// Entries fetched at once: more than fit one answer to the kernel.
const BATCH: usize = 512;

/// Takes one entry; `false` when it did not fit.
type Emit<'a> = &'a mut dyn FnMut(&DirEntry) -> bool;

impl Session {
    /// Entries behind `cookie` (0: from the start), `.` and `..` first, handed to `emit` until it says stop
    /// (`false`: that entry did not fit). A group of entries with one cookie that is cut off by the end of
    /// an answer is listed again whole by the next.
    ///
    /// There is no handle: a cookie says all of where a listing is, and an inode is known for as long as the kernel has it
    /// open. ENOTDIR for what is none.
    pub fn readdir(self: &Arc<Self>, ino: Ino, cookie: u64, attrs: bool, emit: Emit<'_>) -> Result<()> {
        self.alive()?;
        let row = self.row(ino)?;
        if !row.is_dir() {
            return Err(SessionError::Errno(libc::ENOTDIR));
        }
        if cookie == 0 {
            self.reads.note(ino, &row, now());
        }
        if !self.list_dots(ino, cookie, emit)? {
            return Ok(());
        }
        let mut from = cookie.max(DOT_DOT) + 1;
        loop {
            let mut entries = self.journal.entries(ino, from, BATCH)?;
            let last = entries.len() < BATCH;
            if !last {
                leave_last_group(&mut entries);
            }
            let Some(newest) = entries.last().map(|entry| entry.cookie.0) else { return Ok(()) };
            let cookies: Vec<u64> = entries.iter().map(|entry| entry.cookie.0).collect();
            for (entry, cookie) in entries.into_iter().zip(resume_after(&cookies)) {
                if !self.list_entry(entry, cookie, attrs, emit)? {
                    return Ok(());
                }
            }
            if last {
                return Ok(());
            }
            from = newest + 1;
        }
    }

    /// Lists `.` and `..` as far as they lie behind `cookie`; whether both fitted.
    fn list_dots(&self, ino: Ino, cookie: u64, emit: Emit<'_>) -> Result<bool> {
        let dot = |cookie, ino, name: &[u8]| DirEntry {
            cookie,
            ino,
            kind: libc::S_IFDIR,
            name: name.to_vec(),
            attr: None,
        };
        if cookie < DOT && !emit(&dot(DOT, ino, b".")) {
            return Ok(false);
        }
        Ok(cookie >= DOT_DOT || emit(&dot(DOT_DOT, self.parent_of(ino)?, b"..")))
    }

    /// Lists one entry; whether it fitted. One that was removed meanwhile is passed over.
    fn list_entry(self: &Arc<Self>, entry: Entry, cookie: u64, attrs: bool, emit: Emit<'_>) -> Result<bool> {
        let ino = entry.row.ino;
        let attr = match attrs {
            true => match self.hand_out(ino)? {
                Some(attr) => Some(attr),
                None => return Ok(true),
            },
            false => None,
        };
        if !emit(&DirEntry { cookie, ino, kind: entry.row.kind, name: entry.name, attr }) {
            if attrs {
                self.forget(ino, 1);
            }
            return Ok(false);
        }
        Ok(true)
    }
}

/// Takes the last group of equal cookies off, which may go on behind the batch; a batch that is one such
/// group stays.
fn leave_last_group(entries: &mut Vec<Entry>) {
    let Some(last) = entries.last().map(|entry| entry.cookie) else { return };
    let keep = entries.partition_point(|entry| entry.cookie < last);
    if keep > 0 {
        entries.truncate(keep);
    }
}

/// The cookie to hand out with each entry: its own, but for all of a group with equal cookies except its
/// last, the one before, so that a listing cut off inside the group starts it again.
fn resume_after(cookies: &[u64]) -> impl Iterator<Item = u64> + '_ {
    cookies.iter().enumerate().map(|(i, cookie)| match cookies.get(i + 1) {
        Some(next) if next == cookie => cookie - 1,
        _ => *cookie,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::row::{Cookie, DentryRow};

    fn entries(cookies: &[u64]) -> Vec<Entry> {
        let row = DentryRow { ino: Ino(9), kind: libc::S_IFREG };
        cookies.iter().map(|&c| Entry { cookie: Cookie(c), name: b"n".to_vec(), row: row.clone() }).collect()
    }

    #[test]
    fn a_group_of_equal_cookies_that_is_cut_off_starts_again() {
        let cookies: Vec<u64> = resume_after(&[4, 7, 7, 7, 9]).collect();
        assert_eq!(cookies, [4, 6, 6, 7, 9]);
    }

    #[test]
    fn a_group_at_the_end_of_a_batch_is_left_to_the_next() {
        let kept = |cookies: &[u64]| {
            let mut batch = entries(cookies);
            leave_last_group(&mut batch);
            batch.len()
        };
        assert_eq!(kept(&[4, 5, 7, 7]), 2);
        assert_eq!(kept(&[4, 5]), 1);
        assert_eq!(kept(&[7, 7]), 2);
        assert_eq!(kept(&[]), 0);
    }
}
