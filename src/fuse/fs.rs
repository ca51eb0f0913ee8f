//! Requests: each is translated, asked of the session, and answered.

use super::answer::Answers;
use super::backing::Backings;
use super::convert::{self, caller, ino};
use super::flags;
use super::open::{OpenReply, send_open};
use super::refresh::RefreshAttr;
use super::report::Op;
use crate::log::ids::Ino;
use crate::session::SessionError;
use crate::session::api::{Attr, DirEntry, Fh, NewNode, Opened, Outcome};
use fuser::{
    BsdFileFlags, CopyFileRangeFlags, Errno, FileHandle, Filesystem, FopenFlags, Generation, INodeNo,
    InitFlags, IoctlFlags, KernelConfig, LockOwner, OpenFlags, PollEvents, PollFlags, PollNotifier,
    RenameFlags, ReplyAttr, ReplyBmap, ReplyCreate, ReplyData, ReplyDirectory, ReplyDirectoryPlus,
    ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyPoll, ReplyStatfs, ReplyWrite,
    ReplyXattr, Request, TimeOrNow, WriteFlags,
};
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

/// The most a request may write or read, in bytes; the kernel takes no more.
const MAX_WRITE: u32 = 1 << 20;
/// Reads ahead that may be under way.
const MAX_BACKGROUND: u16 = 64;
/// The block of statfs.
const BLOCK: u64 = 4096;
/// The longest range of one copy: what the reply can count, in whole pages.
const MAX_COPY: u64 = 0xffff_f000;

/// What is asked of the kernel where it has it.
const WANTED: [InitFlags; 10] = [
    InitFlags::FUSE_ATOMIC_O_TRUNC,
    InitFlags::FUSE_DONT_MASK,
    InitFlags::FUSE_POSIX_ACL,
    InitFlags::FUSE_PARALLEL_DIROPS,
    InitFlags::FUSE_DO_READDIRPLUS,
    InitFlags::FUSE_READDIRPLUS_AUTO,
    InitFlags::FUSE_CACHE_SYMLINKS,
    InitFlags::FUSE_EXPLICIT_INVAL_DATA,
    InitFlags::FUSE_DIRECT_IO_ALLOW_MMAP,
    // Handles of files (name_to_handle_at) can be opened: a number is one inode's for the session's life.
    InitFlags::FUSE_EXPORT_SUPPORT,
];

/// A session as a FUSE file system.
pub struct CwdFs {
    /// Turns results into replies.
    pub answers: Arc<Answers>,
    /// Backing files of passthrough opens.
    pub backings: Arc<Backings>,
    /// Stacking depth for passthrough; 0 without.
    pub depth: u32,
    /// Listings may be kept by the kernel.
    pub cache_dirs: bool,
    /// The extended attribute that asks for an import.
    pub refresh: Option<RefreshAttr>,
}

fn op(name: &'static str, req: &Request, ino: INodeNo) -> Op {
    Op { name, ino: Ino(ino.0), pid: req.pid() }
}

fn fh(handle: FileHandle) -> Fh {
    Fh(handle.0)
}

/// The name as bytes.
fn bytes(name: &OsStr) -> &[u8] {
    name.as_bytes()
}

fn node(mode: u32, umask: u32, rdev: u32) -> NewNode {
    NewNode { mode, umask, rdev, target: Vec::new() }
}

impl CwdFs {
    /// Answers an open: at once where it is ready. `number` tells the inode from what was found.
    fn open_reply<R: OpenReply>(
        &self,
        op: Op,
        number: fn(&R::Found, Op) -> Ino,
        outcome: Outcome<R::Found>,
        reply: R,
    ) {
        let (answers, backings) = (Arc::clone(&self.answers), Arc::clone(&self.backings));
        let finish = move |result: Result<R::Found, SessionError>| match result {
            Ok(found) => {
                let ino = number(&found, op);
                send_open(&answers, &backings, Op { ino, ..op }, found, reply);
            }
            Err(error) => reply.refuse(answers.errno(op, &error)),
        };
        match outcome {
            Outcome::Ready(result) => finish(result),
            Outcome::Later(wait) => {
                self.answers.runtime.spawn(async move { finish(wait.await) });
            }
        }
    }

