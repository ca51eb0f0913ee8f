//! What the kernel must forget: because of a change that it did not make, or because an answer from before a change may
//! reach it after that change.
//!
//! Invariant: attributes that were read for an answer before a change was applied are forgotten after it. The kernel
//! itself orders answers about a file that it changes, but not those about a directory whose entries it changes: it
//! would keep an answer that is overtaken for as long as it may keep any.

use super::Session;
use super::api::Invalidation;
use super::node::Nodes;
use crate::log::ids::Ino;
use crate::log::row::{Key, KeyBytes};
use parking_lot::Mutex;
use std::collections::hash_map::Entry::{Occupied, Vacant};
use std::collections::{BTreeSet, HashMap};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;

/// A queue to the thread that tells the kernel.
pub(super) struct Invalidations {
    send: Sender<Invalidation>,
    queue: Mutex<Option<Queue>>,
    /// How many were queued.
    queued: Mutex<u64>,
    /// How many of them the kernel was told of.
    told: Arc<watch::Sender<u64>>,
    /// Inodes whose attributes the kernel was told to forget a moment ago; whether it is to be told again.
    paced: Mutex<HashMap<Ino, bool>>,
    /// Has the kernel forget a directory's attributes before it returns.
    at_once: OnceLock<AtOnce>,
}

type AtOnce = Box<dyn Fn(Ino) + Send + Sync>;

/// Between two times that the kernel is told to forget one inode's attributes, for each makes it ask again.
const PACE: Duration = Duration::from_millis(10);

/// What the kernel must forget, in order. Asking for the next one says that the kernel was told of the one
/// before.
pub struct Queue {
    receive: Receiver<Invalidation>,
    told: Arc<watch::Sender<u64>>,
    /// One was handed out.
    telling: bool,
}

impl Queue {
    fn next_told(&mut self) {
        if std::mem::take(&mut self.telling) {
            self.told.send_modify(|told| *told += 1);
        }
    }

    /// What is queued by now.
    pub fn all_now(&mut self) -> Vec<Invalidation> {
        let all: Vec<_> = self.receive.try_iter().collect();
        self.told.send_modify(|told| *told += all.len() as u64);
        all
    }
}

/// Ends when the session does.
impl Iterator for Queue {
    type Item = Invalidation;

    fn next(&mut self) -> Option<Invalidation> {
        self.next_told();
        let next = self.receive.recv().ok();
        self.telling = next.is_some();
        next
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        // There is no kernel any more that could be told.
        self.told.send_replace(u64::MAX);
    }
}

impl Default for Invalidations {
    fn default() -> Self {
        let (send, receive) = channel();
        let told = Arc::new(watch::Sender::new(0));
        let queue = Queue { receive, told: told.clone(), telling: false };
        Invalidations {
            send,
            queue: Mutex::new(Some(queue)),
            queued: Mutex::new(0),
            told,
            paced: Mutex::default(),
            at_once: OnceLock::new(),
        }
    }
}

impl Invalidations {
    /// Queues one.
    pub fn push(&self, what: Invalidation) {
        // Without a kernel (tests, a session being closed) nobody listens, and nothing is cached.
        let mut queued = self.queued.lock();
        if self.send.send(what).is_ok() {
            *queued += 1;
        }
    }

    /// The kernel is to forget an inode's attributes: at once, or, where it did so a moment ago, soon.
    fn attributes(self: &Arc<Self>, runtime: &Handle, ino: Ino, is_dir: bool) {
        match self.paced.lock().entry(ino) {
            Occupied(mut again) => {
                again.insert(true);
                return;
            }
            Vacant(first) => first.insert(false),
        };
        match self.at_once.get() {
            Some(forget) if is_dir => forget(ino),
            // The kernel may make it wait until pages of a file are written back: not with a request unanswered.
            _ => self.push(Invalidation::Attributes(ino)),
        }
        runtime.spawn(Self::pace(Arc::downgrade(self), ino));
    }

    async fn pace(invalidations: Weak<Self>, ino: Ino) {
        loop {
            tokio::time::sleep(PACE).await;
            let Some(this) = invalidations.upgrade() else { return };
            match this.paced.lock().entry(ino) {
                Occupied(mut again) if *again.get() => *again.get_mut() = false,
                Occupied(over) => {
                    over.remove();
                    return;
                }
                Vacant(_) => return,
            }
            this.push(Invalidation::Attributes(ino));
        }
    }

