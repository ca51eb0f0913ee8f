//! A cap on how long a work may take on a system: then the processes that serve its mounts are killed, and the kernel
//! is told to wait for no answer of them any more, so that whatever was asked of the mounts ends with errors. A kill
//! alone is not enough: another process may serve by then, which one that was killed had started.
//!
//! A mount stays where it is: below it, a work that goes on would write to the local disk, and measure that.

use parking_lot::Mutex;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::fs;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
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

/// Where the kernel shows its connections to FUSE servers.
const CONNECTIONS: &str = "/sys/fs/fuse/connections";

/// What serves the mounts of a run.
#[derive(Default)]
struct Served {
    /// Descriptors, as a process id may be another's by then.
    processes: Vec<OwnedFd>,
    /// What ends the kernel's connection to one when it is written to.
    connections: Vec<PathBuf>,
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
                served.end();
            }
        });
        Watch { served, running, thread }
    }

    /// These processes serve a mount of it at `root`; where it is too late, that is ended at once.
    pub fn add(&self, pids: &[u32], root: &Path) {
        let mut served = self.served.lock();
        let pids = pids.iter().filter_map(|pid| Pid::from_raw(*pid as i32));
        // One that has ended serves nothing.
        served.processes.extend(pids.filter_map(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()));
        served.connections.extend(connection(root));
        if served.late {
            served.end();
        }
    }

    /// The run has ended; whether it was too late.
    pub fn end(self) -> bool {
        drop(self.running);
        self.thread.join().expect("the watch does not panic");
        self.served.lock().late
    }
}

impl Served {
    fn end(&self) {
        for process in &self.processes {
            // It may have ended just now.
            let _ = pidfd_send_signal(process, Signal::KILL);
        }
        for connection in &self.connections {
            // It went with its process, where nothing else serves.
            let _ = fs::write(connection, "1");
        }
    }
}

/// The connection behind a FUSE mount, which has the number of its device; `None` for what is no such mount.
fn connection(root: &Path) -> Option<PathBuf> {
    let device = fs::metadata(root).ok()?.dev();
    let abort = Path::new(CONNECTIONS).join(rustix::fs::minor(device).to_string()).join("abort");
    (rustix::fs::major(device) == 0 && abort.exists()).then_some(abort)
}
