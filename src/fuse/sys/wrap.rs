//! What a program that wraps another asks of the kernel: the ioctl of [`crate::fuse::batch`], and signals together with
//! who sent them.

use crate::fuse::batch;
use rustix::ioctl::{Updater, ioctl};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Asks a mount of ours, by a directory of it that is open; what it answers takes the question's place.
pub fn ask(directory: &impl AsFd, buffer: &mut [u8; batch::SIZE]) -> io::Result<()> {
    // SAFETY: the number says that a buffer of this size is read and written, which any bytes may be.
    let asked = unsafe { Updater::<{ batch::COMMAND }, [u8; batch::SIZE]>::new(buffer) };
    // SAFETY: as above; a file system that knows another ioctl by this number gets such a buffer too.
    Ok(unsafe { ioctl(directory, asked) }?)
}

/// Signals that wait until they are asked for, as long as this lives.
pub struct Blocked {
    signals: libc::sigset_t,
    before: libc::sigset_t,
}

/// A signal that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Came {
    /// Its number.
    pub signal: i32,
    /// From the kernel, as for keys on a terminal, whose whole foreground group gets it.
    pub by_kernel: bool,
}

impl Blocked {
    /// From now on these are not delivered to this thread, and threads made later, but kept.
    pub fn new(signals: &[i32]) -> io::Result<Blocked> {
        // Who started us may have it ignored: then the ends of children are told to nobody.
        // SAFETY: no handler of anybody's is taken away; this is what a program starts with.
        if signals.contains(&libc::SIGCHLD)
            && unsafe { libc::signal(libc::SIGCHLD, libc::SIG_DFL) } == libc::SIG_ERR
        {
            return Err(io::Error::last_os_error());
        }
        let (mut set, mut before) = (MaybeUninit::uninit(), MaybeUninit::uninit());
        // SAFETY: each call fills the set that it is given, before anybody reads it; a number that is no signal is refused.
        unsafe {
            libc::sigemptyset(set.as_mut_ptr());
            for signal in signals {
                if libc::sigaddset(set.as_mut_ptr(), *signal) != 0 {
                    return Err(io::Error::last_os_error());
                }
            }
            match libc::pthread_sigmask(libc::SIG_BLOCK, set.as_ptr(), before.as_mut_ptr()) {
                0 => Ok(Blocked { signals: set.assume_init(), before: before.assume_init() }),
                error => Err(io::Error::from_raw_os_error(error)),
            }
        }
    }

    /// A program that is started gets them as they were before.
    pub fn given_back_to<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        let before = self.before;
        let restore = move || match unmask(&before) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        };
        // SAFETY: between fork and exec only one call is made, which may be made there.
        unsafe { command.pre_exec(restore) }
    }

    /// Waits for the next of them.
    pub fn next(&self) -> io::Result<Came> {
        let mut info = MaybeUninit::uninit();
        loop {
            // SAFETY: both point to what they shall; the second is filled where a signal is returned.
            let signal = unsafe { libc::sigwaitinfo(&raw const self.signals, info.as_mut_ptr()) };
            if signal > 0 {
                // SAFETY: as above.
                let code = unsafe { info.assume_init() }.si_code;
                return Ok(Came { signal, by_kernel: code == libc::SI_KERNEL });
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        }
    }
}

impl Drop for Blocked {
    fn drop(&mut self) {
        // It cannot fail: the way is one of three.
        unmask(&self.before);
    }
}

/// Sets which signals this thread keeps back.
fn unmask(signals: &libc::sigset_t) -> i32 {
    // SAFETY: a set that was filled, and nothing is asked back.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, signals, std::ptr::null_mut()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_waits_and_tells_who_sent_it() {
        // Of a thread of its own: the mask of the others is not touched.
        std::thread::spawn(|| {
            let blocked = Blocked::new(&[libc::SIGUSR2]).expect("blocked");
            // SAFETY: this thread lives, and keeps the signal back.
            assert_eq!(unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR2) }, 0);
            let came = blocked.next().expect("a signal");
            assert_eq!(came, Came { signal: libc::SIGUSR2, by_kernel: false });
            let mut program = Command::new("grep");
            program.args(["SigBlk", "/proc/self/status"]);
            let said = blocked.given_back_to(&mut program).output().expect("it runs").stdout;
            let mask = String::from_utf8_lossy(&said).split_whitespace().nth(1).map(str::to_owned);
            let mask = u64::from_str_radix(&mask.expect("a mask"), 16).expect("a number");
            assert_eq!(mask & 1 << (libc::SIGUSR2 - 1), 0, "a program does not keep it back");
        })
        .join()
        .expect("it was not delivered, which would end this program");
        assert!(Blocked::new(&[4711]).is_err());
    }

    #[test]
    fn another_file_system_knows_nothing_of_it() {
        let root = std::fs::File::open("/").expect("open");
        let error = ask(&root, &mut [0; batch::SIZE]).expect_err("it is none of ours");
        assert_eq!(error.raw_os_error(), Some(libc::ENOTTY), "{error}");
    }
}
