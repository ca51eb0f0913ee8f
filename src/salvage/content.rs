//! A changed file's bytes: from its local file, from what the journal has, from the store.

use super::{Result, SalvageError};
use crate::content::ranges::Ranges;
use crate::content::{MAX_SIZE, extents, is_right, object_of};
use crate::journal::salvage::{Item, Set};
use crate::log::ids::Blob;
use crate::log::lease::Lease;
use crate::log::row::{ExtentRow, MAX_PIECE};
use crate::store::{ETag, Kind, ObjectStore, StoreError};
use bytes::Bytes;
use futures::StreamExt;
use parking_lot::Mutex;
use rustix::fs::SeekFrom;
use rustix::io::Errno;
use serde::Serialize;
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Requests under way at once.
const PARALLEL: usize = 8;
/// Bytes copied in one go from a local file.
const BLOCK: usize = 1 << 20;

/// Bytes of a file that are not to be had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Missing {
    /// The first.
    pub from: u64,
    /// The first behind them.
    pub to: u64,
    /// Why.
    pub why: String,
}

/// An object of a store, and the ETag it must have.
type Source = (Arc<dyn ObjectStore>, String, Option<ETag>);

/// Where content of a set is looked for.
pub struct Contents<'s> {
    set: &'s Set,
    store: std::result::Result<Arc<dyn ObjectStore>, String>,
    /// Why no more is asked of the store.
    down: Mutex<Option<String>>,
    /// What the store said of its objects: their sizes.
    sizes: tokio::sync::Mutex<HashMap<String, std::result::Result<u64, String>>>,
}

/// What a file is made of.
struct Plan {
    size: u64,
    /// A local file, the ranges that it has, and whether they can be believed.
    image: Option<(PathBuf, Vec<Range<u64>>, bool)>,
    /// The rest that is no hole: where in the file, and the extent that is there.
    parts: Vec<(u64, ExtentRow)>,
    /// Where extents are that no writer makes.
    senseless: Vec<Range<u64>>,
}

