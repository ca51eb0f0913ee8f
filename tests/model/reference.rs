//! The simplest file system that behaves as it should: everything in memory, nothing clever.

use crate::ops::{Kind, Move, Path, Reserve, SLOTS};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An inode of the model; not the session's number.
pub type Id = usize;

/// What failed, as errno.
pub type Result<T> = std::result::Result<T, i32>;

pub const ROOT: Id = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    Dir(BTreeMap<Vec<u8>, Id>),
    File(Arc<Vec<u8>>),
    Symlink(Vec<u8>),
    Fifo,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub what: What,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Names of what is no directory.
    pub nlink: u32,
    /// As utimens set it, until the content changes.
    pub mtime: Option<i64>,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// A tree, and the files that are open.
#[derive(Debug, Clone)]
pub struct Model {
    pub nodes: BTreeMap<Id, Node>,
    next: Id,
    pub open: [Option<Id>; SLOTS],
}

impl Model {
    pub fn new() -> Model {
        let root = new_node(What::Dir(BTreeMap::new()), 0o755);
        Model { nodes: BTreeMap::from([(ROOT, root)]), next: 1, open: [None; SLOTS] }
    }

    /// What a path names.
    pub fn find(&self, path: &Path) -> Result<Id> {
        let (parent, name) = self.parent(path)?;
        self.entry(parent, &name)
    }

    /// The directory of a path's last name, and that name.
    pub fn parent(&self, path: &Path) -> Result<(Id, Vec<u8>)> {
        let mut names = path.names();
        let last = names.pop().expect("paths are not empty");
        let mut at = ROOT;
        for name in names {
            at = self.entry(at, &name)?;
        }
        self.dir(at)?;
        Ok((at, last))
    }

    fn entry(&self, parent: Id, name: &[u8]) -> Result<Id> {
        self.dir(parent)?.get(name).copied().ok_or(libc::ENOENT)
    }

    fn dir(&self, id: Id) -> Result<&BTreeMap<Vec<u8>, Id>> {
        match &self.nodes[&id].what {
            What::Dir(entries) => Ok(entries),
            _ => Err(libc::ENOTDIR),
        }
    }

    fn dir_mut(&mut self, id: Id) -> &mut BTreeMap<Vec<u8>, Id> {
        match &mut self.node(id).what {
            What::Dir(entries) => entries,
            other => panic!("{other:?} is no directory"),
        }
    }

    pub fn node(&mut self, id: Id) -> &mut Node {
        self.nodes.get_mut(&id).expect("known")
    }

    fn is_dir(&self, id: Id) -> bool {
        matches!(self.nodes[&id].what, What::Dir(_))
    }

    fn add(&mut self, at: &Path, node: Node) -> Result<Id> {
        let (parent, name) = self.parent(at)?;
        if self.dir(parent)?.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        let id = self.next;
        self.next += 1;
        let mut node = node;
        if self.nodes[&parent].mode & 0o2000 != 0 {
            node.gid = self.nodes[&parent].gid;
            if matches!(node.what, What::Dir(_)) {
                node.mode |= 0o2000;
            }
        }
        self.nodes.insert(id, node);
        self.dir_mut(parent).insert(name, id);
        self.node(parent).mtime = None;
        Ok(id)
    }

    pub fn make(&mut self, at: &Path, kind: Kind, mode: u32) -> Result<Id> {
        let what = match kind {
            Kind::File => What::File(Arc::default()),
            Kind::Dir => What::Dir(BTreeMap::new()),
            Kind::Fifo => What::Fifo,
        };
        self.add(at, new_node(what, mode & !0o022))
    }

    pub fn symlink(&mut self, at: &Path, target: &[u8]) -> Result<Id> {
        self.add(at, new_node(What::Symlink(target.to_vec()), 0o777))
    }

    /// Takes a name from what is no directory, or from an empty one.
    fn drop_name(&mut self, id: Id) {
        let open = self.open.contains(&Some(id));
        let node = self.node(id);
        node.nlink -= 1;
        if node.nlink == 0 && !open {
            self.nodes.remove(&id);
        }
    }

    fn remove(&mut self, at: &Path, dir: bool) -> Result<()> {
        let (parent, name) = self.parent(at)?;
        let id = self.entry(parent, &name)?;
        match (&self.nodes[&id].what, dir) {
            (What::Dir(entries), true) if !entries.is_empty() => return Err(libc::ENOTEMPTY),
            (What::Dir(_), false) => return Err(libc::EISDIR),
            (What::Dir(_), true) => {}
            (_, true) => return Err(libc::ENOTDIR),
            (_, false) => {}
        }
        self.dir_mut(parent).remove(&name);
        self.node(parent).mtime = None;
        self.drop_name(id);
        Ok(())
    }

