//! Content that the store has lost, brought back from the plain objects that show it.
//!
//! Invariant: only bytes that have the checksum of the piece that was written are taken, and only from an object that
//! bears our mark for the very file; they go into a new blob, and what is there stays as it is.

use super::content::bad_extent;
use super::report::{Kind, Report};
use super::state::State;
use crate::content::is_right;
use crate::log::LogError;
use crate::log::ids::{Blob, Ino, keys};
use crate::log::recover::Recovered;
use crate::log::row::{ExtentRow, Key, Record, Row, ViewRow};
use crate::store::{ETag, Kind as Failed, ObjectStore, StoreError};
use crate::view::tag::Tag;
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use std::collections::{BTreeMap, BTreeSet};

/// Bytes of one new blob, but for the last piece in it.
const BLOB: usize = 16 << 20;
/// Pieces looked for at once.
const PARALLEL: usize = 8;

/// What was brought back.
#[derive(Default)]
pub(super) struct Rescued {
    /// The extents, which name new blobs.
    pub records: Vec<Record>,
    /// From which object, by inode and offset in the file.
    pub from: BTreeMap<(u64, u64), String>,
}

/// A piece by its place: blob, offset, bytes.
type Place = (Blob, u64, u32);

/// Who has bytes of a piece: inode, offset in the file, the extent.
type User = (Ino, u64, ExtentRow);

/// A plain object that shows a file.
struct Shown {
    key: String,
    etag: ETag,
    size: u64,
}

/// A piece that was found: its bytes, and in which object.
struct Found {
    users: Vec<User>,
    bytes: Bytes,
    key: String,
}

/// Looks for the content that `report` says is lost, stores what it finds, and tells the rows that name it.
pub(super) async fn rescue(
    store: &dyn ObjectStore,
    recovered: &Recovered,
    state: &State,
    report: &Report,
) -> Result<Rescued, LogError> {
    let lost = lost(state, report);
    let files: BTreeSet<Ino> = lost.values().flatten().map(|(ino, ..)| *ino).collect();
    let mut shown = BTreeMap::new();
    for (ino, keys) in keys_of(state, files) {
        shown.insert(ino, objects_of(store, recovered, ino, keys).await?);
    }
    let mut looking =
        futures::stream::iter(lost.into_values()).map(|users| find(store, users, &shown)).buffered(PARALLEL);
    let (mut rescued, mut filled, mut n) = (Rescued::default(), Vec::new(), 0);
    while let Some(found) = looking.next().await {
        filled.extend(found?);
        if filled.iter().map(|found: &Found| found.bytes.len()).sum::<usize>() >= BLOB {
            write(store, recovered, n, std::mem::take(&mut filled), &mut rescued).await?;
            n += 1;
        }
    }
    if !filled.is_empty() {
        write(store, recovered, n, filled, &mut rescued).await?;
    }
    Ok(rescued)
}

/// The pieces that are missing or damaged, with all who have bytes of them.
fn lost(state: &State, report: &Report) -> BTreeMap<Place, Vec<User>> {
    let is_content = |kind| matches!(kind, Kind::MissingContent | Kind::DamagedContent);
    let problems = report.problems.iter().filter(|problem| is_content(problem.kind));
    let told: BTreeSet<(u64, u64)> = problems.filter_map(|p| Some((p.inode?, p.range?.0))).collect();
    let mut lost = BTreeMap::<Place, Vec<User>>::new();
    for (ino, at, extent) in state.extents().filter(|(ino, at, _)| told.contains(&(ino.0, *at))) {
        // Without a checksum nothing vouches for what is found.
        if extent.crc.is_some() && bad_extent(&extent).is_none() {
            let place = (extent.blob.clone(), extent.piece_off, extent.piece_len);
            lost.entry(place).or_default().push((ino, at, extent));
        }
    }
    lost
}

/// The keys of plain objects that may show these files: by their rows, and by their paths, as what was published last
/// may have no row yet.
fn keys_of(state: &State, files: BTreeSet<Ino>) -> BTreeMap<Ino, BTreeSet<String>> {
    let paths = |ino: Ino| state.paths(ino).into_iter().filter(|key| !key.starts_with(keys::ROOT)).collect();
    let mut keys: BTreeMap<Ino, BTreeSet<String>> = files.into_iter().map(|ino| (ino, paths(ino))).collect();
    for (key, value) in state.below(&Key::views("")) {
        let (Some(Key::View { key }), Ok(row)) = (Key::decode(key), ViewRow::decode(value)) else { continue };
        if let Some(keys) = keys.get_mut(&row.ino) {
            keys.insert(key);
        }
    }
    keys
}

/// Those of `keys` that bear our mark for this file.
async fn objects_of(
    store: &dyn ObjectStore,
    recovered: &Recovered,
    ino: Ino,
    keys: BTreeSet<String>,
) -> Result<Vec<Shown>, LogError> {
    let mut shown = Vec::new();
    for key in keys {
        match store.head(&key).await {
            Ok(object) => {
                let tag = Tag::of(recovered.lease.session(), &key, &object);
                if tag.is_some_and(|tag| tag.ino == ino) {
                    shown.push(Shown { key, etag: object.etag, size: object.size });
                }
            }
            Err(error) if is_gone(&error) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(shown)
}

/// Whether there is no such object (any more), or none can have this key.
fn is_gone(error: &StoreError) -> bool {
    matches!(error.kind, Failed::NotFound | Failed::Precondition | Failed::InvalidRange | Failed::Invalid)
}

/// The bytes of a piece, where an object of a file that has it has them.
async fn find(
    store: &dyn ObjectStore,
    users: Vec<User>,
    shown: &BTreeMap<Ino, Vec<Shown>>,
) -> Result<Option<Found>, LogError> {
    for (ino, at, extent) in &users {
        let Some(start) = at.checked_sub(u64::from(extent.skip)) else { continue };
        let end = start.saturating_add(u64::from(extent.piece_len));
        for object in shown.get(ino).into_iter().flatten().filter(|object| object.size >= end) {
            match store.get(&object.key, Some(start..end), Some(&object.etag)).await {
                Ok(got) if is_right(extent, &got.body) => {
                    let (key, bytes) = (object.key.clone(), got.body);
                    return Ok(Some(Found { users, bytes, key }));
                }
                Ok(_) => {}
                Err(error) if is_gone(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
    Ok(None)
}

/// Stores pieces as the `n`-th blob of our epoch.
async fn write(
    store: &dyn ObjectStore,
    recovered: &Recovered,
    n: u64,
    all: Vec<Found>,
    rescued: &mut Rescued,
) -> Result<(), LogError> {
    let epoch = recovered.lease.epoch();
    let mut body = BytesMut::new();
    for Found { users, bytes, key } in all {
        let piece_off = body.len() as u64;
        body.extend_from_slice(&bytes);
        for (ino, offset, extent) in users {
            let row = ExtentRow { blob: Blob::Data { epoch, n }, piece_off, ..extent };
            rescued.records.push(Record::put(&Key::Extent { ino, offset }, &row));
            rescued.from.insert((ino.0, offset), key.clone());
        }
    }
    recovered.lease.ensure().await?;
    super::repair::put_new(store, &keys::data(epoch, n), body.freeze()).await
}
