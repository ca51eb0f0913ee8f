//! One change of the tree: rows are read, decided upon and changed under one lock, and applied as one.
//!
//! Invariants:
//! - what a [`Change`] reads stays as it is until the change is applied or dropped;
//! - a dropped change has changed nothing;
//! - an orphan's rows never reach the journal.

use super::api::Result;
use super::file::PendingCapture;
use super::node::Orphan;
use super::quota::counted;
use super::{Session, SessionError, Writer};
use crate::journal::{Entry, Journal};
use crate::log::ids::{Blob, Ino};
use crate::log::row::{Cookie, DentryRow, Home, InodeRow, Key, Record, Time, meta};
use crate::log::source::{LocalError, Seq};
use parking_lot::MutexGuard;
use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::Ordering;

/// Inode numbers that were not given out yet.
pub(super) struct Numbers {
    /// The next one.
    pub next: u64,
    /// Those below it are reserved by a row.
    pub reserved: u64,
}

/// How many inode numbers a row reserves at once.
const RESERVE: u64 = 256;

/// A change being made.
pub(crate) struct Change<'a> {
    session: &'a Session,
    writer: &'a Writer,
    numbers: MutexGuard<'a, Numbers>,
    /// Inodes as this change leaves them; `None`: removed.
    inodes: BTreeMap<Ino, Option<InodeRow>>,
    records: Vec<Record>,
    xattrs: Vec<(Ino, Vec<u8>, Option<Vec<u8>>)>,
    now: Time,
}

impl Session {
    /// Starts a change. EROFS for a follower, ESTALE once the session is lost.
    pub(crate) fn change(&self) -> Result<Change<'_>> {
        let writer = self.writer()?;
        let numbers = writer.numbers.lock();
        let now = super::attr::now();
        Ok(Change {
            session: self,
            writer,
            numbers,
            inodes: BTreeMap::new(),
            records: Vec::new(),
            xattrs: Vec::new(),
            now,
        })
    }

    /// Fails with ESTALE once the session is lost.
    pub(crate) fn alive(&self) -> Result<()> {
        match self.lost.load(Ordering::Acquire) {
            true => Err(SessionError::Errno(libc::ESTALE)),
            false => Ok(()),
        }
    }

    /// What makes us the writer: fails where nothing may be changed.
    pub(crate) fn writer(&self) -> Result<&Writer> {
        self.alive()?;
        self.writer.as_ref().ok_or(SessionError::Errno(libc::EROFS))
    }

    /// What is left of an inode whose rows are about to go.
    fn orphan_rows(&self, ino: Ino, row: InodeRow) -> std::result::Result<Orphan, LocalError> {
        let extents = match row.kind() {
            libc::S_IFREG => self.journal.extents(ino, 0..u64::MAX)?,
            _ => Vec::new(),
        };
        let xattrs = self.journal.xattrs(ino)?.into_iter().collect();
        // Before the rows go, so that no sweep comes in between.
        let blobs: HashSet<Blob> = extents.iter().map(|(_, row)| row.blob.clone()).collect();
        let blobs: Vec<Blob> = blobs.into_iter().collect();
        let pins = (!blobs.is_empty()).then(|| self.journal.pin_blobs(&blobs));
        Ok(Orphan { row, xattrs, extents: extents.into_iter().collect(), _pins: pins })
    }

    /// The writer that we follow has removed an inode: it lives on here while somebody knows it.
    pub(super) fn keep_removed(&self, ino: Ino) -> std::result::Result<(), LocalError> {
        let Some(row) = self.journal.inode(ino)?.filter(|_| self.nodes.known(ino)) else { return Ok(()) };
        let rows = self.orphan_rows(ino, InodeRow { nlink: 0, home: None, ..row })?;
        if let Some(node) = self.nodes.orphan(ino, rows) {
            self.orphaned(&node);
        }
        Ok(())
    }

    /// An inode's row as captured, of one without a name too; ESTALE when there is none.
    pub(crate) fn row(&self, ino: Ino) -> Result<InodeRow> {
        self.find_row(ino)?.ok_or(SessionError::Errno(libc::ESTALE))
    }

    /// An inode's row as captured, of one without a name too.
    pub(crate) fn find_row(&self, ino: Ino) -> Result<Option<InodeRow>> {
        let orphan = || self.nodes.get(ino).and_then(|node| node.orphan(|o| o.row.clone()));
        if let Some(row) = orphan() {
            return Ok(Some(row));
        }
        match self.journal.inode(ino)? {
            Some(row) => Ok(Some(row)),
            // A follower of a prefix that holds no session yet shows an empty root.
            None if ino == Ino::ROOT && self.writer.is_none() => {
                Ok(Some(super::make::root_row(self.options.untold())))
            }
            // It may have lost its last name between the two looks.
            None => Ok(orphan()),
        }
    }
}

