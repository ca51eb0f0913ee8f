//! The local files that content lies in: a pool in `data/` whose files are emptied and used again, because
//! creating and unlinking files is what is slow on ext4.
//!
//! Invariants:
//! - a file is one user's at a time, and empty (all zeros) when it is handed out;
//! - a file that the kernel may still have mapped is never used again: it is unlinked.

use super::ContentError;
use parking_lot::Mutex;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Empty files kept for later; more are unlinked.
const MAX_FREE: usize = 1024;

/// The files of one session's `data/`.
pub(super) struct Pool {
    dir: PathBuf,
    next: AtomicU64,
    free: Mutex<Vec<u64>>,
}

/// A file of the pool, in use; goes back when dropped.
pub(super) struct PoolFile {
    pool: Arc<Pool>,
    id: u64,
    /// Opened on first use; closed by [`PoolFile::rest`].
    fd: Mutex<Option<Arc<File>>>,
    /// Mapped by the kernel, or kept for the next mount: must not be emptied.
    keep: AtomicBool,
    mapped: AtomicBool,
}

impl Pool {
    /// Opens the pool in `dir`. `claim` says of each file left there whether it is still in use by a
    /// record; the others are emptied for reuse.
    pub fn open(dir: &Path, claim: impl Fn(u64) -> bool) -> Result<Arc<Pool>, ContentError> {
        std::fs::create_dir_all(dir).map_err(|e| failed("cannot create", dir, &e))?;
        let pool = Pool { dir: dir.to_owned(), next: AtomicU64::new(0), free: Mutex::default() };
        let mut free = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| failed("cannot list", dir, &e))? {
            let entry = entry.map_err(|e| failed("cannot list", dir, &e))?;
            let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u64>().ok()) else {
                continue;
            };
            pool.next.fetch_max(id + 1, Ordering::Relaxed);
            if !claim(id) {
                free.push(id);
            }
        }
        let pool = Arc::new(pool);
        free.into_iter().for_each(|id| pool.give_back(id));
        Ok(pool)
    }

    /// An empty file.
    pub fn take(self: &Arc<Self>) -> PoolFile {
        let recycled = self.free.lock().pop();
        let id = recycled.unwrap_or_else(|| self.next.fetch_add(1, Ordering::Relaxed));
        self.claimed(id)
    }

    /// The file that a record of an earlier mount names.
    pub fn claimed(self: &Arc<Self>, id: u64) -> PoolFile {
        let (keep, mapped) = (AtomicBool::new(false), AtomicBool::new(false));
        PoolFile { pool: self.clone(), id, fd: Mutex::new(None), keep, mapped }
    }

    fn path(&self, id: u64) -> PathBuf {
        self.dir.join(id.to_string())
    }

    /// Empties a file and keeps it, or unlinks it. A file that can be neither is only lost room.
    fn give_back(&self, id: u64) {
        let path = self.path(id);
        let room = self.free.lock().len() < MAX_FREE;
        let emptied = room && OpenOptions::new().write(true).truncate(true).open(&path).is_ok();
        if emptied {
            self.free.lock().push(id);
        } else {
            self.unlink(id);
        }
    }

    fn unlink(&self, id: u64) {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => tracing::warn!("cannot remove {}: {e}", path.display()),
        }
    }
}

impl PoolFile {
    /// Its number, for records.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The open file.
    pub fn file(&self) -> Result<Arc<File>, ContentError> {
        let mut fd = self.fd.lock();
        if let Some(file) = &*fd {
            return Ok(file.clone());
        }
        let path = self.pool.path(self.id);
        let mut how = OpenOptions::new();
        how.read(true).write(true).create(true).truncate(false);
        let file = Arc::new(how.open(&path).map_err(|e| failed("cannot open", &path, &e))?);
        *fd = Some(file.clone());
        Ok(file)
    }

    /// Closes it until it is used again.
    pub fn rest(&self) {
        self.fd.lock().take();
    }

    /// Writes all of `data`.
    pub fn write(&self, offset: u64, data: &[u8]) -> Result<(), ContentError> {
        self.file()?.write_all_at(data, offset).map_err(|e| self.failed("cannot write", &e))
    }

