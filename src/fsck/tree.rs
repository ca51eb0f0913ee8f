//! What must be true of the rows of a tree.

use super::report::{Kind, Report};
use super::state::{Name, State};
use crate::log::ids::Ino;
use crate::log::row::{Cookie, DentryRow, ExtentRow, Home, InodeRow, Key, Row, ViewRow, meta};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

pub(super) const KIND: u32 = 0o170_000;
pub(super) const DIR: u32 = 0o040_000;
pub(super) const REGULAR: u32 = 0o100_000;

/// The names that lead to each inode: in which directory, under which cookie, called what.
pub(super) type NamesOf = BTreeMap<Ino, BTreeSet<(Ino, Cookie, Vec<u8>)>>;

/// Checks the rows.
pub(super) fn check(state: &State, report: &mut Report) {
    if state.rows.is_empty() {
        return;
    }
    check_rows(state, report);
    match state.inode(Ino::ROOT) {
        Some(row) if row.mode & KIND == DIR => {}
        Some(_) => report.of_inode(Kind::Root, Ino::ROOT, Vec::new(), "the root is no directory"),
        None => report.of_inode(Kind::Root, Ino::ROOT, Vec::new(), "there is no root directory"),
    }
    let names = check_names(state, report);
    check_links(state, &names, report);
    check_reach(state, &names, report);
    check_sizes(state, report);
    check_numbers(state, report);
}

/// Every row can be read, and those of an inode have one to belong to.
fn check_rows(state: &State, report: &mut Report) {
    let mut without: BTreeMap<Ino, u64> = BTreeMap::new();
    for (key, value) in &state.rows {
        let ok = match Key::decode(key) {
            None => false,
            Some(Key::Inode { .. }) => InodeRow::decode(value).is_ok(),
            Some(Key::Dentry { .. }) => DentryRow::decode(value).is_ok(),
            Some(Key::Extent { .. }) => ExtentRow::decode(value).is_ok(),
            Some(Key::View { .. }) => ViewRow::decode(value).is_ok(),
            Some(Key::Meta { .. } | Key::Link { .. } | Key::Xattr { .. }) => true,
        };
        if !ok {
            let what = format!("the row {} cannot be read", key.escape_ascii());
            report.add(Kind::Row, |p| p.what = what);
        }
        if let Some(ino) = Key::child_of(key)
            && !state.rows.contains_key(&Key::Inode { ino }.encode())
        {
            *without.entry(ino).or_default() += 1;
        }
    }
    for (ino, rows) in without {
        let what = format!("{rows} rows of it are there (content, attributes or names), but not its own");
        report.of_inode(Kind::NoInode, ino, Vec::new(), what);
    }
}

/// Every name is in a directory, under its cookie, of an inode that is there and of its type.
fn check_names(state: &State, report: &mut Report) -> NamesOf {
    let cookie_key = state.cookie_key();
    if cookie_key.is_none() {
        report.add(Kind::Name, |p| p.what = "the key that names are looked up with is missing".into());
    }
    let mut names = NamesOf::new();
    for name in state.names() {
        let Name { parent, name, key: Key::Dentry { cookie, .. }, row: Some(row) } = name else { continue };
        let path = state.path(parent, name.clone()).into_iter().collect::<Vec<_>>();
        let shown = String::from_utf8_lossy(&name).into_owned();
        match state.inode(parent) {
            Some(dir) if dir.mode & KIND == DIR => {}
            _ => {
                let what = format!("the name {shown:?} is in inode {parent}, which is no directory");
                report.of_inode(Kind::Name, row.ino, path.clone(), what);
            }
        }
        if cookie_key.is_some_and(|key| Cookie::of(&key, &name) != cookie) {
            let what =
                format!("the name {shown:?} cannot be found: it lies under another place than its own");
            report.of_inode(Kind::Name, row.ino, path.clone(), what);
        }
        match state.inode(row.ino) {
            None => {
                let what = format!("the name {shown:?} is of inode {}, which is not there", row.ino);
                report.of_inode(Kind::DanglingName, row.ino, path, what);
                continue;
            }
            Some(inode) if inode.mode & KIND != row.kind & KIND => {
                let what = format!("the name {shown:?} says another type than its inode has");
                report.of_inode(Kind::Name, row.ino, path, what);
            }
            Some(_) => {}
        }
        names.entry(row.ino).or_default().insert((parent, cookie, name));
    }
    names
}

