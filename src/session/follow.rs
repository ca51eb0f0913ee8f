//! A session that follows a writer: read-only, a bounded time behind.
//!
//! Invariant: a file that is open stays readable after the writer removed it, as on the writer's side.

use super::api::Result;
use super::open::open_journal;
use super::status::{Notices, Position};
use super::{Session, SessionOptions};
use crate::log::follow::Follower;
use crate::log::ids::{Epoch, Slot};
use crate::log::row::{ExtentRow, Key, KeyBytes, Record};
use crate::log::source::{Checksum, LocalError, Part, RecoverySink};
use crate::store::ObjectStore;
use bytes::Bytes;
use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

impl Session {
    /// Opens a session for reading.
    pub(super) async fn start_following(
        store: Arc<dyn ObjectStore>,
        options: SessionOptions,
    ) -> Result<Arc<Session>> {
        let notices = Notices::default();
        let (journal, found) = open_journal(&options, &notices).await?;
        let follower = Follower::open(store.clone(), &mut journal.sink()).await?;
        let interval = options.follow_interval;
        let session = Session::assemble(store, journal, None, found.same_boot, options, notices)?;
        session.note_position(&follower);
        session.spawn(&session.stop, follow(Arc::downgrade(&session), follower, interval));
        Ok(session)
    }

    fn note_position(&self, follower: &Follower) {
        *self.following.lock() = follower.at().map(|(epoch, slot)| Position { epoch, slot });
    }

    /// Tells the kernel and the data path what a poll changed.
    fn tell(&self, changed: &BTreeSet<KeyBytes>) {
        for key in changed {
            if let Some(Key::Inode { ino } | Key::Extent { ino, .. }) = Key::decode(key)
                && let Some(node) = self.nodes.get(ino)
            {
                self.reload(&node);
            }
        }
        self.invalidate.rows(&self.nodes, changed);
    }
}

async fn follow(session: Weak<Session>, mut follower: Follower, interval: Duration) {
    loop {
        tokio::time::sleep(interval).await;
        let Some(session) = session.upgrade() else { return };
        let mut sink = Watched::new(&session);
        let polled = follower.poll(&mut sink).await;
        let changed = std::mem::take(&mut sink.changed);
        drop(sink);
        session.tell(&changed);
        session.note_position(&follower);
        if let Err(error) = polled {
            session.notices.add(format!("the writer cannot be followed now, it is tried again: {error}"));
        }
    }
}

type LocalResult = std::result::Result<(), LocalError>;

/// The journal's sink, watched for what changes.
struct Watched<'a> {
    session: &'a Session,
    inner: Box<dyn RecoverySink + 'a>,
    changed: BTreeSet<KeyBytes>,
}

impl<'a> Watched<'a> {
    fn new(session: &'a Session) -> Watched<'a> {
        Watched { session, inner: Box::new(session.journal.sink()), changed: BTreeSet::new() }
    }

    /// Rows are about to change: what is known of an inode that goes is kept for those who have it open.
    fn note(&mut self, records: &[Record]) -> LocalResult {
        for record in records {
            if let (None, Some(Key::Inode { ino })) = (&record.value, Key::decode(&record.key)) {
                self.session.keep_removed(ino)?;
            }
            self.changed.insert(record.key.clone());
        }
        Ok(())
    }

    /// Everything may change: what the kernel knows by name has to be looked up again.
    fn note_all(&mut self) -> LocalResult {
        for ino in self.session.nodes.kernel_known() {
            self.changed.insert(Key::Inode { ino }.encode());
            let row = self.session.journal.inode(ino)?;
            let Some(home) = row.and_then(|row| row.home) else { continue };
            for entry in self.session.journal.entries(home.parent, home.cookie.0, 1)? {
                let (parent, cookie, name) = (home.parent, entry.cookie, entry.name);
                self.changed.insert(Key::Dentry { parent, cookie, name }.encode());
            }
        }
        Ok(())
    }
}

impl RecoverySink for Watched<'_> {
    fn reset(&mut self) -> LocalResult {
        self.note_all()?;
        self.inner.reset()
    }

    fn rows(&mut self, part: Part, rows: Vec<Record>) -> LocalResult {
        self.inner.rows(part, rows)
    }

    fn segment(
        &mut self,
        epoch: Epoch,
        slot: Slot,
        checksum: &Checksum,
        records: Vec<Record>,
    ) -> LocalResult {
        self.note(&records)?;
        self.inner.segment(epoch, slot, checksum, records)
    }

    fn keep(&mut self, extent: &ExtentRow, bytes: &Bytes) {
        self.inner.keep(extent, bytes);
    }

    fn checkpoint_loaded(&mut self, epoch: Epoch, slot: Slot, image: Slot) -> LocalResult {
        self.inner.checkpoint_loaded(epoch, slot, image)
    }
}
