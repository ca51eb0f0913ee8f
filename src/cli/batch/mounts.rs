//! The mounts that a batch is of.

use super::super::exit::BatchExit;
use super::Failure;
use crate::fuse::batch::{self, Ask, Told};
use crate::fuse::sys::wrap;
use crate::fuse::table;
use rustix::fs::{Mode, OFlags, fstat, major, minor};
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

/// A mount of ours.
pub struct Mounted {
    /// Where it is, for people.
    at: PathBuf,
    device: String,
    /// A directory in it, open.
    directory: OwnedFd,
}

/// A batch of this process.
pub struct Begun<'m> {
    mount: &'m Mounted,
    id: u64,
}

impl Mounted {
    /// The mounts of these directories, each once; without any, that of the current directory.
    pub fn find(given: &[PathBuf]) -> Result<Vec<Mounted>, Failure> {
        let here = [PathBuf::from(".")];
        let mut mounts: Vec<Mounted> = Vec::new();
        for directory in if given.is_empty() { &here } else { given } {
            let mount = Mounted::of(directory, given.is_empty())?;
            if !mounts.iter().any(|known| known.device == mount.device) {
                mounts.push(mount);
            }
        }
        Ok(mounts)
    }

    fn of(directory: &Path, is_default: bool) -> Result<Mounted, Failure> {
        let shown = if is_default { "the current directory".into() } else { directory.display().to_string() };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let opened = rustix::fs::open(directory, flags, Mode::empty());
        let opened = opened.and_then(|directory| fstat(&directory).map(|stat| (directory, stat)));
        let (directory, stat) = opened.map_err(|error| {
            let dead =
                if error == rustix::io::Errno::NOTCONN { ": the daemon of this mount is dead" } else { "" };
            Failure::not_run(format!("{shown}: {error}{dead}"))
        })?;
        let device = format!("{}:{}", major(stat.st_dev), minor(stat.st_dev));
        let mounts =
            table::all().map_err(|error| Failure::not_run(format!("the list of mounts: {error}")))?;
        let mount = mounts.into_iter().find(|mount| mount.device == device && mount.is_ours());
        match mount {
            Some(mount) => Ok(Mounted { at: mount.mountpoint, device, directory }),
            None if is_default => Err(Failure::not_run(format!(
                "{shown} is in no mount of cwdfs; name a directory of the one that is meant: --mount DIR"
            ))),
            None => Err(Failure::not_run(format!("{shown} is in no mount of cwdfs"))),
        }
    }

    /// Begins a batch of this process.
    pub fn begin(&self, fsync: bool) -> Result<Begun<'_>, Failure> {
        let at = self.at.display();
        match self.ask(Ask::Begin { fsync }) {
            Ok(Told::Begun { id }) => Ok(Begun { mount: self, id }),
            Ok(Told::Failed { message, .. }) => {
                Err(Failure::not_run(format!("{at}: no batch is possible here: {message}")))
            }
            Ok(Told::Stored) => Err(Failure::not_run(format!("{at}: the daemon's answer makes no sense"))),
            Err(error) => {
                let older = if error.raw_os_error() == Some(libc::ENOTTY) {
                    "; its daemon is of a version that knows no batches"
                } else {
                    ""
                };
                Err(Failure::not_run(format!("{at}: {error}{older}")))
            }
        }
    }

    fn ask(&self, ask: Ask) -> io::Result<Told> {
        let mut buffer = batch::encode(&ask).ok_or(io::ErrorKind::InvalidInput)?;
        wrap::ask(&self.directory, &mut buffer)?;
        batch::decode(&buffer).ok_or_else(|| io::Error::other("the daemon's answer makes no sense"))
    }
}

impl Begun<'_> {
    fn end(&self) -> Result<(), Failure> {
        let at = self.mount.at.display();
        let failure = |exit, line| Err(Failure { exit, line });
        match self.mount.ask(Ask::End { id: self.id }) {
            Ok(Told::Stored) => Ok(()),
            Ok(Told::Failed { errno: libc::ESTALE, message }) => failure(
                BatchExit::Lost,
                format!(
                    "{at}: {message}; what was not in the store by then is kept (cwdfs salvage), and is no part of the session"
                ),
            ),
            Ok(Told::Failed { message, .. }) => failure(
                BatchExit::NotStored,
                format!("{at}: not everything is in the store: {message}; `cwdfs flush` waits for it"),
            ),
            Ok(Told::Begun { .. }) => {
                failure(BatchExit::Unsure, format!("{at}: the daemon's answer makes no sense"))
            }
            Err(error) => failure(
                BatchExit::Unsure,
                format!(
                    "{at}: whether everything is in the store cannot be told: the daemon does not answer any more ({error})"
                ),
            ),
        }
    }
}

/// Ends all, at the same time; the worst failure, with what else failed.
pub fn end(begun: &[Begun]) -> Result<(), Failure> {
    let failed: Vec<Failure> = std::thread::scope(|threads| {
        let ends: Vec<_> = begun.iter().map(|batch| threads.spawn(|| batch.end())).collect();
        let panicked = || Err(Failure { exit: BatchExit::Unsure, line: "the wait was given up".into() });
        ends.into_iter().filter_map(|end| end.join().unwrap_or_else(|_| panicked()).err()).collect()
    });
    let lines: Vec<&str> = failed.iter().map(|failure| failure.line.as_str()).collect();
    match failed.iter().map(|failure| failure.exit).max() {
        None => Ok(()),
        Some(exit) => Err(Failure { exit, line: lines.join("; ") }),
    }
}
