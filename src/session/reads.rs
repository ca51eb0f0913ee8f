//! Access times: like `relatime`, in memory, and written only with the next change of the same inode.
//!
//! Invariant: reading never makes a row, so it never starts a commit.

use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Time};
use parking_lot::Mutex;
use std::collections::HashMap;

/// Beyond this many, all are forgotten: an access time is a hint.
const MOST: usize = 1 << 16;

/// An access time older than this is renewed by a read, whatever else happened.
const DAY: i64 = 24 * 60 * 60;

/// Access times that no row has yet.
#[derive(Default)]
pub(super) struct Reads {
    times: Mutex<HashMap<u64, Time>>,
}

impl Reads {
    /// An inode was read now.
    pub fn note(&self, ino: Ino, row: &InodeRow, now: Time) {
        let mut times = self.times.lock();
        let last = times.get(&ino.0).copied().map_or(row.atime, |t| t.max(row.atime));
        if last > row.mtime && last > row.ctime && now.sec - last.sec < DAY {
            return;
        }
        if times.len() >= MOST {
            times.clear();
        }
        times.insert(ino.0, now);
    }

    /// The access time to show.
    pub fn newest(&self, ino: Ino, row: &InodeRow) -> Time {
        self.times.lock().get(&ino.0).copied().unwrap_or(row.atime)
    }

    /// The access time to write with a change of the inode; it is in the row from then on.
    pub fn take(&self, ino: Ino) -> Option<Time> {
        self.times.lock().remove(&ino.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(atime: i64, mtime: i64) -> InodeRow {
        let t = |sec| Time { sec, nsec: 0 };
        InodeRow {
            mode: libc::S_IFREG,
            uid: 0,
            gid: 0,
            nlink: 1,
            rdev: 0,
            size: 0,
            allocated: 0,
            atime: t(atime),
            mtime: t(mtime),
            ctime: t(mtime),
            btime: t(0),
            version: 1,
            home: None,
            target: Vec::new(),
        }
    }

    #[test]
    fn a_read_shows_when_the_file_changed_since_the_last_or_a_day_has_passed() {
        let (reads, at) = (Reads::default(), |sec| Time { sec, nsec: 0 });
        let show = |reads: &Reads, row: &InodeRow| reads.newest(Ino(9), row).sec;
        let fresh = row(10, 5);
        reads.note(Ino(9), &fresh, at(20));
        assert_eq!(show(&reads, &fresh), 10);
        let changed = row(10, 15);
        reads.note(Ino(9), &changed, at(20));
        assert_eq!(show(&reads, &changed), 20);
        reads.note(Ino(9), &changed, at(30));
        assert_eq!(show(&reads, &changed), 20);
        reads.note(Ino(9), &changed, at(20 + DAY));
        assert_eq!(show(&reads, &changed), 20 + DAY);
        assert_eq!(reads.take(Ino(9)), Some(at(20 + DAY)));
        assert_eq!(reads.take(Ino(9)), None);
    }
}
