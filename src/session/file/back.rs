//! Backing files come back from the kernel: once it has forgotten their inode, or is gone itself.
//!
//! Invariants:
//! - a backing file is ours again only when no open and no mapping of it is left, in one step with the decision
//!   how the next open travels;
//! - until it is, and what was stored in it is known as changed, the inode is in [`super::Data`]'s list of those
//!   that the kernel has.

use super::super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::session::node::Use;
use std::sync::Arc;

impl Session {
    /// The kernel forgot an inode: no mapping of its backing file is left.
    pub(in crate::session) fn forgotten(self: &Arc<Self>, ino: Ino) {
        if self.nodes.kernel_knows(ino) {
            return;
        }
        self.data.stale.lock().remove(&ino);
        if !self.data.backed.lock().contains_key(&ino) {
            return;
        }
        let session = self.clone();
        // It runs on its own: nobody waits for a forget.
        drop(self.runtime.spawn_blocking(move || session.take_back(ino)));
    }

    /// Whether the kernel has backing files, or one of them is being taken back.
    pub fn has_backings(&self) -> bool {
        !self.data.backed.lock().is_empty()
    }

    /// The file system is gone from the kernel: takes all backing files back. It says nothing of what it forgets
    /// then, and its last closes may never have come: they have happened where `unmounted`. A connection that was
    /// ended before may leave opens and mappings of backing files behind.
    pub async fn take_all_back(self: &Arc<Self>, unmounted: bool) {
        let backed: Vec<Use> = self.data.backed.lock().values().cloned().collect();
        let session = self.clone();
        let taken = self.runtime.spawn_blocking(move || {
            for node in backed {
                if unmounted {
                    node.file.modes.lock().end_all();
                }
                session.nodes.forget_all(node.ino);
                session.take_back(node.ino);
            }
        });
        if let Err(e) = taken.await {
            tracing::error!("backing files could not be taken back: {e}");
        }
    }

    /// Takes a backing file back, unless the kernel has it, or has it again.
    fn take_back(&self, ino: Ino) {
        let Some(node) = self.data.backed.lock().get(&ino).cloned() else { return };
        if let Err(e) = self.leave(&node) {
            tracing::warn!("inode {ino}: its backing file cannot be read, and stays the kernel's: {e}");
        }
    }

    fn leave(&self, node: &Use) -> Result<(), SessionError> {
        let file = self.file_of(node)?;
        loop {
            let begun = node.file.modes.lock().begun;
            file.compare()?;
            // What it found is captured, whatever comes in between.
            self.note_changed(node);
            let modes = node.file.modes.lock();
            if !modes.is_idle() || self.nodes.kernel_knows(node.ino) {
                // Its next close or forget comes here again.
                return Ok(());
            }
            if modes.begun == begun {
                file.leave_backing();
                let was = self.data.backed.lock().remove(&node.ino);
                drop(modes);
                // Its use may be the node's last: not under a lock.
                drop(was);
                self.settle_listed(node, &file);
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::file::open::LARGE;
    use crate::session::testing::{BOTH, READ, ROOT, large, options, pass};
    use crate::store::DirStore;
    use std::os::unix::fs::FileExt;
    use std::path::Path;
    use std::time::Duration;

    const LONG: Duration = Duration::from_secs(60);

    async fn start(store: &Path, cache: &Path) -> Arc<Session> {
        Session::start(Arc::new(DirStore::new(store)), options(cache)).await.unwrap()
    }

    async fn taken_back(session: &Arc<Session>) {
        while session.has_backings() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// What a mount elsewhere reads at some places.
    async fn elsewhere(store: &Path, ino: Ino, places: &[u64]) -> Vec<u8> {
        let cache = tempfile::tempdir().unwrap();
        let session = start(store, cache.path()).await;
        let opened = session.open(ROOT, ino, READ).get().await.unwrap();
        let mut found = Vec::new();
        for at in places {
            found.push(session.read(opened.fh, ino, *at, 1).get().await.unwrap()[0]);
        }
        session.release(opened.fh);
        assert!(session.close(LONG).await.is_clean());
        found
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn closes_that_an_unmount_swallowed_leave_nothing_to_store() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let session = start(dir.path(), cache.path()).await;
        let ino = large(&session).await;
        pass(&session, ino, READ).await;
        let (_, kernel) = pass(&session, ino, BOTH).await;
        kernel.write_all_at(&[9; 100], LARGE - 50).unwrap();
        session.take_all_back(true).await;
        let report = session.close(LONG).await;
        assert!(report.is_clean(), "{report:?}");
        assert_eq!(elsewhere(dir.path(), ino, &[0, LARGE, LARGE + 49]).await, [7, 9, 9]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn opens_that_outlive_the_connection_keep_their_backing() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let session = start(dir.path(), cache.path()).await;
        let ino = large(&session).await;
        let (fh, _) = pass(&session, ino, READ).await;
        session.take_all_back(false).await;
        assert!(session.has_backings());
        session.release(fh);
        taken_back(&session).await;
        assert!(session.close(LONG).await.is_clean());
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_is_stored_through_a_mapping_is_captured_before_and_after_the_last_close() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let session = start(dir.path(), cache.path()).await;
        let ino = large(&session).await;
        let (reader, _) = pass(&session, ino, READ).await;
        let (fh, kernel) = pass(&session, ino, BOTH).await;
        kernel.write_all_at(&[1], 100_000).unwrap();
        session.flush_all(LONG).await.unwrap();
        assert_eq!(session.unstored().bytes, 0);
        assert_eq!(session.uncaptured().files, 1, "each interval looks for what a mapping stores");
        kernel.write_all_at(&[2], 200_000).unwrap();
        session.release(reader);
        session.release(fh);
        session.flush_all(LONG).await.unwrap();
        // The mapping is still there.
        kernel.write_all_at(&[3], 300_000).unwrap();
        session.flush_all(LONG).await.unwrap();
        kernel.write_all_at(&[4], 400_000).unwrap();
        session.forget(ino, 1);
        taken_back(&session).await;
        assert!(session.close(LONG).await.is_clean());
        let places = [100_000, 200_000, 300_000, 400_000, 500_000];
        assert_eq!(elsewhere(dir.path(), ino, &places).await, [1, 2, 3, 4, 7]);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_close_that_comes_after_the_forget_gives_the_backing_back() {
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let session = start(dir.path(), cache.path()).await;
        let ino = large(&session).await;
        let (fh, _) = pass(&session, ino, READ).await;
        session.forget(ino, 1);
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(session.has_backings(), "it is open");
        session.release(fh);
        taken_back(&session).await;
        assert!(session.close(LONG).await.is_clean());
    }
}
