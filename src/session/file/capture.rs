//! Captures: what is changed becomes rows, at once where it is small, by a task of its own where not.

use super::super::api::Result;
use super::super::change::Change;
use super::super::node::{Node, Use};
use super::super::quota::Quota;
use super::super::{Durability, Session, SessionError};
use crate::content::{Begin, Capture, Placed};
use crate::journal::Held;
use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Key, Record, Time};
use crate::log::source::{LocalKind, Seq};
use parking_lot::Mutex;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A costly capture is made again only after this many times its duration.
const REST: u32 = 10;

/// The pause after a failed capture that commits wait for.
const PAUSE: Duration = Duration::from_secs(2);

/// Clean content that goes at once when the disk is full.
const ROOM: u64 = 64 << 20;

fn is_full(error: &SessionError) -> bool {
    error.errno() == libc::ENOSPC
}

/// How far the task that captures a file is.
#[derive(Clone, Default)]
struct Turn {
    running: bool,
    /// Attempts that ended.
    ended: u64,
    error: Option<SessionError>,
    /// How long the last one took, and when it ended.
    took: Option<(Duration, Instant)>,
}

/// The captures of one inode that have a task.
#[derive(Default)]
pub(super) struct Turns(Mutex<Option<Arc<watch::Sender<Turn>>>>);

impl Turns {
    fn get(&self) -> Arc<watch::Sender<Turn>> {
        self.0.lock().get_or_insert_with(|| Arc::new(watch::Sender::new(Turn::default()))).clone()
    }

    /// How many attempts have ended once one that begins from now on has.
    fn anew(&self) -> u64 {
        let turns = self.get();
        let turn = turns.borrow();
        turn.ended + u64::from(turn.running) + 1
    }

    fn is_resting(&self) -> bool {
        let Some(turns) = self.0.lock().clone() else { return false };
        let took = turns.borrow().took;
        took.is_some_and(|(took, ended)| ended.elapsed() < took * REST)
    }
}

/// What a capture that was asked for is.
pub(super) enum Captured {
    /// In the journal, up to this change.
    Rows(Seq),
    /// Under way, or to be made: [`Session::captured`] waits for it.
    Later,
}

/// A capture that has to go on after the change of names that asked for it.
pub(in crate::session) struct PendingCapture {
    session: Arc<Session>,
    files: Vec<Use>,
}

impl PendingCapture {
    /// Runs the capture; commits stop before the change that `held` guards until its rows are there.
    pub(in crate::session) fn start(self, held: Held) {
        let runtime = self.session.runtime.clone();
        // It runs on its own; commits wait for it through `held`.
        drop(runtime.spawn(self.run(held)));
    }

    async fn run(self, held: Held) {
        let mut until = 0;
        for node in &self.files {
            self.session.own_for_names(node.ino).await;
            loop {
                match self.session.captured(node).await {
                    Ok(seq) => {
                        until = until.max(seq);
                        break;
                    }
                    Err(SessionError::Store(e)) if self.session.alive().is_ok() => {
                        tracing::warn!("inode {}: {e}; commits wait for its capture", node.ino);
                        tokio::time::sleep(PAUSE).await;
                    }
                    Err(e) => {
                        tracing::error!(
                            "inode {}: its name is committed without its newest content: {e}",
                            node.ino
                        );
                        break;
                    }
                }
            }
        }
        held.release(until);
    }
}

impl Session {
    /// Captures changed files before their names change: the small ones at once, the rest (and copies of
    /// what was imported) as what is returned, which the caller starts with the change's hold. Called without any lock.
    pub(in crate::session) fn capture_for_names(
        self: &Arc<Self>,
        inos: &[Ino],
    ) -> Result<Option<PendingCapture>> {
        let mut files = Vec::new();
        for ino in inos {
            let large = match self.nodes.get(*ino) {
                Some(node) => matches!(self.capture(&node)?, Captured::Later),
                None => false,
            };
            if large || self.is_imported(*ino)? {
                files.push(self.nodes.hold(*ino));
            }
        }
        Ok((!files.is_empty()).then(|| PendingCapture { session: self.clone(), files }))
    }