impl<'s> Contents<'s> {
    /// With what is local, and a store; or why there is none.
    pub async fn of(set: &'s Set, store: std::result::Result<Arc<dyn ObjectStore>, String>) -> Contents<'s> {
        let store = match store {
            Ok(store) => is_same_session(set, store.as_ref()).await.map(|()| store),
            Err(why) => Err(why),
        };
        Contents { set, store, down: Mutex::default(), sizes: tokio::sync::Mutex::default() }
    }

    /// What of an item's content is missing; of a file in the store only its being there is looked at.
    pub async fn check(&self, item: &Item) -> Result<Vec<Missing>> {
        let plan = self.plan(item);
        let mut missing = plan.gaps();
        if let Some((path, ranges, believed)) = &plan.image {
            let len = open_image(path).map_or(0, |(_, len)| len);
            for range in ranges {
                image_gaps(&mut missing, range, len, *believed);
            }
        }
        for (at, extent) in &plan.parts {
            if self.local(extent)?.is_none()
                && let Err(why) = self.is_there(extent).await
            {
                missing.add(*at..*at + extent.len, why);
            }
        }
        Ok(missing.0)
    }

    /// Writes an item's content into an empty file, and says what is missing of it: zeros are in its place.
    pub async fn write(&self, item: &Item, out: &File) -> Result<Vec<Missing>> {
        let plan = self.plan(item);
        let failed = |e: io::Error| SalvageError::Output { path: "a file".into(), why: e.to_string() };
        match out.set_len(plan.size) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::FileTooLarge | io::ErrorKind::InvalidInput) => {
                let why = format!("files of {} bytes cannot be made here", plan.size);
                return Ok(vec![Missing { from: 0, to: plan.size, why }]);
            }
            Err(e) => return Err(failed(e)),
        }
        let mut missing = plan.gaps();
        if let Some((path, ranges, believed)) = &plan.image {
            let image = open_image(path);
            let len = image.as_ref().map_or(0, |(_, len)| *len);
            for range in ranges {
                image_gaps(&mut missing, range, len, *believed);
                if let Some((image, _)) = image.as_ref().filter(|_| len > range.start) {
                    copy_range(image, out, range.start..range.end.min(len)).map_err(failed)?;
                }
            }
        }
        let mut pieces = futures::stream::iter(&plan.parts)
            .map(|(at, extent)| async move { (*at, extent, self.piece(extent).await) })
            .buffered(PARALLEL);
        while let Some((at, extent, piece)) = pieces.next().await {
            match piece? {
                Ok(bytes) => {
                    let from = extent.skip as usize;
                    out.write_all_at(&bytes[from..from + extent.len as usize], at).map_err(failed)?;
                }
                Err(why) => missing.add(at..at + extent.len, why),
            }
        }
        Ok(missing.0)
    }

    fn plan(&self, item: &Item) -> Plan {
        let size = item.row.as_ref().map_or(0, |row| row.size);
        let mut open = Ranges::one(0..size.min(MAX_SIZE));
        let mut image = None;
        if let Some((record, path)) = self.set.image(item.ino) {
            let whole =
                |list: &[(u64, u64)]| -> Ranges { list.iter().map(|(from, to)| *from..*to).collect() };
            let valid = whole(&record.valid).within(0..record.size);
            valid.iter().cloned().for_each(|range| open.remove(range));
            whole(&record.removed).iter().for_each(|range| open.remove(range));
            image = Some((path, valid, self.set.believes(record)));
        }
        let cut = |(at, extent): (&u64, &ExtentRow)| -> Vec<(u64, ExtentRow)> {
            let ranges = open.within(*at..at.saturating_add(extent.len));
            ranges.iter().filter_map(|range| extents::slice(*at, extent, range)).collect()
        };
        let (sound, senseless): (Vec<_>, Vec<_>) =
            item.extents.iter().partition(|(at, extent)| is_sound(**at, extent));
        let senseless =
            senseless.iter().flat_map(|(at, extent)| open.within(**at..at.saturating_add(extent.len)));
        let senseless = senseless.collect();
        Plan { size, image, parts: sound.into_iter().flat_map(cut).collect(), senseless }
    }

    /// The whole piece of an extent, if it is here and right. An extent that reaches beyond its piece has none.
    fn local(&self, extent: &ExtentRow) -> Result<Option<Bytes>> {
        let piece = self.set.piece(extent)?;
        Ok(piece.filter(|bytes| is_right(extent, bytes) && reaches(extent)))
    }

    async fn piece(&self, extent: &ExtentRow) -> Result<std::result::Result<Bytes, String>> {
        if let Some(bytes) = self.local(extent)? {
            return Ok(Ok(bytes));
        }
        let (store, key, etag) = match self.source(extent) {
            Ok(source) => source,
            Err(why) => return Ok(Err(why)),
        };
        let range = extent.piece_off..extent.piece_off.saturating_add(u64::from(extent.piece_len));
        Ok(match store.get(&key, Some(range), etag.as_ref()).await {
            Ok(object) if is_right(extent, &object.body) && reaches(extent) => Ok(object.body),
            Ok(_) => Err(format!("{key} in the store is damaged there")),
            Err(error) => Err(self.told(&key, &error)),
        })
    }

    /// Whether the store has what an extent names.
    async fn is_there(&self, extent: &ExtentRow) -> std::result::Result<(), String> {
        let (store, key, etag) = self.source(extent)?;
        let mut sizes = self.sizes.lock().await;
        if !sizes.contains_key(&key) {
            let size = match store.head(&key).await {
                Ok(meta) if etag.is_none_or(|etag| etag == meta.etag) => Ok(meta.size),
                Ok(_) => Err(format!("{key} in the store has other bytes now")),
                Err(error) => Err(self.told(&key, &error)),
            };
            sizes.insert(key.clone(), size);
        }
        // Put in right above where it was not there.
        let size = sizes.get(&key).cloned().unwrap_or(Ok(0))?;
        match size >= extent.piece_off.saturating_add(u64::from(extent.piece_len)) {
            true => Ok(()),
            false => Err(format!("{key} in the store is too short")),
        }
    }

    fn source(&self, extent: &ExtentRow) -> std::result::Result<Source, String> {
        let Some((key, etag)) = object_of(&extent.blob) else {
            return Err("it is not in the journal any more".into());
        };
        if let Some(why) = &*self.down.lock() {
            return Err(format!("{key}: {why}"));
        }
        match &self.store {
            Ok(store) => Ok((store.clone(), key, etag)),
            Err(why) => Err(format!("it lies in {key} of the store: {why}")),
        }
    }

    /// An error in words. One that will come again with every object is the last that is asked for.
    fn told(&self, key: &str, error: &StoreError) -> String {
        match error.kind {
            Kind::NotFound => format!("{key} is not in the store any more"),
            Kind::Precondition => format!("{key} in the store has other bytes now"),
            Kind::InvalidRange => format!("{key} in the store is too short"),
            Kind::Corrupt => format!("{key}: {error}"),
            _ => {
                self.down.lock().get_or_insert_with(|| format!("the store does not give it: {error}"));
                format!("{key}: {error}")
            }
        }
    }
}

