//! Extended attributes, POSIX ACLs among them.

use super::acl::{ACCESS, Acl, DEFAULT};
use super::api::*;
use super::change::Change;
use super::level::Place;
use super::node::Node;
use super::set_id::in_group;
use super::{Session, SessionError};
use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Key};
use crate::log::source::Seq;
use bytes::Bytes;
use std::sync::Arc;

/// The attribute that holds file capabilities.
pub(super) const CAPABILITY: &[u8] = b"security.capability";

/// The kernel's limits: of a name, of a value, and of all names of an inode together (each with its NUL).
const MAX_NAME: usize = 255;
const MAX_VALUE: usize = 64 << 10;
const MAX_LIST: usize = 64 << 10;

/// Tells when an inode was made, in seconds since 1970 with nine decimals: a kernel asks no FUSE file system for
/// the birth time that statx(2) shows. It is in no list and cannot be set, so that no copy takes it along.
const BIRTH: &[u8] = b"cwdfs.btime";

impl Session {
    /// Sets an extended attribute (POSIX ACLs included).
    pub fn setxattr(
        self: &Arc<Self>,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Outcome<()> {
        match self.setxattr_now(caller, ino, name, value, mode) {
            Ok(seq) => self.settle(caller, seq, Place::Inode(ino), ()),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    /// An extended attribute's value. ENODATA when there is none.
    pub fn getxattr(&self, ino: Ino, name: &[u8]) -> Result<Vec<u8>> {
        self.alive()?;
        if name == BIRTH {
            let at = self.row(ino)?.btime;
            return Ok(format!("{}.{:09}", at.sec, at.nsec).into_bytes());
        }
        check_name(name)?;
        // The kernel asks for them before each write that goes through its pages.
        if let (CAPABILITY, Some(node)) = (name, self.nodes.get(ino))
            && !self.has_capability(&node)?
        {
            return Err(SessionError::Errno(libc::ENODATA));
        }
        match self.find_xattr(ino, name)? {
            Some(value) => Ok(value.to_vec()),
            None => {
                self.row(ino)?;
                Err(SessionError::Errno(libc::ENODATA))
            }
        }
    }

    /// The names of the extended attributes that the caller may see (`trusted.` is root's).
    pub fn listxattr(&self, caller: Caller, ino: Ino) -> Result<Vec<Vec<u8>>> {
        self.alive()?;
        self.row(ino)?;
        let mut names = self.xattr_names(ino)?;
        names.retain(|name| caller.uid == 0 || !name.starts_with(b"trusted."));
        Ok(names)
    }

    /// Removes an extended attribute. ENODATA when there is none; an ACL that is not there is no error.
    pub fn removexattr(self: &Arc<Self>, caller: Caller, ino: Ino, name: &[u8]) -> Outcome<()> {
        let removed = self.removexattr_now(ino, name);
        if let (CAPABILITY, Some(node), Ok(_)) = (name, self.nodes.get(ino), &removed) {
            node.file.lost_capability();
        }
        match removed {
            Ok(seq) => self.settle(caller, seq, Place::Inode(ino), ()),
            Err(error) => Outcome::Ready(Err(error)),
        }
    }

    /// Whether a file has capabilities; that it has none is remembered.
    pub(super) fn has_capability(&self, node: &Node) -> Result<bool> {
        // Before the look, so that one that is set meanwhile is not missed.
        if node.file.take_for_bare() {
            return Ok(false);
        }
        let found = self.find_xattr(node.ino, CAPABILITY);
        match &found {
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => node.file.may_have_capability(),
        }
        Ok(found?.is_some())
    }

    /// An attribute's value, of an inode without a name too.
    pub(super) fn find_xattr(&self, ino: Ino, name: &[u8]) -> Result<Option<Bytes>> {
        if let Some(value) = self.nodes.get(ino).and_then(|n| n.orphan(|o| o.xattrs.get(name).cloned())) {
            return Ok(value);
        }
        Ok(self.journal.get_raw(&Key::Xattr { ino, name: name.to_vec() }.encode())?)
    }

    fn xattr_names(&self, ino: Ino) -> Result<Vec<Vec<u8>>> {
        if let Some(names) =
            self.nodes.get(ino).and_then(|n| n.orphan(|o| o.xattrs.keys().cloned().collect()))
        {
            return Ok(names);
        }
        Ok(self.journal.xattrs(ino)?.into_iter().map(|(name, _)| name).collect())
    }

    fn setxattr_now(
        &self,
        caller: Caller,
        ino: Ino,
        name: &[u8],
        value: &[u8],
        mode: XattrMode,
    ) -> Result<Option<Seq>> {
        check_name(name)?;
        if value.len() > MAX_VALUE {
            return Err(SessionError::Errno(libc::E2BIG));
        }
        let mut change = self.change()?;
        let mut row = change.inode(ino)?;
        if is_acl(name) {
            let in_group = in_group(caller, self.options.owners.shown(&row).1);
            set_acl(&mut change, in_group, ino, &mut row, name, value)?;
        } else {
            let there = self.find_xattr(ino, name)?.is_some();
            match (mode, there) {
                (XattrMode::Create | XattrMode::Neither, true) => {
                    return Err(SessionError::Errno(libc::EEXIST));
                }
                (XattrMode::Replace | XattrMode::Neither, false) => {
                    return Err(SessionError::Errno(libc::ENODATA));
                }
                (_, true) => {}
                (_, false) => self.check_room(ino, name)?,
            }
            change.put_xattr(ino, name, Some(value.to_vec()));
        }
        row.ctime = change.now();
        change.put_inode(ino, row);
        let seq = change.apply()?;
        if let (CAPABILITY, Some(node)) = (name, self.nodes.get(ino)) {
            node.file.may_have_capability();
        }
        Ok(seq)
    }

    pub(super) fn removexattr_now(&self, ino: Ino, name: &[u8]) -> Result<Option<Seq>> {
        check_name(name)?;
        let mut change = self.change()?;
        let mut row = change.inode(ino)?;
        if self.find_xattr(ino, name)?.is_none() {
            return match is_acl(name) {
                true => Ok(None),
                false => Err(SessionError::Errno(libc::ENODATA)),
            };
        }
        change.put_xattr(ino, name, None);
        row.ctime = change.now();
        change.put_inode(ino, row);
        change.apply()
    }

    /// ENOSPC for more names than one listxattr can answer.
    fn check_room(&self, ino: Ino, name: &[u8]) -> Result<()> {
        let used: usize = self.xattr_names(ino)?.iter().map(|name| name.len() + 1).sum();
        match used + name.len() < MAX_LIST {
            true => Ok(()),
            false => Err(SessionError::Errno(libc::ENOSPC)),
        }
    }
}

fn is_acl(name: &[u8]) -> bool {
    name == ACCESS || name == DEFAULT
}

/// ERANGE for a name too long or empty, EINVAL for a kind alone, EOPNOTSUPP for a kind that we do not keep.
fn check_name(name: &[u8]) -> Result<()> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(SessionError::Errno(libc::ERANGE));
    }
    let kept = [&b"user."[..], b"trusted.", b"security."];
    if kept.contains(&name) {
        return Err(SessionError::Errno(libc::EINVAL));
    }
    let known = kept.iter().any(|kind| name.starts_with(kind));
    match known || is_acl(name) {
        true => Ok(()),
        false => Err(SessionError::Errno(libc::EOPNOTSUPP)),
    }
}

/// Sets an ACL, and the permission bits that an access ACL means; the caller is `in_group` of the inode.
fn set_acl(
    change: &mut Change<'_>,
    in_group: bool,
    ino: Ino,
    row: &mut InodeRow,
    name: &[u8],
    value: &[u8],
) -> Result<()> {
    let kind = row.mode & libc::S_IFMT;
    if kind == libc::S_IFLNK {
        return Err(SessionError::Errno(libc::EOPNOTSUPP));
    }
    let acl = Acl::decode(value)?;
    if name == DEFAULT {
        if kind != libc::S_IFDIR && acl.is_some() {
            return Err(SessionError::Errno(libc::EACCES));
        }
        change.put_xattr(ino, name, acl.map(|acl| acl.encode()));
        return Ok(());
    }
    if let Some(acl) = &acl {
        let mode = row.mode & !0o777 | acl.mode();
        row.mode = if in_group { mode } else { mode & !libc::S_ISGID };
        row.version += 1;
    }
    let stored = acl.filter(|acl| !acl.is_mode_only()).map(|acl| acl.encode());
    change.put_xattr(ino, name, stored);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_kinds_are_not_kept() {
        let errno = |name: &[u8]| check_name(name).map_or_else(|e| e.errno(), |()| 0);
        for good in ["user.a", "trusted.a", "security.capability", "system.posix_acl_default"] {
            assert_eq!(errno(good.as_bytes()), 0, "{good}");
        }
        assert_eq!(errno(b"user."), libc::EINVAL);
        for bad in ["user", "a", "system.nfs4_acl", "os2.a"] {
            assert_eq!(errno(bad.as_bytes()), libc::EOPNOTSUPP, "{bad}");
        }
        assert_eq!(errno(b""), libc::ERANGE);
        assert_eq!(errno(&[&b"user."[..], &[b'n'; 250]].concat()), 0);
        assert_eq!(errno(&[&b"user."[..], &[b'n'; 251]].concat()), libc::ERANGE);
    }
}