    /// Captures everything changed. Returns once all its rows are in the journal.
    pub(in crate::session) async fn capture_all(self: &Arc<Self>) -> Result<()> {
        self.free_disk().await?;
        match self.capture_each().await {
            Err(error) if is_full(&error) => {
                // What was large is stored now, and can go.
                self.free_disk().await?;
                self.capture_each().await
            }
            ended => ended,
        }
    }

    async fn capture_each(self: &Arc<Self>) -> Result<()> {
        self.open_leftovers()?;
        let changed = self.changed_nodes();
        let all = changed.into_iter().map(|node| async move { self.captured(&node).await });
        let ended = futures::future::join_all(all).await;
        ended.into_iter().collect::<Result<Vec<Seq>>>().map(drop)
    }

    /// Captures these files, as far as they are changed.
    pub(in crate::session) async fn capture_these(self: &Arc<Self>, inos: HashSet<Ino>) -> Result<()> {
        let changed = self.changed_nodes().into_iter().filter(|node| inos.contains(&node.ino));
        let all = changed.map(|node| async move { self.captured(&node).await });
        let ended = futures::future::join_all(all).await;
        ended.into_iter().try_for_each(|captured| captured.map(drop))
    }

    /// From now on clean content goes when the journal finds the disk full. Journals that cannot have a thread for that
    /// are relieved by [`Session::free_disk`] alone.
    pub(in crate::session) fn free_disk_when_full(self: &Arc<Self>) {
        let session = Arc::downgrade(self);
        let make_room =
            move || session.upgrade().map(|session| session.data.content.make_room(ROOM)).is_some();
        if let Err(error) = self.journal.when_full(make_room) {
            tracing::warn!(%error, "a full disk is noticed late: no thread for it");
        }
    }

    /// Where the disk is full, evicts clean content until the journal has its space again.
    pub(in crate::session) async fn free_disk(self: &Arc<Self>) -> Result<()> {
        if self.journal.failure().is_none_or(|error| error.kind != LocalKind::Full) {
            return Ok(());
        }
        let session = self.clone();
        let freed = self.runtime.spawn_blocking(move || {
            session.data.content.make_room(ROOM);
            session.journal.settle()
        });
        Ok(freed.await.map_err(|_| SessionError::Errno(libc::EIO))??)
    }

    /// Called each commit interval: captures what changed in open files, those whose capture is costly less
    /// often, and what an earlier mount left over. Returns the first failure, after it has tried all.
    pub(in crate::session) async fn capture_due(self: &Arc<Self>) -> Result<()> {
        let mut first = self.free_disk().await;
        self.open_leftovers()?;
        let changed = self.changed_nodes();
        for node in changed.iter().filter(|node| !node.file.turns.is_resting()) {
            match self.capture(node) {
                Ok(Captured::Rows(_)) => {}
                Ok(Captured::Later) => drop(self.drive(node)),
                Err(e) => first = first.and(Err(e)),
            }
        }
        if let (Some(writer), false) = (&self.writer, changed.is_empty()) {
            writer.committer.kick(Duration::ZERO);
        }
        first
    }

    /// Takes what an earlier mount could not store into use: it is changed from then on.
    fn open_leftovers(self: &Arc<Self>) -> Result<()> {
        for ino in self.data.content.leftovers() {
            match self.find_row(ino)? {
                Some(_) => {
                    let node = self.nodes.hold(ino);
                    self.file_of(&node)?;
                    self.note_changed(&node);
                }
                None => self.data.content.forget(ino),
            }
        }
        Ok(())
    }

    /// Starts a capture that takes its time, unless one runs.
    pub(super) fn start_capture(self: &Arc<Self>, node: &Arc<Node>) {
        drop(self.drive(node));
    }

