//! A cap on how long a work may take on a system: then the processes that serve its mounts are killed, and whatever
//! it was doing ends with errors.

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What the runner reports when a cap was reached; a work that finds out by itself panics with it.
#[derive(Debug, Clone, Copy)]
pub struct Capped(pub Duration);

/// Watches one run of a work.
pub struct Watch {
    served: Arc<Mutex<Served>>,
    /// Dropped when the run has ended.
    running: Sender<()>,
    thread: JoinHandle<()>,
}

/// Who serves the mounts of a run. Descriptors, as a process id may be another's by then.
#[derive(Default)]
struct Served {
    processes: Vec<OwnedFd>,
    late: bool,
}

impl Watch {
    /// The run begins.
    pub fn start(cap: Duration) -> Watch {
        let served = Arc::new(Mutex::new(Served::default()));
        let (running, ended) = channel();
        let theirs = served.clone();
        let thread = std::thread::spawn(move || {
            if ended.recv_timeout(cap) == Err(RecvTimeoutError::Timeout) {
                let mut served = theirs.lock();
                served.late = true;
                served.processes.iter().for_each(kill);
            }
        });
        Watch { served, running, thread }
    }

    /// These processes serve a mount of it; where it is too late, they are killed at once.
    pub fn add(&self, pids: &[u32]) {
        let mut served = self.served.lock();
        for pid in pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32)) {
            // One that has ended serves nothing.
            let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else { continue };
            if served.late {
                kill(&process);
            }
            served.processes.push(process);
        }
    }

    /// The run has ended; whether it was too late.
    pub fn end(self) -> bool {
        drop(self.running);
        self.thread.join().expect("the watch does not panic");
        self.served.lock().late
    }
}

fn kill(process: &OwnedFd) {
    // It may have ended just now.
    let _ = pidfd_send_signal(process, Signal::KILL);
}
