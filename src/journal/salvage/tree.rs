//! What uncommitted changes did to the tree: the rows they touch before and after, and that in a person's terms.

use super::Image;
use crate::journal::Result;
use crate::journal::base::{self, extent_row};
use crate::journal::overlay::Change;
use crate::log::ids::Ino;
use crate::log::row::{Cookie, DentryRow, ExtentRow, Home, InodeRow, Key, KeyBytes, Row, prefix_end};
use crate::log::source::{LocalError, LocalKind};
use rusqlite::Connection;
use std::collections::{BTreeMap, BTreeSet, HashSet};

const KIND: u32 = 0o170_000;
const DIR: u32 = 0o040_000;

type Rows = BTreeMap<KeyBytes, Vec<u8>>;

/// The rows that a set of changes touches, with the directories above, before and after.
pub(super) struct Tree {
    before: Rows,
    after: Rows,
    /// Inodes that a change is about, or whose content is not captured.
    touched: BTreeSet<Ino>,
}

/// What happened to an inode.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It is new.
    Created,
    /// Its content, or where a symlink points.
    Changed,
    /// Its names.
    Renamed,
    /// Mode, owner, times or extended attributes.
    Attributes,
    /// It is gone.
    Deleted,
}

/// An inode of a set.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its number.
    pub ino: Ino,
    /// What happened to it.
    pub what: Vec<What>,
    /// Its paths now, each in components; none of what is deleted.
    pub names: Vec<Vec<Vec<u8>>>,
    /// Its paths before.
    pub were: Vec<Vec<Vec<u8>>>,
    /// Its row now; before, of what is deleted. `None`: there is local content, but no row.
    pub row: Option<InodeRow>,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Its content by offset, but for what an image has.
    pub extents: BTreeMap<u64, ExtentRow>,
}

impl Tree {
    /// Of `changes` on the committed rows in `conn`; `more` are inodes that no change need be about.
    pub fn of(conn: &Connection, changes: &[Change], more: &[Ino]) -> Result<Tree> {
        let mut tree =
            Tree { before: Rows::new(), after: Rows::new(), touched: more.iter().copied().collect() };
        for change in changes {
            tree.touch(conn, change)?;
        }
        let mut seen = HashSet::new();
        for ino in tree.touched.clone() {
            tree.load(conn, ino, &mut seen)?;
        }
        tree.after = tree.before.clone();
        for change in changes {
            tree.apply(change);
        }
        // Names that changes gave may lie in directories that no change is about.
        for parent in tree.parents_after() {
            tree.load_chain(conn, parent, &mut seen)?;
        }
        Ok(tree)
    }

    /// Rows before the changes.
    pub fn before(&self) -> &Rows {
        &self.before
    }

    /// Whether an image helps to make this set's files.
    pub fn has_use_for(&self, ino: Ino, image: &Image) -> bool {
        let same =
            || inode(&self.after, ino).is_some_and(|r| r.version == image.version && r.size == image.size);
        image.changed || (self.touched.contains(&ino) && same())
    }

    /// Every extent of the touched inodes.
    pub fn extents_after(&self) -> Result<Vec<ExtentRow>> {
        let all = self.after.iter().filter(|(key, _)| Key::is_extent(key));
        all.map(|(_, value)| extent_row(value)).collect()
    }

    fn touch(&mut self, conn: &Connection, change: &Change) -> Result<()> {
        match Key::decode(&change.key) {
            Some(
                Key::Inode { ino } | Key::Xattr { ino, .. } | Key::Extent { ino, .. } | Key::Link { ino, .. },
            ) => {
                self.touched.insert(ino);
            }
            Some(Key::Dentry { parent, .. }) => {
                self.touched.insert(parent);
                let before = base::get(conn, &change.key)?;
                let rows = before.iter().map(Vec::as_slice).chain(change.value.as_deref());
                self.touched.extend(rows.filter_map(|row| DentryRow::decode(row).ok()).map(|row| row.ino));
                self.before.extend(before.map(|row| (change.key.clone(), row)));
            }
            Some(Key::Meta { .. } | Key::View { .. }) | None => {}
        }
        Ok(())
    }

