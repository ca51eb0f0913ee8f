//! The calls that rustix has not, or not as raw as is wanted here.

use rustix::fd::{AsRawFd, BorrowedFd};
use rustix::io::Errno;
use std::ffi::{CString, c_int, c_long, c_void};

type Answer<T> = Result<T, Errno>;

fn checked(answer: i64) -> Answer<i64> {
    if answer >= 0 {
        return Ok(answer);
    }
    let errno = std::io::Error::last_os_error().raw_os_error();
    Err(Errno::from_raw_os_error(errno.expect("a call that failed has set errno")))
}

fn c(text: &str) -> Answer<CString> {
    CString::new(text).map_err(|_| Errno::INVAL)
}

/// Which call on a path below a directory.
pub enum PathCall {
    /// Mode and device.
    Mknod(u32, (u32, u32)),
    /// Mode; flags as of fchmodat2.
    Chmod(u32, c_int),
    /// Mode and flags, as of faccessat2.
    Access(u32, u32),
}

/// A call on a path below a directory.
pub fn path_call(dir: BorrowedFd<'_>, path: &str, call: PathCall) -> Answer<()> {
    let (dir, path) = (dir.as_raw_fd(), c(path)?);
    // SAFETY: the path outlives each call, which takes numbers otherwise.
    let answer = unsafe {
        match call {
            PathCall::Mknod(mode, (major, minor)) => {
                i64::from(libc::mknodat(dir, path.as_ptr(), mode, libc::makedev(major, minor)))
            }
            PathCall::Chmod(mode, flags) => {
                libc::syscall(libc::SYS_fchmodat2, dir, path.as_ptr(), mode, flags)
            }
            PathCall::Access(mode, flags) => {
                libc::syscall(libc::SYS_faccessat2, dir, path.as_ptr(), mode, flags)
            }
        }
    };
    checked(answer).map(drop)
}

/// truncate(2): by path, and with a length that may be wrong.
pub fn truncate(path: &str, size: i64) -> Answer<()> {
    let path = c(path)?;
    // SAFETY: the path outlives the call.
    checked(i64::from(unsafe { libc::truncate(path.as_ptr(), size) })).map(drop)
}

/// Calls on an open file that take numbers alone, some of them wrong.
pub enum FdCall {
    Truncate(i64),
    /// Mode, offset, length.
    Fallocate(c_int, i64, i64),
    /// Offset, whence.
    Seek(i64, c_int),
    Flock(c_int),
}

/// Such a call.
pub fn fd_call(fd: BorrowedFd<'_>, call: FdCall) -> Answer<i64> {
    let fd = fd.as_raw_fd();
    // SAFETY: numbers alone, of a descriptor that is open.
    checked(unsafe {
        match call {
            FdCall::Truncate(size) => i64::from(libc::ftruncate(fd, size)),
            FdCall::Fallocate(mode, at, len) => i64::from(libc::fallocate(fd, mode, at, len)),
            FdCall::Seek(to, whence) => libc::lseek(fd, to, whence),
            FdCall::Flock(how) => i64::from(libc::flock(fd, how | libc::LOCK_NB)),
        }
    })
}

/// read(2), or pread(2) where there is a position.
pub fn read(fd: BorrowedFd<'_>, bytes: &mut [u8], at: Option<i64>) -> Answer<usize> {
    let (fd, start, len) = (fd.as_raw_fd(), bytes.as_mut_ptr().cast::<c_void>(), bytes.len());
    // SAFETY: the buffer is as long as is said.
    let answer = unsafe {
        match at {
            None => libc::read(fd, start, len),
            Some(at) => libc::pread(fd, start, len, at),
        }
    };
    checked(answer as i64).map(|n| n as usize)
}

/// write(2), or pwrite(2) where there is a position.
pub fn write(fd: BorrowedFd<'_>, bytes: &[u8], at: Option<i64>) -> Answer<usize> {
    let (fd, start, len) = (fd.as_raw_fd(), bytes.as_ptr().cast::<c_void>(), bytes.len());
    // SAFETY: the buffer is as long as is said.
    let answer = unsafe {
        match at {
            None => libc::write(fd, start, len),
            Some(at) => libc::pwrite(fd, start, len, at),
        }
    };
    checked(answer as i64).map(|n| n as usize)
}

/// How bytes go from one open file to another.
pub enum Through {
    CopyFileRange,
    /// To the position of the other.
    Sendfile,
    Splice,
}

