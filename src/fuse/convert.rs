//! The kernel's values into the session's, and back.

use crate::log::ids::Ino;
use crate::log::row::Time;
use crate::session::api::{
    Allocate, Attr, Caller, IoMode, OpenFlags, Opened, RenameMode, SetAttr, SetTime, WriteHow, XattrMode,
};
use fuser::{
    FileAttr, FileType, FopenFlags, INodeNo, OpenAccMode, RenameFlags, Request, TimeOrNow, WriteFlags,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// An inode number.
pub fn ino(number: INodeNo) -> Ino {
    Ino(number.0)
}

/// Who asks.
pub fn caller(req: &Request) -> Caller {
    Caller { uid: req.uid(), gid: req.gid(), pid: req.pid() }
}

/// The type bits of a mode; what is none is taken for a regular file, as the kernel does.
pub fn kind(mode: u32) -> FileType {
    match mode & libc::S_IFMT {
        libc::S_IFIFO => FileType::NamedPipe,
        libc::S_IFCHR => FileType::CharDevice,
        libc::S_IFBLK => FileType::BlockDevice,
        libc::S_IFDIR => FileType::Directory,
        libc::S_IFLNK => FileType::Symlink,
        libc::S_IFSOCK => FileType::Socket,
        _ => FileType::RegularFile,
    }
}

/// What stat shows.
pub fn attr(attr: &Attr) -> FileAttr {
    FileAttr {
        ino: INodeNo(attr.ino.0),
        size: attr.size,
        blocks: attr.blocks,
        atime: system_time(attr.atime),
        mtime: system_time(attr.mtime),
        ctime: system_time(attr.ctime),
        crtime: system_time(attr.btime),
        kind: kind(attr.mode),
        perm: (attr.mode & 0o7777) as u16,
        nlink: attr.nlink,
        uid: attr.uid,
        gid: attr.gid,
        rdev: attr.rdev,
        blksize: 4096,
        flags: 0,
    }
}

/// Attributes of nothing: inode 0 tells the kernel that a name is not there, and to remember that.
pub fn nothing() -> FileAttr {
    let zero = Time::default();
    let none = Attr {
        ino: Ino(0),
        mode: libc::S_IFREG,
        nlink: 0,
        uid: 0,
        gid: 0,
        rdev: 0,
        size: 0,
        blocks: 0,
        atime: zero,
        mtime: zero,
        ctime: zero,
        btime: zero,
    };
    attr(&none)
}

/// Attributes of `.` and `..` in a listing, of which the kernel only looks at number and type.
pub fn dot(ino: Ino) -> FileAttr {
    FileAttr { ino: INodeNo(ino.0), kind: FileType::Directory, ..nothing() }
}

/// A time for the crate; out of its range, the nearest it has.
fn system_time(time: Time) -> SystemTime {
    let nanos = Duration::from_nanos(u64::from(time.nsec));
    let seconds = Duration::from_secs(time.sec.unsigned_abs());
    let whole = if time.sec < 0 { UNIX_EPOCH.checked_sub(seconds) } else { UNIX_EPOCH.checked_add(seconds) };
    whole.and_then(|t| t.checked_add(nanos)).unwrap_or(UNIX_EPOCH)
}

/// A time that the kernel asks to set.
///
/// The crate subtracts the nanoseconds of times before 1970 instead of adding them: -1.2 s, which the kernel
/// sends as -2 s + 0.8 s, arrives as -2.8 s. Its seconds and nanoseconds can be told apart again.
fn asked_time(time: SystemTime) -> Time {
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => {
            Time { sec: i64::try_from(after.as_secs()).unwrap_or(i64::MAX), nsec: after.subsec_nanos() }
        }
        Err(error) => {
            let before = error.duration();
            Time { sec: 0_i64.saturating_sub_unsigned(before.as_secs()), nsec: before.subsec_nanos() }
        }
    }
}

/// What setattr asks of a time.
pub fn set_time(time: TimeOrNow) -> SetTime {
    match time {
        TimeOrNow::Now => SetTime::Now,
        TimeOrNow::SpecificTime(time) => SetTime::To(asked_time(time)),
    }
}

