//! Open files: their content, positions and locks.

use super::super::ops::{At, Op};
use super::super::strategy::FDS;
use super::super::sys::{self, FdCall, Through};
use super::{Actor, Told, attrs, bytes_told, errno_name, ok, pattern};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// What O_DIRECT has to be aligned to on ext4.
const BLOCK: usize = 4096;

impl Actor {
    pub(super) fn file(&mut self, op: &Op) -> Told {
        match op {
            Op::Open { fd, at, flags, mode } => self.open(*fd, at, *flags, *mode),
            Op::Close { fd } => {
                let open = (0..FDS).find_map(|i| self.fds[usize::from((fd + i) % FDS)].take());
                ok(sys::close(open.ok_or(Errno::BADF)?))
            }
            Op::Dup { fd, to } => {
                let copy = rustix::io::fcntl_dupfd_cloexec(self.fd(*fd)?, 0)?;
                self.put(*to, copy)
            }
            Op::Read { fd, at, len } => self.read(*fd, *at, *len as usize),
            Op::Write { fd, at, len, fill } => self.write(*fd, *at, *len as usize, *fill),
            Op::Seek { fd, to, whence } => self.seek(*fd, *to, *whence),
            Op::Ftruncate { fd, size } => ok(sys::fd_call(self.fd(*fd)?, FdCall::Truncate(*size))),
            Op::Fallocate { fd, mode, at, len } => ok(self.fallocate(*fd, *mode, *at, *len)),
            Op::Copy { from, from_at, to, to_at, len } => {
                self.transfer(&Through::CopyFileRange, (*from, *from_at), (*to, Some(*to_at)), *len)
            }
            Op::Sendfile { from, from_at, to, len } => {
                self.transfer(&Through::Sendfile, (*from, *from_at), (*to, None), *len)
            }
            Op::Splice { from, from_at, to, to_at, len } => {
                self.splice((*from, *from_at), (*to, *to_at), *len)
            }
            Op::Fsync { fd, data: true } => ok(rustix::fs::fdatasync(self.fd(*fd)?)),
            Op::Fsync { fd, data: false } => ok(rustix::fs::fsync(self.fd(*fd)?)),
            Op::Flock { fd, how } => ok(sys::fd_call(self.fd(*fd)?, FdCall::Flock(*how))),
            Op::Lock { fd, ofd, test, kind, start, len } => {
                sys::lock(self.fd(*fd)?, (*ofd, *test), *kind, (*start, *len)).map(|lock| format!("{lock:?}"))
            }
            other => unreachable!("{other:?} is no open file's"),
        }
    }

    fn open(&mut self, fd: u8, at: &At, flags: i32, mode: u32) -> Told {
        let mut flags = OFlags::from_bits_retain(flags as u32) | OFlags::CLOEXEC | OFlags::NONBLOCK;
        if flags.contains(OFlags::APPEND) {
            // Both together want a size that is a multiple of a block.
            flags.remove(OFlags::DIRECT);
        }
        let file = rustix::fs::openat(self.dir(at)?, &*at.path.0, flags, Mode::from_raw_mode(mode))?;
        self.put(fd, file)
    }

    /// A new descriptor takes a place, and what was there is closed.
    fn put(&mut self, fd: u8, file: rustix::fd::OwnedFd) -> Told {
        match self.fds[usize::from(fd)].replace(file) {
            Some(old) => sys::close(old).map(|()| "ok, and the old one closed".to_owned()),
            None => Ok("ok".to_owned()),
        }
    }

    fn read(&mut self, fd: u8, at: Option<i64>, len: usize) -> Told {
        let fd = self.fd(fd)?;
        let (at, len) = aligned(fd, at, len)?;
        let mut room = vec![0u8; len + BLOCK];
        let start = room.as_ptr().align_offset(BLOCK);
        let got = sys::read(fd, &mut room[start..start + len], at)?;
        Ok(bytes_told(&room[start..start + got]))
    }

    fn write(&mut self, fd: u8, at: Option<i64>, len: usize, fill: u8) -> Told {
        let fd = self.fd(fd)?;
        let (at, len) = aligned(fd, at, len)?;
        let mut room = vec![0u8; len + BLOCK];
        let start = room.as_ptr().align_offset(BLOCK);
        room[start..start + len].copy_from_slice(&pattern(fill, len));
        let wrote = sys::write(fd, &room[start..start + len], at)?;
        let position = match rustix::fs::tell(fd) {
            Ok(position) => position.to_string(),
            Err(errno) => errno_name(errno),
        };
        Ok(format!("{wrote} bytes, now at {position}"))
    }

    fn seek(&mut self, fd: u8, to: i64, whence: i32) -> Told {
        let fd = self.fd(fd)?;
        let stat = rustix::fs::fstat(fd)?;
        let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
        if !matches!(whence, libc::SEEK_DATA | libc::SEEK_HOLE) || !is_file {
            // Positions in a directory are each file system's own.
            return match attrs::is_dir(&stat) {
                true => Ok("a directory".to_owned()),
                false => sys::fd_call(fd, FdCall::Seek(to, whence)).map(|now| format!("at {now}")),
            };
        }
        // Where holes are is each file system's own: that what is passed over as a hole is one is told, and the
        // position stays.
        let here = sys::fd_call(fd, FdCall::Seek(0, libc::SEEK_CUR))?;
        let size = stat.st_size;
        let found = sys::fd_call(fd, FdCall::Seek(to, whence));
        sys::fd_call(fd, FdCall::Seek(here, libc::SEEK_SET))?;
        match (whence, found) {
            (_, Ok(at)) if at < to || at > size => {
                Ok(format!("WRONG: {at} was found from {to} on in {size} bytes"))
            }
            (libc::SEEK_HOLE, Ok(_)) => Ok("a hole, or the end".to_owned()),
            (_, Ok(at)) => zeros(fd, to, at),
            // No data may mean that all of it is a hole, or that all of the hole is allocated.
            (libc::SEEK_DATA, Err(Errno::NXIO)) if to >= 0 && to < size => zeros(fd, to, size),
            (_, Err(errno)) => Err(errno),
        }
    }

