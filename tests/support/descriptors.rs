//! Files that no program inherits which another thread starts.
//!
//! fork(2) copies the descriptors of all threads, and execve(2) closes the copies, each with a FLUSH that waits for its
//! daemon. A daemon that stands still would hold up every program that any test starts, and with it the test that is
//! to let it go on; one whose store is away would make all of them slow.

// Not each test program writes to a daemon that stands still.
#![allow(dead_code)]

use std::panic::resume_unwind;

/// Runs `work` in a thread with a descriptor table of its own, which has the standard streams and nothing else: files
/// that it opens are its own until it ends, and files that were open before are not there. Of those the kernel copies up to
/// 64 all the same, and their closing may wait for other tests' stores: what takes time is measured inside.
pub fn apart<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            leave_shared_table();
            work()
        });
        thread.join().unwrap_or_else(|panic| resume_unwind(panic))
    })
}

fn leave_shared_table() {
    // SAFETY: the call takes numbers; what it closes is closed in a copy of the table, which this thread alone has, and
    // nothing that runs in the thread had a descriptor before.
    let left = unsafe { libc::syscall(libc::SYS_close_range, 3_u32, u32::MAX, libc::CLOSE_RANGE_UNSHARE) };
    assert_eq!(left, 0, "close_range: {}", std::io::Error::last_os_error());
}
