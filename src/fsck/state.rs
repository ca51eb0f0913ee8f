//! A session's rows in memory, as far as they can be read.

use crate::content::object_of;
use crate::log::LogError;
use crate::log::ids::{Epoch, Ino, SessionId, Slot};
use crate::log::lease::{Lease, LeaseBody};
use crate::log::row::{DentryRow, ExtentRow, InodeRow, Key, KeyBytes, Record, Row, meta};
use crate::log::source::{Checksum, LocalError, Part, RecoverySink};
use crate::store::ObjectStore;
use bytes::Bytes;
use std::collections::{BTreeMap, HashSet};

/// Rows by their encoded keys.
pub type Rows = BTreeMap<KeyBytes, Vec<u8>>;

/// Where a session stands, and its rows.
#[derive(Default)]
pub(super) struct State {
    pub rows: Rows,
    /// The slot that they are the state after, and in whose log the next one lies.
    pub at: Option<(Epoch, Slot)>,
    pub lease: Option<LeaseBody>,
    pub session: Option<SessionId>,
    /// Slots applied after the checkpoint.
    pub replayed: u64,
}

/// A name in a directory.
pub(super) struct Name {
    pub parent: Ino,
    pub key: Key,
    pub name: Vec<u8>,
    pub row: Option<DentryRow>,
}

impl State {
    /// Applies records in order.
    pub fn apply(&mut self, records: Vec<Record>) {
        for Record { key, value } in records {
            match value {
                Some(value) => {
                    self.rows.insert(key, value);
                }
                None => {
                    if let Some(ino) = Key::own_row_of(&key) {
                        Key::children_of(ino).iter().for_each(|prefix| self.remove_below(prefix));
                    }
                    self.rows.remove(&key);
                }
            }
        }
    }

    fn remove_below(&mut self, prefix: &[u8]) {
        let keys: Vec<KeyBytes> = self.below(prefix).map(|(key, _)| key.clone()).collect();
        keys.iter().for_each(|key| {
            self.rows.remove(key);
        });
    }