    /// Fills `buf`; what lies behind the file's end is zeros.
    pub fn read(&self, mut offset: u64, mut buf: &mut [u8]) -> Result<(), ContentError> {
        let file = self.file()?;
        while !buf.is_empty() {
            match file.read_at(buf, offset) {
                Ok(0) => {
                    buf.fill(0);
                    return Ok(());
                }
                Ok(n) => {
                    buf = &mut buf[n..];
                    offset += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(self.failed("cannot read", &e)),
            }
        }
        Ok(())
    }

    /// So many bytes in a buffer of their own, which is not filled with zeros first; what lies behind the file's end is
    /// zeros.
    pub fn read_new(&self, offset: u64, len: usize) -> Result<Vec<u8>, ContentError> {
        let file = self.file()?;
        let mut buf = Vec::with_capacity(len);
        while buf.len() < len {
            let at = offset + buf.len() as u64;
            match rustix::io::pread(&*file, rustix::buffer::spare_capacity(&mut buf), at) {
                Ok(0) => buf.resize(len, 0),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(e) => return Err(self.failed("cannot read", &e.into())),
            }
        }
        // The allocator may have given more room than was asked for.
        buf.truncate(len);
        Ok(buf)
    }

    /// Gives a range's room back; it reads as zeros.
    pub fn punch(&self, range: std::ops::Range<u64>) -> Result<(), ContentError> {
        use rustix::fs::FallocateFlags as F;
        let file = self.file()?;
        let end = file.metadata().map_err(|e| self.failed("cannot stat", &e))?.len().min(range.end);
        if end <= range.start {
            return Ok(());
        }
        rustix::fs::fallocate(&*file, F::PUNCH_HOLE | F::KEEP_SIZE, range.start, end - range.start)
            .map_err(|e| self.failed("cannot punch", &e.into()))
    }

    /// Sets its length.
    pub fn set_len(&self, len: u64) -> Result<(), ContentError> {
        self.file()?.set_len(len).map_err(|e| self.failed("cannot resize", &e))
    }

    /// It outlives this process: do not empty it when dropped.
    pub fn keep(&self) {
        self.keep.store(true, Ordering::Relaxed);
    }

    /// The kernel may map it from now on.
    pub fn mapped(&self) {
        self.mapped.store(true, Ordering::Relaxed);
    }

    fn failed(&self, what: &str, error: &std::io::Error) -> ContentError {
        failed(what, &self.pool.path(self.id), error)
    }
}

impl Drop for PoolFile {
    fn drop(&mut self) {
        if self.keep.load(Ordering::Relaxed) {
            return;
        }
        self.fd.lock().take();
        match self.mapped.load(Ordering::Relaxed) {
            true => self.pool.unlink(self.id),
            false => self.pool.give_back(self.id),
        }
    }
}

/// A failed operation on a local file; a full disk and a lack of descriptors are told apart.
fn failed(what: &str, path: &Path, error: &std::io::Error) -> ContentError {
    let named = path.display();
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => ContentError::Full(named.to_string()),
        Some(libc::EMFILE | libc::ENFILE) => ContentError::Descriptors(format!("{what} {named}")),
        _ => ContentError::Io { what: format!("{what} {named}"), why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_used_again_and_empty() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::open(dir.path(), |_| false).unwrap();
        let first = pool.take();
        first.write(100, b"secret").unwrap();
        let id = first.id();
        drop(first);
        let second = pool.take();
        assert_eq!(second.id(), id);
        let mut buf = [1; 8];
        second.read(98, &mut buf).unwrap();
        assert_eq!(buf, [0; 8]);
    }

    #[test]
    fn a_mapped_file_is_never_used_again() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::open(dir.path(), |_| false).unwrap();
        let first = pool.take();
        first.write(0, b"x").unwrap();
        first.mapped();
        let (id, file) = (first.id(), first.file().unwrap());
        drop(first);
        assert_ne!(pool.take().id(), id);
        assert_eq!(file.metadata().unwrap().len(), 1, "a mapping still sees its bytes");
    }

    #[test]
    fn a_claimed_file_keeps_its_bytes_and_others_are_emptied() {
        let dir = tempfile::tempdir().unwrap();
        let pool = Pool::open(dir.path(), |_| false).unwrap();
        let (a, b) = (pool.take(), pool.take());
        for file in [&a, &b] {
            file.write(0, b"bytes").unwrap();
            file.keep();
        }
        let (ia, ib) = (a.id(), b.id());
        drop((a, b));
        let pool = Pool::open(dir.path(), |id| id == ia).unwrap();
        let mut buf = [0; 5];
        let kept = pool.claimed(ia);
        kept.read(0, &mut buf).unwrap();
        assert_eq!(&buf, b"bytes");
        let other = pool.take();
        assert_eq!(other.id(), ib);
        other.read(0, &mut buf).unwrap();
        assert_eq!(buf, [0; 5]);
    }
}
