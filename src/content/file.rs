//! One file's content while somebody uses it: what is here, what changed since the last capture.
//!
//! Invariants:
//! - a byte is read from the first of these that has it: the image where it is valid, the removed ranges
//!   (zeros), the extents, a hole (zeros); so reads are right before, during and after a capture;
//! - changed bytes leave the image only after the rows that replace them were applied;
//! - extents never reach beyond the captured size, so what lies between it and a larger size is zeros;
//! - `dirty` lies within `valid`; at most one capture of a file is under way.

use super::backing::Backing;
use super::capture::Frozen;
use super::image::Image;
use super::ranges::Ranges;
use super::{ContentError, Core};
use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Time};
use crate::log::source::Seq;
use parking_lot::{Mutex, MutexGuard};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The largest file, bytes; ranges up to here fit every signed offset.
pub const MAX_SIZE: u64 = i64::MAX as u64;

/// What stat shows of a file that changed since its row was last written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Live {
    /// Bytes.
    pub size: u64,
    /// Content change.
    pub mtime: Time,
    /// The last content change's inode change time; the row may have a later one.
    pub ctime: Time,
    /// Bytes that are changed, for the blocks that stat shows.
    pub dirty: u64,
}

/// What of a file is changed and not in its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unplaced {
    /// Where it has bytes.
    pub bytes: Ranges,
    /// Where its rows' content does not count any more.
    pub replaced: Ranges,
}

/// Where a write goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// From this offset on.
    At(u64),
    /// Behind the last byte, wherever that is by then.
    End,
}

/// A file's content, shared by all opens of its inode; see [`super::Content::file`].
pub struct File {
    pub(super) ino: Ino,
    pub(super) core: Arc<Core>,
    pub(super) this: Weak<File>,
    pub(super) state: Mutex<State>,
    /// Bytes that this file counts in the budget as unstored.
    unstored: AtomicU64,
    /// Nothing of it is ever shipped.
    orphan: AtomicBool,
}

/// What a record for the next mount says of a file's unstored content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noted {
    /// There is none.
    No,
    /// It was made here, for an upload.
    Here,
    /// An earlier mount ended, or died, with it.
    Earlier,
}

/// What a file's lock guards.
pub(super) struct State {
    pub size: u64,
    pub mtime: Time,
    pub ctime: Time,
    pub image: Image,
    /// Where the image has the file's bytes.
    pub valid: Ranges,
    /// Of these, what changed since the last capture began.
    pub dirty: Ranges,
    /// Truncated or punched since the last capture began: neither extents nor older captures count there.
    pub removed: Ranges,
    /// Changes so far.
    pub count: u64,
    /// Changes that are in the applied captures.
    pub captured: u64,
    /// The number of the last applied capture's rows.
    pub seq: Seq,
    pub frozen: Option<Frozen>,
    /// Rises whenever bytes fetched before may be out of date.
    pub generation: u64,
    /// The file that the kernel reads and writes by itself.
    pub backing: Option<Backing>,
    /// Where a reader in order goes on.
    pub reader: u64,
    /// How far that one has read in order.
    pub in_order: u64,
    /// Up to where was asked for, ahead of that reader.
    pub ahead: u64,
    /// When it was last used.
    pub used_at: u64,
    /// A record for the next mount.
    pub noted: Noted,
    /// Bytes counted in the budget as used.
    used: u64,
}

impl State {
    /// Whether anything changed since the last applied capture.
    pub fn is_changed(&self) -> bool {
        self.count != self.captured || self.backing.as_ref().is_some_and(Backing::is_suspect)
    }

    /// A change at `now`.
    fn touch(&mut self, now: Time) {
        self.mtime = now;
        self.ctime = now;
        self.count += 1;
        if let Some(backing) = &mut self.backing {
            backing.set_mtime(now);
        }
    }

    /// Takes a range out: it reads as zeros, and so it will after the next capture.
    fn remove(&mut self, range: Range<u64>) -> Result<(), ContentError> {
        self.save_frozen(&range)?;
        self.image.punch(range.clone())?;
        self.valid.remove(range.clone());
        self.dirty.remove(range.clone());
        self.removed.insert(range);
        self.generation += 1;
        Ok(())
    }