    /// Takes in an inode's committed rows, and the way to it.
    fn load(&mut self, conn: &Connection, ino: Ino, seen: &mut HashSet<Ino>) -> Result<()> {
        self.load_chain(conn, ino, seen)?;
        for prefix in Key::children_of(ino) {
            self.before.extend(base::scan(conn, &prefix, prefix_end(&prefix).as_deref(), usize::MAX)?);
        }
        let links: Vec<(Ino, Cookie)> =
            links(&self.before, ino).map(|(parent, cookie, _)| (parent, cookie)).collect();
        for (parent, cookie) in links {
            self.load_name(conn, Home { parent, cookie }, ino)?;
            self.load_chain(conn, parent, seen)?;
        }
        Ok(())
    }

    /// Takes in an inode's own row, the entry of its first name, and those of the directories above.
    fn load_chain(&mut self, conn: &Connection, mut ino: Ino, seen: &mut HashSet<Ino>) -> Result<()> {
        while seen.insert(ino) {
            let key = Key::Inode { ino }.encode();
            let Some(value) = base::get(conn, &key)? else { return Ok(()) };
            let home = InodeRow::decode(&value).ok().and_then(|row| row.home);
            self.before.insert(key.clone(), value.clone());
            if !self.touched.contains(&ino) {
                self.after.insert(key, value);
            }
            let Some(home) = home else { return Ok(()) };
            self.load_name(conn, home, ino)?;
            ino = home.parent;
        }
        Ok(())
    }

    fn load_name(&mut self, conn: &Connection, home: Home, ino: Ino) -> Result<()> {
        let from = Key::dentries_from(home.parent, home.cookie.0);
        let end = Key::dentries_from(home.parent, home.cookie.0.saturating_add(1));
        for (key, value) in base::scan(conn, &from, Some(&end), usize::MAX)? {
            if DentryRow::decode(&value).is_ok_and(|row| row.ino == ino) {
                if !self.touched.contains(&ino) {
                    self.after.entry(key.clone()).or_insert_with(|| value.clone());
                }
                self.before.insert(key, value);
            }
        }
        Ok(())
    }

    fn apply(&mut self, change: &Change) {
        match &change.value {
            Some(value) => {
                self.after.insert(change.key.clone(), value.to_vec());
            }
            None => {
                if let Some(ino) = Key::own_row_of(&change.key) {
                    Key::children_of(ino).iter().for_each(|prefix| remove(&mut self.after, prefix));
                }
                self.after.remove(&change.key);
            }
        }
    }

    fn parents_after(&self) -> Vec<Ino> {
        let homes = self.touched.iter().filter_map(|ino| inode(&self.after, *ino)?.home);
        let more = self.touched.iter().flat_map(|ino| links(&self.after, *ino).map(|(parent, ..)| parent));
        homes.map(|home| home.parent).chain(more).collect()
    }

    /// What happened to each inode, in the order of their numbers; nothing of what came to nothing.
    pub fn items(&self, images: &BTreeMap<Ino, Image>) -> Result<Vec<Item>> {
        let mut items = Vec::new();
        for ino in &self.touched {
            let image = images.get(ino).filter(|image| image.changed);
            let what = self.what(*ino, image.is_some());
            if what.is_empty() {
                continue;
            }
            let gone = what == [What::Deleted];
            let rows = if gone { &self.before } else { &self.after };
            let mut row = inode(rows, *ino);
            if let (Some(row), Some(image)) = (&mut row, image) {
                (row.size, row.mtime, row.ctime) = (image.size, image.mtime, image.ctime);
            }
            items.push(Item {
                ino: *ino,
                what,
                names: if gone { Vec::new() } else { paths(&self.after, *ino) },
                were: paths(&self.before, *ino),
                row,
                xattrs: xattrs(rows, *ino),
                extents: extents(rows, *ino)?,
            });
        }
        Ok(items)
    }

    fn what(&self, ino: Ino, unstored: bool) -> Vec<What> {
        let (before, after) = (inode(&self.before, ino), inode(&self.after, ino));
        let (before, after) = match (before, after) {
            (None, None) if unstored => return vec![What::Changed],
            (None, None) => return Vec::new(),
            (None, Some(_)) => return vec![What::Created],
            (Some(_), None) => return vec![What::Deleted],
            (Some(before), Some(after)) => (before, after),
        };
        let is_dir = after.mode & KIND == DIR;
        let content = |rows| part(rows, &Key::extents_of(ino));
        let attributes = |row: &InodeRow| (row.mode, row.uid, row.gid, (!is_dir).then_some(row.mtime));
        let xattrs = |rows| part(rows, &Key::xattrs_of(ino));
        let changed = unstored
            || (!is_dir && before.size != after.size)
            || before.target != after.target
            || !content(&self.before).eq(content(&self.after));
        let renamed = paths(&self.before, ino) != paths(&self.after, ino);
        let touched =
            attributes(&before) != attributes(&after) || !xattrs(&self.before).eq(xattrs(&self.after));
        let all =
            [(What::Changed, changed), (What::Renamed, renamed), (What::Attributes, touched && !changed)];
        all.into_iter().filter(|(_, is)| *is).map(|(what, _)| what).collect()
    }

