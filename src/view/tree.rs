//! The committed tree by path: what each object of the view should show.
//!
//! Invariant: everything one [`Tree`] answers is the state after one committed slot.

use super::error::Result;
use super::names::{NoKey, key_of, place_of};
use crate::log::ids::Ino;
use crate::log::row::{Cookie, DentryRow, ExtentRow, InodeRow, Key, KeyBytes, Row, prefix_end};
use crate::log::source::{Committed, Snapshot};
use std::collections::HashMap;

/// Rows read at a time.
const PAGE: usize = 1000;
/// Deeper than any path can be: a loop of homes would be damage, and must not hang us.
const MAX_DEPTH: usize = 4096;

/// A committed file, directory or other inode, as an object shows it.
#[derive(Debug, Clone)]
pub(super) struct Shown {
    /// Which.
    pub ino: Ino,
    /// Its row.
    pub row: InodeRow,
    /// Names and values.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Content, by offset; empty for all but regular files.
    pub extents: Vec<(u64, ExtentRow)>,
}

/// An entry met on a walk.
pub(super) struct Found {
    /// From the root, without a leading slash.
    pub path: Vec<u8>,
    /// Its inode.
    pub ino: Ino,
    /// Whether it is a directory.
    pub directory: bool,
}

/// The tree after one committed slot.
pub(super) struct Tree {
    rows: Box<dyn Snapshot>,
    cookie_key: [u8; 16],
    /// Paths of directories found so far; `None`: not in the tree.
    paths: HashMap<Ino, Option<Vec<u8>>>,
    /// Directories by path.
    dirs: HashMap<String, Option<Ino>>,
}

impl Tree {
    /// The newest committed tree.
    pub fn open(committed: &(impl Committed + ?Sized), cookie_key: [u8; 16]) -> Result<Tree> {
        let rows = committed.snapshot()?;
        Ok(Tree { rows, cookie_key, paths: HashMap::new(), dirs: HashMap::new() })
    }

    /// The rows themselves.
    pub fn rows(&self) -> &dyn Snapshot {
        &*self.rows
    }

    /// An inode's row.
    pub fn inode(&self, ino: Ino) -> Result<Option<InodeRow>> {
        self.row(&Key::Inode { ino })
    }

    /// The inode that the object `key` shows, and its row; `None` when the tree has none there.
    pub fn at(&mut self, key: &str) -> Result<Option<(Ino, InodeRow)>> {
        let Ok(place) = place_of(key) else { return Ok(None) };
        let (parent, name) = match place.path.rsplit_once('/') {
            Some((parent, name)) => (self.directory(parent)?, name),
            None => (Some(Ino::ROOT), place.path),
        };
        let Some(parent) = parent else { return Ok(None) };
        let Some(entry) = self.entry(parent, name.as_bytes())? else { return Ok(None) };
        if is_directory(entry.kind) != place.directory {
            return Ok(None);
        }
        Ok(self.inode(entry.ino)?.map(|row| (entry.ino, row)))
    }

    /// All that an object shows of an inode.
    pub fn shown(&self, ino: Ino, row: InodeRow) -> Result<Shown> {
        let mut xattrs = Vec::new();
        self.scan(Key::xattrs_of(ino), |key, value| {
            if let Some(Key::Xattr { name, .. }) = Key::decode(&key) {
                xattrs.push((name, value));
            }
            Ok(())
        })?;
        let mut extents = Vec::new();
        if row.mode & libc::S_IFMT == libc::S_IFREG {
            self.scan(Key::extents_of(ino), |key, value| {
                if let Some(Key::Extent { offset, .. }) = Key::decode(&key) {
                    extents.push((offset, ExtentRow::decode(&value)?));
                }
                Ok(())
            })?;
        }
        Ok(Shown { ino, row, xattrs, extents })
    }

    /// The path of a directory, from the root; `None` when it is not in the tree.
    pub fn path_of_directory(&mut self, ino: Ino) -> Result<Option<Vec<u8>>> {
        let mut unknown = Vec::new();
        let mut at = ino;
        let mut path = loop {
            if at == Ino::ROOT {
                break Some(Vec::new());
            }
            if let Some(known) = self.paths.get(&at) {
                break known.clone();
            }
            let home = match self.inode(at)?.and_then(|row| row.home) {
                Some(home) if unknown.len() < MAX_DEPTH => home,
                _ => break None,
            };
            let Some(name) = self.name_at(home.parent, home.cookie, at)? else { break None };
            unknown.push((at, name));
            at = home.parent;
        };
        for (ino, name) in unknown.into_iter().rev() {
            path = path.map(|path| join(&path, &name));
            self.paths.insert(ino, path.clone());
        }
        Ok(path)
    }

