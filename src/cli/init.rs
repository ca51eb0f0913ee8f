//! Process 1 of a container: processes there that lose their parent become its children, and nobody else
//! can reap them. So the mount is served by a child of process 1, which does nothing but hand on the signals
//! that ask for the end, reap, and end as that child did.

use super::exit::{Exit, Failure};
use super::signals::Signals;
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus};
use std::ffi::OsString;
use std::process::Command;
use tokio::signal::unix::{SignalKind, signal};

/// Whether this process is the first of its container.
pub fn is_first() -> bool {
    rustix::process::getpid().is_init()
}

/// Runs this command line (the program's name first) in a child, to its end.
pub fn run(args: &[OsString]) -> Result<Exit, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::CannotStart, format!("as process 1: {error}"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    runtime.block_on(async {
        // Before there is a child to hand them to, or one that may end.
        let mut asked = Signals::listen()?;
        let mut ended = signal(SignalKind::child()).map_err(failed)?;
        let program = std::env::current_exe().map_err(failed)?;
        let child = Command::new(program).args(args.get(1..).unwrap_or_default()).spawn().map_err(failed)?;
        let child = Pid::from_child(&child);
        loop {
            tokio::select! {
                _ = asked.next() => {
                    // All of them ask for the same; a child that has just ended is reaped next.
                    let _ = rustix::process::kill_process(child, Signal::TERM);
                }
                _ = ended.recv() => if let Some(status) = reap(child) {
                    return exit_of(status);
                }
            }
        }
    })
}

/// Reaps everything that has ended; the status of `child` if it is among it.
fn reap(child: Pid) -> Option<WaitStatus> {
    let mut of_child = None;
    loop {
        match rustix::process::wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == child => of_child = Some(status),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            // None has ended, or there is none.
            Ok(None) | Err(_) => return of_child,
        }
    }
}

fn exit_of(status: WaitStatus) -> Result<Exit, Failure> {
    let code = status.exit_status().and_then(|code| u8::try_from(code).ok());
    code.and_then(Exit::of_code)
        .ok_or_else(|| Failure::new(Exit::LoopDied, format!("the daemon died: {status:?}")))
}
