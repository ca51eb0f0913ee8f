//! Called as `mount.cwdfs` or `mount.fuse.cwdfs`, the program is the helper that mount(8) runs for our file
//! systems; called as `umount.cwdfs` or `umount.fuse.cwdfs`, the one that umount(8) runs.
//!
//! Invariants:
//! - what mount(8) asks for is done by the same code as what `cwdfs mount` and `cwdfs unmount` ask for;
//! - the exit codes are those that mount(8) documents, decided in [`super::exit`].

mod mount;
mod remount;
mod umount;

use super::exit::{Exit, Failure};
use crate::fuse::sys;
use clap::CommandFactory;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// As what we were called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Called {
    /// The helper of mount(8).
    Mount,
    /// The helper of umount(8).
    Umount,
}

/// Tells by the program's name, the first word.
pub fn called_as(args: &[OsString]) -> Option<Called> {
    match Path::new(args.first()?).file_name()?.to_str()? {
        "mount.cwdfs" | "mount.fuse.cwdfs" => Some(Called::Mount),
        "umount.cwdfs" | "umount.fuse.cwdfs" => Some(Called::Umount),
        _ => None,
    }
}

/// Their command lines, as the manual shows them.
pub fn commands() -> [clap::Command; 2] {
    [mount::Words::command(), umount::Words::command()].map(|mut command| {
        command.build();
        command
    })
}

/// Does what mount(8) or umount(8) asks for.
pub fn run(called: Called, args: &[OsString]) -> ExitCode {
    let done = match called {
        Called::Mount => mount::run(args),
        Called::Umount => umount::run(args),
    };
    let exit = done.unwrap_or_else(|failure| {
        failure.print();
        failure.exit
    });
    ExitCode::from(exit.for_mount8())
}

/// `-N`: a process or the file of a namespace, as mount(8) takes it.
fn enter(namespace: Option<&Path>) -> Result<(), Failure> {
    let Some(given) = namespace else { return Ok(()) };
    let is_pid = given.to_str().is_some_and(|text| text.parse::<u32>().is_ok());
    let file = if is_pid { PathBuf::from("/proc").join(given).join("ns/mnt") } else { given.to_owned() };
    let failed =
        |error| Failure::new(Exit::CannotStart, format!("mount namespace {}: {error}", file.display()));
    sys::enter_namespace(&file).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_tells() {
        let called = |name: &str| called_as(&[name.into(), "x".into()]);
        assert_eq!(called("/sbin/mount.cwdfs"), Some(Called::Mount));
        assert_eq!(called("mount.fuse.cwdfs"), Some(Called::Mount));
        assert_eq!(called("/usr/sbin/umount.fuse.cwdfs"), Some(Called::Umount));
        assert_eq!(called("umount.cwdfs"), Some(Called::Umount));
        for other in ["/usr/bin/cwdfs", "cwdfs-0.1", "mount", ""] {
            assert_eq!(called(other), None, "{other}");
        }
        assert_eq!(called_as(&[]), None);
    }
}
