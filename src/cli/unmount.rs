//! `unmount`: takes the mount away, waits until what it owes is in the store, ends the daemon.

use super::exit::{Exit, Failure};
use super::flush::millis;
use super::{holders, values};
use crate::control::registry::Entry;
use crate::control::{ControlError, Request, Response, client};
use crate::fuse::sys::{self, Unmount};
use crate::fuse::table;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The daemon keeps the bound; this is for one that does not.
const MARGIN: Duration = Duration::from_secs(10);
/// Without a bound of ours it is the mount's.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// From its answer to its end, a daemon only tidies up.
const TIDYING: Duration = Duration::from_secs(10);

/// Unmount, and return when everything is in the store
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs unmount /mnt/sid42", "cwdfs unmount --timeout 10s --force /mnt/sid42"]))]
pub struct Args {
    /// Give up waiting for the store after this long; what is not stored is kept locally (exit 4)
    /// [default: the mount's --timeout and --drain-timeout]
    #[arg(long, value_name = "TIME", value_parser = values::duration)]
    timeout: Option<Duration>,
    /// Also while processes hold the mount
    #[arg(long)]
    force: bool,
    /// Where it is mounted
    mountpoint: PathBuf,
}

/// Asks the daemon; a dead one's mount is taken away.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mountpoint = client::mountpoint(&args.mountpoint)?;
    let entry = match client::daemon(&mountpoint) {
        Ok(entry) => entry,
        Err(ControlError::Dead { .. }) => return clear_dead(&mountpoint),
        Err(error) => return Err(error.into()),
    };
    let request = Request::Unmount { timeout_ms: args.timeout.map(millis), force: args.force };
    let limit = args.timeout.map_or(LONGEST, |timeout| timeout + MARGIN);
    let answer = client::ask(&entry, &request, limit);
    if matches!(answer, Ok(Response::Done { .. }) | Err(ControlError::Failed { .. }))
        && !entry.wait_for_end(TIDYING)
    {
        eprintln!("cwdfs: the daemon (pid {}) is still tidying up", entry.pid);
    }
    if matches!(answer, Err(ControlError::Silent { .. })) && args.force {
        return Err(take_from_hung(&entry));
    }
    match answer? {
        Response::Done { notes } => {
            notes.iter().for_each(|note| eprintln!("cwdfs: {note}"));
            Ok(Exit::Done)
        }
        Response::Busy => Err(busy(&entry)),
        other => Err(ControlError::Protocol { mountpoint, what: format!("{other:?}") }.into()),
    }
}

/// Takes the mount away from a daemon that says nothing.
fn take_from_hung(entry: &Entry) -> Failure {
    let (at, pid) = (entry.mountpoint.display(), entry.pid);
    match sys::unmount(&entry.mountpoint, &entry.device, Unmount::Detach) {
        Ok(_) => Failure::new(
            Exit::NotStored,
            format!(
                "{at}: taken away from a daemon (pid {pid}) that does not answer; what it has not stored is in {}, and the next mount sends it once that process is ended (kill -9 {pid})",
                entry.cache.display()
            ),
        ),
        Err(error) => Failure::new(
            Exit::TryAgain,
            format!(
                "{at}: the daemon (pid {pid}) does not answer, and its mount cannot be taken away: {error}"
            ),
        ),
    }
}

fn busy(entry: &Entry) -> Failure {
    let held: Vec<_> = holders::of(&entry.mountpoint, entry.pid).iter().map(ToString::to_string).collect();
    let by = if held.is_empty() { "processes that cannot be seen from here".into() } else { held.join(", ") };
    let what = format!(
        "{}: in use by {by}; nothing was changed (end them, or unmount with --force)",
        entry.mountpoint.display()
    );
    Failure::new(Exit::TryAgain, what)
}

fn clear_dead(mountpoint: &Path) -> Result<Exit, Failure> {
    let local = |error| ControlError::Local { what: mountpoint.display().to_string(), error };
    if let Some(mounted) = table::at(mountpoint).map_err(local)? {
        sys::unmount(mountpoint, &mounted.device, Unmount::Detach).map_err(local)?;
    }
    eprintln!(
        "cwdfs: {}: the daemon was dead; its mount is cleared away; what was not stored is in its cache and is sent by the next mount",
        mountpoint.display()
    );
    Ok(Exit::Done)
}