/// What setattr asks.
pub fn set_attr(
    mode: Option<u32>,
    uid: Option<u32>,
    gid: Option<u32>,
    size: Option<u64>,
    atime: Option<TimeOrNow>,
    mtime: Option<TimeOrNow>,
) -> SetAttr {
    let mode = mode.map(|mode| mode & 0o7777);
    SetAttr { mode, uid, gid, size, atime: atime.map(set_time), mtime: mtime.map(set_time) }
}

/// What open and create ask.
pub fn open_flags(flags: i32) -> OpenFlags {
    let mode = fuser::OpenFlags(flags).acc_mode();
    OpenFlags {
        read: mode != OpenAccMode::O_WRONLY,
        write: mode != OpenAccMode::O_RDONLY,
        append: flags & libc::O_APPEND != 0,
        truncate: flags & libc::O_TRUNC != 0,
        // O_SYNC has the bit of O_DSYNC too.
        sync: flags & libc::O_DSYNC != 0,
        direct: flags & libc::O_DIRECT != 0,
        exclusive: flags & libc::O_EXCL != 0,
    }
}

/// How an open is answered, passthrough aside.
pub fn fopen_flags(opened: &Opened) -> FopenFlags {
    let io = match opened.mode {
        IoMode::Cached { keep: true } => FopenFlags::FOPEN_KEEP_CACHE,
        IoMode::Cached { keep: false } | IoMode::Passthrough => FopenFlags::empty(),
        IoMode::Direct | IoMode::PassthroughDirect => FopenFlags::FOPEN_DIRECT_IO,
    };
    if opened.no_flush { io | FopenFlags::FOPEN_NOFLUSH } else { io }
}

/// Whether reads and writes, or mappings, go to a backing file.
pub fn is_passthrough(mode: IoMode) -> bool {
    match mode {
        IoMode::Passthrough | IoMode::PassthroughDirect => true,
        IoMode::Cached { .. } | IoMode::Direct => false,
    }
}

/// What rename asks; `None`: a combination that no file system of ours has.
pub fn rename_mode(flags: RenameFlags) -> Option<RenameMode> {
    const WHITEOUT: RenameFlags = RenameFlags::RENAME_WHITEOUT;
    if flags.is_empty() {
        Some(RenameMode::Replace)
    } else if flags == RenameFlags::RENAME_NOREPLACE {
        Some(RenameMode::NoReplace)
    } else if flags == RenameFlags::RENAME_EXCHANGE {
        Some(RenameMode::Exchange)
    } else if flags == WHITEOUT {
        Some(RenameMode::Whiteout { replace: true })
    } else if flags == WHITEOUT.union(RenameFlags::RENAME_NOREPLACE) {
        Some(RenameMode::Whiteout { replace: false })
    } else {
        None
    }
}

/// What fallocate asks; `None`: something we do not do.
pub fn allocate(mode: i32) -> Option<Allocate> {
    const KEEP: i32 = libc::FALLOC_FL_KEEP_SIZE;
    const PUNCH: i32 = libc::FALLOC_FL_PUNCH_HOLE | KEEP;
    const ZERO: i32 = libc::FALLOC_FL_ZERO_RANGE;
    const ZERO_KEEP: i32 = ZERO | KEEP;
    match mode {
        0 => Some(Allocate::Grow),
        KEEP => Some(Allocate::KeepSize),
        PUNCH => Some(Allocate::PunchHole),
        ZERO => Some(Allocate::ZeroRange { keep_size: false }),
        ZERO_KEEP => Some(Allocate::ZeroRange { keep_size: true }),
        _ => None,
    }
}

/// What the kernel says of a write.
pub fn write_how(flags: WriteFlags) -> WriteHow {
    WriteHow {
        kills_set_id: flags.contains(WriteFlags::FUSE_WRITE_KILL_SUIDGID),
        mapped: flags.contains(WriteFlags::FUSE_WRITE_CACHE),
    }
}