    /// What no FUSE file system is asked for is refused on both sides: the reference makes the kernel check what
    /// comes before, with a range beyond any file, which changes nothing, not even the times.
    fn fallocate(&self, fd: u8, mode: i32, at: i64, len: i64) -> Result<i64, Errno> {
        const SHIFTS: i32 = libc::FALLOC_FL_COLLAPSE_RANGE | libc::FALLOC_FL_INSERT_RANGE;
        let fd = self.fd(fd)?;
        if !self.reference || mode & SHIFTS == 0 || at < 0 || len <= 0 {
            return sys::fd_call(fd, FdCall::Fallocate(mode, at, len));
        }
        match sys::fd_call(fd, FdCall::Fallocate(mode, 1, i64::MAX - 1)) {
            Err(Errno::FBIG) => Err(Errno::OPNOTSUPP),
            other => other,
        }
    }

    /// All that goes: how much one call moves is each file system's own.
    fn transfer(&mut self, how: &Through, from: (u8, i64), to: (u8, Option<i64>), len: u32) -> Told {
        let (source, target) = (self.fd(from.0)?, self.fd(to.0)?);
        if is_direct(source)? || is_direct(target)? {
            return Ok("not with O_DIRECT, which wants blocks".to_owned());
        }
        if !matches!(how, Through::CopyFileRange) && overlap((source, from.1), (target, to.1), len)? {
            return Ok(OVERLAP.to_owned());
        }
        let (mut from_at, mut to_at, mut moved) = (from.1, to.1, 0);
        loop {
            let left = len as usize - moved;
            match sys::transfer(how, (source, Some(&mut from_at)), (target, to_at.as_mut()), left) {
                Ok(0) => return Ok(format!("{moved} bytes")),
                Ok(n) => moved += n,
                Err(errno) if moved == 0 => return Err(errno),
                Err(errno) => return Ok(format!("{moved} bytes, then {}", errno_name(errno))),
            }
            if moved == len as usize {
                return Ok(format!("{moved} bytes"));
            }
        }
    }

    fn splice(&mut self, from: (u8, i64), to: (u8, i64), len: u32) -> Told {
        let (source, target) = (self.fd(from.0)?, self.fd(to.0)?);
        if is_direct(source)? || is_direct(target)? {
            return Ok("not with O_DIRECT, which wants blocks".to_owned());
        }
        if overlap((source, from.1), (target, Some(to.1)), len)? {
            return Ok(OVERLAP.to_owned());
        }
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
        let (mut from_at, mut to_at) = (from.1, to.1);
        let (mut moved, len) = (0, len as usize);
        while moved < len {
            let into = (write.as_fd(), None);
            let n = sys::transfer(&Through::Splice, (source, Some(&mut from_at)), into, len - moved)?;
            if n == 0 {
                break;
            }
            let mut left = n;
            while left > 0 {
                let out = (target, Some(&mut to_at));
                left -= sys::transfer(&Through::Splice, (read.as_fd(), None), out, left)?;
            }
            moved += n;
        }
        Ok(format!("{moved} bytes"))
    }
}

const OVERLAP: &str = "not within a file from a range to one that overlaps it";

/// Whether a copy through a pipe reads what it writes: the pipe may hold the file's own pages, and then what is
/// copied depends on how the kernel moves the bytes of one page.
fn overlap(
    (source, from): (BorrowedFd<'_>, i64),
    (target, to): (BorrowedFd<'_>, Option<i64>),
    len: u32,
) -> Result<bool, Errno> {
    let (a, b) = (rustix::fs::fstat(source)?, rustix::fs::fstat(target)?);
    if (a.st_dev, a.st_ino) != (b.st_dev, b.st_ino)
        || FileType::from_raw_mode(a.st_mode) != FileType::RegularFile
    {
        return Ok(false);
    }
    let to = match to {
        Some(to) => to,
        None => sys::fd_call(target, FdCall::Seek(0, libc::SEEK_CUR))?,
    };
    Ok(from.abs_diff(to) < u64::from(len))
}

fn is_direct(fd: BorrowedFd<'_>) -> Result<bool, Errno> {
    Ok(rustix::fs::fcntl_getfl(fd)?.contains(OFlags::DIRECT))
}

/// With O_DIRECT, whole blocks at a position that is one's start.
fn aligned(fd: BorrowedFd<'_>, at: Option<i64>, len: usize) -> Result<(Option<i64>, usize), Errno> {
    if !is_direct(fd)? {
        return Ok((at, len));
    }
    let mask = BLOCK as i64 - 1;
    Ok((Some(at.unwrap_or(0) & !mask), len.next_multiple_of(BLOCK)))
}

/// What a hole has to be.
fn zeros(fd: BorrowedFd<'_>, from: i64, to: i64) -> Told {
    let mut bytes = vec![0u8; 1 << 20];
    let mut at = from;
    while at < to {
        let want = ((to - at) as usize).min(bytes.len());
        let got = match sys::read(fd, &mut bytes[..want], Some(at)) {
            // Opened for writing only, or in whole blocks.
            Err(Errno::BADF | Errno::INVAL) => break,
            got => got?,
        };
        if got == 0 || bytes[..got].iter().any(|b| *b != 0) {
            return Ok(format!("WRONG: data or the end at {at}, in a hole from {from} to {to}"));
        }
        at += got as i64;
    }
    Ok("data, or the end".to_owned())
}
