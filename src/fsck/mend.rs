//! The rows as they should be: what can be told from the others, and nothing lost by it. What no name leads to gets
//! one in `lost+found` at the root.

use super::state::{Name, State};
use super::tree::{self, DIR, KIND, NamesOf, REGULAR};
use crate::log::ids::Ino;
use crate::log::row::{
    Cookie, DentryRow, ExtentRow, Home, InodeRow, Key, KeyBytes, Record, Row, Time, ViewRow, meta,
};
use std::collections::{BTreeMap, BTreeSet};

const LOST: &[u8] = b"lost+found";

/// Mends `state`, and returns the records that make the old rows these.
pub(super) fn mend(state: &mut State, now: Time, random: [u8; 16], republish: &[String]) -> Vec<Record> {
    let before = state.rows.clone();
    let mut mender = Mender { state, now, key: random };
    mender.everything();
    for object in republish {
        mender.delete(&Key::View { key: object.clone() });
    }
    difference(&before, &state.rows)
}

/// Records that turn `before` into `after`, in the order of their keys.
fn difference(before: &BTreeMap<KeyBytes, Vec<u8>>, after: &BTreeMap<KeyBytes, Vec<u8>>) -> Vec<Record> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let gone = gone.map(|key| Record { key: key.clone(), value: None });
    let new = after.iter().filter(|(key, value)| before.get(*key) != Some(*value));
    let new = new.map(|(key, value)| Record { key: key.clone(), value: Some(value.clone()) });
    let mut all: Vec<Record> = gone.chain(new).collect();
    all.sort_by(|a, b| a.key.cmp(&b.key));
    all
}

struct Mender<'s> {
    state: &'s mut State,
    now: Time,
    /// What names are looked up with.
    key: [u8; 16],
}