async fn is_same_session(set: &Set, store: &dyn ObjectStore) -> std::result::Result<(), String> {
    match (set.info.session, Lease::peek(store).await) {
        (Some(ours), Ok(Some(lease))) if lease.session == ours => Ok(()),
        (_, Ok(None)) => Err("there is no session in the store".into()),
        (None, Ok(Some(_))) => Err("the set does not say which session it is of".into()),
        (Some(_), Ok(Some(_))) => Err("the store holds another session".into()),
        (_, Err(error)) => Err(error.to_string()),
    }
}

/// Whether the bytes that an extent shows lie within its piece.
fn reaches(extent: &ExtentRow) -> bool {
    u64::from(extent.skip).checked_add(extent.len).is_some_and(|end| end <= u64::from(extent.piece_len))
}

impl Plan {
    /// What is missing whatever is here.
    fn gaps(&self) -> Gaps {
        let mut gaps = Gaps::default();
        self.senseless.iter().for_each(|range| gaps.add(range.clone(), "its row makes no sense".into()));
        gaps
    }
}

/// Whether a writer can have made an extent.
fn is_sound(at: u64, extent: &ExtentRow) -> bool {
    let in_object = matches!(extent.blob, Blob::Object { .. });
    at.checked_add(extent.len).is_some() && reaches(extent) && (in_object || extent.piece_len <= MAX_PIECE)
}

/// A local file of the cache and its length. Anything but a file is none: a symlink would bring somebody else's bytes.
fn open_image(path: &Path) -> Option<(File, u64)> {
    // A pipe would be waited for.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path).ok()?;
    let meta = file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    Some((file, meta.len()))
}

fn image_gaps(missing: &mut Gaps, range: &Range<u64>, len: u64, believed: bool) {
    if !believed {
        let why = "written shortly before the machine ended: copied, but it may be wrong";
        return missing.add(range.clone(), why.into());
    }
    if len < range.end {
        missing.add(range.start.max(len)..range.end, "its local file is gone or too short".into());
    }
}

/// Copies a range, holes as holes.
fn copy_range(from: &File, to: &File, range: Range<u64>) -> io::Result<()> {
    let mut block = vec![0; BLOCK];
    let mut at = range.start;
    loop {
        // Whatever the range claims, holes take no time.
        at = match rustix::fs::seek(from, SeekFrom::Data(at)) {
            Ok(data) => data,
            Err(Errno::NXIO) => return Ok(()),
            Err(Errno::INVAL | Errno::OPNOTSUPP) => at,
            Err(e) => return Err(e.into()),
        };
        if at >= range.end {
            return Ok(());
        }
        let want = (range.end - at).min(BLOCK as u64) as usize;
        let got = from.read_at(&mut block[..want], at)?;
        if got == 0 {
            return Ok(());
        }
        if block[..got].iter().any(|byte| *byte != 0) {
            to.write_all_at(&block[..got], at)?;
        }
        at += got as u64;
    }
}

/// Missing ranges; those next to each other for the same reason are one.
#[derive(Default)]
struct Gaps(Vec<Missing>);

impl Gaps {
    fn add(&mut self, range: Range<u64>, why: String) {
        match self.0.last_mut() {
            Some(last) if last.to == range.start && last.why == why => last.to = range.end,
            _ => self.0.push(Missing { from: range.start, to: range.end, why }),
        }
    }
}
