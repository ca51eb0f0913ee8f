//! A session at a glance, for those who have many: what it holds, when it last changed, who has it. Reads only.

use super::checkpoint;
use super::error::LogError;
use super::follow::Follower;
use super::ids::{Epoch, Ino, SessionId, Slot, keys};
use super::lease::{Lease, LeaseState};
use super::row::{ExtentRow, InodeRow, Key, Record, Row};
use super::source::{Checksum, LocalError, Part, RecoverySink};
use crate::store::{Listed, ObjectStore, Pages, list_all};
use bytes::Bytes;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::SystemTime;

/// Type bits of a mode.
const KIND: u32 = 0o170_000;
const REGULAR: u32 = 0o100_000;

/// A session at a glance.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Its id.
    pub session: SessionId,
    /// Whether somebody writes.
    pub state: LeaseState,
    /// Who writes, or wrote last.
    pub holder: String,
    /// Regular files, each inode once.
    pub files: u64,
    /// Their bytes, without holes.
    pub bytes: u64,
    /// When the last commit was made, by its writer's clock (by the store's, where only a checkpoint is left
    /// of it).
    pub last_commit: Option<SystemTime>,
}

/// Objects of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// How many.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What a session takes up in its store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The plain objects.
    pub view: Amount,
    /// Segments and seals.
    pub log: Amount,
    /// Blobs and packs.
    pub data: Amount,
    /// Images and deltas.
    pub checkpoints: Amount,
    /// The lease, and what the probe found out.
    pub other: Amount,
}

impl Usage {
    /// All of it.
    pub fn total(&self) -> Amount {
        let kinds = [self.view, self.log, self.data, self.checkpoints, self.other];
        kinds.iter().fold(Amount::default(), |sum, kind| Amount {
            objects: sum.objects + kind.objects,
            bytes: sum.bytes.saturating_add(kind.bytes),
        })
    }

    fn add(&mut self, object: &Listed) {
        let kind = match &object.key {
            key if key.starts_with(keys::LOG) => &mut self.log,
            key if key.starts_with(keys::DATA) => &mut self.data,
            key if key.starts_with(keys::CHECKPOINT) => &mut self.checkpoints,
            key if key.starts_with(keys::ROOT) => &mut self.other,
            _ => &mut self.view,
        };
        kind.objects += 1;
        // A store may say of each object that it is as large as any.
        kind.bytes = kind.bytes.saturating_add(object.size);
    }
}

/// Lists everything below the prefix and adds it up.
pub async fn usage(store: &dyn ObjectStore) -> Result<Usage, LogError> {
    let (mut usage, mut pages) = (Usage::default(), Pages::of(store, "", None));
    while let Some(objects) = pages.next().await? {
        objects.iter().for_each(|object| usage.add(object));
    }
    Ok(usage)
}

/// Reads a session's tree, and nothing of its content; `None` when there is no lease.
pub async fn summary(store: &Arc<dyn ObjectStore>) -> Result<Option<Summary>, LogError> {
    let Some(lease) = Lease::peek(store.as_ref()).await? else { return Ok(None) };
    let mut count = Count::default();
    let follower = Follower::open(store.clone(), &mut count).await?;
    let last_commit = match follower.committed_ms() {
        Some(ms) => time_of(ms),
        None => newest_checkpoint(store.as_ref()).await?,
    };
    let (files, bytes) = count.total();
    let (session, state, holder) = (lease.session, lease.state, lease.holder);
    Ok(Some(Summary { session, state, holder, files, bytes, last_commit }))
}

async fn newest_checkpoint(store: &dyn ObjectStore) -> Result<Option<SystemTime>, LogError> {
    let listed = list_all(store, keys::CHECKPOINT, None).await?;
    let named = listed.into_iter().filter_map(|object| {
        let name = checkpoint::Name::parse(&object.key)?;
        Some((name.slot, object.modified))
    });
    Ok(named.max().map(|(_, modified)| modified))
}

fn time_of(ms: i64) -> Option<SystemTime> {
    let ms = std::time::Duration::from_millis(u64::try_from(ms).ok()?);
    SystemTime::UNIX_EPOCH.checked_add(ms)
}

/// Rows that are counted and not kept: the bytes of each regular file.
#[derive(Default)]
struct Count {
    files: HashMap<Ino, u64>,
}

