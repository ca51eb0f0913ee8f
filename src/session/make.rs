//! Making files, directories, symlinks and the rest.

use super::acl::{ACCESS, Acl, DEFAULT};
use super::api::*;
use super::attr::now;
use super::change::Change;
use super::level::Place;
use super::options::Untold;
use super::path::check_new_name;
use super::{Durability, Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::InodeRow;
use crate::log::source::Seq;
use std::sync::Arc;

/// The longest target of a symlink, as on ext4 with 4 KiB blocks.
const MAX_TARGET: usize = 4095;

impl Session {
    /// Makes a file, FIFO, socket, device, directory or symlink, by the type bits of `new.mode`.
    pub fn make(self: &Arc<Self>, caller: Caller, parent: Ino, name: &[u8], new: NewNode) -> Outcome<Attr> {
        match self.make_now(caller, parent, name, &new) {
            Ok((seq, attr)) => self.settle(Some(seq), Place::Name(parent, name), attr),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    /// Makes a regular file and opens it; one that is there is opened, unless `flags.exclusive`.
    pub fn create(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        new: NewNode,
        flags: OpenFlags,
    ) -> Outcome<(Attr, Opened)> {
        let new = NewNode { mode: libc::S_IFREG | new.mode & 0o7777, ..new };
        let made = match self.make_now(caller, parent, name, &new) {
            Err(SessionError::Errno(libc::EEXIST)) if !flags.exclusive => {
                return self.open_there(caller, parent, name, flags);
            }
            Err(error) => return Outcome::Ready(Err(error)),
            Ok(made) => made,
        };
        let (seq, attr) = made;
        let opened = match self.open_created(caller, attr.ino, flags, seq) {
            Ok(opened) => opened,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        // A create starts no commit of its own: it goes with the close.
        match self.level_at(Place::Name(parent, name)) {
            Ok(Durability::Sync) => self.settle(Some(seq), Place::Name(parent, name), (attr, opened)),
            Ok(Durability::Close | Durability::Fsync) => Outcome::Ready(Ok((attr, opened))),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    fn make_now(&self, caller: Caller, parent: Ino, name: &[u8], new: &NewNode) -> Result<(Seq, Attr)> {
        check_new_name(parent, name)?;
        check_kind(new)?;
        let is_dir = new.mode & libc::S_IFMT == libc::S_IFDIR;
        let room = if is_dir { self.room_for_directory() } else { Ok(None) };
        let mut change = self.change()?;
        let mut dir = change.directory(parent)?;
        if change.entry(parent, name)?.is_some() {
            return Err(SessionError::Errno(libc::EEXIST));
        }
        let _turn = room?;
        let (ino, row) = self.put_new(&mut change, caller, (parent, &dir), name, new)?;
        let now = change.now();
        dir.nlink += u32::from(is_dir);
        (dir.mtime, dir.ctime) = (now, now);
        change.put_inode(parent, dir);
        let seq = change.apply_named()?;
        self.nodes.looked_up(ino);
        Ok((seq, self.attr_of(ino, row, None)))
    }

    /// Puts a new inode and its name into the change; the directory's own row is left to the caller.
    pub(super) fn put_new(
        &self,
        change: &mut Change<'_>,
        caller: Caller,
        (parent, dir): (Ino, &InodeRow),
        name: &[u8],
        new: &NewNode,
    ) -> Result<(Ino, InodeRow)> {
        let ino = change.new_ino();
        let mode = self.inherit(change, dir, parent, ino, new)?;
        let home = change.put_entry(parent, name, ino, mode);
        let now = change.now();
        let is_dir = mode & libc::S_IFMT == libc::S_IFDIR;
        let (uid, gid) = self.options.owners.of_new(caller, dir);
        let row = InodeRow {
            mode,
            uid,
            gid,
            nlink: if is_dir { 2 } else { 1 },
            rdev: new.rdev,
            size: new.target.len() as u64,
            allocated: 0,
            atime: now,
            mtime: now,
            ctime: now,
            btime: now,
            version: 1,
            home: Some(home),
            target: new.target.clone(),
        };
        change.put_inode(ino, row.clone());
        Ok((ino, row))
    }

    /// The mode of a new inode, after the umask or the directory's default ACL; the ACLs it gets are put
    /// into the change.
    fn inherit(
        &self,
        change: &mut Change<'_>,
        dir: &InodeRow,
        parent: Ino,
        ino: Ino,
        new: &NewNode,
    ) -> Result<u32> {
        let kind = new.mode & libc::S_IFMT;
        if kind == libc::S_IFLNK {
            return Ok(kind | 0o777);
        }
        let is_dir = kind == libc::S_IFDIR;
        let set_gid = if is_dir { dir.mode & libc::S_ISGID } else { 0 };
        let Some(default) = self.find_xattr(parent, DEFAULT)? else {
            return Ok(new.mode & !(new.umask & 0o777) | set_gid);
        };
        let Some(acl) = Acl::decode(&default)? else {
            return Ok(new.mode & !(new.umask & 0o777) | set_gid);
        };
        let (access, mode) = acl.inherit(new.mode);
        if let Some(access) = access {
            change.put_xattr(ino, ACCESS, Some(access.encode()));
        }
        if is_dir {
            change.put_xattr(ino, DEFAULT, Some(default.to_vec()));
        }
        Ok(mode | set_gid)
    }

    /// A create that found its name taken, without O_EXCL.
    fn open_there(
        self: &Arc<Self>,
        caller: Caller,
        parent: Ino,
        name: &[u8],
        flags: OpenFlags,
    ) -> Outcome<(Attr, Opened)> {
        let attr = match self.lookup(parent, name) {
            Ok(Some(attr)) => attr,
            // Removed since: the kernel looks again on ESTALE.
            Ok(None) => return Outcome::Ready(Err(SessionError::Errno(libc::ESTALE))),
            Err(error) => return Outcome::Ready(Err(error)),
        };
        let refused = match attr.mode & libc::S_IFMT {
            libc::S_IFREG => None,
            libc::S_IFDIR => Some(libc::EISDIR),
            // A symlink or device that came from elsewhere: the kernel has to look again and follow it.
            _ => Some(libc::ESTALE),
        };
        if let Some(errno) = refused {
            self.forget(attr.ino, 1);
            return Outcome::Ready(Err(SessionError::Errno(errno)));
        }
        let opened = self.open(caller, attr.ino, flags);
        let session = self.clone();
        let finish = move |opened: Result<Opened>| match opened {
            Ok(opened) => Ok((session.getattr(attr.ino)?, opened)),
            Err(error) => {
                session.forget(attr.ino, 1);
                Err(error)
            }
        };
        match opened {
            Outcome::Ready(opened) => Outcome::Ready(finish(opened)),
            Outcome::Later(opened) => Outcome::Later(Box::pin(async move { finish(opened.await) })),
        }
    }
}

fn check_kind(new: &NewNode) -> Result<()> {
    match new.mode & libc::S_IFMT {
        libc::S_IFLNK if new.target.is_empty() => Err(SessionError::Errno(libc::ENOENT)),
        libc::S_IFLNK if new.target.len() > MAX_TARGET => Err(SessionError::Errno(libc::ENAMETOOLONG)),
        libc::S_IFREG | libc::S_IFDIR | libc::S_IFLNK => Ok(()),
        libc::S_IFIFO | libc::S_IFSOCK | libc::S_IFCHR | libc::S_IFBLK => Ok(()),
        _ => Err(SessionError::Errno(libc::EINVAL)),
    }
}

/// A new session's root.
pub(super) fn root_row(untold: Untold) -> InodeRow {
    let (now, (uid, gid)) = (now(), untold.owner);
    InodeRow {
        mode: libc::S_IFDIR | untold.modes.directory,
        uid,
        gid,
        nlink: 2,
        rdev: 0,
        size: 0,
        allocated: 0,
        atime: now,
        mtime: now,
        ctime: now,
        btime: now,
        version: 1,
        home: None,
        target: Vec::new(),
    }
}
