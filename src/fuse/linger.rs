//! Lingering: a thread that has answered a request looks for a moment whether the next one comes, before it sleeps.
//! A caller that does one thing after another is back within microseconds; to wake a thread for it takes longer than
//! most answers do.
//!
//! Invariants:
//! - one thread of a mount lingers at a time, for at most [`WINDOW`], and lets whoever else wants the processor have it;
//! - nobody lingers without a request before, nor where that was in vain [`TRIES`] times until requests follow each
//!   other closely again: a mount that is idle, or used now and then, costs nothing.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::io;
use std::num::NonZeroUsize;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long it is looked, and how soon after an answer a request follows it closely. Callers that do nothing but ask
/// are back after 10 to 60 us.
const WINDOW: Duration = Duration::from_micros(100);
/// How often in a row nothing may come.
const TRIES: u32 = 2;
/// On a single processor a caller cannot come while we look.
const PROCESSORS: usize = 2;

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lingered {
    /// There is something to read.
    Came,
    /// Nothing came.
    InVain,
    /// It was not tried.
    No,
}

/// Who waits for requests of a mount without sleeping.
#[derive(Debug)]
pub struct Linger {
    /// The connection to the kernel; `None` where nobody lingers.
    device: Option<OwnedFd>,
    window: Duration,
    start: Instant,
    /// When the last answer was sent, in nanoseconds since `start`.
    answered: AtomicU64,
    /// How often in a row nothing came.
    vain: AtomicU32,
    busy: AtomicBool,
}

impl Linger {
    /// For the requests that come through `device`. The copy it keeps of it goes with the last answer to be given.
    pub fn new(device: &OwnedFd) -> io::Result<Linger> {
        let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let device = (processors >= PROCESSORS).then(|| device.try_clone()).transpose()?;
        Ok(Linger::with(device, WINDOW))
    }

    fn with(device: Option<OwnedFd>, window: Duration) -> Linger {
        Linger {
            device,
            window,
            start: Instant::now(),
            answered: AtomicU64::new(0),
            vain: AtomicU32::new(0),
            busy: AtomicBool::new(false),
        }
    }

    /// This thread has answered a request that began then, and will read the next one.
    pub fn after(&self, began: Instant) -> Lingered {
        let Some(device) = &self.device else { return Lingered::No };
        // It takes 584 years to overflow.
        let now = self.start.elapsed().as_nanos() as u64;
        let before = self.answered.swap(now, Ordering::Relaxed);
        let began = began.saturating_duration_since(self.start).as_nanos() as u64;
        if began.saturating_sub(before) <= WINDOW.as_nanos() as u64 {
            self.vain.store(0, Ordering::Relaxed);
        } else if self.vain.load(Ordering::Relaxed) >= TRIES {
            return Lingered::No;
        }
        if self.busy.swap(true, Ordering::Acquire) {
            return Lingered::No;
        }
        let came = self.look(device);
        self.busy.store(false, Ordering::Release);
        match came {
            true => Lingered::Came,
            false => {
                self.vain.fetch_add(1, Ordering::Relaxed);
                Lingered::InVain
            }
        }
    }

    /// Whether something comes within the window. What is wrong with the device is told to who reads from it.
    fn look(&self, device: &OwnedFd) -> bool {
        let start = Instant::now();
        loop {
            let mut watched = [PollFd::from_borrowed_fd(device.as_fd(), PollFlags::IN)];
            if poll(&mut watched, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) != Ok(0) {
                return true;
            }
            if start.elapsed() >= self.window {
                return false;
            }
            rustix::thread::sched_yield();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Long enough for any machine.
    const LONG: Duration = Duration::from_secs(60);

    fn piped(window: Duration) -> (Linger, io::PipeWriter) {
        let (read, write) = io::pipe().unwrap();
        (Linger::with(Some(read.into()), window), write)
    }

    #[test]
    fn a_request_that_comes_ends_it() {
        let (linger, mut write) = piped(LONG);
        let writer = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            write.write_all(b"x").unwrap();
            write
        });
        assert_eq!(linger.after(Instant::now()), Lingered::Came);
        drop(writer.join().unwrap());
        // The end of the connection, too.
        assert_eq!(linger.after(Instant::now()), Lingered::Came);
    }

    #[test]
    fn it_ends_by_itself() {
        let (linger, _write) = piped(Duration::from_millis(1));
        assert_eq!(linger.after(Instant::now()), Lingered::InVain);
        assert!(!linger.busy.load(Ordering::Relaxed));
    }

    #[test]
    fn one_thread_at_a_time() {
        let (linger, mut write) = piped(LONG);
        std::thread::scope(|scope| {
            let first = scope.spawn(|| linger.after(Instant::now()));
            while !linger.busy.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
            assert_eq!(linger.after(Instant::now()), Lingered::No);
            write.write_all(b"x").unwrap();
            assert_eq!(first.join().unwrap(), Lingered::Came);
        });
    }

    #[test]
    fn in_vain_twice_and_not_again_until_requests_follow_closely() {
        let (linger, _write) = piped(Duration::from_micros(1));
        // Each of these begins long after the last answer: they are far apart.
        let next = |after: Duration| {
            let last = Duration::from_nanos(linger.answered.load(Ordering::Relaxed));
            linger.after(linger.start + last + after)
        };
        let apart = Duration::from_millis(10);
        assert_eq!(
            [next(apart), next(apart), next(apart)],
            [Lingered::InVain, Lingered::InVain, Lingered::No]
        );
        assert_eq!(next(WINDOW + Duration::from_nanos(1)), Lingered::No);
        assert_eq!(next(WINDOW), Lingered::InVain, "requests follow each other closely again");
        assert_eq!([next(apart), next(apart)], [Lingered::InVain, Lingered::No]);
    }

    #[test]
    fn nobody_lingers_without_a_second_processor() {
        assert_eq!(Linger::with(None, LONG).after(Instant::now()), Lingered::No);
    }
}
