//! Attributes and extended attributes.

use super::super::ops::{On, Op, When};
use super::super::sys::{self, PathCall};
use super::{Actor, Told, bytes_told, errno_name, ok};
use rustix::fd::BorrowedFd;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

impl Actor {
    pub(super) fn attribute(&mut self, op: &Op) -> Told {
        match op {
            Op::Stat { on } => self.stat(on).map(|stat| stat_told(&stat)),
            Op::Chmod { on, mode } => self.chmod(on, *mode),
            Op::Chown { on, uid, gid } => self.chown(on, *uid, *gid),
            Op::Utimens { on, atime, mtime } => self.utimens(on, *atime, *mtime),
            Op::Truncate { at, size } => ok(self.starting_at(at, |path| sys::truncate(path, *size))),
            Op::Access { at, mode, flags } => {
                ok(sys::path_call(self.dir(at)?, &at.path.0, PathCall::Access(*mode, *flags)))
            }
            Op::Statfs { at } => {
                let fs = self.starting_at(at, |path| rustix::fs::statfs(path))?;
                Ok(format!("names of {}, blocks of {}", fs.f_namelen, fs.f_bsize))
            }
            Op::Umask { mask } => {
                let old = rustix::process::umask(Mode::from_raw_mode(*mask));
                Ok(format!("was {:o}", old.as_raw_mode()))
            }
            other => unreachable!("{other:?} is no attribute's"),
        }
    }

    fn chmod(&self, on: &On, mode: u32) -> Told {
        match on {
            On::Fd(fd) => ok(rustix::fs::fchmod(self.fd(*fd)?, Mode::from_raw_mode(mode))),
            On::Path(at, follow) => {
                let flags = if *follow { 0 } else { libc::AT_SYMLINK_NOFOLLOW };
                ok(sys::path_call(self.dir(at)?, &at.path.0, PathCall::Chmod(mode, flags)))
            }
        }
    }

    fn chown(&self, on: &On, uid: u32, gid: u32) -> Told {
        let uid = (uid != u32::MAX).then(|| Uid::from_raw(uid));
        let gid = (gid != u32::MAX).then(|| Gid::from_raw(gid));
        match on {
            On::Fd(fd) => ok(rustix::fs::fchown(self.fd(*fd)?, uid, gid)),
            On::Path(at, follow) => {
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                ok(rustix::fs::chownat(self.dir(at)?, &*at.path.0, uid, gid, flags))
            }
        }
    }

    fn utimens(&self, on: &On, atime: When, mtime: When) -> Told {
        let times = Timestamps { last_access: timespec(atime), last_modification: timespec(mtime) };
        match on {
            On::Fd(fd) => rustix::fs::futimens(self.fd(*fd)?, &times)?,
            On::Path(at, follow) => {
                let flags = if *follow { AtFlags::empty() } else { AtFlags::SYMLINK_NOFOLLOW };
                rustix::fs::utimensat(self.dir(at)?, &*at.path.0, &times, flags)?;
            }
        }
        // Reading moves it, and when that shows is each file system's own: only what was just set is told.
        let set = matches!(atime, When::To(..)) && !matches!((atime, mtime), (When::Omit, When::Omit));
        match self.stat(on) {
            Ok(stat) if set => Ok(format!("atime {}", time_told(stat.st_atime, stat.st_atime_nsec as i64))),
            Ok(_) => Ok("ok".to_owned()),
            Err(errno) => Ok(format!("ok, then {}", errno_name(errno))),
        }
    }

    pub(super) fn xattr(&mut self, op: &Op) -> Told {
        match op {
            Op::SetXattr { on, name, value, flags } => {
                let flags = XattrFlags::from_bits_retain(*flags as u32);
                ok(match on {
                    On::Fd(fd) => rustix::fs::fsetxattr(self.fd(*fd)?, &**name, value, flags),
                    On::Path(at, true) => {
                        self.starting_at(at, |path| rustix::fs::setxattr(path, &**name, value, flags))
                    }
                    On::Path(at, false) => {
                        self.starting_at(at, |path| rustix::fs::lsetxattr(path, &**name, value, flags))
                    }
                })
            }
            Op::GetXattr { on, name, room } => {
                let mut value = vec![0u8; usize::from(*room)];
                let len = match on {
                    On::Fd(fd) => rustix::fs::fgetxattr(self.fd(*fd)?, &**name, &mut value[..]),
                    On::Path(at, true) => {
                        self.starting_at(at, |path| rustix::fs::getxattr(path, &**name, &mut value[..]))
                    }
                    On::Path(at, false) => {
                        self.starting_at(at, |path| rustix::fs::lgetxattr(path, &**name, &mut value[..]))
                    }
                }?;
                // Without room the length alone is asked for.
                Ok(format!("{len}: {}", bytes_told(&value[..len.min(value.len())])))
            }
            Op::ListXattr { on } => self.list_xattrs(on),
            Op::RemoveXattr { on, name } => ok(match on {
                On::Fd(fd) => rustix::fs::fremovexattr(self.fd(*fd)?, &**name),
                On::Path(at, true) => self.starting_at(at, |path| rustix::fs::removexattr(path, &**name)),
                On::Path(at, false) => self.starting_at(at, |path| rustix::fs::lremovexattr(path, &**name)),
            }),
            other => unreachable!("{other:?} is no extended attribute's"),
        }
    }

