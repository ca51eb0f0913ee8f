//! `mount`: serves a session, in the foreground or through a daemon that is left behind.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use super::{daemon, serve};
use rustix::mount::MountFlags;
use std::ffi::OsString;

/// Mounts; `argv` is the whole command line, for the daemon.
pub fn run(args: MountArgs, flags: MountFlags, argv: &[OsString]) -> Result<Exit, Failure> {
    if args.daemon {
        daemon::detach()?;
    } else if !args.foreground {
        return daemon::start(argv);
    }
    serve::run(args, flags)
}
