//! Taking a file's content, consistent at one moment, for a commit.
//!
//! A capture freezes what changed: small content is read at once; of large content, a write to a frozen byte
//! that was not read yet first saves the old one (copy before write), so it is never torn. Its end is
//! [`Capture::done`], after its rows were applied; dropped before that, everything it took counts as changed
//! again.

use super::file::{File, Noted, State};
use super::image::{Image, MAX_WINDOW};
use super::ranges::Ranges;
use super::upload::Source;
use super::{ContentError, extents::Replaced};
use crate::log::ids::{Blob, LocalId};
use crate::log::row::{ExtentRow, MAX_PIECE, Time};
use crate::log::source::Seq;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The most bytes that are captured in one step.
pub const SMALL: u64 = MAX_WINDOW;

/// The most ranges that are captured in one step.
const SMALL_RANGES: usize = 4096;

/// What a capture under way took from the state.
pub(super) struct Frozen {
    pub dirty: Ranges,
    pub removed: Ranges,
    /// Of `dirty`, what was not read yet.
    unread: Ranges,
    /// Old bytes of frozen ranges that were written since, at the file's offsets.
    shadow: Image,
    /// Where the shadow has them.
    pub saved: Ranges,
    /// The content's time; utimens changes it.
    pub mtime: Time,
    count: u64,
}

/// How a capture may begin.
pub enum Begin {
    /// Nothing changed since the last capture; its rows' number (0: never captured).
    Unchanged(Seq),
    /// Another capture of this file is under way.
    Busy,
    /// All its bytes are here: it can be ended at once.
    Small(Capture),
    /// Its bytes have to be uploaded first.
    Large(Capture),
}

/// A capture under way.
pub struct Capture {
    file: Arc<File>,
    bytes: Vec<(u64, Bytes)>,
    /// What the journal was given of them.
    local: Vec<LocalId>,
    ranges: Vec<Range<u64>>,
    removed: Ranges,
    size: u64,
    ctime: Time,
    count: u64,
    cancelled: Arc<AtomicBool>,
    done: bool,
}

/// A capture's content as extents, and how the inode's row is to be changed.
#[derive(Debug, Clone)]
pub struct Placed {
    /// New extents by offset.
    pub pieces: Vec<(u64, ExtentRow)>,
    /// Ranges that became holes, before the extents are put there.
    pub removed: Ranges,
    /// The file's length.
    pub size: u64,
    /// At least this is its inode's change time.
    pub ctime: Time,
}

impl Placed {
    /// What it changes in the inode's extents. `rows` gives those that overlap a range, at their offsets.
    pub fn replace<E>(
        &self,
        rows: impl Fn(Range<u64>) -> Result<Vec<(u64, ExtentRow)>, E>,
    ) -> Result<Replaced, E> {
        let mut touched = self.removed.clone();
        self.pieces.iter().for_each(|(offset, row)| touched.insert(*offset..*offset + row.len));
        let mut existing = BTreeMap::new();
        for range in touched.iter() {
            existing.extend(rows(range)?);
        }
        Ok(super::extents::replace(existing, &self.removed, &self.pieces))
    }
}

impl State {
    /// Saves the frozen bytes of `range` that were not read yet, before they are overwritten.
    pub(super) fn save_frozen(&mut self, range: &Range<u64>) -> Result<(), ContentError> {
        let Some(frozen) = &mut self.frozen else { return Ok(()) };
        for unread in frozen.unread.within(range.clone()) {
            for part in frozen.saved.missing(unread) {
                let mut at = part.start;
                while at < part.end {
                    let mut buf = vec![0; (part.end - at).min(u64::from(MAX_PIECE)) as usize];
                    self.image.read(at, &mut buf)?;
                    let Image::Disk(shadow) = &frozen.shadow else { return Err(ContentError::Stopped) };
                    shadow.write(at, &buf)?;
                    at += buf.len() as u64;
                }
                frozen.saved.insert(part);
            }
        }
        Ok(())
    }
}

impl File {
    /// Begins a capture of what changed. A file whose kernel mappings may have changed it has to be compared
    /// first ([`File::compare`]).
    pub fn capture(self: &Arc<Self>) -> Result<Begin, ContentError> {
        let mut guard = self.look();
        let state = &mut *guard;
        if state.frozen.is_some() {
            return Ok(Begin::Busy);
        }
        if state.count == state.captured || self.is_orphan() {
            return Ok(Begin::Unchanged(state.seq));
        }
        let small = state.dirty.bytes() <= SMALL && state.dirty.count() <= SMALL_RANGES;
        let bytes = if small { read_all(state)? } else { Vec::new() };
        let dirty = std::mem::take(&mut state.dirty);
        let removed = std::mem::take(&mut state.removed);
        let (size, mtime, ctime, count) = (state.size, state.mtime, state.ctime, state.count);
        let capture = Capture {
            file: self.clone(),
            bytes,
            local: Vec::new(),
            ranges: dirty.iter().collect(),
            removed: removed.clone(),
            size,
            ctime,
            count,
            cancelled: Arc::default(),
            done: false,
        };
        let unread = if small { Ranges::new() } else { dirty.clone() };
        let shadow = match small {
            true => Image::Empty,
            false => Image::Disk(Arc::new(self.core.pool.take())),
        };
        state.frozen = Some(Frozen { dirty, removed, unread, shadow, saved: Ranges::new(), mtime, count });
        drop(guard);
        if small {
            return Ok(Begin::Small(capture));
        }
        if let Err(e) = self.note(0, false) {
            // Only a crash of this process before the upload's end would need it.
            tracing::warn!("cannot note unstored content: {e}");
        }
        Ok(Begin::Large(capture))
    }

