//! The tree of the bare server: inodes with their names and contents.

use fuser::{BackingId, Errno, FileAttr, FileType, INodeNo};
use std::collections::{BTreeMap, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

/// What an inode holds.
pub enum Content {
    /// A directory: names and their inodes.
    Names(BTreeMap<OsString, u64>),
    /// A file's bytes.
    Bytes(Vec<u8>),
    /// A file's bytes in a file that the kernel uses itself, under this number while there are opens.
    Backing { file: File, id: Option<Arc<BackingId>> },
    /// Where a symlink points.
    Target(Vec<u8>),
}

/// An inode.
pub struct Node {
    /// What stat(2) shows; the size of a backing file is asked of it.
    pub attr: FileAttr,
    /// What it holds.
    pub content: Content,
    /// How often it is open.
    pub opens: AtomicUsize,
}

impl Node {
    fn new(attr: FileAttr, content: Content) -> Node {
        Node { attr, content, opens: AtomicUsize::new(0) }
    }

    /// What stat(2) shows now.
    pub fn attr(&self) -> FileAttr {
        let mut attr = self.attr;
        match &self.content {
            Content::Bytes(bytes) => attr.size = bytes.len() as u64,
            Content::Backing { file, .. } => {
                if let Ok(meta) = file.metadata() {
                    attr.size = meta.size();
                    attr.mtime = meta.modified().unwrap_or(attr.mtime);
                }
            }
            Content::Target(target) => attr.size = target.len() as u64,
            Content::Names(_) => {}
        }
        attr.blocks = attr.size.div_ceil(512);
        attr
    }
}

/// All inodes.
pub struct Tree {
    nodes: HashMap<u64, Node>,
    next: u64,
    backing: Option<PathBuf>,
    pool: Vec<File>,
}

impl Tree {
    /// An empty root; contents of files are files of `backing`, or in memory without one.
    pub fn new(backing: Option<PathBuf>) -> Tree {
        let root = Node::new(attr(1, FileType::Directory, 0o755, (0, 0)), Content::Names(BTreeMap::new()));
        Tree { nodes: HashMap::from([(1, root)]), next: 2, backing, pool: Vec::new() }
    }

    /// An inode.
    pub fn node(&self, ino: INodeNo) -> Result<&Node, Errno> {
        self.nodes.get(&ino.0).ok_or(Errno::ENOENT)
    }

    /// An inode to change.
    pub fn node_mut(&mut self, ino: INodeNo) -> Result<&mut Node, Errno> {
        self.nodes.get_mut(&ino.0).ok_or(Errno::ENOENT)
    }

    /// The names of a directory.
    pub fn names(&self, ino: INodeNo) -> Result<&BTreeMap<OsString, u64>, Errno> {
        match &self.node(ino)?.content {
            Content::Names(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    fn names_mut(&mut self, ino: INodeNo) -> Result<&mut BTreeMap<OsString, u64>, Errno> {
        let node = self.node_mut(ino)?;
        node.attr.mtime = SystemTime::now();
        node.attr.ctime = node.attr.mtime;
        match &mut node.content {
            Content::Names(names) => Ok(names),
            _ => Err(Errno::ENOTDIR),
        }
    }

    /// The inode of a name; `None` if there is none.
    pub fn find(&self, parent: INodeNo, name: &OsStr) -> Result<Option<&Node>, Errno> {
        match self.names(parent)?.get(name) {
            Some(ino) => self.node(INodeNo(*ino)).map(Some),
            None => Ok(None),
        }
    }

    /// A new file, directory or (with a target) symlink.
    pub fn make(
        &mut self,
        (parent, name): (INodeNo, &OsStr),
        (kind, mode, owner): (FileType, u32, (u32, u32)),
        target: Option<&Path>,
    ) -> Result<FileAttr, Errno> {
        if self.find(parent, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let content = match (kind, target) {
            (FileType::Directory, _) => Content::Names(BTreeMap::new()),
            (_, Some(target)) => Content::Target(target.as_os_str().as_encoded_bytes().to_vec()),
            (_, None) => self.new_content()?,
        };
        let ino = self.next;
        self.next += 1;
        let attr = attr(ino, kind, mode, owner);
        self.names_mut(parent)?.insert(name.to_owned(), ino);
        self.nodes.insert(ino, Node::new(attr, content));
        Ok(attr)
    }

    fn new_content(&mut self) -> Result<Content, Errno> {
        let Some(dir) = &self.backing else { return Ok(Content::Bytes(Vec::new())) };
        let file = match self.pool.pop() {
            Some(file) => file,
            None => tempfile::tempfile_in(dir)?,
        };
        Ok(Content::Backing { file, id: None })
    }

    /// One more name for an inode.
    pub fn link(&mut self, ino: INodeNo, parent: INodeNo, name: &OsStr) -> Result<FileAttr, Errno> {
        if self.find(parent, name)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.names_mut(parent)?.insert(name.to_owned(), ino.0);
        let node = self.node_mut(ino)?;
        node.attr.nlink += 1;
        Ok(node.attr())
    }

    /// Takes a name away, and its inode with the last one.
    pub fn remove(&mut self, parent: INodeNo, name: &OsStr, directory: bool) -> Result<(), Errno> {
        let ino = INodeNo(*self.names(parent)?.get(name).ok_or(Errno::ENOENT)?);
        match (&self.node(ino)?.content, directory) {
            (Content::Names(names), true) if !names.is_empty() => return Err(Errno::ENOTEMPTY),
            (Content::Names(_), false) => return Err(Errno::EISDIR),
            (Content::Names(_), true) | (_, false) => {}
            (_, true) => return Err(Errno::ENOTDIR),
        }
        self.names_mut(parent)?.remove(name);
        self.drop_name(ino)
    }

    /// Moves a name; what had the new one goes.
    pub fn rename(&mut self, from: (INodeNo, &OsStr), to: (INodeNo, &OsStr)) -> Result<(), Errno> {
        let ino = *self.names(from.0)?.get(from.1).ok_or(Errno::ENOENT)?;
        if let Some(there) = self.names(to.0)?.get(to.1).copied() {
            if there == ino {
                return Ok(());
            }
            if matches!(&self.node(INodeNo(there))?.content, Content::Names(names) if !names.is_empty()) {
                return Err(Errno::ENOTEMPTY);
            }
            self.drop_name(INodeNo(there))?;
        }
        self.names_mut(from.0)?.remove(from.1);
        self.names_mut(to.0)?.insert(to.1.to_owned(), ino);
        Ok(())
    }

    /// An inode that has lost a name goes with its last one, unless it is open.
    fn drop_name(&mut self, ino: INodeNo) -> Result<(), Errno> {
        let node = self.node_mut(ino)?;
        node.attr.nlink -= 1;
        let directory = matches!(node.content, Content::Names(_));
        if directory || node.attr.nlink == 0 {
            self.let_go(ino);
        }
        Ok(())
    }

    /// Forgets an inode that has no name left; its backing file is used again. One that is open stays.
    pub fn let_go(&mut self, ino: INodeNo) {
        if self.nodes.get(&ino.0).is_some_and(|node| node.opens.load(Ordering::Relaxed) > 0) {
            return;
        }
        if let Some(Node { content: Content::Backing { file, .. }, .. }) = self.nodes.remove(&ino.0)
            && file.set_len(0).is_ok()
        {
            self.pool.push(file);
        }
    }
}

/// The attributes of a new inode.
pub fn attr(ino: u64, kind: FileType, mode: u32, (uid, gid): (u32, u32)) -> FileAttr {
    let now = SystemTime::now();
    FileAttr {
        ino: INodeNo(ino),
        size: 0,
        blocks: 0,
        atime: now,
        mtime: now,
        ctime: now,
        crtime: now,
        kind,
        perm: (mode & 0o7777) as u16,
        nlink: 1,
        uid,
        gid,
        rdev: 0,
        blksize: 4096,
        flags: 0,
    }
}
