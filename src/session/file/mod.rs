//! The data path of a session: open files, reads, writes, captures, barriers.
//!
//! Invariants:
//! - an inode that is changed and has a name is in [`Data`]'s list of changed inodes, which keeps its node;
//! - a capture becomes rows in one change of the tree; what could not be captured stays changed;
//! - a waiting caller may leave at any time: captures and commits go on without it.

mod back;
mod barrier;
mod capture;
mod copy;
mod imported;
mod io;
pub(super) mod open;
mod room;
mod rows;

pub(super) use capture::PendingCapture;

use super::api::*;
use super::node::{Node, Nodes, Use};
use super::status::{Cache, Unstored};
use super::table::Table;
use super::{Session, SessionError, SessionOptions};
use crate::content::{Content, ContentConfig, ContentError, File, Live, Usage};
use crate::journal::Journal;
use crate::log::blobs::BlobNames;
use crate::log::ids::{Blob, Ino};
use crate::log::row::Time;
use crate::log::source::Seq;
use crate::store::ObjectStore;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What the data path keeps for the whole session.
pub struct Data {
    content: Arc<Content>,
    handles: Table<Handle>,
    /// Inodes with changed content.
    changed: Mutex<HashMap<Ino, Listed>>,
    /// Inodes whose backing file the kernel may have mapped.
    backed: Mutex<HashMap<Ino, Use>>,
    /// Inodes that were written past the kernel's pages since these were last dropped.
    stale: Mutex<HashSet<Ino>>,
    /// Inodes that were opened O_RDWR, where passthrough is allowed at all.
    read_write: Mutex<HashSet<Ino>>,
    passthrough: bool,
    /// The kernel has refused a backing file.
    refused: AtomicBool,
    /// What was committed when a wait for room or a capture timed out.
    stalled: Mutex<Option<Seq>>,
}

/// An inode with changed content.
struct Listed {
    node: Use,
    since: Instant,
}

/// An open file.
pub(super) struct Handle {
    node: Use,
    file: Arc<File>,
    flags: OpenFlags,
    mode: IoMode,
}

/// What the data path is opened with.
pub(super) struct DataConfig<'a> {
    /// Where blobs are.
    pub store: &'a Arc<dyn ObjectStore>,
    /// Where rows are.
    pub journal: &'a Arc<Journal>,
    /// The session's nodes; an orphan's extents are there and not in the journal.
    pub nodes: &'a Arc<Nodes>,
    /// How the session is opened.
    pub options: &'a SessionOptions,
    /// Names for new blobs; `None` of a follower.
    pub names: Option<Arc<BlobNames>>,
    /// Local content was last written in this boot of the machine.
    pub same_boot: bool,
}

impl Data {
    /// Opens local content, with what an earlier mount left there. To be called in the runtime's context.
    pub(super) fn open(config: DataConfig<'_>) -> Result<Data> {
        let rows = rows::SessionRows { journal: config.journal.clone(), nodes: Arc::downgrade(config.nodes) };
        let content = Content::open(ContentConfig {
            dir: config.options.cache_dir.clone(),
            cache_size: config.options.cache_size,
            store: config.store.clone(),
            names: config.names,
            rows: Arc::new(rows),
            runtime: tokio::runtime::Handle::current(),
            same_boot: config.same_boot,
        })?;
        Ok(Data {
            content,
            handles: Table::default(),
            changed: Mutex::default(),
            backed: Mutex::default(),
            stale: Mutex::default(),
            read_write: Mutex::default(),
            passthrough: config.options.passthrough,
            refused: AtomicBool::new(false),
            stalled: Mutex::default(),
        })
    }

    /// Keeps blobs that came here with the rows.
    pub(super) fn take(&self, objects: &[(Blob, Bytes)]) {
        objects.iter().for_each(|(blob, object)| self.content.take(blob, object));
    }

    /// Whether files may be opened in passthrough mode.
    pub(super) fn passes(&self) -> bool {
        self.passthrough && !self.refused.load(Ordering::Acquire)
    }

    fn saw_read_write(&self, ino: Ino) {
        if self.passthrough {
            self.read_write.lock().insert(ino);
        }
    }

    fn is_read_write(&self, ino: Ino) -> bool {
        self.read_write.lock().contains(&ino)
    }
}

/// What the data path keeps for an inode in use.
#[derive(Default)]
pub struct Slot {
    file: Mutex<Option<Arc<File>>>,
    modes: Mutex<open::Modes>,
    /// It is in the list of changed inodes.
    listed: AtomicBool,
    turns: capture::Turns,
    /// It was last closed in a batch, and its capture is still to come: that starts no commit of its own.
    unhurried: AtomicBool,
    /// It was seen to have no capabilities, and none were set since.
    bare: AtomicBool,
    /// Its capabilities were removed, maybe by a change of its content.
    stripped: AtomicBool,
    /// None of its content lies in plain objects, and never will: only an import makes such an inode.
    owned: AtomicBool,
    /// It has no extents: it was made since it is in use here.
    blank: AtomicBool,
}

impl Slot {
    /// The inode is being made, and nobody knows it yet: there is nothing of it to be looked for.
    pub(in crate::session) fn is_made(&self) {
        self.bare.store(true, Ordering::Release);
        self.owned.store(true, Ordering::Release);
        self.blank.store(true, Ordering::Release);
    }

    /// Takes it for one without capabilities, until [`Slot::may_have_capability`]; tells whether it was taken for one
    /// before.
    pub(in crate::session) fn take_for_bare(&self) -> bool {
        self.bare.swap(true, Ordering::AcqRel)
    }

