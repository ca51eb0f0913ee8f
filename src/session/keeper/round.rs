//! One round: pack, checkpoint, raise the floor. And one sweep.

use super::Keeping;
use crate::log::LogError;
use crate::log::blocking::aside;
use crate::log::checkpoint::{self, Name};
use crate::log::collect::{self, Sweep};
use crate::log::ids::{Blob, Slot};
use crate::log::pack::{Packed, Packer};
use crate::log::source::{CommitSource, Committed, LocalError, Move};
use crate::session::{Session, Writer};
use futures::FutureExt;
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Bytes of segments that one round packs, at most about.
const SEGMENTS: u64 = 256 << 20;
/// The same of blobs that are rewritten.
const BLOBS: u64 = 64 << 20;
/// Content that lies in more segments than this is all packed: reading it would be as many requests.
const SCATTERED: usize = 32;
/// Data objects are listed this often, while there are rounds.
const LIST_EVERY: Duration = Duration::from_secs(3600);
/// A blob of which a row uses less than this part is rewritten.
const MOSTLY_DEAD: u64 = 4;
/// Data objects smaller than this, once there are so many, are packed anew together.
const SMALL: u64 = 1 << 20;
const MANY_SMALL: usize = 64;
/// Rows that are changed under one hold of the lock of changes.
const PORTION: usize = 256;

impl Session {
    /// Packs, writes a checkpoint, raises the floor.
    pub(super) async fn keep_round(self: &Arc<Self>, keeping: &mut Keeping) -> Result<(), LogError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        // Not only whether it is fresh: a session that was deleted a moment ago must not be made again.
        writer.lease.suspect_deleted().await?;
        writer.lease.ensure().await?;
        let mut packed = self.pack_segments(writer, keeping).await?;
        packed = plus(packed, self.rewrite_blobs(writer, keeping).await?);
        self.tell_unreadable(keeping, packed.unreadable);
        writer.lease.ensure().await?;
        let made = self.make_checkpoint(writer, keeping).await?;
        let floor = collect::raise_floor(&made, &writer.lease).await?;
        if keeping.floors.back().is_none_or(|(_, known)| *known < floor) && floor > Slot(0) {
            keeping.floors.push_back((Instant::now(), floor));
        }
        tracing::debug!(?packed, checkpoint = %keeping.checkpoint, %floor, "the log was shortened");
        Ok(())
    }

    /// Deletes what is dead at the floors that were raised `grace` ago.
    pub(super) async fn keep_sweep(
        self: &Arc<Self>,
        keeping: &mut Keeping,
        grace: Duration,
    ) -> Result<(), LogError> {
        let Some(writer) = &self.writer else { return Ok(()) };
        let now = Instant::now();
        let young = |(raised, _): &(Instant, Slot)| *raised + grace > now;
        let ripe = keeping.floors.iter().take_while(|floor| !young(floor)).last().copied();
        let Some((_, floor)) = ripe else { return Ok(()) };
        let committed: Arc<dyn Committed> = self.journal.clone();
        let sweep = Sweep { store: &self.store, committed: &committed, lease: &writer.lease, floor };
        let swept = sweep.run().await?;
        keeping.floors.retain(young);
        tracing::debug!(?swept, %floor, "what was dead below the floor was deleted");
        Ok(())
    }

    /// Packs what is needed of segments: of those before the newest checkpoint, or of all when there are many. What
    /// was written lately may well be overwritten soon, so a few large ones are left alone.
    async fn pack_segments(self: &Arc<Self>, writer: &Writer, keeping: &Keeping) -> Result<Packed, LogError> {
        let journal = self.journal.clone();
        let live = self.ask(move || journal.live_segments()).await?;
        let all = live.len() > SCATTERED;
        let old = live.into_iter().filter(|(_, slot, _)| all || *slot <= keeping.checkpoint);
        let old: Vec<(Blob, Slot)> =
            old.map(|(epoch, slot, _)| (Blob::Segment { epoch, slot }, slot)).collect();
        let Some(oldest) = old.iter().map(|(_, slot)| *slot).min() else { return Ok(Packed::default()) };
        let since = Slot(oldest.0.saturating_sub(1));
        self.pack(writer, old.into_iter().map(|(blob, _)| blob).collect(), Some(since), SEGMENTS).await
    }

    /// Packs what is needed of blobs that are mostly dead, and of packs that are many and small.
    async fn rewrite_blobs(
        self: &Arc<Self>,
        writer: &Writer,
        keeping: &mut Keeping,
    ) -> Result<Packed, LogError> {
        if keeping.listed.is_some_and(|at| at.elapsed() < LIST_EVERY) {
            return Ok(Packed::default());
        }
        let committed: Arc<dyn Committed> = self.journal.clone();
        let listed = collect::find_orphans(self.store.as_ref(), &committed, writer.lease.epoch()).await?;
        let live = move || {
            let live = |(blob, size): (Blob, u64)| Ok((committed.live_bytes(&blob)?, size, blob));
            listed.into_iter().map(live).collect::<Result<Vec<_>, LocalError>>()
        };
        let targets = worth_rewriting(self.ask(live).await?);
        keeping.listed = Some(Instant::now());
        if targets.is_empty() {
            return Ok(Packed::default());
        }
        self.pack(writer, targets, None, BLOBS).await
    }

    async fn pack(
        self: &Arc<Self>,
        writer: &Writer,
        targets: HashSet<Blob>,
        since: Option<Slot>,
        budget: u64,
    ) -> Result<Packed, LogError> {
        let committed: Arc<dyn Committed> = self.journal.clone();
        let relocate = |moves: &[Move]| self.relocate(moves);
        let settled = || self.until_committed(writer).boxed();
        let (store, names) = (&self.store, &writer.names);
        let packer = Packer { store, committed: &committed, names, relocate: &relocate, settled: &settled };
        packer.run(targets, since, budget).await
    }

    /// Changes rows under the lock of changes: whoever holds it may have read them.
    fn relocate(&self, moves: &[Move]) -> Result<usize, LocalError> {
        let mut made = 0;
        for portion in moves.chunks(PORTION) {
            let _rows_stay = self.change().map_err(|error| LocalError::failed(error.to_string()))?;
            made += self.journal.relocate(portion)?;
        }
        Ok(made)
    }

    /// Returns once all changes made so far are committed.
    async fn until_committed(&self, writer: &Writer) -> Result<(), LogError> {
        let seq = self.journal.last_seq();
        writer.committer.kick(Duration::ZERO);
        // Not Committer::wait: what callers are told of a store that answers late is not this one's to say.
        match writer.committer.reaches(seq, self.options.timeout).await {
            true => Ok(()),
            false => Err(LogError::Timeout {
                seconds: self.options.timeout.as_secs(),
                last: "rows of packed content".into(),
            }),
        }
    }

    /// Writes a checkpoint of the newest slot; returns all there are then.
    async fn make_checkpoint(&self, writer: &Writer, keeping: &mut Keeping) -> Result<Vec<Name>, LogError> {
        let committed: Arc<dyn Committed> = self.journal.clone();
        // Read before the snapshot is taken: what is committed in between is counted twice, not lost.
        let progress = writer.committer.progress();
        let listed = checkpoint::list_sized(self.store.as_ref()).await?;
        let newest = listed.iter().filter(|(name, _)| name.base.is_none()).max();
        if let Some((image, size)) = newest {
            (keeping.image, keeping.image_size) = (image.slot, *size);
        }
        let images = listed.iter().filter(|(name, _)| name.base.is_none()).count();
        let image = keeping.is_image_due(&self.options.keep, &progress)
            || (images == 1 && keeping.is_second_image_due(&progress));
        let session = writer.lease.session();
        let made = checkpoint::run(&self.store, &committed, session, &listed, image).await?;
        let mut names: Vec<Name> = listed.into_iter().map(|(name, _)| name).collect();
        if let Some(made) = made {
            if made.name.base.is_none() {
                (keeping.image, keeping.image_size) = (made.name.slot, made.bytes);
                keeping.image_bytes = progress.bytes;
            }
            names.push(made.name);
        }
        keeping.checkpoint = made.map_or_else(|| keeping.newest(&progress), |made| made.name.slot);
        keeping.bytes = progress.bytes;
        Ok(names)
    }

    fn tell_unreadable(&self, keeping: &mut Keeping, unreadable: u64) {
        if unreadable > 0 && !std::mem::replace(&mut keeping.told, true) {
            self.notices.add(format!(
                "{unreadable} contents are missing or damaged in the store; the log names them, and what is left \
                 of them is kept"
            ));
        }
    }

    /// Asks the journal something that may take its time.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce() -> Result<T, LocalError> + Send + 'static,
    ) -> Result<T, LogError> {
        let answer = aside(question).await;
        Ok(answer.map_err(|e| LocalError::failed(format!("asking the journal: {e}")))??)
    }
}