/// Moves at most `len` bytes once. Positions are moved on where there are any.
pub fn transfer(
    how: &Through,
    from: (BorrowedFd<'_>, Option<&mut i64>),
    to: (BorrowedFd<'_>, Option<&mut i64>),
    len: usize,
) -> Answer<usize> {
    let at = |position: Option<&mut i64>| position.map_or(std::ptr::null_mut(), std::ptr::from_mut);
    let (from, from_at) = (from.0.as_raw_fd(), at(from.1));
    let (to, to_at) = (to.0.as_raw_fd(), at(to.1));
    // SAFETY: the positions are ours or null.
    let answer = unsafe {
        match how {
            Through::CopyFileRange => libc::copy_file_range(from, from_at, to, to_at, len, 0),
            Through::Sendfile => libc::sendfile(to, from, from_at, len),
            Through::Splice => libc::splice(from, from_at, to, to_at, len, libc::SPLICE_F_NONBLOCK),
        }
    };
    checked(answer as i64).map(|n| n as usize)
}

/// A record lock: set, or asked for with `test`. What is in the way: its type, start and length.
pub fn lock(
    fd: BorrowedFd<'_>,
    (ofd, test): (bool, bool),
    kind: i16,
    (start, len): (i64, i64),
) -> Answer<(i16, i64, i64)> {
    let command = match (ofd, test) {
        (false, false) => libc::F_SETLK,
        (false, true) => libc::F_GETLK,
        (true, false) => libc::F_OFD_SETLK,
        (true, true) => libc::F_OFD_GETLK,
    };
    let whence = libc::SEEK_SET as i16;
    let mut lock = libc::flock { l_type: kind, l_whence: whence, l_start: start, l_len: len, l_pid: 0 };
    // SAFETY: the lock is ours.
    checked(i64::from(unsafe { libc::fcntl(fd.as_raw_fd(), command, &raw mut lock) }))?;
    match test && lock.l_type != libc::F_UNLCK as i16 {
        true => Ok((lock.l_type, lock.l_start, lock.l_len)),
        false => Ok((lock.l_type, 0, 0)),
    }
}

/// getdents64(2) into a buffer of that size: the names, or none at the end.
pub fn list(fd: BorrowedFd<'_>, room: usize) -> Answer<Vec<Vec<u8>>> {
    let mut bytes = vec![0u8; room];
    // SAFETY: the buffer is as long as is said.
    let answer = unsafe {
        let len: c_long = room as c_long;
        libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), bytes.as_mut_ptr(), len)
    };
    let len = checked(answer)? as usize;
    let (mut names, mut at) = (Vec::new(), 0);
    while at < len {
        // Inode (8 bytes), position (8), length of the record (2), type (1), name with its NUL.
        let record = usize::from(u16::from_le_bytes([bytes[at + 16], bytes[at + 17]]));
        let name = &bytes[at + 19..at + record];
        let end = name.iter().position(|b| *b == 0).expect("a name ends with NUL");
        names.push(name[..end].to_vec());
        at += record;
    }
    Ok(names)
}

/// A shared mapping of a file.
pub struct Mapping {
    start: *mut c_void,
    len: usize,
}

impl Mapping {
    /// Maps `len` bytes from the page at `at` on.
    pub fn new(fd: BorrowedFd<'_>, at: i64, len: usize, write: bool) -> Answer<Mapping> {
        let access = libc::PROT_READ | if write { libc::PROT_WRITE } else { 0 };
        // SAFETY: a fresh mapping, which only the calls below touch.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), len, access, libc::MAP_SHARED, fd.as_raw_fd(), at) };
        match start == libc::MAP_FAILED {
            true => checked(-1).map(|_| unreachable!("it failed")),
            false => Ok(Mapping { start, len }),
        }
    }

    /// How long it is.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Loads from it; as a call, so that what cannot be read is EFAULT and no signal.
    pub fn load(&self, at: usize, bytes: &mut [u8]) -> Answer<usize> {
        let (ours, theirs) = self.vectors(at, bytes.as_mut_ptr().cast(), bytes.len());
        // SAFETY: both ranges are ours: the buffer, and a part of the mapping.
        let answer =
            unsafe { libc::process_vm_readv(libc::getpid(), &raw const ours, 1, &raw const theirs, 1, 0) };
        checked(answer as i64).map(|n| n as usize)
    }

    /// Stores into it, in the same way.
    pub fn store(&self, at: usize, bytes: &[u8]) -> Answer<usize> {
        let (ours, theirs) = self.vectors(at, bytes.as_ptr().cast_mut().cast(), bytes.len());
        // SAFETY: both ranges are ours: the buffer, which is only read, and a part of the mapping.
        let answer =
            unsafe { libc::process_vm_writev(libc::getpid(), &raw const ours, 1, &raw const theirs, 1, 0) };
        checked(answer as i64).map(|n| n as usize)
    }

    /// msync(MS_SYNC) of all of it.
    pub fn sync(&self) -> Answer<()> {
        // SAFETY: the mapping is there.
        checked(i64::from(unsafe { libc::msync(self.start, self.len, libc::MS_SYNC) })).map(drop)
    }

    fn vectors(&self, at: usize, buffer: *mut c_void, len: usize) -> (libc::iovec, libc::iovec) {
        assert!(at + len <= self.len, "within the mapping");
        let theirs = self.start.wrapping_byte_add(at);
        (libc::iovec { iov_base: buffer, iov_len: len }, libc::iovec { iov_base: theirs, iov_len: len })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody else knows it.
        unsafe { libc::munmap(self.start, self.len) };
    }
}

/// Sets the groups of every thread.
pub fn set_groups(groups: &[u32]) -> Answer<()> {
    // SAFETY: the list is as long as is said.
    checked(i64::from(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) })).map(drop)
}

/// Sets real and effective user and group of every thread; root stays within reach.
pub fn set_user(uid: u32, gid: u32) -> Answer<()> {
    // SAFETY: numbers alone.
    unsafe {
        checked(i64::from(libc::setresuid(0, 0, 0)))?;
        checked(i64::from(libc::setresgid(gid, gid, 0)))?;
        checked(i64::from(libc::setresuid(uid, uid, 0)))?;
    }
    Ok(())
}

/// close(2), with its error.
pub fn close(fd: rustix::fd::OwnedFd) -> Answer<()> {
    use rustix::fd::IntoRawFd;
    // SAFETY: the descriptor was ours alone.
    checked(i64::from(unsafe { libc::close(fd.into_raw_fd()) })).map(drop)
}
