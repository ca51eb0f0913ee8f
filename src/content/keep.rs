//! What outlives the process: which local file holds which inode's content, and what of it is not stored.
//!
//! Invariants:
//! - a record of clean content is written by [`Core::close`] and is gone from the database before anything can
//!   change that content; it counts only for the same version of the inode, in the same boot of the machine, and
//!   as far as its pieces match their checksums;
//! - a record of unstored content is written before its upload begins, and removed when its rows are applied or before
//!   its bytes change, so that after a kill it never shows bytes of two moments; after a reboot it counts only if the
//!   local file was synced;
//! - what an earlier mount kept is the one exception: it may be all there is of that content, so its record stays until
//!   the rows are applied.

use super::core::Core;
use super::fetch::is_right;
use super::file::{File, Noted, State};
use super::image::Image;
use super::pool::PoolFile;
use super::ranges::Ranges;
use super::{ContentError, Rows};
use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Time};
use serde::{Deserialize, Serialize};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// The most bytes of an earlier mount's image that are compared with their checksums when its file is first used;
/// larger ones are fetched again.
const MOST_VERIFIED: u64 = 1 << 30;

/// The local facts that say which image lies in which file.
pub const TABLE: &str = "images";

/// One inode's image: which local file it is, and what of it counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// The local file's number in `data/`.
    pub file: u64,
    /// Bytes of the inode's content.
    pub size: u64,
    /// Its times.
    pub mtime: Time,
    /// The same.
    pub ctime: Time,
    /// The inode's, for clean content.
    pub version: u64,
    /// Ranges that the image has.
    pub valid: Vec<(u64, u64)>,
    /// Of these, ranges that are not stored.
    pub dirty: Vec<(u64, u64)>,
    /// Ranges that were truncated or punched since the last capture: zeros where they are not valid.
    pub removed: Vec<(u64, u64)>,
    /// Not all of it is stored.
    pub changed: bool,
    /// The bytes were on the disk, not only in the page cache.
    pub synced: bool,
}

/// Reads a record and whose it is; `None` when it cannot be read.
pub fn decode(key: &[u8], value: &[u8]) -> Option<(Ino, Record)> {
    let ino = <[u8; 8]>::try_from(key).ok().map(|ino| Ino(u64::from_be_bytes(ino)))?;
    Some((ino, postcard::from_bytes(value).ok()?))
}

fn list(ranges: &Ranges) -> Vec<(u64, u64)> {
    ranges.iter().map(|r| (r.start, r.end)).collect()
}

fn set(list: &[(u64, u64)]) -> Ranges {
    list.iter().map(|(start, end)| *start..*end).collect()
}

fn key(ino: Ino) -> [u8; 8] {
    ino.0.to_be_bytes()
}

/// Reads the records and removes those of clean content, and those that count no more.
pub(super) fn load(
    rows: &dyn Rows,
    same_boot: bool,
    taken: &mut HashSet<u64>,
) -> Result<HashMap<Ino, Record>, ContentError> {
    let mut records = HashMap::new();
    for (name, value) in rows.local_all(TABLE)? {
        let Some((ino, record)) = decode(&name, &value) else {
            rows.local_put(TABLE, &name, None)?;
            continue;
        };
        let counts = same_boot || (record.changed && record.synced);
        if record.changed && !counts {
            tracing::warn!("inode {ino}: content that was not stored did not survive the reboot");
        }
        if !record.changed || !counts {
            rows.local_put(TABLE, &name, None)?;
        }
        if counts && taken.insert(record.file) {
            records.insert(ino, record);
        }
    }
    Ok(records)
}

impl Core {
    /// Inodes with content that an earlier mount could not store.
    pub fn leftovers(&self) -> Vec<Ino> {
        let records = self.records.lock();
        let mut inos: Vec<Ino> = records.iter().filter(|(_, r)| r.changed).map(|(ino, _)| *ino).collect();
        inos.sort();
        inos
    }

    /// Forgets a record of an earlier mount and empties its file.
    pub fn drop_record(&self, ino: Ino) {
        let Some(record) = self.records.lock().remove(&ino) else { return };
        drop(self.pool.claimed(record.file));
        if record.changed {
            self.unnote(ino);
        }
    }

    /// Gives `file` what an earlier mount kept of it.
    pub fn restore(&self, file: &Arc<File>, row: &InodeRow) {
        let Some(record) = self.records.lock().remove(&file.ino) else { return };
        let image = self.pool.claimed(record.file);
        if !record.changed && (record.version != row.version || record.size != row.size) {
            return;
        }
        let valid = set(&record.valid);
        let valid = match record.changed {
            true => valid,
            false => match self.verified(&image, file.ino, row.size, &valid) {
                Ok(verified) => verified,
                Err(e) => {
                    tracing::warn!("cached content of inode {} is not used: {e}", file.ino);
                    return;
                }
            },
        };
        let mut guard = file.state.lock();
        let state = &mut *guard;
        state.image = Image::Disk(Arc::new(image));
        state.valid = valid;
        if record.changed {
            state.dirty = set(&record.dirty);
            state.removed = set(&record.removed);
            (state.size, state.mtime, state.ctime) = (record.size, record.mtime, record.ctime);
            state.count += 1;
            state.noted = Noted::Earlier;
        }
        file.account(&mut guard);
    }

