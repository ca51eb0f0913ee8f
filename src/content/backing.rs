//! A file that the kernel reads and writes by itself (passthrough): its image, whole, is the backing file.
//!
//! Invariants:
//! - while there is a backing, the image is on the disk, has the file's length, and all of it is valid;
//! - a backing that the kernel may write is suspect: its size and times are those of the local file, and what
//!   it changed is found by comparing blocks with their hashes as of the last comparison;
//! - a backing is never evicted and, if it was ever mapped, its local file never used for other content.

use super::ContentError;
use super::file::{File, MAX_SIZE, State};
use super::image::Image;
use super::pool::PoolFile;
use crate::log::row::Time;
use rustix::fs::{Timespec, Timestamps};
use std::os::fd::OwnedFd;
use std::sync::Arc;

/// What is compared, and shipped, as one.
const BLOCK: u64 = 64 << 10;

/// Bytes compared under one hold of the lock.
const STEP: u64 = 4 << 20;

/// The first half of a block's BLAKE3.
type Hash = [u8; 16];

/// A backing file in the kernel's hands.
pub(super) struct Backing {
    file: Arc<PoolFile>,
    /// Of each block as of the last comparison; `None` while the kernel only reads.
    blocks: Option<Vec<Hash>>,
    /// The local file's time as of the last look.
    seen: Option<Time>,
}

impl Backing {
    /// Whether the kernel may have changed it.
    pub fn is_suspect(&self) -> bool {
        self.blocks.is_some()
    }

    /// Sets the local file's length.
    pub fn set_len(&self, len: u64) -> Result<(), ContentError> {
        self.file.set_len(len)
    }

    /// Sets the local file's time, which is the truth while it is suspect.
    pub fn set_mtime(&mut self, time: Time) {
        if !self.is_suspect() {
            return;
        }
        let to = Timespec { tv_sec: time.sec, tv_nsec: time.nsec.into() };
        let set = self.file.file().map_err(|e| e.to_string()).and_then(|file| {
            rustix::fs::futimens(&*file, &Timestamps { last_access: to, last_modification: to })
                .map_err(|e| e.to_string())
        });
        match set {
            Ok(()) => self.seen = Some(time),
            Err(e) => tracing::warn!("cannot set the time of a backing file: {e}"),
        }
    }
}

fn hash(bytes: &[u8]) -> Hash {
    let mut half = [0; 16];
    half.copy_from_slice(&blake3::hash(bytes).as_bytes()[..16]);
    half
}

impl File {
    /// Gives the image to the kernel, to read by itself. `None` when not all of it is here.
    pub fn enter_backing(&self) -> Result<Option<OwnedFd>, ContentError> {
        let mut guard = self.look();
        let state = &mut *guard;
        if state.backing.is_none() {
            if !state.valid.covers(0..state.size) {
                return Ok(None);
            }
            self.withdraw(state)?;
            let file = state.image.move_to_disk(&self.core.pool, &state.valid)?.clone();
            file.set_len(state.size)?;
            state.backing = Some(Backing { file, blocks: None, seen: None });
            self.account(&mut guard);
        }
        drop(guard);
        self.backing_fd()
    }

    /// A descriptor of the backing file; `None` without one.
    pub fn backing_fd(&self) -> Result<Option<OwnedFd>, ContentError> {
        let state = self.state.lock();
        let Some(backing) = &state.backing else { return Ok(None) };
        backing.file.mapped();
        let file = backing.file.file()?;
        let what = || "hand out a backing file".to_owned();
        let fd = file.try_clone().map_err(|e| ContentError::Io { what: what(), why: e.to_string() })?;
        Ok(Some(fd.into()))
    }

    /// Whether the kernel has the image.
    pub fn is_backing(&self) -> bool {
        self.state.lock().backing.is_some()
    }

    /// Whether the kernel may have written to the image.
    pub fn is_suspect(&self) -> bool {
        self.state.lock().backing.as_ref().is_some_and(Backing::is_suspect)
    }

    /// The kernel may write to the backing file from now on. Reads all of it: not for the kernel's loop.
    pub fn suspect(&self) -> Result<(), ContentError> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let size = state.size;
        let mtime = state.mtime;
        let Some(backing) = &mut state.backing else { return Ok(()) };
        if backing.blocks.is_some() {
            return Ok(());
        }
        let mut blocks = Vec::new();
        let mut buf = vec![0; BLOCK as usize];
        for at in (0..size).step_by(BLOCK as usize) {
            let len = BLOCK.min(size - at) as usize;
            backing.file.read(at, &mut buf[..len])?;
            blocks.push(hash(&buf[..len]));
        }
        backing.blocks = Some(blocks);
        backing.set_mtime(mtime);
        Ok(())
    }

    /// Finds what the kernel changed in the backing file: it is dirty from then on. Reads all of it: not for
    /// the kernel's loop. Does nothing for a file that is not suspect.
    pub fn compare(&self) -> Result<(), ContentError> {
        let mut at = 0;
        loop {
            let mut guard = self.look();
            let state = &mut *guard;
            let size = state.size;
            if !state.backing.as_ref().is_some_and(Backing::is_suspect) {
                return Ok(());
            }
            if at >= size {
                if let Some(blocks) = state.backing.as_mut().and_then(|b| b.blocks.as_mut()) {
                    blocks.truncate(size.div_ceil(BLOCK) as usize);
                }
                self.account(&mut guard);
                return Ok(());
            }
            let end = size.min(at + STEP);
            compare_step(state, at, end)?;
            at = end;
        }
    }

    /// Takes the backing file back. No mapping and no open of it was left when it was last compared.
    pub fn leave_backing(&self) {
        let mut guard = self.look();
        guard.backing = None;
        self.account(&mut guard);
    }

    /// Takes over what the local file says of a suspect backing's size and time.
    pub(super) fn look_at_backing(&self, state: &mut State) {
        let Some(backing) = &mut state.backing else { return };
        let Ok(meta) = backing.file.file().map(|file| file.metadata()) else { return };
        let Ok(meta) = meta else { return };
        use std::os::unix::fs::MetadataExt;
        let (len, time) = (meta.len(), Time { sec: meta.mtime(), nsec: meta.mtime_nsec() as u32 });
        if len == state.size && backing.seen == Some(time) {
            return;
        }
        backing.seen = Some(time);
        (state.mtime, state.ctime) = (time, state.ctime.max(time));
        state.count += 1;
        if len < state.size {
            state.valid.remove(len..MAX_SIZE);
            state.dirty.remove(len..MAX_SIZE);
            state.removed.insert(len..MAX_SIZE);
            state.generation += 1;
        }
        state.size = len;
        state.valid.insert(0..len);
    }
}

fn compare_step(state: &mut State, start: u64, end: u64) -> Result<(), ContentError> {
    let Image::Disk(file) = &state.image else { return Err(ContentError::Stopped) };
    let Some(blocks) = state.backing.as_mut().and_then(|b| b.blocks.as_mut()) else { return Ok(()) };
    let mut buf = vec![0; BLOCK as usize];
    for at in (start..end).step_by(BLOCK as usize) {
        let len = BLOCK.min(end - at);
        file.read(at, &mut buf[..len as usize])?;
        let (index, now) = ((at / BLOCK) as usize, hash(&buf[..len as usize]));
        if blocks.get(index) == Some(&now) {
            continue;
        }
        match blocks.get_mut(index) {
            Some(old) => *old = now,
            None => blocks.push(now),
        }
        state.dirty.insert(at..at + len);
        // The kernel wrote without a change of size or time that was seen.
        state.count += 1;
    }
    Ok(())
}
