//! Requests: each is translated, asked of the session, and answered.

use super::answer::Answers;
use super::backing::Backings;
use super::batch;
use super::convert::{self, caller, ino};
use super::count::Operation;
use super::flags;
use super::open::{OpenReply, Opendir, send_open};
use super::refresh::RefreshAttr;
use super::report::Op;
use super::watch;
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
use std::time::{Instant, SystemTime};

/// The most a request may write or read, in bytes; the kernel takes no more.
const MAX_WRITE: u32 = 1 << 20;
/// Reads ahead that may be under way.
const MAX_BACKGROUND: u16 = 64;
/// The block of statfs.
const BLOCK: u64 = 4096;
/// The longest range of one copy: what the reply can count, in whole pages.
const MAX_COPY: u64 = 0xffff_f000;

/// What is asked of the kernel where it has it. Not FUSE_ATOMIC_O_TRUNC: with it, an open that is refused because the file
/// is running (O_RDONLY with O_TRUNC) would have emptied it.
const WANTED: [InitFlags; 9] = [
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

/// What a change of content takes of set-id bits is for us to take: without it, the kernel asks for the capabilities of
/// the file before each write that goes through its pages or past us. Of one past us that takes bits it sends a setattr
/// of nothing.
const PRIVILEGES_ARE_OURS: InitFlags = InitFlags::FUSE_HANDLE_KILLPRIV_V2;

/// A session as a FUSE file system.
pub struct CwdFs {
    /// Turns results into replies.
    pub answers: Arc<Answers>,
    /// Backing files of passthrough opens.
    pub backings: Arc<Backings>,
    /// Stacking depth for passthrough; 0 without.
    pub depth: u32,
    /// How directories are opened.
    pub opendir: Opendir,
    /// The extended attribute that asks for an import.
    pub refresh: Option<RefreshAttr>,
}

/// An operation that begins now.
fn op(operation: Operation, req: &Request, ino: INodeNo) -> Op {
    let op = Op { operation, ino: Ino(ino.0), pid: req.pid(), began: Instant::now() };
    watch::begins(op);
    op
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
            Outcome::Ready(result) => {
                finish(result);
                self.answers.linger.after(op.began);
            }
            Outcome::Later(wait) => {
                watch::ends();
                let waits = Arc::clone(&self.answers);
                self.answers.runtime.spawn(async move {
                    let _waits = (waits.counts.waits(), waits.watch.waits(op));
                    finish(wait.await);
                });
            }
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
        if self.opendir == Opendir::Never
            && !config.capabilities().contains(InitFlags::FUSE_NO_OPENDIR_SUPPORT)
        {
            self.opendir = Opendir::Kept;
        }
        if self.depth > 0 {
            let refused = || io::Error::other("the kernel took passthrough a moment ago and now refuses it");
            config.add_capabilities(InitFlags::FUSE_PASSTHROUGH).map_err(|_| refused())?;
            config.set_max_stack_depth(self.depth).map_err(|_| refused())?;
        }
        if config.add_capabilities(PRIVILEGES_ARE_OURS).is_ok() {
            self.answers.session.privileges_are_ours();
        }
        Ok(())
    }

    // ---- names and attributes

    fn lookup(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        let op = op(Operation::Lookup, req, parent);
        let found = self.answers.session.lookup(ino(parent), bytes(name));
        self.answers.now(op, found, reply);
    }

    fn forget(&self, _req: &Request, number: INodeNo, lookups: u64) {
        self.answers.session.forget(ino(number), lookups);
    }

    fn getattr(&self, req: &Request, number: INodeNo, _fh: Option<FileHandle>, reply: ReplyAttr) {
        let op = op(Operation::Getattr, req, number);
        self.answers.now(op, self.answers.session.getattr(ino(number)), reply);
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
        let op = op(Operation::Setattr, req, number);
        let set = convert::set_attr(mode, uid, gid, size, atime, mtime);
        let done = self.answers.session.setattr(caller(req), ino(number), handle.map(fh), set);
        self.answers.give(op, done, reply);
    }

    fn readlink(&self, req: &Request, number: INodeNo, reply: ReplyData) {
        let op = op(Operation::Readlink, req, number);
        self.answers.now(op, self.answers.session.readlink(ino(number)), reply);
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
        let op = op(Operation::Mknod, req, parent);
        // No type bits mean a regular file.
        let mode = if mode & libc::S_IFMT == 0 { mode | libc::S_IFREG } else { mode };
        let new = node(mode, umask, rdev);
        let made = self.answers.session.make(caller(req), ino(parent), bytes(name), new);
        self.answers.give(op, made, reply);
    }

    fn mkdir(&self, req: &Request, parent: INodeNo, name: &OsStr, mode: u32, umask: u32, reply: ReplyEntry) {
        let op = op(Operation::Mkdir, req, parent);
        let new = node(libc::S_IFDIR | (mode & 0o7777), umask, 0);
        let made = self.answers.session.make(caller(req), ino(parent), bytes(name), new);
        self.answers.give(op, made, reply);
    }

    fn symlink(&self, req: &Request, parent: INodeNo, name: &OsStr, target: &Path, reply: ReplyEntry) {
        let op = op(Operation::Symlink, req, parent);
        let target = target.as_os_str().as_bytes().to_vec();
        let new = NewNode { mode: libc::S_IFLNK | 0o777, umask: 0, rdev: 0, target };
        let made = self.answers.session.make(caller(req), ino(parent), bytes(name), new);
        self.answers.give(op, made, reply);
    }

    fn unlink(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let op = op(Operation::Unlink, req, parent);
        let done = self.answers.session.unlink(caller(req), ino(parent), bytes(name));
        self.answers.give(op, done, reply);
    }

    fn rmdir(&self, req: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let op = op(Operation::Rmdir, req, parent);
        let done = self.answers.session.rmdir(caller(req), ino(parent), bytes(name));
        self.answers.give(op, done, reply);
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
        let op = op(Operation::Rename, req, parent);
        let Some(mode) = convert::rename_mode(flags) else {
            return reply.error(self.answers.refused(op, Errno::EINVAL));
        };
        let (from, to) = ((ino(parent), bytes(name)), (ino(newparent), bytes(newname)));
        let done = self.answers.session.rename(caller(req), from, to, mode);
        self.answers.give(op, done, reply);
    }

    fn link(&self, req: &Request, number: INodeNo, newparent: INodeNo, newname: &OsStr, reply: ReplyEntry) {
        let op = op(Operation::Link, req, number);
        let done = self.answers.session.link(caller(req), ino(number), ino(newparent), bytes(newname));
        self.answers.give(op, done, reply);
    }

    fn statfs(&self, req: &Request, number: INodeNo, reply: ReplyStatfs) {
        let op = op(Operation::Statfs, req, number);
        match self.answers.session.statfs() {
            Ok(fs) => {
                let (blocks, free) = (fs.total / BLOCK, fs.free / BLOCK);
                let files = fs.files.saturating_add(free);
                self.answers.done(op);
                reply.statfs(blocks, free, free, files, free, BLOCK as u32, 255, BLOCK as u32);
            }
            Err(error) => reply.error(self.answers.errno(op, &error)),
        }
    }

    // ---- files

    fn open(&self, req: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        let op = op(Operation::Open, req, number);
        let opened = self.answers.session.open(caller(req), ino(number), convert::open_flags(flags.0));
        self.open_reply(op, |_, op| op.ino, opened, reply);
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
        let op = op(Operation::Create, req, parent);
        let new = node(libc::S_IFREG | (mode & 0o7777), umask, 0);
        let flags = convert::open_flags(flags);
        let made = self.answers.session.create(caller(req), ino(parent), bytes(name), new, flags);
        self.open_reply(op, |found: &(Attr, Opened), _| found.0.ino, made, reply);
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
        let op = op(Operation::Read, req, number);
        let read = self.answers.session.read(fh(handle), ino(number), offset, size);
        self.answers.give(op, read, reply);
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
        let op = op(Operation::Write, req, number);
        let how = convert::write_how(write_flags);
        let done = self.answers.session.write(caller(req), fh(handle), ino(number), offset, data, how);
        self.answers.give(op, done, reply);
    }

    fn flush(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        _lock_owner: LockOwner,
        reply: ReplyEmpty,
    ) {
        let op = op(Operation::Flush, req, number);
        let done = self.answers.session.flush(caller(req), fh(handle), ino(number));
        self.answers.give(op, done, reply);
    }

    fn fsync(&self, req: &Request, number: INodeNo, handle: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let op = op(Operation::Fsync, req, number);
        let done = self.answers.session.fsync(caller(req), fh(handle), ino(number));
        self.answers.give(op, done, reply);
    }

    fn release(
        &self,
        req: &Request,
        number: INodeNo,
        handle: FileHandle,
        _flags: OpenFlags,
        _lock_owner: Option<LockOwner>,
        _flush: bool,
        reply: ReplyEmpty,
    ) {
        let op = op(Operation::Release, req, number);
        self.answers.session.release(fh(handle));
        self.backings.release(ino(number), fh(handle));
        self.answers.done(op);
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
        let op = op(Operation::Fallocate, req, number);
        let Some(how) = convert::allocate(mode) else {
            return reply.error(self.answers.refused(op, Errno::EOPNOTSUPP));
        };
        let done = self.answers.session.fallocate(caller(req), fh(handle), ino(number), offset, length, how);
        self.answers.give(op, done, reply);
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
        let op = op(Operation::Lseek, req, number);
        let hole = match whence {
            libc::SEEK_DATA => false,
            libc::SEEK_HOLE => true,
            _ => return reply.error(self.answers.refused(op, Errno::EINVAL)),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(self.answers.refused(op, Errno::ENXIO));
        };
        let found = self.answers.session.seek(ino(number), offset, hole);
        self.answers.give(op, found, reply);
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
        let op = op(Operation::CopyFileRange, req, ino_out);
        if !flags.is_empty() {
            return reply.error(self.answers.refused(op, Errno::EINVAL));
        }
        let (from, to) = ((fh(fh_in), ino(ino_in), offset_in), (fh(fh_out), ino(ino_out), offset_out));
        let done = self.answers.session.copy_range(caller(req), from, to, len.min(MAX_COPY));
        self.answers.give(op, done, reply);
    }

    // ---- directories

    /// No handle is needed. ENOSYS: the kernel opens directories by itself from now on, and keeps their listings.
    fn opendir(&self, req: &Request, number: INodeNo, _flags: OpenFlags, reply: ReplyOpen) {
        self.answers.done(op(Operation::Opendir, req, number));
        let keep = FopenFlags::FOPEN_CACHE_DIR | FopenFlags::FOPEN_KEEP_CACHE;
        match self.opendir {
            Opendir::Never => reply.error(Errno::ENOSYS),
            Opendir::Kept => reply.opened(FileHandle(0), keep),
            Opendir::Fresh => reply.opened(FileHandle(0), FopenFlags::empty()),
        }
    }

    fn readdir(
        &self,
        req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectory,
    ) {
        let op = op(Operation::Readdir, req, number);
        let mut emit = |entry: &DirEntry| {
            let name = OsStr::from_bytes(&entry.name);
            !reply.add(INodeNo(entry.ino.0), entry.cookie, convert::kind(entry.kind), name)
        };
        let listed = self.answers.session.readdir(ino(number), offset, false, &mut emit);
        self.answers.now(op, listed, reply);
    }

    fn readdirplus(
        &self,
        req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let op = op(Operation::Readdirplus, req, number);
        let ttl = self.answers.ttl.entry;
        let mut emit = |entry: &DirEntry| {
            let attr = entry.attr.as_ref().map_or_else(|| convert::dot(entry.ino), convert::attr);
            let name = OsStr::from_bytes(&entry.name);
            !reply.add(attr.ino, entry.cookie, name, &ttl, &attr, Generation(0))
        };
        let listed = self.answers.session.readdir(ino(number), offset, true, &mut emit);
        self.answers.now(op, listed, reply);
    }

    fn releasedir(
        &self,
        req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        _flags: OpenFlags,
        reply: ReplyEmpty,
    ) {
        self.answers.done(op(Operation::Releasedir, req, number));
        reply.ok();
    }

    fn fsyncdir(&self, req: &Request, number: INodeNo, _fh: FileHandle, _datasync: bool, reply: ReplyEmpty) {
        let op = op(Operation::Fsyncdir, req, number);
        self.answers.give(op, self.answers.session.fsyncdir(caller(req), ino(number)), reply);
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
        let op = op(Operation::Setxattr, req, number);
        if let Some(refresh) = self.refresh.as_ref().filter(|refresh| refresh.is_named(bytes(name))) {
            return self.answers.give(op, refresh.refresh(), reply);
        }
        let Some(mode) = convert::xattr_mode(flags) else {
            return reply.error(self.answers.refused(op, Errno::EINVAL));
        };
        let done = self.answers.session.setxattr(caller(req), ino(number), bytes(name), value, mode);
        self.answers.give(op, done, reply);
    }

    fn getxattr(&self, req: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        let op = op(Operation::Getxattr, req, number);
        let value = self.answers.session.getxattr(ino(number), bytes(name));
        self.answers.xattr(op, size, value, reply);
    }

    fn listxattr(&self, req: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        let op = op(Operation::Listxattr, req, number);
        let list = self.answers.session.listxattr(caller(req), ino(number)).map(|names| {
            let terminated = names.into_iter().flat_map(|name| name.into_iter().chain([0]));
            terminated.collect()
        });
        self.answers.xattr(op, size, list, reply);
    }

    fn removexattr(&self, req: &Request, number: INodeNo, name: &OsStr, reply: ReplyEmpty) {
        let op = op(Operation::Removexattr, req, number);
        let done = self.answers.session.removexattr(caller(req), ino(number), bytes(name));
        self.answers.give(op, done, reply);
    }

    // ---- what there is little or nothing of; answered without a word in the log

    fn ioctl(
        &self,
        req: &Request,
        number: INodeNo,
        _fh: FileHandle,
        _flags: IoctlFlags,
        cmd: u32,
        in_data: &[u8],
        _out_size: u32,
        reply: ReplyIoctl,
    ) {
        let op = op(Operation::Ioctl, req, number);
        if cmd == batch::COMMAND {
            let answer = batch::answer(&self.answers.session, caller(req), in_data);
            return self.answers.give(op, answer, reply);
        }
        match flags::answer(cmd, in_data) {
            Ok(bytes) => {
                self.answers.done(op);
                reply.ioctl(0, bytes);
            }
            Err(errno) => reply.error(self.answers.refused(op, errno)),
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