    /// Drops a window of clean bytes that a write elsewhere would send to the disk.
    fn make_window(&mut self, range: &Range<u64>) {
        let elsewhere = matches!(self.image, Image::Memory { .. }) && !self.image.fits(range);
        if elsewhere && self.dirty.is_empty() && self.frozen.is_none() {
            self.image = Image::Empty;
            self.valid.clear();
        }
    }

    /// Where `range` is neither in the image nor removed: extents and holes.
    pub fn outside(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut outside = Ranges::one(range.clone());
        let frozen = self.frozen.iter().flat_map(|frozen| frozen.removed.within(range.clone()));
        for r in self.valid.within(range.clone()).into_iter().chain(self.removed.within(range.clone())) {
            outside.remove(r);
        }
        frozen.for_each(|r| outside.remove(r));
        outside.iter().collect()
    }
}

impl File {
    pub(super) fn new(core: Arc<Core>, ino: Ino, row: &InodeRow) -> Arc<File> {
        Arc::new_cyclic(|this| File {
            ino,
            this: this.clone(),
            state: Mutex::new(State {
                size: row.size,
                mtime: row.mtime,
                ctime: row.ctime,
                image: Image::Empty,
                valid: Ranges::new(),
                dirty: Ranges::new(),
                removed: Ranges::new(),
                count: 0,
                captured: 0,
                seq: 0,
                frozen: None,
                generation: 0,
                backing: None,
                reader: 0,
                in_order: 0,
                ahead: 0,
                used_at: core.budget.tick(),
                noted: Noted::No,
                used: 0,
            }),
            core,
            unstored: AtomicU64::new(0),
            orphan: AtomicBool::new(false),
        })
    }

    /// Whose content this is.
    pub fn ino(&self) -> Ino {
        self.ino
    }

    /// Bytes of the file now.
    pub fn size(&self) -> u64 {
        self.look().size
    }

    /// Size and times that are newer than the inode's row; `None` while the row tells the truth.
    pub fn live(&self) -> Option<Live> {
        let state = self.look();
        let dirty = state.dirty.bytes() + state.frozen.as_ref().map_or(0, |f| f.dirty.bytes());
        let live = Live { size: state.size, mtime: state.mtime, ctime: state.ctime, dirty };
        state.is_changed().then_some(live)
    }

    /// Whether content, size or mtime changed since the last capture that was applied (true while one runs).
    pub fn is_changed(&self) -> bool {
        self.state.lock().is_changed()
    }

    /// The number of changes so far; a capture that began at or after it holds them all.
    pub fn changes(&self) -> u64 {
        self.look().count
    }

    /// Of [`File::changes`], those that are in applied captures.
    pub fn captured_changes(&self) -> u64 {
        self.state.lock().captured
    }

    /// Bytes that the next capture would take.
    pub fn dirty(&self) -> u64 {
        self.state.lock().dirty.bytes()
    }

    /// What the next captures replace of the content that its rows tell of.
    pub fn replaced(&self) -> Ranges {
        self.unplaced().replaced
    }

    /// What is changed and not in its rows.
    pub fn unplaced(&self) -> Unplaced {
        let state = self.look();
        let mut bytes = Ranges::new();
        let mut replaced = state.dirty.clone();
        replaced.extend(&state.removed);
        if let Some(frozen) = &state.frozen {
            bytes.extend(&frozen.dirty);
            state.removed.iter().for_each(|range| bytes.remove(range));
            replaced.extend(&frozen.dirty);
            replaced.extend(&frozen.removed);
        }
        bytes.extend(&state.dirty);
        Unplaced { bytes, replaced }
    }

    /// The number of the last applied capture's rows; 0 when there was none.
    pub fn captured_seq(&self) -> Seq {
        self.state.lock().seq
    }

    /// It was made by the change `seq`, which stands for its first capture.
    pub fn made_by(&self, seq: Seq) {
        let mut state = self.state.lock();
        state.seq = state.seq.max(seq);
    }

