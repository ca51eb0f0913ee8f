//! Taking a session away: its plain objects, or its log and what that names, and the lease last.
//!
//! Invariants:
//! - the lease is ours all along: a removal that was fenced deletes nothing more;
//! - the lease goes last, so that a removal that was cut short is still a session, and can be gone on with;
//! - before anything is deleted, the lease says so: what is left in between is never mounted.

use super::error::LogError;
use super::ids::{Epoch, keys};
use super::lease::{Ending, Lease, LeaseOptions};
use super::recover::enter;
use crate::store::{Listed, ObjectStore, Pages};
use std::sync::Arc;

/// A session that is being taken away; nobody else writes it meanwhile.
pub struct Removal {
    store: Arc<dyn ObjectStore>,
    lease: Arc<Lease>,
    before: Option<Epoch>,
    /// Which removal the lease says it is, once it says so.
    ending: Option<Ending>,
}

/// What was deleted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Removed {
    /// Objects.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Removal {
    /// Takes the session's lease as a mount does, waiting for a holder where that is due. `None`: there is no
    /// session in this store, and nothing was written.
    pub async fn begin(
        store: &Arc<dyn ObjectStore>,
        options: &LeaseOptions,
    ) -> Result<Option<Removal>, LogError> {
        if store.list(keys::ROOT, None, 1).await?.objects.is_empty() {
            return Ok(None);
        }
        let (lease, before, ending) = enter(store, options).await?;
        lease.keep(&tokio::runtime::Handle::current());
        Ok(Some(Removal { store: store.clone(), lease, before, ending }))
    }

    /// The writer before us; `None` when the session had lost its lease.
    pub fn before(&self) -> Option<Epoch> {
        self.before
    }

    /// The removal that was begun: before anything is removed here, one that an earlier one did not finish.
    pub fn begun(&self) -> Option<Ending> {
        self.ending
    }

    /// Deletes every plain object and what is left of uploads.
    pub async fn remove_view(&mut self) -> Result<Removed, LogError> {
        if self.ending != Some(Ending::Rm) {
            self.lease.end(Ending::Rm).await?;
            self.ending = Some(Ending::Rm);
        }
        self.abort_uploads("").await?;
        self.delete("", |object| !object.key.starts_with(keys::ROOT)).await
    }

    /// Deletes everything of ours, the lease last; then there is no session any more.
    /// `conditional`: the store's DELETE takes a condition.
    pub async fn remove_log(self, conditional: bool) -> Result<Removed, LogError> {
        if self.ending.is_none() {
            self.lease.end(Ending::Eject).await?;
        }
        self.abort_uploads(keys::ROOT).await?;
        let removed = self.delete(keys::ROOT, |object| object.key != keys::LEASE).await?;
        self.lease.ensure().await?;
        self.lease.delete(conditional).await?;
        Ok(removed)
    }

    /// Gives the session back instead.
    pub async fn give_back(self) -> Result<(), LogError> {
        self.lease.release().await
    }

    async fn delete(&self, prefix: &str, wanted: impl Fn(&Listed) -> bool) -> Result<Removed, LogError> {
        let (mut removed, mut pages) = (Removed::default(), Pages::of(self.store.as_ref(), prefix, None));
        while let Some(objects) = pages.next().await? {
            let doomed: Vec<Listed> = objects.into_iter().filter(&wanted).collect();
            if doomed.is_empty() {
                continue;
            }
            self.lease.ensure().await?;
            let keys: Vec<String> = doomed.iter().map(|object| object.key.clone()).collect();
            if let Some((_, error)) = self.store.delete_many(&keys).await?.into_iter().next() {
                return Err(error.into());
            }
            removed.objects += doomed.len() as u64;
            removed.bytes += doomed.iter().map(|object| object.size).sum::<u64>();
        }
        Ok(removed)
    }

    async fn abort_uploads(&self, prefix: &str) -> Result<(), LogError> {
        for (key, upload) in self.store.list_multipart(prefix).await? {
            self.lease.ensure().await?;
            self.store.abort_multipart(&key, &upload).await?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::lease::Hold;
    use crate::log::recover::recover;
    use crate::log::testing::{FakeJournal, Shared, options, takeover};

    async fn session(shared: &Arc<Shared>) -> Epoch {
        let journal = FakeJournal::new();
        let got = recover(shared.client().store(), options("a"), None, &mut journal.sink()).await.unwrap();
        got.lease.release().await.unwrap();
        for key in ["a", "dir/b", ".cwdfs-not/ours", ".cwdfs/store", ".cwdfs/data/x"] {
            shared.set(key, "12");
        }
        got.lease.epoch()
    }

    #[tokio::test(start_paused = true)]
    async fn everything_goes_and_the_lease_last() {
        let shared = Shared::new();
        let client = shared.client();
        let writer = session(&shared).await;
        let mut removal = Removal::begin(&client.store(), &options("rm")).await.unwrap().unwrap();
        assert_eq!(removal.before(), Some(writer));
        assert_eq!(removal.remove_view().await.unwrap(), Removed { objects: 3, bytes: 6 });
        assert!(shared.keys().iter().all(|key| key.starts_with(".cwdfs/")), "{:?}", shared.keys());
        removal.remove_log(true).await.unwrap();
        assert_eq!(shared.keys(), Vec::<String>::new());
        assert!(Removal::begin(&client.store(), &options("rm")).await.unwrap().is_none(), "nothing is there");
        assert_eq!(shared.keys(), Vec::<String>::new(), "and looking makes nothing");
    }

    #[tokio::test(start_paused = true)]
    async fn a_removal_that_was_fenced_deletes_nothing_more() {
        let shared = Shared::new();
        let client = shared.client();
        session(&shared).await;
        let mut removal = Removal::begin(&client.store(), &options("rm")).await.unwrap().unwrap();
        let journal = FakeJournal::new();
        recover(shared.client().store(), takeover("b"), None, &mut journal.sink()).await.unwrap();
        removal.lease.lost(Hold::Fenced { by: "b".into() });
        assert!(matches!(removal.remove_view().await, Err(LogError::Fenced { .. })));
        assert!(matches!(removal.remove_log(true).await, Err(LogError::Fenced { .. })));
        assert!(shared.keys().iter().any(|key| key == "a"), "{:?}", shared.keys());
    }

    #[tokio::test(start_paused = true)]
    async fn a_successor_that_came_unseen_keeps_its_lease() {
        for conditional in [true, false] {
            let shared = Shared::new();
            let client = shared.client();
            session(&shared).await;
            let removal = Removal::begin(&client.store(), &options("rm")).await.unwrap().unwrap();
            let journal = FakeJournal::new();
            let b = recover(shared.client().store(), takeover("b"), None, &mut journal.sink()).await.unwrap();
            let refused = removal.lease.delete(conditional).await;
            assert!(matches!(refused, Err(LogError::Fenced { .. })), "{refused:?}");
            b.lease.raise_floor(b.lease.floor()).await.unwrap();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_broken_off_removal_leaves_is_never_mounted() {
        for (ending, command) in [(Ending::Rm, "rm"), (Ending::Eject, "eject")] {
            let shared = Shared::new();
            let client = shared.client();
            session(&shared).await;
            let removal = Removal::begin(&client.store(), &options("first")).await.unwrap().unwrap();
            assert_eq!(removal.begun(), None);
            removal.lease.end(ending).await.unwrap();
            removal.delete("dir/", |_| true).await.unwrap();
            removal.give_back().await.unwrap();
            let journal = FakeJournal::new();
            let mounted = recover(client.store(), options("mount"), None, &mut journal.sink()).await;
            let Err(LogError::Ending { command: told }) = mounted else { panic!("it was mounted") };
            assert_eq!(told, command);
            let removal = Removal::begin(&client.store(), &options("again")).await.unwrap().unwrap();
            assert_eq!(removal.begun(), Some(ending));
            removal.remove_log(true).await.unwrap();
            assert!(shared.keys().iter().all(|key| !key.starts_with(".cwdfs/")), "{:?}", shared.keys());
        }
    }
}
