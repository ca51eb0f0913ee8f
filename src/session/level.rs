//! What a change of names or attributes waits for, by the durability level.

use super::api::{Caller, Outcome, Result};
use super::{Durability, Session};
use crate::log::ids::Ino;
use crate::log::source::Seq;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// A burst of changes of names is one commit when it ends within this.
const BURST: Duration = Duration::from_millis(50);

/// Where a change happened, for the paths that `--lazy` names.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    /// At a name of a directory.
    Name(Ino, &'a [u8]),
    /// At an inode, under its first name.
    Inode(Ino),
}

impl Session {
    /// The answer to a caller's change that was applied as `seq` (`None`: nothing of it is shipped): waits under
    /// the level `sync`, and otherwise sees to it that a commit starts in time.
    pub(super) fn settle<T: Send + 'static>(
        self: &Arc<Self>,
        caller: Caller,
        seq: Option<Seq>,
        place: Place<'_>,
        value: T,
    ) -> Outcome<T> {
        let (Some(seq), Some(writer)) = (seq, &self.writer) else { return Outcome::Ready(Ok(value)) };
        match self.level_at(place) {
            Err(error) => Outcome::Ready(Err(error)),
            Ok(level) if self.hurries(level) && self.batches_of(caller).any() => {
                writer.committer.kick(self.unhurried());
                Outcome::Ready(Ok(value))
            }
            Ok(Durability::Sync) => {
                let (committer, timeout) = (writer.committer.clone(), self.options.timeout);
                Outcome::Later(Box::pin(async move {
                    committer.wait_stored(seq, timeout).await?;
                    Ok(value)
                }))
            }
            Ok(level) => {
                writer.committer.kick(self.kick_delay(level));
                Outcome::Ready(Ok(value))
            }
        }
    }

    /// How long after a change its commit starts, where nobody waits.
    pub(super) fn kick_delay(&self, level: Durability) -> Duration {
        match level {
            Durability::Sync => Duration::ZERO,
            Durability::Close => BURST.min(self.options.commit_interval),
            Durability::Fsync => self.options.commit_interval,
        }
    }

    /// When a commit starts of what was changed in a batch, unless the batch ends before.
    pub(super) fn unhurried(&self) -> Duration {
        self.options.commit_interval.max(super::background::SHORTEST)
    }

    /// Whether a level has a commit start earlier than a batch wants it to.
    fn hurries(&self, level: Durability) -> bool {
        self.kick_delay(level) < self.unhurried()
    }

    /// The level that holds at a place: the mount's, or `fsync` for a lazy path.
    pub(super) fn level_at(&self, place: Place<'_>) -> Result<Durability> {
        let level = self.options.durability;
        if level == Durability::Fsync || self.options.lazy.is_empty() {
            return Ok(level);
        }
        let path = match place {
            Place::Name(parent, name) => self.path_in(parent, name)?,
            Place::Inode(ino) => self.path_of(ino)?,
        };
        let lazy = path.is_some_and(|path| self.is_lazy(&path));
        Ok(if lazy { Durability::Fsync } else { level })
    }

    /// Whether `--lazy` names this path or a directory above it.
    pub(crate) fn is_lazy(&self, path: &[u8]) -> bool {
        use std::os::unix::ffi::OsStrExt;
        let path = std::path::Path::new(std::ffi::OsStr::from_bytes(path));
        self.options.lazy.matched_path_or_any_parents(path, false).is_ignore()
    }

    /// Something was changed now: parking starts to count anew.
    pub(super) fn touched(&self) {
        self.changed_at.store(boot_nanos(), Ordering::Relaxed);
    }

    /// Time since the last change.
    pub(super) fn quiet_for(&self) -> Duration {
        Duration::from_nanos(boot_nanos().saturating_sub(self.changed_at.load(Ordering::Relaxed)))
    }
}

fn boot_nanos() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Boot time is positive and fits for five hundred years.
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