/// What an inode says of its names is what the directories say.
fn check_links(state: &State, names: &NamesOf, report: &mut Report) {
    let none = BTreeSet::new();
    for ino in state.inodes() {
        let Some(row) = state.inode(ino) else { continue };
        let all = names.get(&ino).unwrap_or(&none);
        let is_dir = row.mode & KIND == DIR;
        if ino == Ino::ROOT || all.is_empty() {
            if ino == Ino::ROOT && is_dir {
                check_nlink(state, ino, &row, 0, report);
            }
            continue;
        }
        let at_home = |(parent, cookie, _): &&(Ino, Cookie, Vec<u8>)| {
            row.home == Some(Home { parent: *parent, cookie: *cookie })
        };
        if is_dir && all.len() > 1 {
            report.of_inode(Kind::Links, ino, state.paths(ino), "a directory has more than one name");
        }
        let home = all.iter().find(at_home);
        if home.is_none() {
            report.of_inode(Kind::Links, ino, state.paths(ino), "its first name is not where it says");
        }
        let further: BTreeSet<_> = links(state, ino);
        let right: BTreeSet<_> = all.iter().filter(|name| Some(*name) != home).cloned().collect();
        if further != right {
            let what = format!("it has {} further names, and says {}", right.len(), further.len());
            report.of_inode(Kind::Links, ino, state.paths(ino), what);
        }
        check_nlink(state, ino, &row, all.len(), report);
    }
}

/// An inode's further names by its own rows.
pub(super) fn links(state: &State, ino: Ino) -> BTreeSet<(Ino, Cookie, Vec<u8>)> {
    let named = state.below(&Key::links_of(ino)).filter_map(|(key, _)| match Key::decode(key) {
        Some(Key::Link { parent, cookie, name, .. }) => Some((parent, cookie, name)),
        _ => None,
    });
    named.collect()
}

/// The number of links that is right, for an inode with so many names.
pub(super) fn right_nlink(state: &State, ino: Ino, row: &InodeRow, names: usize) -> u32 {
    let count = match row.mode & KIND == DIR {
        true => 2 + state.entries(ino).iter().filter(|(_, entry)| entry.kind & KIND == DIR).count(),
        false => names,
    };
    u32::try_from(count).unwrap_or(u32::MAX)
}

fn check_nlink(state: &State, ino: Ino, row: &InodeRow, names: usize, report: &mut Report) {
    let right = right_nlink(state, ino, row, names);
    if row.nlink != right {
        let what = format!("its number of links is {}, and should be {right}", row.nlink);
        report.of_inode(Kind::Nlink, ino, state.paths(ino), what);
    }
}

/// The directories that names lead to from the root.
pub(super) fn reached(state: &State) -> HashSet<Ino> {
    let (mut seen, mut open) = (HashSet::from([Ino::ROOT]), vec![Ino::ROOT]);
    while let Some(dir) = open.pop() {
        for (_, entry) in state.entries(dir) {
            let is_dir = state.inode(entry.ino).is_some_and(|row| row.mode & KIND == DIR);
            if is_dir && seen.insert(entry.ino) {
                open.push(entry.ino);
            }
        }
    }
    seen
}

fn check_reach(state: &State, names: &NamesOf, report: &mut Report) {
    let reached = reached(state);
    for ino in state.inodes().filter(|ino| *ino != Ino::ROOT) {
        let is_dir = state.inode(ino).is_some_and(|row| row.mode & KIND == DIR);
        match names.get(&ino) {
            None => report.of_inode(Kind::Orphan, ino, Vec::new(), "no name leads to it"),
            Some(_) if is_dir && !reached.contains(&ino) => {
                report.of_inode(
                    Kind::Orphan,
                    ino,
                    Vec::new(),
                    "it is a directory that cannot be reached from the root",
                );
            }
            Some(_) => {}
        }
    }
}

/// Bytes that extents cover, by inode.
pub(super) fn covered(state: &State) -> HashMap<Ino, u64> {
    let mut covered: HashMap<Ino, u64> = HashMap::new();
    for (ino, _, extent) in state.extents() {
        let sum = covered.entry(ino).or_default();
        *sum = sum.saturating_add(extent.len);
    }
    covered
}

fn check_sizes(state: &State, report: &mut Report) {
    let covered = covered(state);
    for ino in state.inodes() {
        let Some(row) = state.inode(ino).filter(|row| row.mode & KIND == REGULAR) else { continue };
        let right = covered.get(&ino).copied().unwrap_or(0);
        if row.allocated != right {
            let what = format!("it says that {} bytes are no holes, and {right} are", row.allocated);
            report.of_inode(Kind::Allocated, ino, state.paths(ino), what);
        }
    }
}

/// The first number that no inode may have.
pub(super) fn next_ino(state: &State) -> Option<u64> {
    let key = Key::Meta { name: meta::NEXT_INO.to_vec() };
    u64::decode(state.rows.get(&key.encode())?).ok()
}

fn check_numbers(state: &State, report: &mut Report) {
    let last = state.inodes().map(|ino| ino.0).max().unwrap_or(0);
    match next_ino(state) {
        Some(next) if next > last => {}
        Some(next) => report.add(Kind::NextIno, |p| {
            p.what = format!("the next inode would be {next}, though there is one of number {last}");
        }),
        None => report.add(Kind::NextIno, |p| p.what = "the number of the next inode is missing".into()),
    }
}