    pub fn unlink(&mut self, at: &Path) -> Result<()> {
        self.remove(at, false)
    }

    pub fn rmdir(&mut self, at: &Path) -> Result<()> {
        self.remove(at, true)
    }

    pub fn link(&mut self, from: &Path, to: &Path) -> Result<Id> {
        let id = self.find(from)?;
        let (parent, name) = self.parent(to)?;
        if self.dir(parent)?.contains_key(&name) {
            return Err(libc::EEXIST);
        }
        if self.is_dir(id) {
            return Err(libc::EPERM);
        }
        self.node(id).nlink += 1;
        self.dir_mut(parent).insert(name, id);
        self.node(parent).mtime = None;
        Ok(id)
    }

    fn is_below(&self, id: Id, above: Id) -> bool {
        let below = |e: &BTreeMap<Vec<u8>, Id>| e.values().any(|&child| self.is_below(id, child));
        id == above || self.dir(above).is_ok_and(below)
    }

    /// Moves a name; the ids that moved.
    pub fn rename(&mut self, from: &Path, to: &Path, how: Move) -> Result<Vec<Id>> {
        let (from_dir, from_name) = self.parent(from)?;
        let (to_dir, to_name) = self.parent(to)?;
        let source = self.entry(from_dir, &from_name)?;
        let target = self.dir(to_dir)?.get(&to_name).copied();
        self.check_move(source, target, from_dir, to_dir, how)?;
        match (how, target) {
            (Move::NoReplace, Some(_)) => Err(libc::EEXIST),
            (Move::Exchange, None) => Err(libc::ENOENT),
            (_, Some(target)) if target == source => Ok(Vec::new()),
            (Move::Exchange, Some(target)) => {
                self.dir_mut(from_dir).insert(from_name, target);
                self.dir_mut(to_dir).insert(to_name, source);
                (self.node(from_dir).mtime, self.node(to_dir).mtime) = (None, None);
                Ok(vec![source, target])
            }
            (_, target) => {
                self.check_replace(source, target)?;
                self.dir_mut(from_dir).remove(&from_name);
                self.dir_mut(to_dir).insert(to_name, source);
                self.node(from_dir).mtime = None;
                self.node(to_dir).mtime = None;
                target.into_iter().for_each(|target| self.drop_name(target));
                Ok(vec![source])
            }
        }
    }

    fn check_move(&self, source: Id, target: Option<Id>, from: Id, to: Id, how: Move) -> Result<()> {
        if from == to {
            return Ok(());
        }
        if self.is_below(to, source) {
            return Err(libc::EINVAL);
        }
        match (target.is_some_and(|target| self.is_below(from, target)), how) {
            (false, _) => Ok(()),
            (true, Move::Replace) => Err(libc::ENOTEMPTY),
            (true, Move::NoReplace) => Err(libc::EEXIST),
            (true, Move::Exchange) => Err(libc::EINVAL),
        }
    }

    fn check_replace(&self, source: Id, target: Option<Id>) -> Result<()> {
        let Some(target) = target else { return Ok(()) };
        match (&self.nodes[&source].what, &self.nodes[&target].what) {
            (What::Dir(_), What::Dir(entries)) if !entries.is_empty() => Err(libc::ENOTEMPTY),
            (What::Dir(_), What::Dir(_)) => Ok(()),
            (What::Dir(_), _) => Err(libc::ENOTDIR),
            (_, What::Dir(_)) => Err(libc::EISDIR),
            _ => Ok(()),
        }
    }

    pub fn chmod(&mut self, at: &Path, mode: u32) -> Result<()> {
        let id = self.find(at)?;
        if matches!(self.nodes[&id].what, What::Symlink(_)) {
            return Err(libc::EOPNOTSUPP);
        }
        self.node(id).mode = mode;
        Ok(())
    }

    pub fn chown(&mut self, at: &Path, uid: u32, gid: u32) -> Result<()> {
        let id = self.find(at)?;
        let is_dir = self.is_dir(id);
        let node = self.node(id);
        (node.uid, node.gid) = (uid, gid);
        if !is_dir {
            node.mode &= !0o4000;
            if node.mode & 0o010 != 0 {
                node.mode &= !0o2000;
            }
        }
        Ok(())
    }