    /// Starts a capture that nobody waits for, and its commit.
    pub(super) fn capture_unwaited(self: &Arc<Self>, node: &Arc<Node>) -> Result<()> {
        // Looked at first: the capture takes it, and may be done at once.
        let unhurried = node.file.unhurried.load(Ordering::Acquire);
        if let Captured::Later = self.capture(node)? {
            drop(self.drive(node));
        }
        if let Some(writer) = &self.writer {
            writer.committer.kick(match unhurried {
                true => self.unhurried(),
                false => self.kick_delay(Durability::Close),
            });
        }
        Ok(())
    }

    /// Captures a file: at once, where that takes no time.
    pub(super) fn capture(self: &Arc<Self>, node: &Arc<Node>) -> Result<Captured> {
        let file = self.file_of(node)?;
        let large = file.is_suspect() || file.dirty() > crate::content::SMALL;
        if large || self.leans_on_objects(node, &file)? {
            return Ok(Captured::Later);
        }
        match file.capture()? {
            Begin::Unchanged(seq) => {
                // The kernel may have had it for writing, and not have written.
                self.settle_listed(node, &file);
                Ok(Captured::Rows(seq))
            }
            Begin::Busy | Begin::Large(_) => Ok(Captured::Later),
            Begin::Small(mut capture) => {
                let placed = capture.place_small()?;
                self.apply_capture(node, capture, placed).map(Captured::Rows)
            }
        }
    }

    /// Returns once all that is changed in a file by now is in the journal's rows; up to which change.
    pub(super) async fn captured(self: &Arc<Self>, node: &Arc<Node>) -> Result<Seq> {
        let file = self.file_of(node)?;
        if let Captured::Rows(seq) = self.capture(node)? {
            return Ok(seq);
        }
        let wanted = file.changes();
        // Each attempt takes all that changed before it began: one may have begun already. But what the kernel writes by
        // itself is in no count of changes: an attempt that has compared its place before does not find it.
        let attempts = if file.is_suspect() { node.file.turns.anew() } else { 0 };
        loop {
            let mut turns = self.drive(node);
            let ended = turns.borrow_and_update().ended;
            let turn = turns.wait_for(|turn| turn.ended > ended || !turn.running).await;
            let turn = turn.map_err(|_| SessionError::Errno(libc::EIO))?.clone();
            if let Some(error) = turn.error {
                return Err(error);
            }
            let holds_all = !file.is_changed() || file.captured_changes() >= wanted;
            if file.is_orphan() || (holds_all && turn.ended >= attempts) {
                return Ok(file.captured_seq());
            }
        }
    }

    /// Starts the task that captures a file once, unless it runs.
    fn drive(self: &Arc<Self>, node: &Arc<Node>) -> watch::Receiver<Turn> {
        let turns = node.file.turns.get();
        let receiver = turns.subscribe();
        let starts = turns.send_if_modified(|turn| !std::mem::replace(&mut turn.running, true));
        if starts {
            let (session, node) = (self.clone(), self.nodes.hold(node.ino));
            // It runs on its own, whoever waits for it may leave.
            drop(self.runtime.spawn(async move {
                let begun = Instant::now();
                let error = session.capture_once(&node).await.err();
                turns.send_modify(|turn| {
                    turn.running = false;
                    turn.ended += 1;
                    // One that failed is tried again at the next interval.
                    turn.took = error.is_none().then(|| (begun.elapsed(), Instant::now()));
                    turn.error = error;
                });
            }));
        }
        receiver
    }

    async fn capture_once(self: &Arc<Self>, node: &Use) -> Result<()> {
        let file = self.file_of(node)?;
        if file.is_suspect() {
            let suspect = file.clone();
            let compared = self.runtime.spawn_blocking(move || suspect.compare()).await;
            compared.map_err(|_| SessionError::Errno(libc::EIO))??;
        }
        self.own_kept(node, &file).await?;
        loop {
            return match file.capture()? {
                Begin::Unchanged(_) => {
                    self.settle_listed(node, &file);
                    Ok(())
                }
                Begin::Busy => {
                    // A small capture on another thread: over in a moment.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    continue;
                }
                Begin::Small(mut capture) => {
                    let placed = capture.place_small()?;
                    self.apply_capture(node, capture, placed).map(drop)
                }
                Begin::Large(capture) => {
                    let placed = capture.place_large().await?;
                    self.apply_capture(node, capture, placed)?;
                    *self.data.stalled.lock() = None;
                    if let Some(writer) = &self.writer {
                        let unhurried = node.file.unhurried.swap(false, Ordering::AcqRel);
                        writer.committer.kick(if unhurried { self.unhurried() } else { Duration::ZERO });
                    }
                    Ok(())
                }
            };
        }
    }