    fn read_frozen(&self, range: Range<u64>) -> Result<Bytes, ContentError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(frozen) = &mut state.frozen else { return Err(ContentError::Stopped) };
        let mut buf = vec![0; (range.end - range.start) as usize];
        state.image.read(range.start, &mut buf)?;
        for saved in frozen.saved.within(range.clone()) {
            let part = (saved.start - range.start) as usize..(saved.end - range.start) as usize;
            frozen.shadow.read(saved.start, &mut buf[part])?;
        }
        frozen.unread.remove(range);
        Ok(buf.into())
    }
}

/// The dirty bytes, in pieces that end at multiples of [`MAX_PIECE`].
fn read_all(state: &State) -> Result<Vec<(u64, Bytes)>, ContentError> {
    let piece = u64::from(MAX_PIECE);
    let mut all = Vec::with_capacity(state.dirty.count());
    for range in state.dirty.iter() {
        let mut at = range.start;
        while at < range.end {
            let end = range.end.min((at / piece + 1) * piece);
            let mut buf = vec![0; (end - at) as usize];
            state.image.read(at, &mut buf)?;
            all.push((at, buf.into()));
            at = end;
        }
    }
    Ok(all)
}

impl Capture {
    /// The file.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// The content's time, as utimens may have set it meanwhile: to be asked for when the row is written.
    pub fn mtime(&self) -> Time {
        let state = self.file.state.lock();
        state.frozen.as_ref().map_or(state.mtime, |frozen| frozen.mtime)
    }

    /// Bytes that it takes.
    pub fn bytes(&self) -> u64 {
        self.ranges.iter().map(|r| r.end - r.start).sum()
    }

    /// The changes that it holds; compare with [`File::changes`].
    pub fn changes(&self) -> u64 {
        self.count
    }

    /// Gives a small capture's bytes to the journal.
    pub fn place_small(&mut self) -> Result<Placed, ContentError> {
        let mut pieces = Vec::with_capacity(self.bytes.len());
        for (offset, bytes) in std::mem::take(&mut self.bytes) {
            let (len, crc) = (bytes.len() as u32, crc32c::crc32c(&bytes));
            let id = self.file.core.rows.put_local(bytes)?;
            self.local.push(id);
            let blob = Blob::Local(id);
            let (piece_off, skip) = (0, 0);
            let row =
                ExtentRow { len: u64::from(len), blob, piece_off, piece_len: len, skip, crc: Some(crc) };
            pieces.push((offset, row));
        }
        Ok(self.placed(pieces))
    }

    /// Uploads a large capture's bytes. Sends again what fails until it is there, or will never be.
    pub async fn place_large(&self) -> Result<Placed, ContentError> {
        let uploader = self.file.core.uploader.as_ref().ok_or(ContentError::Stopped)?;
        let source = FrozenSource { file: self.file.clone(), cancelled: self.cancelled.clone() };
        let pieces = uploader.upload(self.ranges.iter().cloned(), &source).await?;
        Ok(self.placed(pieces))
    }

    fn placed(&self, pieces: Vec<(u64, ExtentRow)>) -> Placed {
        let removed = self.removed.clone();
        Placed { pieces, removed, size: self.size, ctime: self.ctime }
    }

    /// Its rows were applied, the last one as change `seq`.
    pub fn done(mut self, seq: Seq) {
        self.done = true;
        let file = self.file.clone();
        let mut state = file.state.lock();
        state.frozen = None;
        state.captured = self.count;
        state.seq = seq;
        state.generation += 1;
        let noted = std::mem::replace(&mut state.noted, Noted::No);
        file.account(&mut state);
        drop(state);
        if noted != Noted::No {
            file.core.unnote(file.ino);
        }
        file.core.relieve();
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        if self.done {
            return;
        }
        if !self.local.is_empty() {
            self.file.core.rows.abandon_local(&self.local);
        }
        let mut guard = self.file.state.lock();
        let state = &mut *guard;
        let Some(frozen) = state.frozen.take_if(|frozen| frozen.count == self.count) else { return };
        for range in frozen.dirty.iter() {
            for still in state.valid.within(range) {
                state.dirty.insert(still);
            }
        }
        state.removed.extend(&frozen.removed);
        self.file.account(&mut guard);
    }
}

/// The frozen bytes of a file, for its upload.
struct FrozenSource {
    file: Arc<File>,
    cancelled: Arc<AtomicBool>,
}

impl Source for FrozenSource {
    fn read(&self, range: Range<u64>) -> Result<Bytes, ContentError> {
        self.file.read_frozen(range)
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed) || self.file.core.is_stopped() || self.file.is_orphan()
    }
}