/// What setxattr asks; `None`: a flag that there is none of.
pub fn xattr_mode(flags: i32) -> Option<XattrMode> {
    const BOTH: i32 = libc::XATTR_CREATE | libc::XATTR_REPLACE;
    match flags {
        0 => Some(XattrMode::Either),
        libc::XATTR_CREATE => Some(XattrMode::Create),
        libc::XATTR_REPLACE => Some(XattrMode::Replace),
        BOTH => Some(XattrMode::Neither),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the crate makes it of what the kernel sends.
    fn as_the_crate_does(sec: i64, nsec: u32) -> SystemTime {
        match u64::try_from(sec) {
            Ok(after) => UNIX_EPOCH + Duration::new(after, nsec),
            Err(_) => UNIX_EPOCH - Duration::new(sec.unsigned_abs(), nsec),
        }
    }

    #[test]
    fn times_before_1970_arrive_as_the_kernel_sent_them() {
        for (sec, nsec) in [(0, 0), (5, 7), (-1, 0), (-2, 800_000_000), (-1, 999_999_999), (i64::MIN + 1, 0)]
        {
            assert_eq!(asked_time(as_the_crate_does(sec, nsec)), Time { sec, nsec }, "{sec} {nsec}");
        }
    }

    #[test]
    fn times_leave_as_they_are() {
        for (sec, nsec) in [(0, 1), (1_700_000_000, 999_999_999), (-2, 800_000_000)] {
            let time = system_time(Time { sec, nsec });
            let nanos = match time.duration_since(UNIX_EPOCH) {
                Ok(after) => after.as_nanos() as i128,
                Err(before) => -(before.duration().as_nanos() as i128),
            };
            assert_eq!(nanos, i128::from(sec) * 1_000_000_000 + i128::from(nsec));
        }
        assert_eq!(
            system_time(Time { sec: i64::MIN, nsec: 0 }),
            UNIX_EPOCH.checked_sub(Duration::from_secs(1 << 63)).unwrap_or(UNIX_EPOCH)
        );
    }

    #[test]
    fn open_flags_are_told_apart() {
        let flags = open_flags(libc::O_RDWR | libc::O_APPEND | libc::O_SYNC);
        assert_eq!(
            flags,
            OpenFlags { read: true, write: true, append: true, sync: true, ..OpenFlags::default() }
        );
        let flags = open_flags(libc::O_WRONLY | libc::O_TRUNC | libc::O_DIRECT);
        assert_eq!(flags, OpenFlags { write: true, truncate: true, direct: true, ..OpenFlags::default() });
        assert_eq!(open_flags(libc::O_RDONLY), OpenFlags { read: true, ..OpenFlags::default() });
    }

    #[test]
    fn modes_that_are_none_are_refused() {
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE), Some(RenameMode::Exchange));
        assert_eq!(rename_mode(RenameFlags::RENAME_EXCHANGE | RenameFlags::RENAME_NOREPLACE), None);
        let whiteout = RenameFlags::RENAME_WHITEOUT;
        assert_eq!(rename_mode(whiteout), Some(RenameMode::Whiteout { replace: true }));
        assert_eq!(rename_mode(whiteout | RenameFlags::RENAME_EXCHANGE), None);
        assert_eq!(allocate(libc::FALLOC_FL_PUNCH_HOLE), None);
        assert_eq!(allocate(libc::FALLOC_FL_COLLAPSE_RANGE), None);
        assert_eq!(allocate(libc::FALLOC_FL_ZERO_RANGE), Some(Allocate::ZeroRange { keep_size: false }));
        assert_eq!(xattr_mode(libc::XATTR_CREATE | libc::XATTR_REPLACE), Some(XattrMode::Neither));
        assert_eq!(xattr_mode(8), None);
    }

    #[test]
    fn each_io_mode_has_its_flags() {
        let opened = |mode, no_flush| Opened { fh: crate::session::api::Fh(1), mode, no_flush };
        let keep = FopenFlags::FOPEN_KEEP_CACHE;
        assert_eq!(
            fopen_flags(&opened(IoMode::Cached { keep: true }, true)),
            keep | FopenFlags::FOPEN_NOFLUSH
        );
        assert_eq!(fopen_flags(&opened(IoMode::Passthrough, false)), FopenFlags::empty());
        assert_eq!(fopen_flags(&opened(IoMode::PassthroughDirect, false)), FopenFlags::FOPEN_DIRECT_IO);
        assert!(is_passthrough(IoMode::PassthroughDirect) && !is_passthrough(IoMode::Direct));
    }
}