    /// Makes a capture's content rows, as one change.
    fn apply_capture(&self, node: &Arc<Node>, capture: Capture, placed: Placed) -> Result<Seq> {
        let ino = node.ino;
        // Until the row counts the content, and nothing else does.
        let _turn = self.quota().map(Quota::turn);
        let mut change = self.change()?;
        if node.is_orphan() {
            // Dropped, it counts as changed again, and is never asked for.
            return Ok(0);
        }
        let mut row = change.inode(ino)?;
        self.put_content(&mut change, ino, &mut row, &placed, capture.mtime())?;
        change.put_inode(ino, row);
        let seq = change.apply_freeing()?.unwrap_or(0);
        let file = capture.file().clone();
        capture.done(seq);
        self.settle_listed(node, &file);
        if let Some(quota) = self.quota() {
            quota.moved(0, 0);
        }
        Ok(seq)
    }

    /// Puts new content into a change: an inode's extents, and what its row says of them.
    pub(super) fn put_content(
        &self,
        change: &mut Change<'_>,
        ino: Ino,
        row: &mut InodeRow,
        placed: &Placed,
        mtime: Time,
    ) -> Result<()> {
        let blank = self.nodes.get(ino).is_some_and(|node| node.file.blank.swap(false, Ordering::AcqRel));
        let replaced = placed.replace(|range| match blank {
            true => Ok(Vec::new()),
            false => self.journal.extents(ino, range),
        })?;
        for (offset, extent) in &replaced.changes {
            let key = Key::Extent { ino, offset: *offset };
            change.record(match extent {
                Some(extent) => Record::put(&key, extent),
                None => Record::delete(&key),
            });
        }
        (row.size, row.mtime) = (placed.size, mtime);
        row.ctime = row.ctime.max(placed.ctime);
        row.allocated = row.allocated.saturating_add_signed(replaced.grown);
        row.version += 1;
        Ok(())
    }

    /// Takes a file that is captured off the list of changed ones.
    pub(super) fn settle_listed(&self, node: &Arc<Node>, file: &crate::content::File) {
        let mut changed = self.data.changed.lock();
        // A change after this look finds it not listed, or waits for the lock.
        node.file.listed.store(false, Ordering::Release);
        if file.is_changed() {
            let still = changed.get_mut(&node.ino);
            node.file.listed.store(still.is_some(), Ordering::Release);
            if let Some(listed) = still {
                // What changed before is captured.
                listed.since = Instant::now();
            }
            drop(changed);
            return self.note_changed(node);
        }
        let listed = changed.remove(&node.ino);
        // Its use may be the node's last: not under the list's lock.
        drop(changed);
        drop(listed);
    }
}

