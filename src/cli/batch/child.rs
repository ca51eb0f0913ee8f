//! The command of a batch, from its start to its end.

use super::super::exit::BatchExit;
use super::Failure;
use crate::fuse::sys::wrap::{Blocked, Came};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, waitpid};
use std::ffi::OsString;
use std::fmt;
use std::io;
use std::process::Command;

/// The signals that are passed on to the command, and the one that tells of its end.
pub const KEPT: [i32; 8] = [
    libc::SIGCHLD,
    libc::SIGHUP,
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGUSR1,
    libc::SIGUSR2,
    libc::SIGWINCH,
];

/// How the command ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended(WaitStatus);

impl Ended {
    /// Its exit status; of one that a signal ended, 128 and the signal, as a shell has it.
    pub fn status(self) -> u8 {
        let signalled = || self.0.terminating_signal().map_or(255, |signal| 128 + signal);
        // Both fit: the kernel keeps eight bits of a status, and signals go to 64.
        self.0.exit_status().unwrap_or_else(signalled) as u8
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.0.exit_status(), self.0.terminating_signal()) {
            (Some(status), _) => write!(f, "ended with status {status}"),
            (None, Some(signal)) => write!(f, "was ended by signal {signal}"),
            (None, None) => write!(f, "has ended"),
        }
    }
}

/// From now on processes below us that lose their parent are ours.
pub fn adopt() -> Result<(), Failure> {
    let us = rustix::process::getpid();
    rustix::process::set_child_subreaper(Some(us))
        .map_err(|error| Failure::not_run(format!("processes left behind cannot be taken in: {error}")))
}

/// Runs the command to its end, and passes signals on to it.
pub fn run(words: &[OsString], signals: &Blocked) -> Result<Ended, Failure> {
    // The parser demands one.
    let (program, given) = words.split_first().ok_or_else(|| Failure::not_run("no command"))?;
    let mut wanted = Command::new(program);
    let child = signals.given_back_to(wanted.args(given)).spawn().map_err(|error| {
        let exit = match error.kind() {
            io::ErrorKind::NotFound => BatchExit::NotFound,
            _ => BatchExit::NoProgram,
        };
        Failure { exit, line: format!("{}: {error}", program.to_string_lossy()) }
    })?;
    let command = Pid::from_child(&child);
    loop {
        let came = signals.next().map_err(|error| {
            let line = format!(
                "lost sight of the command: {error}; whether everything is in the store cannot be told"
            );
            Failure { exit: BatchExit::Unsure, line }
        })?;
        match came {
            Came { signal: libc::SIGCHLD, .. } => {
                if let Some(ended) = reap(command) {
                    return Ok(ended);
                }
            }
            // The command has got it too.
            Came { by_kernel: true, .. } => {}
            Came { signal, .. } => {
                if let Some(signal) = Signal::from_named_raw(signal) {
                    // It is not reaped yet, so the number is still its own; it may have ended, and need no signal.
                    let _ = rustix::process::kill_process(command, signal);
                }
            }
        }
    }
}

/// Takes leave of all children that have ended; how the command did, once it has.
fn reap(command: Pid) -> Option<Ended> {
    loop {
        match waitpid(None, WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == command => return Some(Ended(status)),
            Ok(Some(_)) | Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return None,
        }
    }
}