impl Change<'_> {
    /// The place of `name` in any directory.
    pub fn cookie(&self, name: &[u8]) -> Cookie {
        Cookie::of(&self.writer.cookie_key, name)
    }

    /// The time of this change.
    pub fn now(&self) -> Time {
        self.now
    }

    /// An inode as this change leaves it so far; ESTALE when there is none.
    pub fn inode(&self, ino: Ino) -> Result<InodeRow> {
        match self.inodes.get(&ino) {
            Some(row) => row.clone().ok_or(SessionError::Errno(libc::ESTALE)),
            None => self.session.row(ino),
        }
    }

    /// A directory that still has its name: ENOTDIR, or ENOENT once it was removed.
    pub fn directory(&self, ino: Ino) -> Result<InodeRow> {
        let row = self.inode(ino)?;
        if !row.is_dir() {
            return Err(SessionError::Errno(libc::ENOTDIR));
        }
        if row.nlink == 0 {
            return Err(SessionError::Errno(libc::ENOENT));
        }
        Ok(row)
    }

    /// The entry `name` of `parent`, as it was before this change.
    pub fn entry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>> {
        Ok(self.session.journal.dentry(parent, name)?)
    }

    /// What `name` of `parent` names: its inode and row. ENOENT, or ENOTDIR where `parent` is none.
    pub fn named(&self, parent: Ino, name: &[u8]) -> Result<(Ino, InodeRow)> {
        self.directory(parent)?;
        let entry = self.entry(parent, name)?.ok_or(SessionError::Errno(libc::ENOENT))?;
        Ok((entry.row.ino, self.inode(entry.row.ino)?))
    }

    /// The entries of a directory change now; it gains (or loses) this many subdirectories.
    pub fn touch_directory(&mut self, ino: Ino, subdirectories: i64) -> Result<()> {
        let mut row = self.inode(ino)?;
        // Far from both bounds: it counts the directories that are there.
        row.nlink = (i64::from(row.nlink) + subdirectories).clamp(2, i64::from(u32::MAX)) as u32;
        (row.mtime, row.ctime) = (self.now, self.now);
        self.put_inode(ino, row);
        Ok(())
    }

    /// Sets an inode's row.
    pub fn put_inode(&mut self, ino: Ino, row: InodeRow) {
        self.inodes.insert(ino, Some(row));
    }

    /// Removes an inode with its content, attributes and further names; while somebody still knows it, it
    /// lives on as an orphan. `row` is what is left of it.
    pub fn remove_inode(&mut self, ino: Ino, row: InodeRow) {
        self.inodes.insert(ino, Some(InodeRow { nlink: 0, home: None, ..row }));
    }

    /// Gives `name` of `parent` to an inode; returns the place.
    pub fn put_entry(&mut self, parent: Ino, name: &[u8], ino: Ino, mode: u32) -> Home {
        let cookie = self.cookie(name);
        let key = Key::Dentry { parent, cookie, name: name.to_vec() };
        self.records.push(Record::put(&key, &DentryRow { ino, kind: mode & libc::S_IFMT }));
        Home { parent, cookie }
    }

    /// Removes the entry `name` of `parent`.
    pub fn remove_entry(&mut self, parent: Ino, name: &[u8]) {
        let cookie = self.cookie(name);
        self.records.push(Record::delete(&Key::Dentry { parent, cookie, name: name.to_vec() }));
    }

    /// Changes any other row.
    pub fn record(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Sets or removes an extended attribute.
    pub fn put_xattr(&mut self, ino: Ino, name: &[u8], value: Option<Vec<u8>>) {
        self.xattrs.push((ino, name.to_vec(), value));
    }

    /// A number that no inode ever had.
    pub fn new_ino(&mut self) -> Ino {
        let ino = Ino(self.numbers.next);
        self.numbers.next += 1;
        ino
    }

    /// Applies the change. `None` when nothing of it is ever shipped.
    pub fn apply(self) -> Result<Option<Seq>> {
        self.finish(|session, records| match records.is_empty() {
            true => Ok(None),
            false => Ok(Some(session.journal.apply(records)?)),
        })
    }

    /// Applies a change by which local content can go.
    pub fn apply_freeing(self) -> Result<Option<Seq>> {
        self.finish(|session, records| Ok(Some(session.journal.apply_freeing(records)?)))
    }

    /// Applies a change that makes or changes a name, and so is always shipped.
    pub fn apply_named(self) -> Result<Seq> {
        self.finish(|session, records| Ok(session.journal.apply(records)?))
    }

    /// Applies a change of names of a file whose capture goes on: no commit goes past it before that ends.
    pub(super) fn apply_with(self, capture: Option<PendingCapture>) -> Result<Option<Seq>> {
        let Some(capture) = capture else { return self.apply() };
        let (seq, held) = self.finish(|session, records| Ok(session.journal.apply_held(records)?))?;
        capture.start(held);
        Ok(Some(seq))
    }

    fn finish<T>(mut self, apply: impl FnOnce(&Session, Vec<Record>) -> Result<T>) -> Result<T> {
        let session = self.session;
        let (mut orphans, mut kept, mut changed) = (Vec::new(), Vec::new(), Vec::new());
        let (old, new) = self.counted()?;
        for (ino, row) in std::mem::take(&mut self.inodes) {
            let Some(mut row) = row else { continue };
            row.atime = session.reads.take(ino).unwrap_or(row.atime);
            if row.nlink > 0 {
                changed.push((ino, row.is_dir()));
            }
            match session.nodes.get(ino) {
                Some(node) if node.is_orphan() => kept.push((node, row)),
                _ if row.nlink == 0 => {
                    self.records.push(Record::delete(&Key::Inode { ino }));
                    if session.nodes.known(ino) {
                        let rows = session.orphan_rows(ino, row)?;
                        orphans.extend(session.nodes.orphan(ino, rows));
                    }
                }
                _ => self.records.push(Record::put(&Key::Inode { ino }, &row)),
            }
        }
        self.place_xattrs();
        self.reserve_numbers();
        let applied = apply(session, std::mem::take(&mut self.records));
        match &applied {
            Ok(_) => {
                for (node, row) in kept {
                    node.orphan_mut(|o| o.row = row);
                }
                orphans.iter().for_each(|node| session.orphaned(node));
                if let Some(quota) = session.quota() {
                    quota.moved(old, new);
                }
                session.touched();
            }
            Err(_) => orphans.iter().for_each(|node| session.nodes.adopt(node.ino)),
        }
        // The kernel is told with no lock held.
        drop(self);
        if applied.is_ok() {
            changed.into_iter().for_each(|(ino, is_dir)| session.attributes_changed(ino, is_dir));
        }
        applied
    }

    /// What the inodes of this change count against the quota, before it and after.
    fn counted(&self) -> Result<(u64, u64)> {
        let (mut old, mut new) = (0, 0);
        if self.writer.quota.is_none() {
            return Ok((0, 0));
        }
        for (ino, row) in &self.inodes {
            let Some(before) = self.session.journal.inode(*ino)? else {
                // New, or an orphan, which counts nothing.
                let orphan = self.session.nodes.get(*ino).is_some_and(|node| node.is_orphan());
                new += row.as_ref().filter(|_| !orphan).map_or(0, counted);
                continue;
            };
            old += counted(&before);
            new += row.as_ref().filter(|row| row.nlink > 0).map_or(0, counted);
        }
        Ok((old, new))
    }

    fn place_xattrs(&mut self) {
        for (ino, name, value) in std::mem::take(&mut self.xattrs) {
            let orphan = self.session.nodes.get(ino).filter(|node| node.is_orphan());
            match (orphan, value) {
                (Some(node), Some(value)) => {
                    node.orphan_mut(|o| o.xattrs.insert(name, value.into()));
                }
                (Some(node), None) => {
                    node.orphan_mut(|o| o.xattrs.remove(&name));
                }
                (None, Some(value)) => {
                    self.records.push(Record::put_raw(&Key::Xattr { ino, name }, value));
                }
                (None, None) => self.records.push(Record::delete(&Key::Xattr { ino, name })),
            }
        }
    }

    fn reserve_numbers(&mut self) {
        if self.numbers.next > self.numbers.reserved {
            self.numbers.reserved = self.numbers.next + RESERVE;
            let key = Key::Meta { name: meta::NEXT_INO.to_vec() };
            self.records.push(Record::put(&key, &self.numbers.reserved));
        }
    }
}

/// The first inode number that was not given out.
pub(super) fn next_ino(journal: &Journal) -> Result<u64> {
    let key = Key::Meta { name: meta::NEXT_INO.to_vec() };
    Ok(journal.get::<u64>(&key)?.unwrap_or(Ino::ROOT.0 + 1))
}