    /// Its inode has no name and no user any more: its cached content goes.
    pub fn discard(&self) {
        let gone = self.core.files.lock().remove(&self.ino);
        drop(gone);
    }

    /// utimens set the mtime: later captures keep it. To be called beside writing the row.
    pub fn set_mtime(&self, mtime: Time) {
        let mut state = self.state.lock();
        state.mtime = mtime;
        if let Some(frozen) = &mut state.frozen {
            frozen.mtime = mtime;
        }
        if let Some(backing) = &mut state.backing {
            backing.set_mtime(mtime);
        }
    }

    /// Nothing of it is ever captured from now on: it has no name any more. Takes no lock of the file.
    pub fn orphan(&self) {
        self.orphan.store(true, Ordering::SeqCst);
        let counted = self.unstored.swap(0, Ordering::SeqCst);
        self.core.budget.moved_unstored(counted, 0);
    }

    /// Whether nothing of it is ever captured.
    pub fn is_orphan(&self) -> bool {
        self.orphan.load(Ordering::SeqCst)
    }

    /// Its rows were changed by somebody else (an import, a follower): forgets what is cached. A file that
    /// is changed keeps what it has.
    pub fn reload(&self, row: &InodeRow) {
        let mut state = self.state.lock();
        if state.is_changed() {
            return;
        }
        (state.size, state.mtime, state.ctime) = (row.size, row.mtime, row.ctime);
        self.drop_image(&mut state);
    }

    /// Whether the image can be given up and the row is all there is.
    pub(super) fn agrees(&self, row: &InodeRow) -> bool {
        let state = self.state.lock();
        state.is_changed() || (state.size == row.size && state.mtime == row.mtime)
    }

    /// Forgets the local bytes of a file that is not changed.
    pub(super) fn drop_image(&self, state: &mut MutexGuard<'_, State>) {
        state.image = Image::Empty;
        state.valid.clear();
        state.backing = None;
        state.generation += 1;
        self.account(state);
    }

    /// Writes all of `data` at the time `now`; returns where it began. `EFBIG` is the caller's to see to.
    pub fn write(&self, place: Place, data: &[u8], now: Time) -> Result<u64, ContentError> {
        let written = self.write_once(place, data, now);
        let written = match written {
            Err(ContentError::Full(_)) => {
                self.core.make_room(data.len() as u64 + (64 << 20));
                self.write_once(place, data, now)?
            }
            other => other?,
        };
        self.core.relieve();
        Ok(written)
    }

    fn write_once(&self, place: Place, data: &[u8], now: Time) -> Result<u64, ContentError> {
        let mut guard = self.look();
        let state = &mut *guard;
        let offset = match place {
            Place::At(offset) => offset,
            Place::End => state.size,
        };
        let range = offset..offset + data.len() as u64;
        if data.is_empty() {
            return Ok(offset);
        }
        self.withdraw(state)?;
        state.save_frozen(&range)?;
        state.make_window(&range);
        if let Err(e) = state.image.write(&self.core.pool, &state.valid, offset, data) {
            // What was clean there may be half overwritten: no longer to be believed.
            let dirty = state.dirty.within(range.clone());
            state.valid.remove(range);
            dirty.into_iter().for_each(|r| state.valid.insert(r));
            return Err(e);
        }
        state.valid.insert(range.clone());
        state.dirty.insert(range.clone());
        state.size = state.size.max(range.end);
        state.touch(now);
        self.account(&mut guard);
        Ok(offset)
    }

    /// Sets the length.
    pub fn truncate(&self, size: u64, now: Time) -> Result<(), ContentError> {
        let mut guard = self.look();
        let state = &mut *guard;
        self.withdraw(state)?;
        if size < state.size {
            state.remove(size..MAX_SIZE)?;
        }
        state.size = size;
        if let Some(backing) = &mut state.backing {
            backing.set_len(size)?;
            // What the file grew by is zeros, here as in the backing file.
            state.valid.insert(0..size);
        } else if size == 0 && state.frozen.is_none() {
            state.image = Image::Empty;
        }
        state.touch(now);
        self.account(&mut guard);
        Ok(())
    }

