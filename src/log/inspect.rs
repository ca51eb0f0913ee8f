//! What a person sees who looks inside a session: its lease, checkpoints and segments. Reads only.

use super::checkpoint;
use super::error::LogError;
use super::ids::{Epoch, Slot, keys};
use super::lease::{Lease, LeaseBody};
use super::row::{DentryRow, ExtentRow, InodeRow, Key, Record, Row, ViewRow};
use super::segment::{self, Kind, Segment};
use crate::store::{Listed, ObjectStore, list_all};
use serde::Serialize;
use std::fmt;

/// A session at a glance.
#[derive(Debug, Clone, Serialize)]
pub struct Overview {
    /// Who may write; `None` without a session.
    pub lease: Option<LeaseBody>,
    /// Keys of the checkpoints, in their order.
    pub checkpoints: Vec<String>,
    /// Segments and seals, in the order of their epochs.
    pub segments: Vec<ListedSegment>,
}

/// A segment as a listing shows it.
#[derive(Debug, Clone, Serialize)]
pub struct ListedSegment {
    /// Whose log.
    pub epoch: Epoch,
    /// Its place.
    pub slot: u64,
    /// Bytes.
    pub size: u64,
}

/// A segment, read.
#[derive(Debug, Clone, Serialize)]
pub struct SegmentView {
    /// Its key.
    pub key: String,
    /// `changes`, or `sealed by <epoch>`.
    pub kind: String,
    /// When it was made, milliseconds since 1970.
    pub wall_ms: i64,
    /// Its name, where somebody gave one.
    pub label: Option<String>,
    /// The slot up to which its writer knew everything to be committed.
    pub committed: u64,
    /// Bytes of content inside it.
    pub content_bytes: u64,
    /// Its records, one line each.
    pub records: Vec<String>,
}

/// Reads a session's lease and listings.
pub async fn session(store: &dyn ObjectStore) -> Result<Overview, LogError> {
    let lease = Lease::peek(store).await?;
    let mut checkpoints: Vec<String> = checkpoint::list(store).await?.iter().map(|n| n.key()).collect();
    checkpoints.sort();
    Ok(Overview { lease, checkpoints, segments: segments(store).await? })
}

/// Reads every segment or seal at `slot`: one for each epoch that has one.
pub async fn segment(store: &dyn ObjectStore, slot: Slot) -> Result<Vec<SegmentView>, LogError> {
    let mut views = Vec::new();
    for listed in segments(store).await?.into_iter().filter(|listed| listed.slot == slot.0) {
        let key = keys::segment(listed.epoch, slot);
        let object = store.get(&key, None, None).await?;
        views.push(view(key, segment::decode(listed.epoch, slot, &object.body)?));
    }
    Ok(views)
}

async fn segments(store: &dyn ObjectStore) -> Result<Vec<ListedSegment>, LogError> {
    let listed = list_all(store, keys::LOG, None).await?;
    let segment = |object: Listed| {
        let (epoch, slot) = keys::parse_segment(&object.key)?;
        Some(ListedSegment { epoch, slot: slot.0, size: object.size })
    };
    Ok(listed.into_iter().filter_map(segment).collect())
}

fn view(key: String, segment: Segment) -> SegmentView {
    let kind = match segment.header.kind {
        Kind::Changes => "changes".to_owned(),
        Kind::Seal { successor } => format!("sealed by {successor}"),
    };
    SegmentView {
        key,
        kind,
        wall_ms: segment.header.wall_ms,
        label: segment.header.label,
        committed: segment.header.committed.0,
        content_bytes: segment.content_len,
        records: segment.records.iter().map(line).collect(),
    }
}

/// A record in words. Names come from the store: they are escaped.
fn line(record: &Record) -> String {
    let Some(key) = Key::decode(&record.key) else { return "a row of no known kind".into() };
    let Some(value) = &record.value else { return format!("remove {key:?}") };
    let bad = || "a value that cannot be read".to_owned();
    let value = match &key {
        Key::Inode { .. } => InodeRow::decode(value).map_or_else(|_| bad(), |row| format!("{row:?}")),
        Key::Dentry { .. } => DentryRow::decode(value).map_or_else(|_| bad(), |row| format!("{row:?}")),
        Key::Extent { .. } => ExtentRow::decode(value).map_or_else(|_| bad(), |row| format!("{row:?}")),
        Key::View { .. } => ViewRow::decode(value).map_or_else(|_| bad(), |row| format!("{row:?}")),
        Key::Meta { .. } | Key::Link { .. } | Key::Xattr { .. } => value.escape_ascii().to_string(),
    };
    match &key {
        Key::Dentry { parent, name, .. } => format!("entry {} in {parent}: {value}", name.escape_ascii()),
        Key::Meta { name } => format!("meta {}: {value}", name.escape_ascii()),
        Key::Xattr { ino, name } => format!("xattr {} of {ino}: {value}", name.escape_ascii()),
        Key::Link { ino, parent, name, .. } => format!("link {} in {parent} to {ino}", name.escape_ascii()),
        Key::Inode { ino } => format!("inode {ino}: {value}"),
        Key::Extent { ino, offset } => format!("extent of {ino} at {offset}: {value}"),
        Key::View { key } => format!("object {}: {value}", key.escape_debug()),
    }
}

impl fmt::Display for Overview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lease {
            None => writeln!(f, "lease         none")?,
            Some(lease) => writeln!(
                f,
                "session       {}\nlease         {:?}, epoch {}\nholder        {}\nfloor         {}",
                lease.session, lease.state, lease.epoch, lease.holder, lease.floor
            )?,
        }
        self.checkpoints.iter().try_for_each(|key| writeln!(f, "checkpoint    {key}"))?;
        self.segments.iter().try_for_each(|s| {
            writeln!(f, "segment       {} ({} bytes)", keys::segment(s.epoch, Slot(s.slot)), s.size)
        })
    }
}

impl fmt::Display for SegmentView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{}: {}, {} bytes of content, committed up to {}",
            self.key, self.kind, self.content_bytes, self.committed
        )?;
        self.records.iter().try_for_each(|record| writeln!(f, "  {record}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::recover::recover;
    use crate::log::testing::{FakeJournal, Shared, options};

    #[tokio::test(start_paused = true)]
    async fn a_session_can_be_looked_into() {
        let shared = Shared::new();
        let client = shared.client();
        let journal = FakeJournal::new();
        for holder in ["a", "b"] {
            let got = recover(client.store(), options(holder), None, &mut journal.sink()).await.unwrap();
            got.lease.release().await.unwrap();
        }
        let overview = session(client.as_ref()).await.unwrap();
        assert_eq!((overview.segments.len(), overview.checkpoints.len()), (1, 0));
        assert!(overview.to_string().contains("holder        b"), "{overview}");
        let views = segment(client.as_ref(), Slot(1)).await.unwrap();
        assert!(views[0].to_string().contains("sealed by 0000000002-"), "{}", views[0]);
        let key = Key::Meta { name: b"\x1b[31m".to_vec() };
        assert_eq!(line(&Record::put_raw(&key, b"v".as_slice())), "meta \\x1b[31m: v");
    }
}