    /// Permission bits, owner and times of the directories on the way to the items, by path.
    pub fn directories(&self) -> Vec<(Vec<Vec<u8>>, InodeRow)> {
        let inos = self.after.keys().filter_map(|key| Key::own_row_of(key));
        let dirs = inos.filter_map(|ino| Some((ino, inode(&self.after, ino)?)));
        let dirs = dirs.filter(|(ino, row)| row.mode & KIND == DIR && *ino != Ino::ROOT);
        dirs.flat_map(|(ino, row)| paths(&self.after, ino).into_iter().map(move |path| (path, row.clone())))
            .collect()
    }
}

fn part<'r>(rows: &'r Rows, prefix: &[u8]) -> impl Iterator<Item = (&'r KeyBytes, &'r Vec<u8>)> + use<'r> {
    let owned = prefix.to_vec();
    rows.range(prefix.to_vec()..).take_while(move |(key, _)| key.starts_with(&owned))
}

fn remove(rows: &mut Rows, prefix: &[u8]) {
    let keys: Vec<KeyBytes> = part(rows, prefix).map(|(key, _)| key.clone()).collect();
    keys.iter().for_each(|key| {
        rows.remove(key);
    });
}

fn inode(rows: &Rows, ino: Ino) -> Option<InodeRow> {
    InodeRow::decode(rows.get(&Key::Inode { ino }.encode())?).ok()
}

fn links(rows: &Rows, ino: Ino) -> impl Iterator<Item = (Ino, Cookie, Vec<u8>)> + use<'_> {
    part(rows, &Key::links_of(ino)).filter_map(|(key, _)| match Key::decode(key) {
        Some(Key::Link { parent, cookie, name, .. }) => Some((parent, cookie, name)),
        _ => None,
    })
}

fn xattrs(rows: &Rows, ino: Ino) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let named = part(rows, &Key::xattrs_of(ino)).filter_map(|(key, value)| match Key::decode(key) {
        Some(Key::Xattr { name, .. }) => Some((name, value.clone())),
        _ => None,
    });
    named.collect()
}

fn extents(rows: &Rows, ino: Ino) -> Result<BTreeMap<u64, ExtentRow>> {
    let at = |(key, value): (&KeyBytes, &Vec<u8>)| match Key::decode(key) {
        Some(Key::Extent { offset, .. }) => Ok((offset, extent_row(value)?)),
        _ => Err(LocalError::new(LocalKind::Damaged, "a set of changes holds a row that cannot be read")),
    };
    part(rows, &Key::extents_of(ino)).map(at).collect()
}

/// The paths of an inode; of a name that cannot be followed up to the root there is none.
fn paths(rows: &Rows, ino: Ino) -> Vec<Vec<Vec<u8>>> {
    let home = inode(rows, ino).and_then(|row| row.home).and_then(|home| {
        let name = name_at(rows, home, ino)?;
        path(rows, home.parent, name)
    });
    let mut all: Vec<_> = home.into_iter().collect();
    all.extend(links(rows, ino).filter_map(|(parent, _, name)| path(rows, parent, name)));
    all
}

fn name_at(rows: &Rows, home: Home, ino: Ino) -> Option<Vec<u8>> {
    part(rows, &Key::dentries_from(home.parent, home.cookie.0)).find_map(|(key, value)| {
        let Some(Key::Dentry { name, .. }) = Key::decode(key) else { return None };
        DentryRow::decode(value).is_ok_and(|row| row.ino == ino).then_some(name)
    })
}

fn path(rows: &Rows, mut dir: Ino, name: Vec<u8>) -> Option<Vec<Vec<u8>>> {
    let mut path = vec![name];
    let mut seen = HashSet::new();
    while dir != Ino::ROOT {
        if !seen.insert(dir) {
            return None;
        }
        let home = inode(rows, dir)?.home?;
        path.push(name_at(rows, home, dir)?);
        dir = home.parent;
    }
    path.reverse();
    Some(path)
}
