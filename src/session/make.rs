//! Making files, directories, symlinks and the rest.

use super::acl::{ACCESS, Acl, DEFAULT};
use super::api::*;
use super::attr::now;
use super::change::Change;
use super::level::Place;
use super::node::Use;
use super::options::Untold;
use super::path::check_new_name;
use super::{Durability, Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::{InodeRow, is_dir};
use crate::log::source::Seq;
use std::sync::Arc;

/// The longest target of a symlink, as on ext4 with 4 KiB blocks.
const MAX_TARGET: usize = 4095;

/// What was made.
struct Made {
    seq: Seq,
    attr: Attr,
    node: Use,
}

impl Session {
    /// Makes a file, FIFO, socket, device, directory or symlink, by the type bits of `new.mode`.
    pub fn make(self: &Arc<Self>, caller: Caller, parent: Ino, name: &[u8], new: NewNode) -> Outcome<Attr> {
        match self.make_now(caller, parent, name, &new) {
            Ok(Made { seq, attr, .. }) => self.settle(caller, Some(seq), Place::Name(parent, name), attr),
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
        let Made { seq, attr, node } = made;
        let opened = match self.open_created(node, flags, seq) {
            Ok(opened) => opened,
            Err(error) => return Outcome::Ready(Err(error)),
        };
        // A create starts no commit of its own: it goes with the close.
        match self.level_at(Place::Name(parent, name)) {
            Ok(Durability::Sync) => self.settle(caller, Some(seq), Place::Name(parent, name), (attr, opened)),
            Ok(Durability::Close | Durability::Fsync) => Outcome::Ready(Ok((attr, opened))),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    fn make_now(&self, caller: Caller, parent: Ino, name: &[u8], new: &NewNode) -> Result<Made> {
        check_new_name(parent, name)?;
        check_kind(new)?;
        let is_dir = is_dir(new.mode);
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
        let node = self.nodes.hold(ino);
        node.file.is_made();
        let seq = change.apply_named()?;
        self.nodes.looked_up(ino);
        Ok(Made { seq, attr: self.attr_of(ino, row, None), node })
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
        let is_dir = is_dir(mode);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::testing::{ROOT, WRITE, options};

    /// What is being made has no extents and no attributes to be looked for: only whether its name is free.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_new_small_file_asks_the_database_once() {
        const FILES: u64 = 50;
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let store = Arc::new(crate::store::DirStore::new(dir.path()));
        let session = Session::start(store, options(cache.path())).await.unwrap();
        session.flush_all(std::time::Duration::from_secs(20)).await.unwrap();
        let new = || NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let before = session.journal.asked();
        for n in 0..FILES {
            let name = format!("f{n}").into_bytes();
            assert!(session.lookup(Ino::ROOT, &name).unwrap().is_none());
            let made = session.create(ROOT, Ino::ROOT, &name, new(), WRITE).get().await.unwrap();
            let (ino, fh) = (made.0.ino, made.1.fh);
            session.write(ROOT, fh, ino, 0, b"small", WriteHow::default()).get().await.unwrap();
            session.flush(ROOT, fh, ino).get().await.unwrap();
            session.release(fh);
        }
        let asked = session.journal.asked() - before;
        // The directory's own attributes once, and again where a commit came in between.
        assert!(asked <= FILES + 5, "{asked} for {FILES} files");
        assert!(session.close(std::time::Duration::from_secs(20)).await.is_clean());
    }
}