impl Mender<'_> {
    fn everything(&mut self) {
        self.root();
        self.lost_inodes();
        self.names();
        self.directories_of_two_names();
        self.reach();
        let names = self.names_of();
        self.links(&names);
        self.counts(&names);
    }

    fn put<R: Row>(&mut self, key: &Key, row: &R) {
        self.state.rows.insert(key.encode(), row.encode());
    }

    fn delete(&mut self, key: &Key) {
        self.state.rows.remove(&key.encode());
    }

    fn new_inode(&self, mode: u32) -> InodeRow {
        let (time, zero) = (self.now, 0);
        InodeRow {
            mode,
            uid: zero,
            gid: zero,
            nlink: if mode & KIND == DIR { 2 } else { 1 },
            rdev: 0,
            size: 0,
            allocated: 0,
            atime: time,
            mtime: time,
            ctime: time,
            btime: time,
            version: 1,
            home: None,
            target: Vec::new(),
        }
    }

    /// A root directory, a key for names, and a number for the next inode that is free.
    fn root(&mut self) {
        let root = self.state.inode(Ino::ROOT);
        if root.is_none_or(|row| row.mode & KIND != DIR) {
            let row = self.new_inode(DIR | 0o755);
            self.put(&Key::Inode { ino: Ino::ROOT }, &row);
        }
        match self.state.cookie_key() {
            Some(key) => self.key = key,
            None => {
                let key = Key::Meta { name: meta::COOKIE_KEY.to_vec() };
                self.state.rows.insert(key.encode(), self.key.to_vec());
            }
        }
        self.next_ino();
    }

    fn next_ino(&mut self) {
        let rows = self.state.rows.keys().filter_map(|key| Key::own_row_of(key).or(Key::child_of(key)));
        let free = rows.map(|ino| ino.0).max().unwrap_or(1).saturating_add(1);
        if tree::next_ino(self.state).is_none_or(|next| next < free) {
            self.put(&Key::Meta { name: meta::NEXT_INO.to_vec() }, &free);
        }
    }

    /// Content or attributes of an inode without a row are a file's again; names alone are nothing's.
    fn lost_inodes(&mut self) {
        let children =
            self.state.rows.keys().filter_map(|key| Some((Key::child_of(key)?, Key::decode(key)?)));
        let mut lost: BTreeMap<Ino, Vec<Key>> = BTreeMap::new();
        for (ino, key) in children {
            if !self.state.rows.contains_key(&Key::Inode { ino }.encode()) {
                lost.entry(ino).or_default().push(key);
            }
        }
        for (ino, keys) in lost {
            keys.iter().filter(|key| matches!(key, Key::Link { .. })).for_each(|key| self.delete(key));
            if keys.iter().all(|key| matches!(key, Key::Link { .. })) {
                continue;
            }
            let extents = self.state.extents().filter(|(of, ..)| *of == ino);
            let size =
                extents.map(|(_, at, extent): (Ino, u64, ExtentRow)| at.saturating_add(extent.len)).max();
            let row = InodeRow { size: size.unwrap_or(0), ..self.new_inode(REGULAR | 0o600) };
            self.put(&Key::Inode { ino }, &row);
        }
    }

    /// Names that lead nowhere go; the others get the right type and place.
    fn names(&mut self) {
        let all: Vec<Name> = self.state.names().collect();
        for Name { parent, key, name, row } in all {
            let in_directory = self.state.inode(parent).is_some_and(|row| row.mode & KIND == DIR);
            let inode = row.as_ref().and_then(|row| Some((row.ino, self.state.inode(row.ino)?)));
            let Some((ino, inode)) = inode.filter(|_| in_directory) else {
                self.delete(&key);
                continue;
            };
            let right = Key::Dentry { parent, cookie: Cookie::of(&self.key, &name), name: name.clone() };
            let entry = DentryRow { ino, kind: inode.mode & KIND };
            if right != key {
                self.delete(&key);
                self.add_name(parent, &name, &entry);
            } else if row.as_ref() != Some(&entry) {
                self.put(&key, &entry);
            }
        }
    }

    /// Adds a name, with a number behind it where it is taken.
    fn add_name(&mut self, parent: Ino, name: &[u8], entry: &DentryRow) {
        for n in 0u64.. {
            let name = match n {
                0 => name.to_vec(),
                n => [name, format!(".{n}").as_bytes()].concat(),
            };
            let key = Key::Dentry { parent, cookie: Cookie::of(&self.key, &name), name };
            if !self.state.rows.contains_key(&key.encode()) {
                return self.put(&key, entry);
            }
        }
    }

    fn names_of(&self) -> NamesOf {
        let mut names = NamesOf::new();
        for Name { parent, name, key, row } in self.state.names() {
            if let (Key::Dentry { cookie, .. }, Some(row)) = (key, row) {
                names.entry(row.ino).or_default().insert((parent, cookie, name));
            }
        }
        names
    }

    fn is_dir(&self, ino: Ino) -> bool {
        self.state.inode(ino).is_some_and(|row| row.mode & KIND == DIR)
    }

    /// A directory keeps the name that it says is its own, or the first.
    fn directories_of_two_names(&mut self) {
        for (ino, names) in self.names_of() {
            if ino != Ino::ROOT && (names.len() < 2 || !self.is_dir(ino)) {
                continue;
            }
            let home = self.state.inode(ino).and_then(|row| row.home);
            let own = names
                .iter()
                .find(|(parent, cookie, _)| home == Some(Home { parent: *parent, cookie: *cookie }));
            let kept = own.or(names.first()).filter(|_| ino != Ino::ROOT).cloned();
            for (parent, cookie, name) in names.into_iter().filter(|name| Some(name) != kept.as_ref()) {
                self.delete(&Key::Dentry { parent, cookie, name });
            }
        }
    }

    /// What cannot be reached from the root gets a name in `lost+found`: of a loop of directories one.
    fn reach(&mut self) {
        let names = self.names_of();
        let nameless: Vec<Ino> =
            self.state.inodes().filter(|ino| *ino != Ino::ROOT && !names.contains_key(ino)).collect();
        nameless.into_iter().for_each(|ino| self.find(ino));
        loop {
            let reached = tree::reached(self.state);
            let loose = self.state.inodes().find(|ino| self.is_dir(*ino) && !reached.contains(ino));
            let Some(ino) = loose else { return };
            for (parent, cookie, name) in self.names_of().remove(&ino).unwrap_or_default() {
                self.delete(&Key::Dentry { parent, cookie, name });
            }
            self.find(ino);
        }
    }

    /// Names an inode in `lost+found`.
    fn find(&mut self, ino: Ino) {
        let Some(row) = self.state.inode(ino) else { return };
        let dir = self.lost_and_found();
        self.add_name(dir, format!("inode-{ino}").as_bytes(), &DentryRow { ino, kind: row.mode & KIND });
    }

    fn lost_and_found(&mut self) -> Ino {
        let found = self.state.entries(Ino::ROOT).into_iter().find(|(name, _)| name == LOST);
        if let Some((_, entry)) = found.filter(|(_, entry)| self.is_dir(entry.ino)) {
            return entry.ino;
        }
        self.next_ino();
        let next = tree::next_ino(self.state).unwrap_or(2);
        let row = self.new_inode(DIR | 0o700);
        self.put(&Key::Inode { ino: Ino(next) }, &row);
        self.put(&Key::Meta { name: meta::NEXT_INO.to_vec() }, &(next + 1));
        self.add_name(Ino::ROOT, LOST, &DentryRow { ino: Ino(next), kind: DIR });
        Ino(next)
    }

    /// First and further names as the directories have them.
    fn links(&mut self, names: &NamesOf) {
        let none = BTreeSet::new();
        for ino in self.state.inodes().collect::<Vec<_>>() {
            let Some(row) = self.state.inode(ino).filter(|_| ino != Ino::ROOT) else { continue };
            let all = names.get(&ino).unwrap_or(&none);
            let home =
                |(parent, cookie, _): &(Ino, Cookie, Vec<u8>)| Home { parent: *parent, cookie: *cookie };
            let own = all.iter().find(|name| row.home == Some(home(name))).or(all.first());
            if let Some(own) = own.filter(|own| row.home != Some(home(own))) {
                let row = InodeRow { home: Some(home(own)), ..row };
                self.put(&Key::Inode { ino }, &row);
            }
            let right: BTreeSet<_> = all.iter().filter(|name| Some(*name) != own).cloned().collect();
            let said = tree::links(self.state, ino);
            for (parent, cookie, name) in said.difference(&right).cloned() {
                self.delete(&Key::Link { ino, parent, cookie, name });
            }
            for (parent, cookie, name) in right.difference(&said).cloned() {
                self.state.rows.insert(Key::Link { ino, parent, cookie, name }.encode(), Vec::new());
            }
        }
    }

    /// Numbers that follow from other rows.
    fn counts(&mut self, names: &NamesOf) {
        let covered = tree::covered(self.state);
        for ino in self.state.inodes().collect::<Vec<_>>() {
            let Some(row) = self.state.inode(ino) else { continue };
            let count = names.get(&ino).map_or(0, BTreeSet::len);
            let nlink = tree::right_nlink(self.state, ino, &row, count);
            let allocated = match row.mode & KIND == REGULAR {
                true => covered.get(&ino).copied().unwrap_or(0),
                false => row.allocated,
            };
            if (row.nlink, row.allocated) != (nlink, allocated) {
                self.put(&Key::Inode { ino }, &InodeRow { nlink, allocated, ..row });
            }
        }
        let unread = self.state.below(&Key::views("")).filter(|(_, value)| ViewRow::decode(value).is_err());
        // Published anew, or imported: the next mount finds out.
        let unread: Vec<KeyBytes> = unread.map(|(key, _)| key.clone()).collect();
        unread.iter().for_each(|key| {
            self.state.rows.remove(key);
        });
    }
}
