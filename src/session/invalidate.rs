//! What the kernel must forget because of a change that it did not make.

use super::Session;
use super::api::Invalidation;
use super::node::Nodes;
use crate::log::row::{Key, KeyBytes};
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};

/// A queue to the thread that tells the kernel.
pub(super) struct Invalidations {
    send: Sender<Invalidation>,
    receive: Mutex<Option<Receiver<Invalidation>>>,
}

impl Default for Invalidations {
    fn default() -> Self {
        let (send, receive) = channel();
        Invalidations { send, receive: Mutex::new(Some(receive)) }
    }
}

impl Invalidations {
    /// Queues one.
    pub fn push(&self, what: Invalidation) {
        // Without a kernel (tests, a session being closed) nobody listens, and nothing is cached.
        let _ = self.send.send(what);
    }

    /// Queues what a change of these rows makes out of date, as far as the kernel knows of it.
    pub fn rows<'a>(&self, nodes: &Nodes, keys: impl IntoIterator<Item = &'a KeyBytes>) {
        let mut inodes = BTreeSet::new();
        for key in keys {
            match Key::decode(key) {
                Some(Key::Dentry { parent, name, .. }) => {
                    self.push(Invalidation::Entry { parent, name });
                    inodes.insert(parent);
                }
                Some(Key::Inode { ino } | Key::Extent { ino, .. } | Key::Xattr { ino, .. }) => {
                    inodes.insert(ino);
                }
                Some(Key::Meta { .. } | Key::Link { .. } | Key::View { .. }) | None => {}
            }
        }
        for ino in inodes {
            if nodes.kernel_knows(ino) {
                self.push(Invalidation::Inode(ino));
            }
        }
    }
}

impl Session {
    /// Receives what the kernel must forget; taken once, by the thread that tells it.
    pub fn invalidations(&self) -> Option<Receiver<Invalidation>> {
        self.invalidate.receive.lock().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::ids::Ino;
    use crate::log::row::Cookie;

    #[test]
    fn the_kernel_is_told_of_names_and_of_inodes_it_knows() {
        let (invalidations, nodes) = (Invalidations::default(), Nodes::new());
        nodes.looked_up(Ino(5));
        let keys = [
            Key::Dentry { parent: Ino(5), cookie: Cookie(9), name: b"a".to_vec() }.encode(),
            Key::Inode { ino: Ino(6) }.encode(),
            Key::Extent { ino: Ino(5), offset: 0 }.encode(),
            Key::View { key: "a".into() }.encode(),
        ];
        invalidations.rows(&nodes, &keys);
        let told: Vec<_> = invalidations.receive.lock().take().unwrap().try_iter().collect();
        let entry = Invalidation::Entry { parent: Ino(5), name: b"a".to_vec() };
        assert_eq!(told, [entry, Invalidation::Inode(Ino(5))]);
    }
}