impl Count {
    fn total(&self) -> (u64, u64) {
        (self.files.len() as u64, self.files.values().fold(0, |sum: u64, bytes| sum.saturating_add(*bytes)))
    }

    fn apply(&mut self, records: Vec<Record>) -> Result<(), LocalError> {
        for record in records {
            let Some(Key::Inode { ino }) = Key::decode(&record.key) else { continue };
            let row = record.value.as_deref().map(InodeRow::decode).transpose();
            let row = row.map_err(|bad| LocalError::failed(format!("inode {ino}: {bad}")))?;
            match row.filter(|row| row.mode & KIND == REGULAR) {
                Some(row) => self.files.insert(ino, row.allocated),
                None => self.files.remove(&ino),
            };
        }
        Ok(())
    }
}

impl RecoverySink for Count {
    fn reset(&mut self) -> Result<(), LocalError> {
        self.files.clear();
        Ok(())
    }

    fn rows(&mut self, _: Part, rows: Vec<Record>) -> Result<(), LocalError> {
        self.apply(rows)
    }

    fn segment(&mut self, _: Epoch, _: Slot, _: &Checksum, records: Vec<Record>) -> Result<(), LocalError> {
        self.apply(records)
    }

    fn keep(&mut self, _: &ExtentRow, _: &Bytes) {}

    fn checkpoint_loaded(&mut self, _: Epoch, _: Slot, _: Slot) -> Result<(), LocalError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::row::Time;
    use crate::log::testing::Shared;

    #[tokio::test(start_paused = true)]
    async fn usage_is_by_kind() {
        let shared = Shared::new();
        let sizes = [
            ("a", 1),
            ("dir/.cwdfs/log/x", 2),
            (".cwdfs/lease", 3),
            (".cwdfs/store", 4),
            (".cwdfs/log/0000000001-0000000000000001/00000000000000000001", 5),
            (".cwdfs/data/x", 6),
            (".cwdfs/checkpoint/x", 7),
        ];
        for (key, size) in sizes {
            shared.set(key, vec![0; size]);
        }
        let usage = usage(shared.client().as_ref()).await.unwrap();
        let amount = |objects, bytes| Amount { objects, bytes };
        assert_eq!((usage.view, usage.other), (amount(2, 3), amount(2, 7)));
        assert_eq!((usage.log, usage.data, usage.checkpoints), (amount(1, 5), amount(1, 6), amount(1, 7)));
        assert_eq!(usage.total(), amount(7, 28));
    }

    #[test]
    fn objects_as_large_as_any_add_up_to_no_panic() {
        let mut usage = Usage::default();
        for key in ["a", "b", "c", ".cwdfs/data/x"] {
            let (etag, modified) = (crate::store::ETag("e".into()), SystemTime::UNIX_EPOCH);
            usage.add(&Listed { key: key.into(), size: i64::MAX as u64, etag, modified });
        }
        assert_eq!((usage.view.objects, usage.total().bytes), (3, u64::MAX));
    }

    #[tokio::test(start_paused = true)]
    async fn a_prefix_without_a_session_has_no_summary() {
        let shared = Shared::new();
        shared.set("a", "1");
        assert!(summary(&shared.client().store()).await.unwrap().is_none());
    }

    #[test]
    fn a_row_counts_once_and_only_while_it_is_there() {
        let mut count = Count::default();
        let inode = |ino: u64, mode: u32, allocated: u64| {
            let zero = Time::default();
            let row = InodeRow {
                mode,
                uid: 0,
                gid: 0,
                nlink: 1,
                rdev: 0,
                size: allocated,
                allocated,
                atime: zero,
                mtime: zero,
                ctime: zero,
                btime: zero,
                version: 1,
                home: None,
                target: Vec::new(),
            };
            Record::put(&Key::Inode { ino: Ino(ino) }, &row)
        };
        count.apply(vec![inode(1, 0o040_755, 0), inode(2, 0o100_644, 10), inode(3, 0o100_644, 5)]).unwrap();
        count.apply(vec![inode(2, 0o100_600, 12)]).unwrap();
        assert_eq!(count.total(), (2, 17));
        count.apply(vec![Record { key: Key::Inode { ino: Ino(3) }.encode(), value: None }]).unwrap();
        assert_eq!(count.total(), (1, 12));
    }
}
