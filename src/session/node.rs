//! Inodes in use: open, changed and not captured, or deleted while the kernel still knows them.
//!
//! Invariants:
//! - an inode with a [`Use`] has one [`Node`], the same for all its users;
//! - an inode that loses its last name while it is used or known to the kernel becomes an [`Orphan`]: its
//!   rows live here and only here, and go with the last use and the kernel's last lookup.

use super::file::Slot;
use crate::journal::PinGuard;
use crate::log::ids::Ino;
use crate::log::row::{ExtentRow, InodeRow};
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

const SHARDS: usize = 64;

/// The rows of an inode that has no name any more.
pub(super) struct Orphan {
    /// With `nlink` 0.
    pub row: InodeRow,
    /// Extended attributes.
    pub xattrs: BTreeMap<Vec<u8>, Bytes>,
    /// Content as of the last capture, by offset.
    pub extents: BTreeMap<u64, ExtentRow>,
    /// Keeps that content from collection.
    pub _pins: Option<PinGuard>,
}

/// An inode in use.
pub(crate) struct Node {
    /// Which.
    pub ino: Ino,
    /// The data path's state.
    pub file: Slot,
    orphan: RwLock<Option<Orphan>>,
}

impl Node {
    /// Looks at the rows of an inode that has no name any more; `None` while it has one.
    pub(super) fn orphan<R>(&self, look: impl FnOnce(&Orphan) -> R) -> Option<R> {
        self.orphan.read().as_ref().map(look)
    }

    /// Changes the rows of an inode that has no name any more; `None` while it has one.
    pub(super) fn orphan_mut<R>(&self, change: impl FnOnce(&mut Orphan) -> R) -> Option<R> {
        self.orphan.write().as_mut().map(change)
    }

    /// It has lost its last name.
    pub(crate) fn is_orphan(&self) -> bool {
        self.orphan.read().is_some()
    }

    fn new(ino: Ino) -> Arc<Node> {
        Arc::new(Node { ino, file: Slot::default(), orphan: RwLock::default() })
    }
}

/// Keeps an inode's node: an open, or content that is not captured yet.
pub(crate) struct Use {
    nodes: Arc<Nodes>,
    node: Arc<Node>,
}

impl std::ops::Deref for Use {
    type Target = Arc<Node>;
    fn deref(&self) -> &Arc<Node> {
        &self.node
    }
}

impl Clone for Use {
    fn clone(&self) -> Use {
        self.nodes.hold(self.node.ino)
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.nodes.let_go(self.node.ino, |entry| entry.uses -= 1);
    }
}

#[derive(Default)]
struct Entry {
    node: Option<Arc<Node>>,
    lookups: u64,
    uses: u32,
    /// Its attributes were read for an answer, and the kernel was not told to forget them since.
    shown: bool,
}

impl Entry {
    fn known(&self) -> bool {
        self.uses > 0 || self.lookups > 0
    }
}

/// All inodes in use, and how often the kernel has looked up which.
pub(crate) struct Nodes {
    shards: [Mutex<HashMap<u64, Entry>>; SHARDS],
}

impl Nodes {
    /// The root alone, which the kernel knows from the mount on and never forgets.
    pub fn new() -> Arc<Nodes> {
        let nodes = Arc::new(Nodes { shards: std::array::from_fn(|_| Mutex::default()) });
        nodes.looked_up(Ino::ROOT);
        nodes
    }

    /// Takes an inode into use.
    pub fn hold(self: &Arc<Self>, ino: Ino) -> Use {
        let mut shard = self.shard(ino).lock();
        let entry = shard.entry(ino.0).or_default();
        entry.uses += 1;
        let node = entry.node.get_or_insert_with(|| Node::new(ino)).clone();
        Use { nodes: self.clone(), node }
    }

    /// The node of an inode that is in use or deleted and still known.
    pub fn get(&self, ino: Ino) -> Option<Arc<Node>> {
        self.shard(ino).lock().get(&ino.0)?.node.clone()
    }

    /// The attributes of an inode that the kernel knows are about to be read for an answer; its node. See
    /// [`Nodes::take_shown`].
    pub fn show(&self, ino: Ino) -> Option<Arc<Node>> {
        let mut shard = self.shard(ino).lock();
        let entry = shard.get_mut(&ino.0)?;
        entry.shown = true;
        entry.node.clone()
    }

    /// As [`Nodes::show`], for an answer that tells the kernel of the inode once more.
    pub fn show_looked_up(&self, ino: Ino) -> Option<Arc<Node>> {
        let mut shard = self.shard(ino).lock();
        let entry = shard.entry(ino.0).or_default();
        entry.lookups += 1;
        entry.shown = true;
        entry.node.clone()
    }

    /// Whether an answer with the inode's attributes as they were before a change, which has just been
    /// applied, may still be on its way to the kernel.
    pub fn take_shown(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get_mut(&ino.0).is_some_and(|entry| std::mem::take(&mut entry.shown))
    }

    /// The kernel was told of an inode once more.
    pub fn looked_up(&self, ino: Ino) {
        self.shard(ino).lock().entry(ino.0).or_default().lookups += 1;
    }

    /// The kernel forgot as many lookups.
    pub fn forget(&self, ino: Ino, lookups: u64) {
        self.let_go(ino, |entry| entry.lookups = entry.lookups.saturating_sub(lookups));
    }

    /// The kernel is gone, which knew the inode.
    pub fn forget_all(&self, ino: Ino) {
        self.let_go(ino, |entry| entry.lookups = 0);
    }

    /// The kernel still knows the inode.
    pub fn kernel_knows(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get(&ino.0).is_some_and(|entry| entry.lookups > 0)
    }