    fn list(
        &self,
        (handle, ino, cookie): (FileHandle, INodeNo, u64),
        attrs: bool,
        emit: &mut dyn FnMut(&DirEntry) -> bool,
    ) -> Result<(), SessionError> {
        self.answers.session.readdir(fh(handle), Ino(ino.0), cookie, attrs, emit)
    }

    fn xattr(&self, op: Op, size: u32, value: Result<Vec<u8>, SessionError>, reply: ReplyXattr) {
        match value {
            Err(error) => reply.error(self.answers.errno(op, &error)),
            // A value is far below 4 GiB: the kernel takes no more than 64 KiB.
            Ok(value) if size == 0 => reply.size(value.len() as u32),
            Ok(value) if value.len() > size as usize => reply.error(Errno::ERANGE),
            Ok(value) => reply.data(&value),
        }
    }
}

impl Filesystem for CwdFs {
    fn init(&mut self, _req: &Request, config: &mut KernelConfig) -> io::Result<()> {
        // Values out of range are answered with the nearest one that is not.
        let _ = config.set_max_write(MAX_WRITE).or_else(|most| config.set_max_write(most));
        let _ = config.set_max_background(MAX_BACKGROUND);
        for flag in WANTED {
            if config.add_capabilities(flag).is_err() {
                tracing::debug!(?flag, "this kernel lacks a capability");
            }
        }
        if self.depth > 0 {
            let refused = || io::Error::other("the kernel took passthrough a moment ago and now refuses it");
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| refused())?;
            config.set_max_stack_depth(self.depth).map_err(|_| refused())?;
        }
        Ok(())
    }

    // ---- names and attributes

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let found = self.answers.session.lookup(ino(parent), bytes(name));
        self.answers.now(op("lookup", req, parent), found, reply);
    }

    fn forget(&self, _req: &Request, number: INodeNo, lookups: u64) {
        self.answers.session.forget(ino(number), lookups);
    }

    fn getattr(&self, req: &Request, number: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        self.answers.now(op("getattr", req, number), self.answers.session.getattr(ino(number)), reply);
    }

    fn setattr(
        &self,
        req: &Request,
        number: INodeNo,
        mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
        size: Option<u64>,
        atime: Option<TimeOrNow>,
        mtime: Option<TimeOrNow>,
        _ctime: Option<SystemTime>,
        handle: Option<FileHandle>,
        _crtime: Option<SystemTime>,
        _chgtime: Option<SystemTime>,
        _bkuptime: Option<SystemTime>,
        _flags: Option<BsdFileFlags>,
        reply: ReplyAttr,
    ) {
        let set = convert::set_attr(mode, uid, gid, size, atime, mtime);
        let done = self.answers.session.setattr(caller(req), ino(number), handle.map(fh), set);
        self.answers.give(op("setattr", req, number), done, reply);
    }

    fn readlink(&self, req: &Request, number: INodeNo, reply: ReplyData) {
        self.answers.now(op("readlink", req, number), self.answers.session.readlink(ino(number)), reply);
    }

    fn mknod(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        rdev: u32,
        reply: ReplyEntry,
    ) {
        // No type bits mean a regular file.
        let mode = if mode & libc::S_IFMT == 0 { mode | libc::S_IFREG } else { mode };
        let new = node(mode, umask, rdev);
        let made = self.answers.session.make(caller(req), ino(parent), bytes(name), new);
        self.answers.give(op("mknod", req, parent), made, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let new = node(libc::S_IFDIR | (mode & 0o7777), umask, 0);
        let made = self.answers.session.make(caller(req), ino(parent), bytes(name), new);
        self.answers.give(op("mkdir", req, parent), made, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let target = target.as_os_str().as_bytes().to_vec();
        let new = NewNode { mode: libc::S_IFLNK | 0o777, umask: 0, rdev: 0, target };
        let made = self.answers.session.make(caller(req), ino(parent), bytes(name), new);
        self.answers.give(op("symlink", req, parent), made, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.answers.session.unlink(caller(req), ino(parent), bytes(name));
        self.answers.give(op("unlink", req, parent), done, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.answers.session.rmdir(caller(req), ino(parent), bytes(name));
        self.answers.give(op("rmdir", req, parent), done, reply);
    }

    fn rename(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        newparent: INodeNo,
        newname: &OsStr,
        flags: RenameFlags,
        reply: ReplyEmpty,
    ) {
        let Some(mode) = convert::rename_mode(flags) else { return reply.error(Errno::EINVAL) };
        let (from, to) = ((ino(parent), bytes(name)), (ino(newparent), bytes(newname)));
        let done = self.answers.session.rename(caller(req), from, to, mode);
        self.answers.give(op("rename", req, parent), done, reply);
    }

    fn link(&self, req: &Request, number: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let done = self.answers.session.link(caller(req), ino(number), ino(newparent), bytes(newname));
        self.answers.give(op("link", req, number), done, reply);
    }

    fn statfs(&self, req: &Request, number: INodeNo, reply: ReplyStatfs) {
        match self.answers.session.statfs() {
            Ok(fs) => {
                let (blocks, free) = (fs.total / BLOCK, fs.free / BLOCK);
                let files = fs.files.saturating_add(free);
                reply.statfs(blocks, free, free, files, free, BLOCK as u32, 255, BLOCK as u32);
            }
            Err(error) => reply.error(self.answers.errno(op("statfs", req, number), &error)),
        }
    }

    // ---- files

    fn open(&self, req: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let opened = self.answers.session.open(caller(req), ino(number), convert::open_flags(flags.0));
        self.open_reply(op("open", req, number), |_, op| op.ino, opened, reply);
    }

    fn create(
        &self,
        req: &Request,
        parent: INodeNo,
        name: &OsStr,
        mode: u32,
        umask: u32,
        flags: i32,
        reply: ReplyCreate,
    ) {
        let new = node(libc::S_IFREG | (mode & 0o7777), umask, 0);
        let flags = convert::open_flags(flags);
        let made = self.answers.session.create(caller(req), ino(parent), bytes(name), new, flags);
        self.open_reply(op("create", req, parent), |found: &(Attr, Opened), _| found.0.ino, made, reply);
    }

    fn read(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let read = self.answers.session.read(fh(handle), ino(number), offset, size);
        self.answers.give(op("read", req, number), read, reply);
    }

    fn write(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        data: &[u8],
        write_flags: WriteFlags,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        reply: ReplyWrite,
    ) {
        let how = convert::write_how(write_flags);
        let done = self.answers.session.write(caller(req), fh(handle), ino(number), offset, data, how);
        self.answers.give(op("write", req, number), done, reply);
    }

    fn flush(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let done = self.answers.session.flush(caller(req), fh(handle), ino(number));
        self.answers.give(op("flush", req, number), done, reply);
    }

    fn fsync(&self, req: &Request, number: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let done = self.answers.session.fsync(fh(handle), ino(number));
        self.answers.give(op("fsync", req, number), done, reply);
    }

    fn release(
        &self,
        _req: &Request,
        number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        self.answers.session.release(fh(handle));
        self.backings.release(ino(number), fh(handle));
        reply.ok();
    }

    fn fallocate(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        length: u64,
        mode: i32,
        reply: ReplyEmpty,
    ) {
        let Some(how) = convert::allocate(mode) else { return reply.error(Errno::EOPNOTSUPP) };
        let done = self.answers.session.fallocate(caller(req), fh(handle), ino(number), offset, length, how);
        self.answers.give(op("fallocate", req, number), done, reply);
    }

    fn lseek(
        &self,
        req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else { return reply.error(Errno::ENXIO) };
        let found = self.answers.session.seek(ino(number), offset, hole);
        self.answers.now(op("lseek", req, number), found, reply);
    }

    fn copy_file_range(
        &self,
        req: &Request,
        ino_in: INodeNo,
        fh_in: FileHandle,
        offset_in: u64,
        ino_out: INodeNo,
        fh_out: FileHandle,
        offset_out: u64,
        len: u64,
        flags: CopyFileRangeFlags,
        reply: ReplyWrite,
    ) {
        if !flags.is_empty() {
            return reply.error(Errno::EINVAL);
        }
        let (from, to) = ((fh(fh_in), ino(ino_in), offset_in), (fh(fh_out), ino(ino_out), offset_out));
        let done = self.answers.session.copy_range(caller(req), from, to, len.min(MAX_COPY));
        self.answers.give(op("copy_file_range", req, ino_out), done, reply);
    }

    // ---- directories

    fn opendir(&self, req: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        let flags = if self.cache_dirs { keep } else { FopenFlags::empty() };
        match self.answers.session.opendir(ino(number)) {
            Ok(handle) => reply.opened(FileHandle(handle.0), flags),
            Err(error) => reply.error(self.answers.errno(op("opendir", req, number), &error)),
        }
    }

    fn readdir(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let mut emit = |entry: &DirEntry| {
            let name = OsStr::from_bytes(&entry.name);
            !reply.add(INodeNo(entry.ino.0), entry.cookie, convert::kind(entry.kind), name)
        };
        match self.list((handle, number, offset), false, &mut emit) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.answers.errno(op("readdir", req, number), &error)),
        }
    }

    fn readdirplus(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let ttl = self.answers.ttl.entry;
        let mut emit = |entry: &DirEntry| {
            let attr = entry.attr.as_ref().map_or_else(|| convert::dot(entry.ino), convert::attr);
            let name = OsStr::from_bytes(&entry.name);
            !reply.add(attr.ino, entry.cookie, name, &ttl, &attr, Generation(0))
        };
        match self.list((handle, number, offset), true, &mut emit) {
            Ok(()) => reply.ok(),
            Err(error) => reply.error(self.answers.errno(op("readdirplus", req, number), &error)),
        }
    }

    fn releasedir(
        &self,
        _req: &Request,
        _ino: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.answers.session.releasedir(fh(handle));
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, number: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        self.answers.give(op("fsyncdir", req, number), self.answers.session.fsyncdir(ino(number)), reply);
    }

    // ---- extended attributes

    fn setxattr(
        &self,
        req: &Request,
        number: INodeNo,
        name: &OsStr,
        value: &[u8],
        flags: i32,
        _position: u32,
        reply: ReplyEmpty,
    ) {
        if let Some(refresh) = self.refresh.as_ref().filter(|refresh| refresh.is_named(bytes(name))) {
            return self.answers.give(op("setxattr", req, number), refresh.refresh(), reply);
        }
        let Some(mode) = convert::xattr_mode(flags) else { return reply.error(Errno::EINVAL) };
        let done = self.answers.session.setxattr(caller(req), ino(number), bytes(name), value, mode);
        self.answers.give(op("setxattr", req, number), done, reply);
    }

    fn getxattr(&self, req: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let value = self.answers.session.getxattr(ino(number), bytes(name));
        self.xattr(op("getxattr", req, number), size, value, reply);
    }

    fn listxattr(&self, req: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let list = self.answers.session.listxattr(caller(req), ino(number)).map(|names| {
            let terminated = names.into_iter().flat_map(|name| name.into_iter().chain([0]));
            terminated.collect()
        });
        self.xattr(op("listxattr", req, number), size, list, reply);
    }

    fn removexattr(&self, req: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let done = self.answers.session.removexattr(caller(req), ino(number), bytes(name));
        self.answers.give(op("removexattr", req, number), done, reply);
    }

    // ---- what there is little or nothing of; answered without a word in the log

    fn ioctl(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        match flags::answer(cmd, in_data) {
            Ok(bytes) => reply.ioctl(0, bytes),
            Err(errno) => reply.error(errno),
        }
    }

    fn poll(
        &self,
        _req: &Request,
        _ino: INodeNo,
        _fh: FileHandle,
        _ph: PollNotifier,
        _events: PollEvents,
        _flags: PollFlags,
        reply: ReplyPoll,
    ) {
        reply.error(Errno::ENOSYS);
    }

    fn bmap(&self, _req: &Request, _ino: INodeNo, _blocksize: u32, _idx: u64, reply: ReplyBmap) {
        reply.error(Errno::ENOSYS);
    }
}