    /// The kernel removed its capabilities.
    pub(in crate::session) fn lost_capability(&self) {
        self.stripped.store(true, Ordering::Release);
    }

    /// Whether the kernel has removed its capabilities since this was last asked.
    pub(in crate::session) fn take_lost_capability(&self) -> bool {
        self.stripped.swap(false, Ordering::AcqRel)
    }

    /// Capabilities were set: a write has to look for them again.
    pub(in crate::session) fn may_have_capability(&self) {
        self.bare.store(false, Ordering::Release);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        match self.file.get_mut().take() {
            Some(file) if file.is_orphan() => file.discard(),
            Some(file) => file.rest(),
            None => {}
        }
    }
}

/// What the namespace asks of the data path.
impl Session {
    /// Size and times of changed content, which come before those of its row; `None`: the row says it all.
    pub(super) fn live(&self, node: &Node) -> Option<Live> {
        node.file.file.lock().clone()?.live()
    }

    /// utimens on a file whose content may be changed: later captures keep this time.
    pub(super) fn set_live_mtime(&self, node: &Node, mtime: Time) {
        if let Some(file) = &*node.file.file.lock() {
            file.set_mtime(mtime);
        }
    }

    /// `node` has lost its last name while in use: what it holds is never shipped from now on. Called with
    /// the lock of changes held; extents that are in it so far are in the orphan.
    pub(super) fn orphaned(&self, node: &Arc<Node>) {
        if let Some(file) = &*node.file.file.lock() {
            file.orphan();
        }
        let listed = self.data.changed.lock().remove(&node.ino);
        // Its use may be the node's last: not under the list's lock.
        drop(listed);
    }

    /// Content that is changed and not in the journal's rows: files and bytes (`rows` is 0).
    pub(super) fn uncaptured(&self) -> Unstored {
        let files = self.data.changed.lock().len() as u64;
        Unstored { rows: 0, files, bytes: self.data.content.usage().unstored }
    }

    /// The inodes with changed content, in use until they are dropped.
    fn changed_nodes(&self) -> Vec<Use> {
        self.data.changed.lock().values().map(|listed| listed.node.clone()).collect()
    }

    /// How long the oldest of it has been waiting for its capture; zero when there is none.
    pub(super) fn uncaptured_for(&self) -> Duration {
        let oldest = self.data.changed.lock().values().map(|listed| listed.since).min();
        oldest.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// The local cache's figures.
    pub(super) fn content_usage(&self) -> Usage {
        self.data.content.usage()
    }

    /// The local cache's size.
    pub(super) fn cache_usage(&self) -> Cache {
        let usage = self.data.content.usage();
        Cache { used: usage.used, limit: usage.limit }
    }

    /// A follower found an open inode's rows changed: forgets what it has cached of it.
    pub(super) fn reload(&self, node: &Arc<Node>) {
        let file = node.file.file.lock().clone();
        match (file, self.row(node.ino)) {
            (Some(file), Ok(row)) => file.reload(&row),
            _ => self.data.content.forget(node.ino),
        }
    }

    /// Gives up uploads and notes what is kept for the next mount. Nothing is called after it.
    pub(super) fn close_data(&self) -> Result<()> {
        let left = self.data.content.close()?;
        if left > 0 {
            tracing::warn!(
                "{left} files have content that is not in the store; it is kept for the next mount"
            );
        }
        Ok(())
    }

    fn handle(&self, fh: Fh) -> Result<Arc<Handle>> {
        self.data.handles.get(fh).ok_or(SessionError::Errno(libc::EBADF))
    }

    /// The content of an inode in use.
    fn file_of(&self, node: &Node) -> Result<Arc<File>> {
        let mut slot = node.file.file.lock();
        if let Some(file) = &*slot {
            return Ok(file.clone());
        }
        let row = self.row(node.ino)?;
        let file = self.data.content.file(node.ino, &row);
        if node.is_orphan() {
            file.orphan();
        }
        *slot = Some(file.clone());
        Ok(file)
    }

    /// An inode's content changed: it is in the list of changed inodes until it is captured.
    fn note_changed(&self, node: &Arc<Node>) {
        if node.file.listed.load(Ordering::Acquire) {
            return;
        }
        self.touched();
        let held = self.nodes.hold(node.ino);
        let mut changed = self.data.changed.lock();
        // What was captured or lost its name since is not listed: nothing would take it off again.
        let is_changed = node.file.file.lock().as_ref().is_some_and(|file| file.is_changed());
        let unlisted = match is_changed && !node.is_orphan() {
            true => {
                node.file.listed.store(true, Ordering::Release);
                changed.insert(node.ino, Listed { node: held, since: Instant::now() })
            }
            false => Some(Listed { node: held, since: Instant::now() }),
        };
        // Its use may be the node's last: not under the list's lock.
        drop(changed);
        drop(unlisted);
    }
}

impl From<ContentError> for SessionError {
    fn from(error: ContentError) -> SessionError {
        use crate::log::source::{LocalError, LocalKind};
        match error {
            ContentError::Local(e) => SessionError::Local(e),
            ContentError::Store(e) => SessionError::Store(e),
            ContentError::Corrupt { object, offset } => SessionError::Corrupt { object, offset },
            ContentError::Full(dir) => SessionError::CacheFull(dir),
            ContentError::Descriptors(_) => {
                SessionError::Local(LocalError::new(LocalKind::Descriptors, error.to_string()))
            }
            ContentError::Io { .. } | ContentError::Stopped => {
                SessionError::Local(LocalError::failed(error.to_string()))
            }
        }
    }
}