    /// The inodes that the kernel knows.
    pub fn kernel_known(&self) -> Vec<Ino> {
        let known = |shard: &Mutex<HashMap<u64, Entry>>| -> Vec<Ino> {
            shard.lock().iter().filter(|(_, entry)| entry.lookups > 0).map(|(ino, _)| Ino(*ino)).collect()
        };
        self.shards.iter().flat_map(known).collect()
    }

    /// Makes an inode an orphan, if anybody still knows it; its rows are the caller's to give.
    pub(super) fn orphan(&self, ino: Ino, rows: Orphan) -> Option<Arc<Node>> {
        let mut shard = self.shard(ino).lock();
        let entry = shard.get_mut(&ino.0).filter(|entry| entry.known())?;
        let node = entry.node.get_or_insert_with(|| Node::new(ino)).clone();
        *node.orphan.write() = Some(rows);
        Some(node)
    }

    /// Whether anybody would still know the inode if it lost its last name.
    pub fn known(&self, ino: Ino) -> bool {
        self.shard(ino).lock().get(&ino.0).is_some_and(Entry::known)
    }

    /// Undoes [`Nodes::orphan`] after a change that failed.
    pub(super) fn adopt(&self, ino: Ino) {
        if let Some(node) = self.get(ino) {
            let orphan = node.orphan.write().take();
            // Its pins take the journal's locks: not under the orphan's.
            drop(orphan);
        }
        self.let_go(ino, |_| ());
    }

    /// The nodes in use, for captures and counts.
    pub fn all(&self) -> Vec<Arc<Node>> {
        self.shards
            .iter()
            .flat_map(|s| s.lock().values().filter_map(|e| e.node.clone()).collect::<Vec<_>>())
            .collect()
    }

    fn let_go(&self, ino: Ino, change: impl FnOnce(&mut Entry)) {
        let mut shard = self.shard(ino).lock();
        let Some(entry) = shard.get_mut(&ino.0) else { return };
        change(entry);
        let gone = if entry.uses == 0 {
            match entry.known() {
                true if entry.node.as_ref().is_some_and(|node| node.is_orphan()) => None,
                true => entry.node.take(),
                false => shard.remove(&ino.0).and_then(|entry| entry.node),
            }
        } else {
            None
        };
        // Its state may free files and blobs: not under the shard's lock.
        drop(shard);
        drop(gone);
    }

    fn shard(&self, ino: Ino) -> &Mutex<HashMap<u64, Entry>> {
        &self.shards[ino.0 as usize % SHARDS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::row::Time;

    fn orphan() -> Orphan {
        let t = Time::default();
        let row = InodeRow {
            mode: libc::S_IFREG,
            uid: 0,
            gid: 0,
            nlink: 0,
            rdev: 0,
            size: 0,
            allocated: 0,
            atime: t,
            mtime: t,
            ctime: t,
            btime: t,
            version: 1,
            home: None,
            target: Vec::new(),
        };
        Orphan { row, xattrs: BTreeMap::new(), extents: BTreeMap::new(), _pins: None }
    }

    #[test]
    fn an_inode_has_one_node_while_it_is_used() {
        let nodes = Nodes::new();
        let first = nodes.hold(Ino(5));
        let second = nodes.hold(Ino(5));
        assert!(Arc::ptr_eq(&first, &second));
        drop(first);
        assert!(nodes.get(Ino(5)).is_some());
        drop(second);
        assert!(nodes.get(Ino(5)).is_none());
        assert!(nodes.all().is_empty());
    }

    #[test]
    fn an_orphan_lives_until_the_last_use_and_lookup() {
        let nodes = Nodes::new();
        assert!(nodes.orphan(Ino(7), orphan()).is_none(), "nobody knows it");
        nodes.looked_up(Ino(7));
        let open = nodes.hold(Ino(7));
        nodes.forget(Ino(7), 1);
        assert!(nodes.orphan(Ino(7), orphan()).is_some());
        drop(open);
        assert!(nodes.get(Ino(7)).is_none());

        nodes.looked_up(Ino(8));
        nodes.looked_up(Ino(8));
        assert!(nodes.orphan(Ino(8), orphan()).is_some());
        drop(nodes.hold(Ino(8)));
        nodes.forget(Ino(8), 1);
        assert!(nodes.get(Ino(8)).is_some_and(|n| n.is_orphan()));
        nodes.forget(Ino(8), 1);
        assert!(nodes.get(Ino(8)).is_none());
    }

    #[test]
    fn what_an_answer_shows_is_taken_once() {
        let nodes = Nodes::new();
        assert!(nodes.show(Ino(9)).is_none());
        assert!(!nodes.take_shown(Ino(9)), "the kernel does not know it");
        nodes.looked_up(Ino(9));
        assert!(!nodes.take_shown(Ino(9)), "the answer to the change that made it is no look at it");
        nodes.show(Ino(9));
        assert!(nodes.take_shown(Ino(9)));
        assert!(!nodes.take_shown(Ino(9)));
        nodes.show_looked_up(Ino(9));
        nodes.forget(Ino(9), 1);
        assert!(nodes.take_shown(Ino(9)));
        nodes.show(Ino::ROOT);
        assert!(nodes.take_shown(Ino::ROOT), "nobody looks it up");
    }

    #[test]
    fn a_change_that_failed_leaves_no_orphan() {
        let nodes = Nodes::new();
        nodes.looked_up(Ino(9));
        nodes.orphan(Ino(9), orphan());
        nodes.adopt(Ino(9));
        assert!(nodes.get(Ino(9)).is_none());
        assert!(nodes.kernel_knows(Ino(9)));
    }
}
