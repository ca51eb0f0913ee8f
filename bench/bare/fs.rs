//! Requests to the bare server: each is answered where it is read.

use super::server::{Bare, FOR_EVER, GENERATION};
use super::tree::{self, Content, Node};
use fuser::{
    BsdFileFlags, Errno, FileHandle, FileType, Filesystem, FopenFlags, INodeNo, InitFlags, KernelConfig,
    LockOwner, OpenFlags, RenameFlags, ReplyAttr, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyOpen, ReplyStatfs, ReplyWrite, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

const MAX_WRITE: u32 = 1 << 20;
const MAX_BACKGROUND: u16 = 64;

const WANTED: [InitFlags; 6] = [
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
];

fn empty(result: Result<(), Errno>, reply: ReplyEmpty) {
    match result {
        Ok(()) => reply.ok(),
        Err(errno) => reply.error(errno),
    }
}

fn resize(node: &mut Node, size: u64) -> Result<(), Errno> {
    match &mut node.content {
        Content::Bytes(bytes) => bytes.resize(size as usize, 0),
        Content::Backing { file, .. } => file.set_len(size)?,
        _ => return Err(Errno::EISDIR),
    }
    Ok(())
}

fn moment(time: TimeOrNow) -> SystemTime {
    match time {
        TimeOrNow::SpecificTime(time) => time,
        TimeOrNow::Now => SystemTime::now(),
    }
}

impl Filesystem for Bare {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Values out of range are answered with the nearest one that is not.
        let _ = config.set_max_write(MAX_WRITE).or_else(|most| config.set_max_write(most));
        let _ = config.set_max_background(MAX_BACKGROUND);
        for flag in WANTED {
            config
                .add_capabilities(flag)
                .map_err(|_| io::Error::other(format!("this kernel lacks {flag:?}")))?;
        }
        if self.passthrough {
            let refused = || io::Error::other("this kernel lacks passthrough");
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| refused())?;
            config.set_max_stack_depth(2).map_err(|_| refused())?;
        }
        Ok(())
    }

    fn lookup(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.tree.read().find(parent, name) {
            Ok(Some(node)) => reply.entry(&FOR_EVER, &node.attr(), GENERATION),
            // Inode 0 is a name known not to be there.
            Ok(None) => reply.entry(&FOR_EVER, &tree::attr(0, FileType::RegularFile, 0, (0, 0)), GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn getattr(&self, _req: &Request, ino: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        match self.tree.read().node(ino) {
            Ok(node) => reply.attr(&FOR_EVER, &node.attr()),
            Err(errno) => reply.error(errno),
        }
    }

    fn setattr(
        &self,
        _req: &Request,
        ino: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        _fh: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let mut tree = self.tree.write();
        let changed = tree.node_mut(ino).and_then(|node| {
            if let Some(size) = size {
                resize(node, size)?;
            }
            node.attr.perm = mode.map_or(node.attr.perm, |mode| (mode & 0o7777) as u16);
            node.attr.uid = uid.unwrap_or(node.attr.uid);
            node.attr.gid = gid.unwrap_or(node.attr.gid);
            node.attr.atime = atime.map_or(node.attr.atime, moment);
            node.attr.mtime = mtime.map_or(node.attr.mtime, moment);
            Ok(node.attr())
        });
        match changed {
            Ok(attr) => reply.attr(&FOR_EVER, &attr),
            Err(errno) => reply.error(errno),
        }
    }

    fn readlink(&self, _req: &Request, ino: INodeNo, reply: ReplyData) {
        match self.tree.read().node(ino).map(|node| &node.content) {
            Ok(Content::Target(target)) => reply.data(target),
            Ok(_) => reply.error(Errno::EINVAL),
            Err(errno) => reply.error(errno),
        }
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, _umask: u32, reply: ReplyEntry) {
        self.make(req, (parent, name), (FileType::Directory, mode), None, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        self.make(req, (parent, name), (FileType::Symlink, 0o777), Some(target), reply);
    }

    fn link(&self, _req: &Request, ino: INodeNo, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.tree.write().link(ino, parent, name) {
            Ok(attr) => reply.entry(&FOR_EVER, &attr, GENERATION),
            Err(errno) => reply.error(errno),
        }
    }

    fn unlink(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.tree.write().remove(parent, name, false), reply);
    }

    fn rmdir(&self, _req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        empty(self.tree.write().remove(parent, name, true), reply);
    }

    fn rename(
        &self,
        _req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        _flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        empty(self.tree.write().rename((parent, name), (newparent, newname)), reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        _umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let owner = (req.uid(), req.gid());
        let made = self.tree.write().make((parent, name), (FileType::RegularFile, mode, owner), None);
        let attr = match made {
            Ok(attr) => attr,
            Err(errno) => return reply.error(errno),
        };
        match self.open_backing(attr.ino, |file| reply.open_backing(file)) {
            Ok(Some(id)) => {
                let none = FopenFlags::empty();
                reply.created_passthrough(&FOR_EVER, &attr, GENERATION, FileHandle(0), none, &id);
            }
            Ok(None) => {
                let flags = Bare::flags(OpenFlags(flags).acc_mode());
                reply.created(&FOR_EVER, &attr, GENERATION, FileHandle(0), flags);
            }
            Err(errno) => reply.error(errno),
        }
    }

    fn open(&self, _req: &Request, ino: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.0 & libc::O_TRUNC != 0
            && let Err(errno) = self.tree.write().node_mut(ino).and_then(|node| resize(node, 0))
        {
            return reply.error(errno);
        }
        match self.open_backing(ino, |file| reply.open_backing(file)) {
            Ok(Some(id)) => reply.opened_passthrough(FileHandle(0), FopenFlags::empty(), &id),
            Ok(None) => reply.opened(FileHandle(0), Bare::flags(flags.acc_mode())),
            Err(errno) => reply.error(errno),
        }
    }

    fn read(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        match self.tree.read().node(ino).map(|node| &node.content) {
            Ok(Content::Bytes(bytes)) => {
                let from = bytes.len().min(offset as usize);
                let to = bytes.len().min(from + size as usize);
                reply.data(&bytes[from..to]);
            }
            Ok(_) => reply.error(Errno::EISDIR),
            Err(errno) => reply.error(errno),
        }
    }

    fn write(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        offset: u64,
        data: &[u8],
        _write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let mut tree = self.tree.write();
        let node = match tree.node_mut(ino) {
            Ok(node) => node,
            Err(errno) => return reply.error(errno),
        };
        let Content::Bytes(bytes) = &mut node.content else { return reply.error(Errno::EISDIR) };
        let at = offset as usize;
        if bytes.len() == at {
            bytes.extend_from_slice(data);
        } else {
            bytes.resize(bytes.len().max(at + data.len()), 0);
            bytes[at..at + data.len()].copy_from_slice(data);
        }
        node.attr.mtime = SystemTime::now();
        reply.written(data.len() as u32);
    }

    fn flush(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _owner: LockOwner, reply: ReplyEmpty) {
        reply.ok();
    }

    fn release(
        &self,
        _req: &Request,
        ino: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.closed(ino);
        reply.ok();
    }

    fn fsync(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn opendir(&self, _req: &Request, ino: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        if let Err(errno) = self.tree.read().names(ino) {
            return reply.error(errno);
        }
        let handle = self.next_handle.fetch_add(1, Ordering::Relaxed);
        reply.opened(FileHandle(handle), FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE);
    }

    fn readdir(&self, _req: &Request, ino: INodeNo, fh: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let listing = match self.listing(ino, fh) {
            Ok(listing) => listing,
            Err(errno) => return reply.error(errno),
        };
        for (at, (name, attr)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(attr.ino, at as u64 + 1, attr.kind, name) {
                break;
            }
        }
        reply.ok();
    }

    fn readdirplus(
        &self,
        _req: &Request,
        ino: INodeNo,
        fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let listing = match self.listing(ino, fh) {
            Ok(listing) => listing,
            Err(errno) => return reply.error(errno),
        };
        for (at, (name, attr)) in listing.iter().enumerate().skip(offset as usize) {
            if reply.add(attr.ino, at as u64 + 1, name, &FOR_EVER, attr, GENERATION) {
                break;
            }
        }
        reply.ok();
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.listings.lock().remove(&fh.0);
        reply.ok();
    }

    fn fsyncdir(&self, _req: &Request, _ino: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        reply.ok();
    }

    fn statfs(&self, _req: &Request, _ino: INodeNo, reply: ReplyStatfs) {
        reply.statfs(1 << 40, 1 << 40, 1 << 40, 1 << 32, 1 << 32, 4096, 255, 4096);
    }
}