    fn list_xattrs(&self, on: &On) -> Told {
        let mut names = vec![0u8; 4096];
        let len = match on {
            On::Fd(fd) => rustix::fs::flistxattr(self.fd(*fd)?, &mut names[..]),
            On::Path(at, true) => self.starting_at(at, |path| rustix::fs::listxattr(path, &mut names[..])),
            On::Path(at, false) => self.starting_at(at, |path| rustix::fs::llistxattr(path, &mut names[..])),
        }?;
        let mut names: Vec<_> = names[..len].split(|b| *b == 0).map(String::from_utf8_lossy).collect();
        names.sort();
        Ok(format!("{names:?}"))
    }
}

pub(super) fn is_dir(stat: &Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::Directory
}

/// Whether it is a regular file open for reading and writing.
pub(super) fn is_open_file(fd: BorrowedFd<'_>) -> bool {
    let is_file = |stat: Stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let access = rustix::fs::fcntl_getfl(fd).map(|flags| flags & OFlags::ACCMODE);
    access == Ok(OFlags::RDWR) && rustix::fs::fstat(fd).is_ok_and(is_file)
}

/// What both file systems have to show of an inode.
fn stat_told(stat: &Stat) -> String {
    // The kernel moves no time of a FIFO on FUSE.
    let mtime = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Fifo => "of a FIFO".to_owned(),
        _ => time_told(stat.st_mtime, stat.st_mtime_nsec as i64),
    };
    let (mode, nlink, owner) = (stat.st_mode, stat.st_nlink, (stat.st_uid, stat.st_gid));
    let size = if is_dir(stat) { 0 } else { stat.st_size };
    format!("{mode:o} {nlink} links, {owner:?}, {size} bytes, device {}, mtime {mtime}", stat.st_rdev)
}

/// A time; those of now, which no step sets, are all the same.
pub fn time_told(seconds: i64, nanos: i64) -> String {
    match (1_700_000_000..2_200_000_000).contains(&seconds) {
        true => "now".to_owned(),
        false => format!("{seconds}+{nanos}"),
    }
}

fn timespec(when: When) -> Timespec {
    match when {
        When::Omit => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_OMIT as _ },
        When::Now => Timespec { tv_sec: 0, tv_nsec: rustix::fs::UTIME_NOW as _ },
        When::To(tv_sec, tv_nsec) => Timespec { tv_sec, tv_nsec: tv_nsec as _ },
    }
}

/// Which attributes of a name changed.
pub(super) fn changes(before: Result<Stat, Errno>, after: Result<Stat, Errno>) -> String {
    let (before, after) = match (before, after) {
        (Ok(before), Ok(after)) => (before, after),
        (Err(before), Err(after)) => return format!("{}, {}", errno_name(before), errno_name(after)),
        (Ok(_), Err(errno)) => return format!("is gone: {}", errno_name(errno)),
        (Err(_), Ok(_)) => return "is new".to_owned(),
    };
    if before.st_ino != after.st_ino {
        return "is another".to_owned();
    }
    // A write to a FIFO moves none of its times on FUSE.
    let timed = before.st_mode & libc::S_IFMT != libc::S_IFIFO;
    let mtime = |stat: &Stat| timed.then_some((stat.st_mtime, stat.st_mtime_nsec));
    let ctime = |stat: &Stat| timed.then_some((stat.st_ctime, stat.st_ctime_nsec));
    let size = |stat: &Stat| if is_dir(stat) { 0 } else { stat.st_size };
    let fields = [
        ("mode", before.st_mode != after.st_mode),
        ("links", before.st_nlink != after.st_nlink),
        ("owner", (before.st_uid, before.st_gid) != (after.st_uid, after.st_gid)),
        ("size", size(&before) != size(&after)),
        ("mtime", mtime(&before) != mtime(&after)),
        ("ctime", ctime(&before) != ctime(&after)),
    ];
    let changed: Vec<_> = fields.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
    format!("changed in {changed:?}")
}
