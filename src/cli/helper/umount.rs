//! `umount.cwdfs DIR [-nlfrv] [-N ns] [-t type.subtype]`: as `cwdfs unmount`, it returns when everything is in
//! the store.

use super::super::exit::{Exit, Failure};
use super::super::{refused, unmount};
use super::enter;
use crate::control::client;
use crate::fuse::{sys, table};
use clap::Parser;
use rustix::mount::MountFlags;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The helper of umount(8) for cwdfs: takes the mount away and waits until everything is in the store
#[derive(Debug, Parser)]
#[command(name = "umount.cwdfs", version, after_help = super::super::exit::table_for_mount8())]
pub(super) struct Words {
    /// Where it is mounted
    #[arg(value_name = "DIR")]
    dir: PathBuf,
    /// Also while processes hold it
    #[arg(short)]
    lazy: bool,
    /// Also while processes hold it, and from a daemon that does not answer
    #[arg(short)]
    force: bool,
    /// Make it read-only where it cannot be taken away
    #[arg(short)]
    read_only: bool,
    /// Say what was done
    #[arg(short)]
    verbose: bool,
    /// Nothing here writes /etc/mtab
    #[arg(short = 'n')]
    _no_mtab: bool,
    /// The mount namespace it is in
    #[arg(short = 'N', value_name = "NAMESPACE")]
    namespace: Option<PathBuf>,
    /// The file system's type, ours in any case
    #[arg(short = 't', value_name = "TYPE")]
    _kind: Option<String>,
}

/// Unmounts.
pub(super) fn run(args: &[OsString]) -> Result<Exit, Failure> {
    let words = Words::try_parse_from(args).map_err(refused)?;
    enter(words.namespace.as_deref())?;
    let done = unmount::unmount(&words.dir, None, words.lazy || words.force);
    let done = match done {
        Err(failure) if words.read_only && failure.exit == Exit::TryAgain => {
            read_only(&words.dir).map_err(|error| failure.and(&format!("nor made read-only: {error}")))?;
            eprintln!("cwdfs: {}: in use; it is read-only now", words.dir.display());
            return Ok(Exit::Done);
        }
        other => other?,
    };
    if words.verbose && done == Exit::Done {
        super::super::say(&format!("cwdfs: {} unmounted\n", words.dir.display()))?;
    }
    Ok(done)
}

fn read_only(dir: &Path) -> std::io::Result<()> {
    let mountpoint = client::mountpoint(dir).map_err(std::io::Error::other)?;
    match table::at(&mountpoint)? {
        Some(mounted) if mounted.is_ours() => {
            let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::RDONLY;
            sys::remount(&mountpoint, flags)
        }
        _ => Err(std::io::Error::other("not mounted by cwdfs")),
    }
}
