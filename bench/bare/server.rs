//! The bare server: its tree, what is open, what is being listed.

use super::tree::{Content, Tree};
use fuser::{
    BackingId, Errno, FileAttr, FileHandle, FileType, FopenFlags, Generation, INodeNo, OpenAccMode,
    ReplyEntry, Request,
};
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Nobody else changes anything.
pub const FOR_EVER: Duration = Duration::from_secs(1 << 30);
/// Inode numbers are used once.
pub const GENERATION: Generation = Generation(0);

type Listing = Arc<Vec<(OsString, FileAttr)>>;

/// The server.
pub struct Bare {
    pub(super) tree: RwLock<Tree>,
    pub(super) passthrough: bool,
    /// Listings under way, by handle.
    pub(super) listings: Mutex<HashMap<u64, Listing>>,
    pub(super) next_handle: AtomicU64,
}

impl Bare {
    /// A server with an empty tree, contents in files of `backing` or in memory.
    pub fn new(backing: Option<PathBuf>) -> io::Result<Bare> {
        if let Some(dir) = &backing {
            std::fs::create_dir_all(dir)?;
        }
        let passthrough = backing.is_some();
        let tree = RwLock::new(Tree::new(backing));
        Ok(Bare { tree, passthrough, listings: Mutex::default(), next_handle: AtomicU64::new(1) })
    }

    /// How a file is opened: as cwdfs does it, by what the open may do.
    pub(super) fn flags(access: OpenAccMode) -> FopenFlags {
        match access {
            OpenAccMode::O_RDONLY => FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
            OpenAccMode::O_WRONLY => FopenFlags::FOPEN_DIRECT_IO,
            OpenAccMode::O_RDWR => FopenFlags::FOPEN_KEEP_CACHE,
        }
    }

    /// Counts an open; with a backing file, the number under which the kernel knows it.
    pub(super) fn open_backing(
        &self,
        ino: INodeNo,
        register: impl FnOnce(&std::fs::File) -> io::Result<BackingId>,
    ) -> Result<Option<Arc<BackingId>>, Errno> {
        if !self.passthrough {
            self.tree.read().node(ino)?.opens.fetch_add(1, Ordering::Relaxed);
            return Ok(None);
        }
        let mut tree = self.tree.write();
        let node = tree.node_mut(ino)?;
        let Content::Backing { file, id } = &mut node.content else { return Err(Errno::EISDIR) };
        let known = match id {
            Some(known) => Arc::clone(known),
            None => Arc::clone(id.insert(Arc::new(register(file)?))),
        };
        node.opens.fetch_add(1, Ordering::Relaxed);
        Ok(Some(known))
    }

    /// Counts the end of an open.
    pub(super) fn closed(&self, ino: INodeNo) {
        let last = match self.tree.read().node(ino) {
            Ok(node) => {
                node.opens.fetch_sub(1, Ordering::Relaxed) == 1 && (self.passthrough || node.attr.nlink == 0)
            }
            Err(_) => false,
        };
        if !last {
            return;
        }
        let mut tree = self.tree.write();
        let Ok(node) = tree.node_mut(ino) else { return };
        // Another open may have come meanwhile.
        if node.opens.load(Ordering::Relaxed) == 0 {
            if let Content::Backing { id, .. } = &mut node.content {
                *id = None;
            }
            if node.attr.nlink == 0 {
                tree.let_go(ino);
            }
        }
    }

    pub(super) fn make(
        &self,
        req: &Request,
        at: (INodeNo, &OsStr),
        (kind, mode): (FileType, u32),
        target: Option<&Path>,
        reply: ReplyEntry,
    ) {
        match self.tree.write().make(at, (kind, mode, (req.uid(), req.gid())), target) {
            Ok(attr) => reply.entry(&FOR_EVER, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    /// What the directory held when its listing was begun.
    pub(super) fn listing(&self, ino: INodeNo, handle: FileHandle) -> Result<Listing, Errno> {
        if let Some(begun) = self.listings.lock().get(&handle.0) {
            return Ok(Arc::clone(begun));
        }
        let tree = self.tree.read();
        let entry = |(name, ino): (&OsString, &u64)| Ok((name.clone(), tree.node(INodeNo(*ino))?.attr()));
        let entries = tree.names(ino)?.iter().map(entry).collect::<Result<Vec<_>, Errno>>()?;
        let listing = Arc::new(entries);
        self.listings.lock().insert(handle.0, Arc::clone(&listing));
        Ok(listing)
    }
}
