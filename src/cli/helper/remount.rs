//! `mount -o remount,…`: other flags for a mount that is there. Read-only is the kernel's to keep: it refuses
//! while files are open for writing, and every change from then on. What was changed before is stored before
//! we return; the daemon keeps its lease and parks it when it owes nothing.

use super::super::exit::{Exit, Failure};
use super::super::mount_options::{self, Refused, Translated};
use super::super::{Command, parse};
use super::mount::Words;
use crate::control::registry::Entry;
use crate::control::{ControlError, Request, Response, client};
use crate::fuse::sys;
use rustix::mount::MountFlags;
use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::time::Duration;

/// A live daemon answers at once.
const PATIENCE: Duration = Duration::from_secs(10);
/// The mount's own bound ends a flush; this is for a daemon that keeps none.
const LONGEST: Duration = Duration::from_secs(24 * 3600);
/// What the mount table shows of every mount; said again, it changes nothing.
const SHOWN: [&str; 2] = ["--read-only", "--allow-other"];

/// Gives the mount the flags that are asked for.
pub(super) fn run(words: &Words) -> Result<Exit, Failure> {
    let wrong = |refused: Refused| Failure::new(Exit::Usage, refused.line());
    let Translated { words: ours, flags } =
        mount_options::translate_remount(&words.options).map_err(wrong)?;
    let entry = client::daemon(&client::mountpoint(&words.dir)?)?;
    let at = entry.mountpoint.display();
    let read_only = ours.iter().any(|word| word == SHOWN[0]);
    let follows = follows(&entry)?;
    if follows && !read_only {
        let what = format!("{at}: mounted to follow a writer; to write, unmount it and mount it without ro");
        return Err(Failure::new(Exit::CannotStart, what));
    }
    let before = words_of(&entry);
    let changed: Vec<_> = ours
        .iter()
        .filter(|word| !SHOWN.contains(&word.as_str()) && !before.contains(word))
        .cloned()
        .collect();
    if !changed.is_empty() {
        let what = format!(
            "{at}: {} cannot be changed while it is mounted: unmount and mount it",
            changed.join(" ")
        );
        return Err(Failure::new(Exit::Usage, what));
    }
    if words.fake {
        return Ok(Exit::Done);
    }
    let flags = if read_only { flags | MountFlags::RDONLY } else { flags };
    sys::remount(&entry.mountpoint, flags).map_err(|error| refused(&entry, error))?;
    if read_only && !follows {
        store(&entry)?;
    }
    Ok(Exit::Done)
}

fn refused(entry: &Entry, error: std::io::Error) -> Failure {
    let at = entry.mountpoint.display();
    match error.raw_os_error() {
        Some(libc::EBUSY) => Failure::new(Exit::CannotStart, format!("{at}: files are open for writing")),
        Some(libc::EPERM) => Failure::new(Exit::Usage, format!("{at}: only root can remount")),
        _ => Failure::new(Exit::CannotStart, format!("{at}: cannot remount: {error}")),
    }
}

/// Whether the mount follows a writer.
fn follows(entry: &Entry) -> Result<bool, Failure> {
    match client::ask(entry, &Request::Status, PATIENCE)? {
        Response::Status(status) => Ok(status.mode == "follower"),
        other => {
            let mountpoint = entry.mountpoint.clone();
            Err(ControlError::Protocol { mountpoint, what: format!("{other:?}") }.into())
        }
    }
}

/// What was changed before goes into the store, as a remount of a disk writes it back.
fn store(entry: &Entry) -> Result<(), Failure> {
    let request = Request::Flush { timeout_ms: None, view: false };
    let flushed = client::ask(entry, &request, LONGEST).map_err(Failure::from);
    let context = format!("{}: read-only now, but not all of it is stored", entry.mountpoint.display());
    flushed.map(drop).map_err(|failure| failure.not_stored().context(context))
}

/// The options that the daemon was started with, as words; none where that cannot be told.
fn words_of(entry: &Entry) -> Vec<String> {
    let line = std::fs::read(format!("/proc/{}/cmdline", entry.pid)).unwrap_or_default();
    let argv: Vec<OsString> = line
        .split(|b| *b == 0)
        .filter(|word| !word.is_empty())
        .map(|word| OsString::from_vec(word.to_vec()))
        .collect();
    let mut words: Vec<String> = argv.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    if let Ok((cli, _)) = parse(&argv)
        && let Command::Mount(args) = cli.command
        && let Ok(translated) = mount_options::translate(&args.options)
    {
        words.extend(translated.words);
    }
    words
}
