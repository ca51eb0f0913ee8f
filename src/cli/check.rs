//! `status --check`: whether a mount is healthy. It never hangs, whatever the mount, its daemon or the store do.
//!
//! Invariant: nothing here touches the mount but a process that nobody waits for: a call into a mount that
//! hangs cannot be ended, and would keep its whole process.

use super::daemon;
use super::exit::{Exit, Failure};
use crate::control::registry::Entry;
use crate::control::status::Status;
use crate::control::{ControlError, Request, Response, client};
use crate::fuse::table;
use rustix::io::Errno;
use serde::Serialize;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// How long all of it may take, unless said otherwise.
const LIMIT: Duration = Duration::from_secs(10);
/// Between looks at the process that touches the mount.
const TICK: Duration = Duration::from_millis(5);

/// What was found.
#[derive(Debug, Serialize)]
pub struct Health {
    healthy: bool,
    /// What is wrong, for people.
    problems: Vec<String>,
    /// As the daemon said; nothing where it said nothing.
    status: Option<Box<Status>>,
}

impl Health {
    /// The exit code that says so.
    pub fn exit(&self) -> Exit {
        if self.healthy { Exit::Done } else { Exit::CheckFailed }
    }

    /// For people, one line a problem.
    pub fn text(&self) -> String {
        match &self.problems[..] {
            [] => "healthy\n".to_owned(),
            problems => problems.iter().map(|problem| format!("not healthy: {problem}\n")).collect(),
        }
    }
}

/// Looks at the mount, its daemon and the store, within `limit` all together. What is no mount of ours, or of
/// another user, is an error.
pub fn check(given: &Path, limit: Option<Duration>) -> Result<Health, Failure> {
    let limit = limit.unwrap_or(LIMIT);
    let until = Instant::now() + limit;
    let mountpoint = client::mountpoint(given)?;
    let entry = match client::daemon(&mountpoint) {
        Ok(entry) => entry,
        Err(dead @ ControlError::Dead { .. }) => {
            return Ok(Health { healthy: false, problems: vec![dead.to_string()], status: None });
        }
        Err(error) => return Err(error.into()),
    };
    let touching = Touching::start(&mountpoint)?;
    let mut problems = Vec::new();
    problems.extend(in_its_place(&entry)?);
    let status = match ask(&entry, limit) {
        Ok((found, status)) => {
            problems.extend(found);
            Some(status)
        }
        Err(error) => {
            problems.push(error.to_string());
            None
        }
    };
    problems.extend(touching.result(&mountpoint, until));
    Ok(Health { healthy: problems.is_empty(), problems, status })
}

fn ask(entry: &Entry, limit: Duration) -> Result<(Vec<String>, Box<Status>), ControlError> {
    // The daemon's bound is below ours, so that it can say that the store is what hangs.
    let for_store = limit * 2 / 3;
    let request = Request::Check { timeout_ms: super::flush::millis(for_store) };
    match client::ask(entry, &request, limit)? {
        Response::Checked { problems, status } => Ok((problems, status)),
        other => {
            let mountpoint = entry.mountpoint.clone();
            Err(ControlError::Protocol { mountpoint, what: format!("{other:?}") })
        }
    }
}

/// Whether the daemon's mount is what is seen at the mount point.
fn in_its_place(entry: &Entry) -> Result<Option<String>, Failure> {
    let at = entry.mountpoint.display();
    let local = |error| ControlError::Local { what: at.to_string(), error };
    Ok(match table::at(&entry.mountpoint).map_err(local)? {
        Some(mounted) if entry.is_of(&mounted) => None,
        Some(mounted) => Some(format!("{at}: {} ({}) is mounted over it", mounted.source, mounted.kind)),
        None => Some(format!("{at}: the mount is gone")),
    })
}

/// A process that asks the mount something.
struct Touching(Child);

impl Touching {
    fn start(mountpoint: &Path) -> Result<Touching, Failure> {
        let failed =
            |error: std::io::Error| Failure::new(Exit::CannotStart, format!("cannot check: {error}"));
        let mut command = daemon::program().map_err(failed)?;
        command.arg("status").arg("--touch").arg(mountpoint);
        // Of ours it keeps nothing: who reads what we say shall not wait for its end.
        let quiet = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        quiet.spawn().map(Touching).map_err(failed)
    }

    /// What is wrong with the mount, if anything.
    fn result(mut self, mountpoint: &Path, until: Instant) -> Option<String> {
        let at = mountpoint.display();
        loop {
            match self.0.try_wait() {
                Ok(Some(status)) if status.success() => return None,
                Ok(Some(status)) => {
                    let errno = Errno::from_raw_os_error(status.code().unwrap_or(libc::EIO));
                    return Some(format!("{at}: {}", std::io::Error::from(errno)));
                }
                Ok(None) if Instant::now() < until => std::thread::sleep(TICK),
                Ok(None) => break,
                Err(error) => return Some(format!("{at}: {error}")),
            }
        }
        // It ends when the mount lets it; nobody waits for that.
        let _ = self.0.kill();
        Some(format!("{at}: the mount did not answer"))
    }
}

/// Asks the mount something, as the process that may hang; the exit code is the error's number.
pub fn touch(mountpoint: &Path) -> ! {
    std::process::exit(match rustix::fs::statfs(mountpoint) {
        // Root may not enter a user's mount: the kernel answers for it.
        Ok(_) | Err(Errno::ACCESS) => 0,
        Err(error) => error.raw_os_error(),
    })
}