#[cfg(test)]
mod tests {
    use crate::content::Begin;
    use crate::log::ids::Ino;
    use crate::session::Session;
    use crate::session::api::{NewNode, OpenFlags, WriteHow};
    use crate::session::testing::{BOTH, READ, ROOT, large, options, pass};
    use std::os::unix::fs::FileExt;
    use std::sync::Arc;
    use std::time::Duration;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_change_that_is_noted_after_its_capture_leaves_nothing_to_store() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(crate::store::DirStore::new(dir.path()));
        let session = Session::start(store, options(cache.path())).await.unwrap();
        let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let flags = OpenFlags { write: true, ..OpenFlags::default() };
        let (attr, opened) = session.create(ROOT, Ino::ROOT, b"f", new, flags).get().await.unwrap();
        session.write(ROOT, opened.fh, attr.ino, 0, b"content", WriteHow::default()).get().await.unwrap();
        let node = session.nodes.hold(attr.ino);
        session.captured(&node).await.unwrap();
        // A timer's capture may come between a write and its note.
        session.note_changed(&node);
        assert_eq!(session.uncaptured().files, 0);
        session.write(ROOT, opened.fh, attr.ino, 0, b"again", WriteHow::default()).get().await.unwrap();
        assert_eq!(session.uncaptured().files, 1);
        drop(node);
        session.release(opened.fh);
        assert!(session.close(std::time::Duration::from_secs(20)).await.is_clean());
    }

    /// What the kernel writes in passthrough where a capture under way has compared already is in none of its rows.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_wait_for_a_capture_takes_what_the_kernel_wrote_behind_one_under_way() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(crate::store::DirStore::new(dir.path()));
        let session = Session::start(store, options(cache.path())).await.unwrap();
        let ino = large(&session).await;
        let (reader, _) = pass(&session, ino, READ).await;
        let (writer, kernel) = pass(&session, ino, BOTH).await;
        let node = session.nodes.hold(ino);
        let (file, turns) = (session.file_of(&node).unwrap(), node.file.turns.get());
        // A task of the interval: it has compared, and looks at the time once more.
        turns.send_modify(|turn| turn.running = true);
        file.compare().unwrap();
        kernel.write_all_at(b"behind it", 0).unwrap();
        let seen = file.changes();
        let waiting = tokio::spawn({
            let (session, node) = (session.clone(), session.nodes.hold(ino));
            async move { session.captured(&node).await }
        });
        while turns.receiver_count() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let Begin::Small(mut capture) = file.capture().unwrap() else { panic!("only its time is new") };
        assert_eq!((capture.changes(), capture.bytes()), (seen, 0));
        let placed = capture.place_small().unwrap();
        session.apply_capture(&node, capture, placed).unwrap();
        turns.send_modify(|turn| (turn.running, turn.ended) = (false, turn.ended + 1));
        waiting.await.unwrap().unwrap();
        file.compare().unwrap();
        assert_eq!(file.dirty(), 0, "what was written is in no row");
        for fh in [reader, writer] {
            session.release(fh);
        }
        drop(node);
        session.take_all_back(true).await;
        assert!(session.close(Duration::from_secs(20)).await.is_clean());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_owed_of_a_deleted_file_that_is_open() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(crate::store::DirStore::new(dir.path()));
        let session = Session::start(store, options(cache.path())).await.unwrap();
        for deleted_within_the_capture in [false, true] {
            let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
            let flags = OpenFlags { write: true, ..OpenFlags::default() };
            let (attr, opened) = session.create(ROOT, Ino::ROOT, b"f", new, flags).get().await.unwrap();
            session.write(ROOT, opened.fh, attr.ino, 0, b"content", WriteHow::default()).get().await.unwrap();
            let node = session.nodes.hold(attr.ino);
            let file = session.file_of(&node).unwrap();
            let Begin::Small(mut capture) = file.capture().unwrap() else { panic!("it is small") };
            let placed = capture.place_small().unwrap();
            if !deleted_within_the_capture {
                session.apply_capture(&node, capture, placed).unwrap();
                session.unlink(ROOT, Ino::ROOT, b"f").get().await.unwrap();
            } else {
                // By a thread that does not wait for the capture: its own look was before it.
                session.unlink(ROOT, Ino::ROOT, b"f").get().await.unwrap();
                session.apply_capture(&node, capture, placed).unwrap();
            }
            session.flush_all(std::time::Duration::from_secs(20)).await.unwrap();
            assert!(session.unstored().is_nothing(), "{:?}", session.unstored());
            let read = session.read(opened.fh, attr.ino, 0, 100).get().await.unwrap();
            assert_eq!(&read[..], b"content");
        }
        assert!(session.close(std::time::Duration::from_secs(20)).await.is_clean());
    }
}