    /// Makes `range` a hole, as far as the file reaches.
    pub fn punch(&self, range: Range<u64>, now: Time) -> Result<(), ContentError> {
        let mut guard = self.look();
        let state = &mut *guard;
        let range = range.start..range.end.min(state.size);
        if range.is_empty() {
            return Ok(());
        }
        self.withdraw(state)?;
        state.remove(range.clone())?;
        if state.backing.is_some() {
            state.valid.insert(range);
        }
        state.touch(now);
        self.account(&mut guard);
        Ok(())
    }

    /// Changes the times alone.
    pub fn touch(&self, now: Time) {
        self.look().touch(now);
    }

    /// Makes `range` zeros; the file grows to its end.
    pub fn zero(&self, range: Range<u64>, now: Time) -> Result<(), ContentError> {
        let end = range.end;
        self.punch(range, now)?;
        self.grow(end, now)
    }

    /// Puts other content in the place of `range` at the time `now`: `apply` changes the rows, and returns the
    /// number of that change. `None`, and nothing is done, while a capture is under way, or the kernel has the
    /// image. Bytes written since the last capture stay: they come after.
    pub fn replace<E: From<ContentError>>(
        &self,
        range: Range<u64>,
        now: Time,
        apply: impl FnOnce() -> Result<Seq, E>,
    ) -> Result<Option<Seq>, E> {
        let mut guard = self.look();
        let state = &mut *guard;
        if state.frozen.is_some() || state.backing.is_some() {
            return Ok(None);
        }
        self.withdraw(state)?;
        let mut clean = Ranges::one(range.clone());
        state.dirty.within(range.clone()).into_iter().for_each(|r| clean.remove(r));
        for r in clean.iter() {
            // Outside of what is valid the image is zeros.
            state.image.punch(r.clone())?;
            state.valid.remove(r);
        }
        let applied = apply();
        state.generation += 1;
        if let Ok(seq) = &applied {
            state.size = state.size.max(range.end);
            (state.mtime, state.ctime) = (now, now);
            state.seq = state.seq.max(*seq);
        }
        self.account(&mut guard);
        applied.map(Some)
    }

    /// Makes the file at least `size` bytes long.
    pub fn grow(&self, size: u64, now: Time) -> Result<(), ContentError> {
        match self.size() < size {
            true => self.truncate(size, now),
            false => Ok(()),
        }
    }

    /// Whether all of it is here.
    pub fn is_whole(&self) -> bool {
        let state = self.state.lock();
        state.valid.covers(0..state.size)
    }

    /// Locks the state, with what the kernel did to a backing file since.
    pub(super) fn look(&self) -> MutexGuard<'_, State> {
        let mut state = self.state.lock();
        if state.backing.as_ref().is_some_and(Backing::is_suspect) {
            self.look_at_backing(&mut state);
        }
        state
    }

    /// Brings the budget's counts up to the state.
    pub(super) fn account(&self, guard: &mut MutexGuard<'_, State>) {
        let state = &mut **guard;
        state.used_at = self.core.budget.tick();
        let frozen = state.frozen.as_ref();
        let on_disk = matches!(state.image, Image::Disk(_));
        let used = if on_disk { state.valid.bytes() } else { 0 } + frozen.map_or(0, |f| f.saved.bytes());
        self.core.budget.moved_used(state.used, used);
        if on_disk && state.used == 0 {
            self.core.adopt(self);
        }
        state.used = used;
        let unstored = match self.is_orphan() {
            true => 0,
            false => state.dirty.bytes() + frozen.map_or(0, |f| f.dirty.bytes()),
        };
        let old = self.unstored.swap(unstored, Ordering::SeqCst);
        self.core.budget.moved_unstored(old, unstored);
        if unstored > 0 && self.is_orphan() {
            // It became one between the two looks.
            let counted = self.unstored.swap(0, Ordering::SeqCst);
            self.core.budget.moved_unstored(counted, 0);
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let counted = self.unstored.swap(0, Ordering::SeqCst);
        self.core.budget.moved_unstored(counted, 0);
        self.core.budget.moved_used(self.state.get_mut().used, 0);
    }
}
