//! What keeps a log short, as a session's keeper does it: pack, checkpoint, raise the floor, sweep.

use super::process::Process;
use crate::log::LogError;
use crate::log::checkpoint::{self, Name};
use crate::log::collect::{self, Sweep};
use crate::log::ids::Blob;
use crate::log::pack::Packer;
use crate::log::recover::abort_uploads;
use crate::log::source::{CommitSource, Committed, LocalError, Move};
use futures::FutureExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long after the floor was raised what is dead at it is deleted.
pub const GRACE: Duration = Duration::from_secs(20);

impl Process {
    fn committed(&self) -> Arc<dyn Committed> {
        self.local.clone()
    }

    /// One round. `pack` moves content of segments and of small objects into packs first; `image` makes a whole one.
    pub async fn round(&self, pack: bool, image: bool) -> Result<(), LogError> {
        self.lease.suspect_deleted().await?;
        self.blind_round(pack, image).await
    }

    /// The same, without a look at the lease first, as where it was taken right after that look.
    pub async fn blind_round(&self, pack: bool, image: bool) -> Result<(), LogError> {
        let mut floors = self.floors.lock().await;
        self.lease.ensure().await?;
        if pack {
            self.pack().await?;
        }
        self.lease.ensure().await?;
        let listed = checkpoint::list_sized(self.store.as_ref()).await?;
        let (committed, session) = (self.committed(), self.lease.session());
        let made = checkpoint::run(&self.store, &committed, session, &listed, image).await?;
        let mut names: Vec<Name> = listed.into_iter().map(|(name, _)| name).collect();
        names.extend(made.map(|made| made.name));
        let floor = collect::raise_floor(&names, &self.lease).await?;
        if floor.0 > 0 && floors.back().is_none_or(|(_, known)| *known < floor) {
            floors.push_back((Instant::now(), floor));
        }
        self.world.count("rounds");
        Ok(())
    }

    async fn pack(&self) -> Result<(), LogError> {
        let committed = self.committed();
        let mut targets: HashSet<Blob> = HashSet::new();
        let listed = collect::find_orphans(self.store.as_ref(), &committed, self.lease.epoch()).await?;
        for (epoch, slot, _) in committed.live_segments()? {
            targets.insert(Blob::Segment { epoch, slot });
        }
        for (blob, _) in listed {
            if committed.live_bytes(&blob)? > 0 {
                targets.insert(blob);
            }
        }
        if targets.is_empty() {
            return Ok(());
        }
        let relocate = |moves: &[Move]| -> Result<usize, LocalError> { committed.relocate(moves) };
        let settled = || self.until_committed().boxed();
        let (store, names) = (&self.store, &self.names);
        let packer = Packer { store, committed: &committed, names, relocate: &relocate, settled: &settled };
        packer.run(targets, None, u64::MAX).await.map(drop)
    }

    async fn until_committed(&self) -> Result<(), LogError> {
        let seq = self.local.last_seq();
        self.committer.kick(Duration::ZERO);
        let mut progress = self.committer.watch();
        let waited = tokio::time::timeout(Duration::from_secs(20), progress.wait_for(|p| p.seq >= seq));
        match waited.await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(LogError::Timeout { seconds: 20, last: "rows of packed content".into() }),
        }
    }

    /// Deletes what is dead at the floors that were raised `grace` ago.
    pub async fn sweep(&self, grace: Duration) -> Result<(), LogError> {
        let mut floors = self.floors.lock().await;
        let now = Instant::now();
        let ripe = floors.iter().take_while(|(raised, _)| *raised + grace <= now).last().copied();
        let Some((_, floor)) = ripe else { return Ok(()) };
        let committed = self.committed();
        let sweep = Sweep { store: &self.store, committed: &committed, lease: &self.lease, floor };
        let swept = sweep.run().await?;
        floors.retain(|(raised, _)| *raised + grace > now);
        self.world.note(format_args!("{} swept {swept:?}", self.life.host.name));
        self.world.count("sweeps");
        Ok(())
    }

    /// Clears away what earlier writers left of uploads.
    pub async fn clean_up(&self) -> Result<u64, LogError> {
        abort_uploads(self.store.as_ref(), self.lease.epoch()).await
    }
}