    /// The part of an earlier mount's image that matches the checksums of the inode's pieces; the rest becomes zeros.
    fn verified(
        &self,
        image: &PoolFile,
        ino: Ino,
        size: u64,
        valid: &Ranges,
    ) -> Result<Ranges, ContentError> {
        let mut verified = Ranges::new();
        if valid.bytes() > MOST_VERIFIED {
            let what = format!("verify cached content of {} bytes", valid.bytes());
            return Err(ContentError::Io { what, why: "it is fetched again as it is used".into() });
        }
        for (at, extent) in self.rows.extents(ino, 0..size)? {
            let range = at..at + extent.len;
            let whole = extent.skip == 0 && extent.len == u64::from(extent.piece_len) && extent.crc.is_some();
            if !whole || valid.within(range.clone()) != [range.clone()] {
                continue;
            }
            let mut bytes = vec![0; extent.piece_len as usize];
            image.read(at, &mut bytes)?;
            if is_right(&extent, &bytes) {
                verified.insert(range);
            } else {
                tracing::warn!("cached content of inode {ino} at {at} is damaged: it is fetched again");
            }
        }
        let mut rest = Ranges::one(0..size);
        verified.iter().for_each(|range| rest.remove(range));
        for range in rest.iter() {
            image.punch(range)?;
        }
        Ok(verified)
    }

    /// Records all images, for the next mount; returns how many hold unstored content.
    pub fn close(&self) -> Result<usize, ContentError> {
        let files: Vec<Arc<File>> = self.files.lock().values().cloned().collect();
        let mut unstored = 0;
        for file in files {
            if file.is_orphan() {
                continue;
            }
            let Some(version) = self.rows.version(file.ino)? else { continue };
            unstored += usize::from(file.is_changed());
            file.note(version, true)?;
        }
        // Nobody asked for these: they are as good as they were.
        for (ino, record) in std::mem::take(&mut *self.records.lock()) {
            if self.rows.version(ino)?.is_some() {
                unstored += usize::from(record.changed);
                self.pool.claimed(record.file).keep();
                self.put(ino, &record)?;
            }
        }
        self.fetcher.chunks.close();
        Ok(unstored)
    }

    fn put(&self, ino: Ino, record: &Record) -> Result<(), ContentError> {
        let failed = |e: postcard::Error| {
            let what = format!("cannot note the content of inode {ino}");
            ContentError::Io { what, why: e.to_string() }
        };
        let value = postcard::to_stdvec(record).map_err(failed)?;
        Ok(self.rows.local_put(TABLE, &key(ino), Some(value))?)
    }

    /// What was noted of an inode is out of date.
    pub fn unnote(&self, ino: Ino) {
        if let Err(e) = self.rows.local_put(TABLE, &key(ino), None) {
            tracing::warn!("cannot remove the note of inode {ino}: {e}");
        }
    }
}

impl File {
    /// Records the image. Before an upload (`closing` false) only what is not stored, since what is clean may
    /// still be overwritten.
    pub(super) fn note(&self, version: u64, closing: bool) -> Result<(), ContentError> {
        let mut guard = self.look();
        let state = &mut *guard;
        let Image::Disk(file) = &state.image else { return Ok(()) };
        // What the kernel writes by itself changes past us.
        if !closing && state.backing.is_some() {
            return Ok(());
        }
        let (mut dirty, mut removed) = (state.dirty.clone(), state.removed.clone());
        if let Some(frozen) = &state.frozen {
            frozen.dirty.iter().flat_map(|r| state.valid.within(r)).for_each(|r| dirty.insert(r));
            removed.extend(&frozen.removed);
        }
        let changed = state.is_changed();
        let valid = if closing { &state.valid } else { &dirty };
        let record = Record {
            file: file.id(),
            size: state.size,
            mtime: state.mtime,
            ctime: state.ctime,
            version,
            valid: list(valid),
            dirty: list(&dirty),
            removed: list(&removed),
            changed,
            synced: closing && changed,
        };
        if record.synced {
            let synced = file.file()?.sync_data();
            let what = || "cannot sync unstored content".to_owned();
            synced.map_err(|e| ContentError::Io { what: what(), why: e.to_string() })?;
        }
        if closing {
            file.keep();
        }
        state.noted = match changed {
            true if state.noted == Noted::Earlier => Noted::Earlier,
            true => Noted::Here,
            false => Noted::No,
        };
        self.core.put(self.ino, &record)
    }

    /// To be called before the image changes: the next mount, should this one be killed, must not take what is in it
    /// then for the content that was noted.
    pub(super) fn withdraw(&self, state: &mut State) -> Result<(), ContentError> {
        if state.noted != Noted::Here {
            return Ok(());
        }
        self.core.rows.local_put(TABLE, &key(self.ino), None)?;
        self.core.rows.settle()?;
        state.noted = Noted::No;
        Ok(())
    }
}
