//! What the kernel asked and how it was answered, in counts and times.

use crate::measure::{Count, Histogram, Times};
use crate::session::api::IoMode;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

/// Makes the list of a kind with the name of each.
macro_rules! named {
    ($(#[$doc:meta])* $kind:ident { $($each:ident $name:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[allow(missing_docs)]
        pub enum $kind { $($each),+ }

        impl $kind {
            /// All of them, in their order.
            pub const ALL: &[$kind] = &[$($kind::$each),+];

            /// As in metrics and in the log.
            pub fn name(self) -> &'static str {
                match self { $($kind::$each => $name),+ }
            }
        }
    };
}

named! {
    /// An operation that is answered; of a name, it is about its directory.
    Operation {
        Lookup "lookup", Getattr "getattr", Setattr "setattr", Readlink "readlink", Mknod "mknod", Mkdir "mkdir",
        Symlink "symlink", Unlink "unlink", Rmdir "rmdir", Rename "rename", Link "link", Statfs "statfs",
        Open "open", Create "create", Read "read", Write "write", Flush "flush", Fsync "fsync",
        Release "release", Fallocate "fallocate", Lseek "lseek", CopyFileRange "copy_file_range",
        Opendir "opendir", Readdir "readdir", Readdirplus "readdirplus", Releasedir "releasedir",
        Fsyncdir "fsyncdir", Setxattr "setxattr", Getxattr "getxattr", Listxattr "listxattr",
        Removexattr "removexattr", Ioctl "ioctl",
    }
}

named! {
    /// How an operation was answered.
    Answer {
        Ok "ok", NotFound "not_found", Denied "denied", Space "space", Stale "stale", Interrupted "interrupted",
        Io "io", Other "other",
    }
}

impl Answer {
    /// The class of an errno.
    pub fn of(errno: i32) -> Answer {
        match errno {
            libc::ENOENT | libc::ENODATA => Answer::NotFound,
            libc::EPERM | libc::EACCES | libc::EROFS => Answer::Denied,
            libc::ENOSPC | libc::EDQUOT | libc::EFBIG => Answer::Space,
            libc::ESTALE => Answer::Stale,
            libc::EINTR => Answer::Interrupted,
            libc::EIO | libc::ENFILE | libc::ENOMEM | libc::ETIMEDOUT => Answer::Io,
            _ => Answer::Other,
        }
    }
}

/// The ways in which reads and writes of an open file travel.
pub const MODES: [&str; 4] = ["cached", "direct", "passthrough", "passthrough_direct"];

fn mode(mode: IoMode) -> usize {
    match mode {
        IoMode::Cached { .. } => 0,
        IoMode::Direct => 1,
        IoMode::Passthrough => 2,
        IoMode::PassthroughDirect => 3,
    }
}

/// One operation's.
#[derive(Debug, Default)]
struct Figures {
    answers: [Count; Answer::ALL.len()],
    took: Histogram,
}

/// The counts of one mount.
#[derive(Debug)]
pub struct Counts {
    operations: [Figures; Operation::ALL.len()],
    opens: [Count; MODES.len()],
    read: Count,
    written: Count,
    waiting: AtomicI64,
}

impl Default for Counts {
    fn default() -> Counts {
        let operations = std::array::from_fn(|_| Figures::default());
        let (opens, waiting) = (Default::default(), AtomicI64::new(0));
        Counts { operations, opens, read: Count::default(), written: Count::default(), waiting }
    }
}

impl Counts {
    /// An operation is answered.
    pub(super) fn answered(&self, operation: Operation, answer: Answer, took: Duration) {
        let figures = &self.operations[operation as usize];
        figures.answers[answer as usize].one();
        figures.took.observe(took);
    }

    /// Bytes went to a caller.
    pub(super) fn read(&self, bytes: u64) {
        self.read.add(bytes);
    }

    /// Bytes came from a caller.
    pub(super) fn written(&self, bytes: u64) {
        self.written.add(bytes);
    }

    /// A file was opened.
    pub(super) fn opened(&self, how: IoMode) {
        self.opens[mode(how)].one();
    }

    /// An operation waits from now until the answer is dropped.
    pub(super) fn waits(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(self)
    }

    /// How often an operation was answered so.
    pub fn answers(&self, operation: Operation, answer: Answer) -> u64 {
        self.operations[operation as usize].answers[answer as usize].get()
    }

    /// How many operations were answered, however.
    pub fn answered_in_all(&self) -> u64 {
        self.operations.iter().flat_map(|figures| &figures.answers).map(Count::get).sum()
    }

    /// How long an operation took, from when we read the request until its answer was sent.
    pub fn times(&self, operation: Operation) -> Times {
        self.operations[operation as usize].took.times()
    }

    /// Files opened, by [`MODES`].
    pub fn opens(&self) -> [u64; MODES.len()] {
        std::array::from_fn(|mode| self.opens[mode].get())
    }

    /// Bytes that READ requests were answered with, and that WRITE requests brought.
    pub fn moved(&self) -> (u64, u64) {
        (self.read.get(), self.written.get())
    }

    /// Operations that wait for something: the store, a capture, room.
    pub fn waiting(&self) -> u64 {
        // A moment's difference between two threads cannot make it negative for long.
        u64::try_from(self.waiting.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// An operation that waits.
pub(super) struct Waits<'a>(&'a Counts);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_one_of_its_own_and_every_place_is_its_own() {
        let mut names: Vec<_> = Operation::ALL.iter().map(|operation| operation.name()).collect();
        assert!(Operation::ALL.iter().enumerate().all(|(n, operation)| *operation as usize == n));
        assert!(Answer::ALL.iter().enumerate().all(|(n, answer)| *answer as usize == n));
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), Operation::ALL.len());
    }

    #[test]
    fn an_answer_is_counted_once_in_its_class() {
        let counts = Counts::default();
        counts.answered(Operation::Flush, Answer::of(libc::EIO), Duration::from_millis(3));
        counts.answered(Operation::Flush, Answer::Ok, Duration::from_millis(3));
        assert_eq!(counts.answers(Operation::Flush, Answer::Io), 1);
        assert_eq!(counts.answers(Operation::Flush, Answer::Ok), 1);
        assert_eq!((counts.times(Operation::Flush).count, counts.times(Operation::Fsync).count), (2, 0));
        let waits = counts.waits();
        assert_eq!(counts.waiting(), 1);
        drop(waits);
        assert_eq!(counts.waiting(), 0);
    }
}