    /// Every path of an inode.
    pub fn paths_of(&mut self, ino: Ino, row: &InodeRow) -> Result<Vec<Vec<u8>>> {
        let mut places = Vec::new();
        if let Some(home) = row.home
            && let Some(name) = self.name_at(home.parent, home.cookie, ino)?
        {
            places.push((home.parent, name));
        }
        if row.nlink > 1 && !is_directory(row.mode) {
            self.scan(Key::links_of(ino), |key, _| {
                if let Some(Key::Link { parent, name, .. }) = Key::decode(&key) {
                    places.push((parent, name));
                }
                Ok(())
            })?;
        }
        let mut paths = Vec::new();
        for (parent, name) in places {
            paths.extend(self.path_of_directory(parent)?.map(|parent| join(&parent, &name)));
        }
        Ok(paths)
    }

    /// The entry `name` of `parent`.
    pub fn entry(&self, parent: Ino, name: &[u8]) -> Result<Option<DentryRow>> {
        let cookie = Cookie::of(&self.cookie_key, name);
        self.row(&Key::Dentry { parent, cookie, name: name.to_vec() })
    }

    /// Hands every entry below the directory `ino` at `path` to `emit`, which says whether to go into it.
    pub fn walk(&self, ino: Ino, path: &[u8], emit: &mut dyn FnMut(Found) -> Result<bool>) -> Result<()> {
        let mut open = vec![(ino, path.to_vec())];
        while let Some((ino, path)) = open.pop() {
            self.scan(Key::dentries_of(ino), |key, value| {
                let Some(Key::Dentry { name, .. }) = Key::decode(&key) else { return Ok(()) };
                let entry = DentryRow::decode(&value)?;
                let path = join(&path, &name);
                let directory = is_directory(entry.kind);
                let enter = emit(Found { path: path.clone(), ino: entry.ino, directory })?;
                if directory && enter {
                    open.push((entry.ino, path));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn directory(&mut self, path: &str) -> Result<Option<Ino>> {
        if let Some(known) = self.dirs.get(path) {
            return Ok(*known);
        }
        let mut at = Some(Ino::ROOT);
        let mut end = 0;
        for name in path.split('/') {
            end += name.len() + usize::from(end > 0);
            at = match (self.dirs.get(&path[..end]), at) {
                (Some(known), _) => *known,
                (None, None) => None,
                (None, Some(parent)) => {
                    let entry = self.entry(parent, name.as_bytes())?;
                    entry.filter(|entry| is_directory(entry.kind)).map(|entry| entry.ino)
                }
            };
            self.dirs.insert(path[..end].to_owned(), at);
        }
        Ok(at)
    }

    fn name_at(&self, parent: Ino, cookie: Cookie, ino: Ino) -> Result<Option<Vec<u8>>> {
        let prefix = Key::Dentry { parent, cookie, name: Vec::new() }.encode();
        let mut found = None;
        self.scan(prefix, |key, value| {
            // Names whose cookies are equal lie side by side.
            if let Some(Key::Dentry { name, .. }) = Key::decode(&key)
                && DentryRow::decode(&value)?.ino == ino
            {
                found = Some(name);
            }
            Ok(())
        })?;
        Ok(found)
    }

    fn row<R: Row>(&self, key: &Key) -> Result<Option<R>> {
        Ok(self.rows.get(&key.encode())?.map(|value| R::decode(&value)).transpose()?)
    }

    fn scan(&self, prefix: KeyBytes, mut each: impl FnMut(KeyBytes, Vec<u8>) -> Result<()>) -> Result<()> {
        let end = prefix_end(&prefix);
        let mut from = prefix;
        loop {
            let page = self.rows.range(&from, end.as_deref(), PAGE)?;
            let more = page.len() == PAGE;
            if let Some((last, _)) = page.last() {
                from = after(last);
            }
            for (key, value) in page {
                each(key, value)?;
            }
            if !more {
                return Ok(());
            }
        }
    }
}

/// The smallest key behind `key`.
pub(super) fn after(key: &[u8]) -> KeyBytes {
    [key, &[0]].concat()
}

/// A directory's path with a name.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    match directory.is_empty() {
        true => name.to_vec(),
        false => [directory, b"/", name].concat(),
    }
}

/// Whether type bits are a directory's.
pub(super) fn is_directory(mode: u32) -> bool {
    mode & libc::S_IFMT == libc::S_IFDIR
}

/// The key of an entry met on a walk.
pub(super) fn key_of_found(found: &Found) -> std::result::Result<String, NoKey> {
    key_of(&found.path, found.directory)
}
