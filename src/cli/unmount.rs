//! `unmount`: takes the mount away, waits until what it owes is in the store, ends the daemon.

use super::draining;
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

/// Unmounts.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    unmount(&args.mountpoint, args.timeout, args.force)
}

/// Asks the daemon; a dead one's mount is taken away. What is not mounted is as it shall be.
pub fn unmount(given: &Path, timeout: Option<Duration>, force: bool) -> Result<Exit, Failure> {
    let mountpoint = client::mountpoint(given)?;
    let entry = match client::daemon(&mountpoint) {
        Ok(entry) => entry,
        Err(ControlError::Dead { .. }) => return clear_dead(&mountpoint),
        Err(ControlError::NotMounted { .. }) => return nothing_there(&mountpoint),
        Err(ControlError::Elsewhere { uid, .. }) => return take_from_user(&mountpoint, uid, force),
        Err(error) => return Err(error.into()),
    };
    if entry.mountpoint != mountpoint {
        return Err(only_bound(&mountpoint, &entry));
    }
    let hangs =
        |entry| matches!(client::ask(entry, &Request::Status, MARGIN), Err(ControlError::Silent { .. }));
    if force && hangs(&entry) {
        return Err(take_from_hung(&entry));
    }
    let request = Request::Unmount { timeout_ms: timeout.map(millis), force };
    let limit = timeout.map_or(LONGEST, |timeout| timeout + MARGIN);
    let answer = draining::shown(&entry, || client::ask(&entry, &request, limit));
    if matches!(answer, Ok(Response::Done { .. }) | Err(ControlError::Failed { .. }))
        && !entry.wait_for_end(TIDYING)
    {
        eprintln!("cwdfs: the daemon (pid {}) is still tidying up", entry.pid);
    }
    if matches!(answer, Err(ControlError::Silent { .. })) && force {
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
    let device = entry.device.as_deref().unwrap_or_default();
    match sys::unmount(&entry.mountpoint, device, Unmount::Detach) {
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

fn only_bound(given: &Path, entry: &Entry) -> Failure {
    let (given, at) = (given.display(), entry.mountpoint.display());
    let what = format!(
        "{given}: a second place of the session that is mounted at {at}; nothing was changed (umount {given}, or cwdfs unmount {at})"
    );
    Failure::new(Exit::CannotStart, what)
}

/// File systems that are mounted below a mount point.
fn mounted_below(mountpoint: &Path) -> Vec<String> {
    let all = table::all().unwrap_or_default();
    let below =
        all.into_iter().filter(|m| m.mountpoint != mountpoint && m.mountpoint.starts_with(mountpoint));
    below.map(|m| format!("the mount at {}", m.mountpoint.display())).collect()
}

fn busy(entry: &Entry) -> Failure {
    let mut held: Vec<_> =
        holders::of(&entry.mountpoint, entry.pid).iter().map(ToString::to_string).collect();
    held.extend(mounted_below(&entry.mountpoint));
    let by = if held.is_empty() { "processes that cannot be seen from here".into() } else { held.join(", ") };
    let what = format!(
        "{}: in use by {by}; nothing was changed (end them, or unmount with --force)",
        entry.mountpoint.display()
    );
    Failure::new(Exit::TryAgain, what)
}

/// Nothing of ours is mounted: that is what was asked for, unless something else is, or a mount is above.
fn nothing_there(mountpoint: &Path) -> Result<Exit, Failure> {
    let at = mountpoint.display();
    let local = |error| ControlError::Local { what: at.to_string(), error };
    let mounts = table::all().map_err(local)?;
    let refused =
        |what: String| Err(Failure::new(Exit::CannotStart, format!("{at}: {what}; nothing was changed")));
    if let Some(other) = mounts.iter().rev().find(|m| m.mountpoint == mountpoint) {
        return refused(format!("{} ({}) is not mounted by cwdfs", other.source, other.kind));
    }
    if let Some(above) = mounts.iter().find(|m| m.is_ours() && mountpoint.starts_with(&m.mountpoint)) {
        return refused(format!("no mount point, but below the one at {}", above.mountpoint.display()));
    }
    eprintln!("cwdfs: {at}: not mounted; there is nothing to do");
    Ok(Exit::Done)
}

/// As umount(8) without a helper: the user's daemon notices, and stores what it owes.
fn take_from_user(mountpoint: &Path, uid: u32, force: bool) -> Result<Exit, Failure> {
    let at = mountpoint.display();
    let local = |error| ControlError::Local { what: at.to_string(), error };
    let how = if force { Unmount::Detach } else { Unmount::IfIdle };
    if let Some(mounted) = table::at(mountpoint).map_err(local)? {
        sys::unmount(mountpoint, &mounted.device, how).map_err(local)?;
    }
    eprintln!("cwdfs: {at}: taken away; the daemon of user {uid} stores what is not in the store yet");
    Ok(Exit::Done)
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
