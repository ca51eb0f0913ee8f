//! What content counts against the session's quota, while it is changed and not captured.

use super::super::api::Result;
use super::super::node::Node;
use super::super::quota::{BLOCK, Quota, Turn, counted, exceeded, in_blocks};
use super::Session;
use crate::content::{File, Unplaced};
use crate::log::ids::Ino;
use std::ops::Range;
use std::sync::Arc;

/// As long as more than this is free, writers need not wait for each other's turn: more than all requests that can
/// be under way at once.
const PLENTY: u64 = 256 << 20;

/// How often a count that was overtaken by a capture is made again.
const TRIES: usize = 16;

impl Session {
    /// Room for `range` of a file: EDQUOT where what it adds to the file does not fit. The change is to be made
    /// while the answer is held.
    pub(in crate::session) fn room_for(
        &self,
        node: &Node,
        file: &File,
        range: Range<u64>,
    ) -> Result<Option<Turn<'_>>> {
        let Some(quota) = self.quota().filter(|_| !file.is_orphan() && !range.is_empty()) else {
            return Ok(None);
        };
        let most = in_blocks(range.end - range.start).saturating_add(BLOCK);
        if self.most_used(quota).saturating_add(most).saturating_add(PLENTY) <= quota.limit {
            return Ok(None);
        }
        let turn = quota.turn();
        if self.most_used(quota).saturating_add(most) <= quota.limit {
            return Ok(Some(turn));
        }
        let more = self.growth(node.ino, file, range)?;
        match more == 0 || self.has_room(quota, more)? {
            true => Ok(Some(turn)),
            false => Err(exceeded()),
        }
    }

    /// What counts at the most: all changed bytes as if there had been nothing in their place.
    pub(in crate::session) fn most_used(&self, quota: &Quota) -> u64 {
        let count = quota.count();
        count.rows.saturating_add(self.changed_bytes()).saturating_sub(count.spare)
    }

    /// What counts, exactly.
    pub(in crate::session) fn used(&self, quota: &Quota) -> Result<u64> {
        let mut used = 0;
        for _ in 0..TRIES {
            let count = quota.count();
            used = count.rows;
            let changed = self.changed_nodes();
            for node in &changed {
                used = used.saturating_add_signed(self.uncounted(node)?);
            }
            let most = count.rows.saturating_add(self.changed_bytes());
            if quota.found_spare(count.generation, most.saturating_sub(used)) {
                return Ok(used);
            }
        }
        Ok(used)
    }

    /// All changed bytes, and what rounding up can add to them.
    fn changed_bytes(&self) -> u64 {
        let files = self.data.changed.lock().len() as u64;
        self.data.content.usage().unstored.saturating_add(files * BLOCK)
    }

    /// What a changed file counts beyond its row.
    fn uncounted(&self, node: &Arc<Node>) -> Result<i64> {
        let file = node.file.file.lock().clone();
        let (Some(file), Some(row)) = (file.filter(|file| !file.is_orphan()), self.find_row(node.ino)?)
        else {
            return Ok(0);
        };
        let now = self.filled(node.ino, row.allocated, &file.unplaced())?;
        let more = i128::from(in_blocks(now)) - i128::from(counted(&row));
        Ok(i64::try_from(more).unwrap_or(if more < 0 { i64::MIN } else { i64::MAX }))
    }

    /// By how much a file would count more with all of `range` written.
    fn growth(&self, ino: Ino, file: &File, range: Range<u64>) -> Result<u64> {
        let unplaced = file.unplaced();
        let allocated = self.find_row(ino)?.map_or(0, |row| row.allocated);
        let now = self.filled(ino, allocated, &unplaced)?;
        let mut new = 0_u64;
        for part in unplaced.bytes.missing(range) {
            new = new.saturating_add(part.end - part.start);
            for kept in unplaced.replaced.missing(part) {
                new = new.saturating_sub(self.placed_bytes(ino, kept)?);
            }
        }
        Ok(in_blocks(now.saturating_add(new)) - in_blocks(now))
    }

    /// Bytes of a file that are not holes: those of its rows that nothing replaces, and what does.
    fn filled(&self, ino: Ino, allocated: u64, unplaced: &Unplaced) -> Result<u64> {
        let mut replaced = 0_u64;
        for range in unplaced.replaced.iter() {
            replaced = replaced.saturating_add(self.placed_bytes(ino, range)?);
        }
        Ok(allocated.saturating_sub(replaced).saturating_add(unplaced.bytes.bytes()))
    }

    fn placed_bytes(&self, ino: Ino, range: Range<u64>) -> Result<u64> {
        let rows = self.journal.extents(ino, range.clone())?;
        let inside = |(at, row): &(u64, crate::log::row::ExtentRow)| {
            at.saturating_add(row.len).min(range.end).saturating_sub((*at).max(range.start))
        };
        Ok(rows.iter().map(inside).fold(0, u64::saturating_add))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::SessionOptions;
    use crate::session::api::*;
    use crate::session::testing::{self, BOTH, ROOT};
    use crate::store::DirStore;
    use rand::{Rng, SeedableRng};
    use std::time::Duration;

    fn options(cache: &std::path::Path, quota: u64) -> SessionOptions {
        let commit_interval = Duration::from_secs(3600);
        SessionOptions { quota: Some(quota), commit_interval, passthrough: false, ..testing::options(cache) }
    }

    async fn make(session: &Arc<Session>, name: &str) -> (Ino, Fh) {
        let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let (attr, opened) =
            session.create(ROOT, Ino::ROOT, name.as_bytes(), new, BOTH).get().await.expect("made");
        (attr.ino, opened.fh)
    }

    async fn write(session: &Arc<Session>, file: (Ino, Fh), at: u64, len: usize) -> Result<u32> {
        session.write(ROOT, file.1, file.0, at, &vec![7; len], WriteHow::default()).get().await
    }

    fn used(session: &Session) -> u64 {
        session.quota_status().expect("counted").expect("there is a quota").used
    }

    /// What is counted while content is changed is what its rows count once it is captured.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn changed_content_counts_what_it_counts_when_it_is_captured() {
        let (cache, dir) = (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
        let store = Arc::new(DirStore::new(dir.path()));
        let session = Session::start(store.clone(), options(cache.path(), 1 << 40)).await.expect("a session");
        let seed = rand::random();
        let mut rng = rand::rngs::StdRng::seed_from_u64(seed);
        let mut files = Vec::new();
        for name in ["a", "b", "c"] {
            files.push(make(&session, name).await);
        }
        for round in 0..60 {
            for _ in 0..rng.random_range(1..8) {
                let file = files[rng.random_range(0..files.len())];
                let (at, len) = (rng.random_range(0..700_000), rng.random_range(1..200_000));
                let punch = |session: &Arc<Session>| {
                    session.fallocate(ROOT, file.1, file.0, at, len, Allocate::PunchHole)
                };
                match rng.random_range(0..4) {
                    0 => punch(&session).get().await.expect("punched"),
                    1 => session.set_size(ROOT, file.0, Some(file.1), at).get().await.expect("resized"),
                    _ => drop(write(&session, file, at, len as usize).await.expect("written")),
                }
            }
            let quota = session.quota().expect("there is one");
            let before = used(&session);
            assert!(
                session.most_used(quota) >= before,
                "seed {seed}, round {round}: the cheap count is less"
            );
            session.capture_all().await.expect("captured");
            assert_eq!(used(&session), before, "seed {seed}, round {round}: before and after the capture");
            let rows = super::super::super::quota::Quota::of(1, &session.journal).expect("counted");
            assert_eq!(rows.count().rows, before, "seed {seed}, round {round}: counted anew");
        }
        let before = used(&session);
        files.iter().for_each(|(_, fh)| session.release(*fh));
        assert!(session.close(Duration::from_secs(20)).await.is_clean());
        drop(session);
        let session = Session::start(store, options(cache.path(), 1 << 40)).await.expect("opens again");
        assert_eq!(used(&session), before, "after a remount");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_does_not_fit_is_refused_and_what_is_there_can_be_overwritten() {
        let (cache, dir) = (tempfile::tempdir().expect("a dir"), tempfile::tempdir().expect("a dir"));
        let store = Arc::new(DirStore::new(dir.path()));
        // The root, and 100 blocks.
        let session = Session::start(store, options(cache.path(), 101 * BLOCK)).await.expect("a session");
        let refused = |result: Result<u32>| result.expect_err("too much").errno() == libc::EDQUOT;
        let file = make(&session, "f").await;
        write(&session, file, 0, 90 * BLOCK as usize).await.expect("it fits");
        assert!(refused(write(&session, file, 90 * BLOCK, 10 * BLOCK as usize + 1).await));
        write(&session, file, 90 * BLOCK, 10 * BLOCK as usize).await.expect("to the last byte");
        for _ in 0..3 {
            write(&session, file, 5, 95 * BLOCK as usize).await.expect("nothing is added");
            session.capture_all().await.expect("captured");
        }
        assert!(refused(write(&session, file, 200 * BLOCK, 1).await));
        let reserve =
            session.fallocate(ROOT, file.1, file.0, 90 * BLOCK, 11 * BLOCK, Allocate::Grow).get().await;
        assert_eq!(reserve.expect_err("too much").errno(), libc::EDQUOT);
        let new = NewNode { mode: libc::S_IFDIR | 0o755, umask: 0, rdev: 0, target: Vec::new() };
        let dir = session.make(ROOT, Ino::ROOT, b"d", new.clone()).get().await;
        assert_eq!(dir.expect_err("a directory counts").errno(), libc::EDQUOT);
        let mapped = WriteHow { mapped: true, ..WriteHow::default() };
        let pages = vec![1; BLOCK as usize];
        session
            .write(ROOT, file.1, file.0, 300 * BLOCK, &pages, mapped)
            .get()
            .await
            .expect("accepted already");
        assert_eq!(used(&session), 102 * BLOCK);
        assert_eq!(session.statfs().expect("statfs").free, 0);

        let punched = session.fallocate(ROOT, file.1, file.0, 0, 10 * BLOCK, Allocate::PunchHole).get().await;
        punched.expect("always");
        session.make(ROOT, Ino::ROOT, b"d", new).get().await.expect("there is room again");
        session.unlink(ROOT, Ino::ROOT, b"f").get().await.expect("always");
        assert_eq!(used(&session), 2 * BLOCK, "a deleted file counts nothing, open or not");
        write(&session, file, 0, 200 * BLOCK as usize).await.expect("it is not the session's");
        assert_eq!(used(&session), 2 * BLOCK);
        session.release(file.1);
    }
}