    /// The rows whose keys start with `prefix`.
    pub fn below<'s>(&'s self, prefix: &[u8]) -> impl Iterator<Item = (&'s KeyBytes, &'s Vec<u8>)> + use<'s> {
        let prefix = prefix.to_vec();
        self.rows.range(prefix.clone()..).take_while(move |(key, _)| key.starts_with(&prefix))
    }

    /// An inode's row, if there is one that can be read.
    pub fn inode(&self, ino: Ino) -> Option<InodeRow> {
        InodeRow::decode(self.rows.get(&Key::Inode { ino }.encode())?).ok()
    }

    /// Every inode that has a row of its own.
    pub fn inodes(&self) -> impl Iterator<Item = Ino> + use<'_> {
        self.below(&Key::inodes()).filter_map(|(key, _)| Key::own_row_of(key))
    }

    /// Every name.
    pub fn names(&self) -> impl Iterator<Item = Name> + use<'_> {
        const DENTRIES: &[u8] = &[3];
        self.below(DENTRIES).filter_map(|(key, value)| match Key::decode(key) {
            Some(key @ Key::Dentry { .. }) => {
                let Key::Dentry { parent, name, .. } = &key else { return None };
                let (parent, name) = (*parent, name.clone());
                Some(Name { parent, name, key, row: DentryRow::decode(value).ok() })
            }
            _ => None,
        })
    }

    /// The names of a directory.
    pub fn entries(&self, parent: Ino) -> Vec<(Vec<u8>, DentryRow)> {
        let named = self.below(&Key::dentries_of(parent)).filter_map(|(key, value)| match Key::decode(key) {
            Some(Key::Dentry { name, .. }) => Some((name, DentryRow::decode(value).ok()?)),
            _ => None,
        });
        named.collect()
    }

    /// Every extent that can be read.
    pub fn extents(&self) -> impl Iterator<Item = (Ino, u64, ExtentRow)> + use<'_> {
        self.below(&Key::extents()).filter_map(|(key, value)| match Key::decode(key) {
            Some(Key::Extent { ino, offset }) => Some((ino, offset, ExtentRow::decode(value).ok()?)),
            _ => None,
        })
    }

    /// What hashes names.
    pub fn cookie_key(&self) -> Option<[u8; 16]> {
        let key = Key::Meta { name: meta::COOKIE_KEY.to_vec() };
        self.rows.get(&key.encode())?.as_slice().try_into().ok()
    }

    /// The keys of objects that files have content in.
    pub fn named_objects(&self) -> HashSet<String> {
        self.extents().filter_map(|(.., extent)| Some(object_of(&extent.blob)?.0)).collect()
    }

    /// The paths that lead to an inode by what rows say of its names, as text.
    pub fn paths(&self, ino: Ino) -> Vec<String> {
        let home = self.inode(ino).and_then(|row| row.home).and_then(|home| {
            let from = Key::dentries_from(home.parent, home.cookie.0);
            let (name, _) = self.below(&from).find_map(|(key, value)| {
                let Some(Key::Dentry { name, .. }) = Key::decode(key) else { return None };
                DentryRow::decode(value).is_ok_and(|row| row.ino == ino).then_some((name, ()))
            })?;
            Some((home.parent, name))
        });
        let links = self.below(&Key::links_of(ino)).filter_map(|(key, _)| match Key::decode(key) {
            Some(Key::Link { parent, name, .. }) => Some((parent, name)),
            _ => None,
        });
        let all = home.into_iter().chain(links);
        all.filter_map(|(parent, name)| self.path(parent, name)).collect()
    }

    /// A name's path, as text.
    pub fn path(&self, mut dir: Ino, name: Vec<u8>) -> Option<String> {
        let mut parts = vec![String::from_utf8_lossy(&name).into_owned()];
        let mut seen = HashSet::new();
        while dir != Ino::ROOT {
            if !seen.insert(dir) {
                return None;
            }
            let home = self.inode(dir)?.home?;
            let from = Key::dentries_from(home.parent, home.cookie.0);
            let name = self.below(&from).find_map(|(key, value)| match Key::decode(key) {
                Some(Key::Dentry { name, .. }) => {
                    DentryRow::decode(value).is_ok_and(|row| row.ino == dir).then_some(name)
                }
                _ => None,
            })?;
            parts.push(String::from_utf8_lossy(&name).into_owned());
            dir = home.parent;
        }
        parts.reverse();
        Some(parts.join("/"))
    }

    /// Whether a writer has gone on since this was read.
    pub async fn has_moved_on(&self, store: &dyn ObjectStore) -> Result<bool, LogError> {
        let (Some(then), Some((epoch, slot))) = (&self.lease, self.at) else { return Ok(false) };
        let Some(now) = Lease::peek(store).await? else { return Ok(true) };
        if now.epoch != then.epoch || now.floor != then.floor {
            return Ok(true);
        }
        let next = crate::log::ids::keys::segment(epoch, slot.next());
        match store.head(&next).await {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

impl RecoverySink for State {
    fn reset(&mut self) -> Result<(), LocalError> {
        self.rows.clear();
        self.replayed = 0;
        Ok(())
    }

    fn rows(&mut self, _: Part, rows: Vec<Record>) -> Result<(), LocalError> {
        self.apply(rows);
        Ok(())
    }

    fn segment(
        &mut self,
        epoch: Epoch,
        slot: Slot,
        _: &Checksum,
        records: Vec<Record>,
    ) -> Result<(), LocalError> {
        self.apply(records);
        self.replayed += 1;
        self.at = Some((epoch, slot));
        Ok(())
    }

    fn keep(&mut self, _: &ExtentRow, _: &Bytes) {}

    fn checkpoint_loaded(&mut self, epoch: Epoch, slot: Slot, _: Slot) -> Result<(), LocalError> {
        self.at = Some((epoch, slot));
        Ok(())
    }
}
