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
        if entry.is_dir() != place.directory {
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
        if row.is_file() {
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
        if row.nlink > 1 && !row.is_dir() {
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
                let directory = entry.is_dir();
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
                    entry.filter(|entry| entry.is_dir()).map(|entry| entry.ino)
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

/// The key of an entry met on a walk.
pub(super) fn key_of_found(found: &Found) -> std::result::Result<String, NoKey> {
    key_of(&found.path, found.directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::{Blob, Epoch, Slot};
    use crate::log::row::{Home, Record, Time};
    use crate::log::source::LocalError;
    use bytes::Bytes;
    use std::collections::BTreeMap;

    const COOKIES: [u8; 16] = [7; 16];

    #[derive(Clone, Default)]
    struct Rows(BTreeMap<KeyBytes, Vec<u8>>);

    impl Snapshot for Rows {
        fn base(&self) -> (Epoch, Slot) {
            (Epoch { counter: 1, nonce: 1 }, Slot(1))
        }
        fn changes_from(&self) -> Slot {
            Slot(0)
        }
        fn get(&self, key: &[u8]) -> std::result::Result<Option<Vec<u8>>, LocalError> {
            Ok(self.0.get(key).cloned())
        }
        fn range(
            &self,
            from: &[u8],
            end: Option<&[u8]>,
            limit: usize,
        ) -> std::result::Result<Vec<(KeyBytes, Vec<u8>)>, LocalError> {
            let rows =
                self.0.range(from.to_vec()..).take_while(|(key, _)| end.is_none_or(|end| &key[..] < end));
            Ok(rows.take(limit).map(|(key, value)| (key.clone(), value.clone())).collect())
        }
        fn rows(
            &self,
            _: Option<&[u8]>,
            _: Option<Slot>,
            _: usize,
        ) -> std::result::Result<Vec<Record>, LocalError> {
            Ok(Vec::new())
        }
    }

    impl Rows {
        fn put<R: Row>(&mut self, key: Key, row: &R) {
            self.0.insert(key.encode(), row.encode());
        }

        /// Gives `ino` the name `name` in `parent`.
        fn name(&mut self, parent: u64, name: &[u8], ino: u64, mode: u32) -> Home {
            let (parent, cookie) = (Ino(parent), Cookie::of(&COOKIES, name));
            let key = Key::Dentry { parent, cookie, name: name.to_vec() };
            self.put(key, &DentryRow { ino: Ino(ino), kind: mode & libc::S_IFMT });
            Home { parent, cookie }
        }

        fn inode(&mut self, ino: u64, mode: u32, nlink: u32, home: Option<Home>) {
            let t = Time::default();
            let row = InodeRow {
                mode,
                uid: 0,
                gid: 0,
                nlink,
                rdev: 0,
                size: 0,
                allocated: 0,
                atime: t,
                mtime: t,
                ctime: t,
                btime: t,
                version: 1,
                home,
                target: Vec::new(),
            };
            self.put(Key::Inode { ino: Ino(ino) }, &row);
        }

        fn tree(&self) -> Tree {
            let rows = Box::new(self.clone());
            Tree { rows, cookie_key: COOKIES, paths: HashMap::new(), dirs: HashMap::new() }
        }
    }

    /// `src/deep/main.rs`, which is `link` at the root too; `src` is inode 2.
    fn sample() -> Rows {
        let mut rows = Rows::default();
        rows.inode(1, libc::S_IFDIR, 3, None);
        let home = rows.name(1, b"src", 2, libc::S_IFDIR);
        rows.inode(2, libc::S_IFDIR, 3, Some(home));
        let home = rows.name(2, b"deep", 3, libc::S_IFDIR);
        rows.inode(3, libc::S_IFDIR, 2, Some(home));
        let home = rows.name(3, b"main.rs", 4, libc::S_IFREG);
        rows.inode(4, libc::S_IFREG, 2, Some(home));
        let link = rows.name(1, b"link", 4, libc::S_IFREG);
        let key = Key::Link { ino: Ino(4), parent: Ino(1), cookie: link.cookie, name: b"link".to_vec() };
        rows.0.insert(key.encode(), Vec::new());
        rows
    }

    #[test]
    fn a_key_leads_to_its_inode_only_with_the_right_kind() {
        let mut tree = sample().tree();
        let mut at = |key: &str| tree.at(key).unwrap().map(|(ino, _)| ino.0);
        assert_eq!(at("src/deep/main.rs"), Some(4));
        assert_eq!(at("link"), Some(4));
        assert_eq!(at("src/"), Some(2));
        assert_eq!(at("src/deep/"), Some(3));
        for none in ["src", "link/", "src/deep/main.rs/", "src/other/x", "link/x", "../src", ".cwdfs/lease"] {
            assert_eq!(at(none), None, "{none}");
        }
    }

    #[test]
    fn every_name_of_an_inode_is_a_path() {
        let rows = sample();
        let mut tree = rows.tree();
        let row = tree.inode(Ino(4)).unwrap().unwrap();
        let paths = tree.paths_of(Ino(4), &row).unwrap();
        assert_eq!(paths, [b"src/deep/main.rs".to_vec(), b"link".to_vec()]);
        assert_eq!(tree.path_of_directory(Ino(3)).unwrap(), Some(b"src/deep".to_vec()));
        assert_eq!(tree.path_of_directory(Ino(9)).unwrap(), None);
    }

    #[test]
    fn a_renamed_directory_moves_all_below_it() {
        let mut rows = sample();
        let cookie = Cookie::of(&COOKIES, b"src");
        rows.0.remove(&Key::Dentry { parent: Ino(1), cookie, name: b"src".to_vec() }.encode());
        let home = rows.name(1, b"lib", 2, libc::S_IFDIR);
        rows.inode(2, libc::S_IFDIR, 3, Some(home));
        let mut tree = rows.tree();
        assert!(tree.at("src/deep/main.rs").unwrap().is_none());
        assert_eq!(tree.at("lib/deep/main.rs").unwrap().unwrap().0, Ino(4));
        let mut met = Vec::new();
        tree.walk(Ino(2), b"lib", &mut |found| {
            met.push(key_of_found(&found).unwrap());
            Ok(true)
        })
        .unwrap();
        assert_eq!(met, ["lib/deep/", "lib/deep/main.rs"]);
    }

    #[test]
    fn homes_that_form_a_loop_are_not_in_the_tree() {
        let mut rows = Rows::default();
        let a = rows.name(6, b"a", 5, libc::S_IFDIR);
        let b = rows.name(5, b"b", 6, libc::S_IFDIR);
        rows.inode(5, libc::S_IFDIR, 2, Some(a));
        rows.inode(6, libc::S_IFDIR, 2, Some(b));
        assert_eq!(rows.tree().path_of_directory(Ino(5)).unwrap(), None);
    }

    #[test]
    fn an_object_shows_content_and_xattrs_in_order() {
        let mut rows = sample();
        let extent = |off: u64| ExtentRow {
            len: 1,
            blob: Blob::Data { epoch: Epoch { counter: 1, nonce: 1 }, n: off },
            piece_off: 0,
            piece_len: 1,
            skip: 0,
            crc: Some(0),
        };
        for offset in [256, 0, 70_000] {
            rows.put(Key::Extent { ino: Ino(4), offset }, &extent(offset));
        }
        let key = Key::Xattr { ino: Ino(4), name: b"user.a".to_vec() };
        rows.0.insert(key.encode(), Bytes::from_static(b"v").to_vec());
        let tree = rows.tree();
        let row = tree.inode(Ino(4)).unwrap().unwrap();
        let shown = tree.shown(Ino(4), row).unwrap();
        assert_eq!(shown.extents.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [0, 256, 70_000]);
        assert_eq!(shown.xattrs, [(b"user.a".to_vec(), b"v".to_vec())]);
    }
}