    /// Returns once the kernel was told of all that is queued by now.
    async fn told(&self) {
        if self.queue.lock().is_some() {
            // Nobody listens: nothing is cached.
            return;
        }
        let queued = *self.queued.lock();
        // The sender is ours: it cannot be closed.
        let _ = self.told.subscribe().wait_for(|told| *told >= queued).await;
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
    pub fn invalidations(&self) -> Option<Queue> {
        self.invalidate.queue.lock().take()
    }

    /// A change of an inode was applied whose answer does not bring its attributes.
    pub(super) fn attributes_changed(&self, ino: Ino, is_dir: bool) {
        if self.nodes.take_shown(ino) {
            self.invalidate.attributes(&self.runtime, ino, is_dir);
        }
    }

    /// How the kernel is made to forget a directory's attributes before a change of it is answered. Given once, before
    /// the first request.
    pub fn forget_at_once(&self, forget: impl Fn(Ino) + Send + Sync + 'static) {
        // A second kernel would be a second mount of one session, which nothing makes.
        let _ = self.invalidate.at_once.set(Box::new(forget));
    }

    /// Returns once the kernel has forgotten what it was to forget so far, or the time of a wait is over.
    pub(crate) async fn invalidated(&self) {
        if tokio::time::timeout(self.options.timeout, self.invalidate.told()).await.is_err() {
            tracing::warn!("the kernel has not forgotten in time what it was to forget; it goes on");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::row::Cookie;

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_goes_on_once_the_kernel_was_told() {
        let invalidations = Invalidations::default();
        invalidations.told().await;
        let mut queue = invalidations.queue.lock().take().unwrap();
        invalidations.push(Invalidation::Inode(Ino(5)));
        let waits =
            async || tokio::time::timeout(Duration::from_secs(1), invalidations.told()).await.is_err();
        assert!(waits().await);
        queue.next();
        assert!(waits().await, "it is being told");
        invalidations.push(Invalidation::Inode(Ino(6)));
        queue.next();
        assert!(waits().await, "the second is being told");
        queue.next_told();
        assert!(!waits().await);
        invalidations.push(Invalidation::Inode(Ino(7)));
        drop(queue);
        assert!(!waits().await, "the mount is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn attributes_that_change_all_the_time_are_forgotten_at_a_pace() {
        let invalidations = Arc::new(Invalidations::default());
        let mut queue = invalidations.queue.lock().take().unwrap();
        let change = || invalidations.attributes(&Handle::current(), Ino(5), false);
        let forgotten = vec![Invalidation::Attributes(Ino(5))];
        change();
        assert_eq!(queue.all_now(), forgotten, "at once");
        (0..100).for_each(|_| change());
        assert!(queue.all_now().is_empty());
        tokio::time::sleep(PACE * 2).await;
        assert_eq!(queue.all_now(), forgotten, "the last change too, once");
        tokio::time::sleep(PACE * 2).await;
        assert!(queue.all_now().is_empty() && invalidations.paced.lock().is_empty());
        change();
        assert_eq!(queue.all_now(), forgotten, "at once again");
    }

    #[tokio::test(start_paused = true)]
    async fn a_directory_s_attributes_are_forgotten_before_its_change_is_answered() {
        let invalidations = Arc::new(Invalidations::default());
        let mut queue = invalidations.queue.lock().take().unwrap();
        let forgotten = Arc::new(Mutex::new(Vec::new()));
        let told = forgotten.clone();
        assert!(invalidations.at_once.set(Box::new(move |ino| told.lock().push(ino))).is_ok());
        let change = |ino, is_dir| invalidations.attributes(&Handle::current(), ino, is_dir);
        change(Ino(5), true);
        change(Ino(6), false);
        assert_eq!(*forgotten.lock(), [Ino(5)]);
        assert_eq!(queue.all_now(), [Invalidation::Attributes(Ino(6))]);
    }

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
        let told: Vec<_> = invalidations.queue.lock().take().unwrap().all_now();
        let entry = Invalidation::Entry { parent: Ino(5), name: b"a".to_vec() };
        assert_eq!(told, [entry, Invalidation::Inode(Ino(5))]);
    }
}