/// Which data objects (live bytes, bytes, which) are worth a rewrite of what is live in them.
fn worth_rewriting(objects: Vec<(u64, u64, Blob)>) -> HashSet<Blob> {
    let live = || objects.iter().filter(|(live, ..)| *live > 0);
    let small = |size: u64| size < SMALL;
    let many = live().filter(|(_, size, _)| small(*size)).count() >= MANY_SMALL;
    live()
        .filter(|(live, size, _)| live.saturating_mul(MOSTLY_DEAD) <= *size || many && small(*size))
        .map(|(.., blob)| blob.clone())
        .collect()
}

fn plus(a: Packed, b: Packed) -> Packed {
    Packed {
        packs: a.packs + b.packs,
        bytes: a.bytes + b.bytes,
        moved: a.moved + b.moved,
        unreadable: a.unreadable + b.unreadable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::Epoch;

    #[test]
    fn what_is_mostly_dead_and_what_is_small_among_many_is_rewritten() {
        let blob = |n| Blob::Data { epoch: Epoch { counter: 1, nonce: 1 }, n };
        let objects =
            vec![(0, 100, blob(1)), (25, 100, blob(2)), (26, 100, blob(3)), (1 << 20, 4 << 20, blob(4))];
        assert_eq!(worth_rewriting(objects.clone()), HashSet::from([blob(2), blob(4)]));
        let more = (10..10 + MANY_SMALL as u64).map(|n| (100, 100, blob(n)));
        let rewritten = worth_rewriting(objects.into_iter().chain(more).collect());
        assert!(rewritten.contains(&blob(3)) && !rewritten.contains(&blob(1)));
        assert_eq!(rewritten.len(), MANY_SMALL + 3);
    }
}