    pub fn utimens(&mut self, at: &Path, mtime: i64) -> Result<()> {
        let id = self.find(at)?;
        self.node(id).mtime = Some(mtime);
        Ok(())
    }

    pub fn set_xattr(&mut self, at: &Path, name: &[u8], value: &[u8]) -> Result<()> {
        let id = self.find(at)?;
        self.node(id).xattrs.insert(name.to_vec(), value.to_vec());
        Ok(())
    }

    pub fn remove_xattr(&mut self, at: &Path, name: &[u8]) -> Result<()> {
        let id = self.find(at)?;
        self.node(id).xattrs.remove(name).map(drop).ok_or(libc::ENODATA)
    }

    pub fn truncate(&mut self, at: &Path, size: u64) -> Result<Id> {
        let id = self.find(at)?;
        match self.nodes[&id].what {
            What::Dir(_) => Err(libc::EISDIR),
            What::File(_) => {
                self.change(id, |data| data.resize(size as usize, 0));
                Ok(id)
            }
            _ => Err(libc::EINVAL),
        }
    }

    /// Opens a regular file; whether it was made.
    pub fn open(&mut self, slot: usize, at: &Path, create: bool, truncate: bool) -> Result<(Id, bool)> {
        let (id, made) = match self.find(at) {
            Err(libc::ENOENT) if create => (self.make(at, Kind::File, 0o644)?, true),
            found => (found?, false),
        };
        match self.nodes[&id].what {
            What::Dir(_) => return Err(libc::EISDIR),
            What::File(_) => {}
            // The kernel handles these; a session is never asked.
            _ => return Err(libc::EINVAL),
        }
        if truncate && !made {
            self.change(id, Vec::clear);
        }
        self.open[slot] = Some(id);
        Ok((id, made))
    }

    pub fn close(&mut self, slot: usize) {
        let Some(id) = self.open[slot].take() else { return };
        if self.nodes[&id].nlink == 0 && !self.open.contains(&Some(id)) {
            self.nodes.remove(&id);
        }
    }

    pub fn write(&mut self, id: Id, offset: u64, bytes: &[u8]) {
        self.change(id, |data| {
            let (start, end) = (offset as usize, offset as usize + bytes.len());
            data.resize(data.len().max(end), 0);
            data[start..end].copy_from_slice(bytes);
        });
    }

    pub fn read(&self, id: Id, offset: u64, len: usize) -> Vec<u8> {
        let data = self.data(id);
        let start = data.len().min(offset as usize);
        data[start..data.len().min(start + len)].to_vec()
    }

    pub fn reserve(&mut self, id: Id, offset: u64, len: u64, how: Reserve) {
        let (start, end) = (offset as usize, (offset + len) as usize);
        let size = self.data(id).len();
        let grow = matches!(how, Reserve::Grow | Reserve::Zero);
        let zero = matches!(how, Reserve::Punch | Reserve::Zero | Reserve::ZeroKeep);
        if how == Reserve::KeepSize {
            return;
        }
        self.change(id, |data| {
            if grow {
                data.resize(size.max(end), 0);
            }
            let (start, end) = (start.min(data.len()), end.min(data.len()));
            if zero {
                data[start..end].fill(0);
            }
        });
    }

    pub fn copy(&mut self, from: Id, from_at: u64, to: Id, to_at: u64, len: u64) -> u64 {
        let bytes = self.read(from, from_at, len as usize);
        if !bytes.is_empty() {
            self.write(to, to_at, &bytes);
        }
        bytes.len() as u64
    }

    pub fn data(&self, id: Id) -> &Arc<Vec<u8>> {
        match &self.nodes[&id].what {
            What::File(data) => data,
            other => panic!("{other:?} is no file"),
        }
    }

    /// Changes a file's content.
    pub fn change(&mut self, id: Id, change: impl FnOnce(&mut Vec<u8>)) {
        let node = self.node(id);
        node.mtime = None;
        match &mut node.what {
            What::File(data) => change(Arc::make_mut(data)),
            other => panic!("{other:?} is no file"),
        }
    }

    /// Nothing is open after a crash or remount.
    pub fn forget_open(&mut self) {
        (0..SLOTS).for_each(|slot| self.close(slot));
    }
}

fn new_node(what: What, mode: u32) -> Node {
    Node { what, mode, uid: 0, gid: 0, nlink: 1, mtime: None, xattrs: BTreeMap::new() }
}
