//! `mount`: serves a session, in the foreground or through a daemon that is left behind.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use super::ready::Supervisor;
use super::{daemon, environment, init, serve};
use rustix::mount::MountFlags;
use std::ffi::OsString;

/// Mounts; `argv` is the whole command line, for the daemon and for starting over.
pub fn run(args: MountArgs, flags: MountFlags, argv: &[OsString]) -> Result<Exit, Failure> {
    if !args.daemon && !args.foreground {
        // The daemon tells the supervisor; only without one is it ours to do.
        return match environment::missing(&args) {
            Ok(variables) => daemon::start(argv, &variables),
            Err(failure) => {
                Supervisor::of(&args)?.failed(&failure);
                Err(failure)
            }
        };
    }
    // The child gets a supervisor's descriptor with all others.
    if !args.daemon && init::is_first() {
        return init::run(argv);
    }
    // Before anything opens descriptors of its own.
    let supervisor = Supervisor::of(&args)?;
    let done = serve_told(args, flags, argv, &supervisor);
    if let Err(failure) = &done {
        supervisor.failed(failure);
    }
    done
}

fn serve_told(
    args: MountArgs,
    flags: MountFlags,
    argv: &[OsString],
    supervisor: &Supervisor,
) -> Result<Exit, Failure> {
    if args.daemon {
        daemon::detach()?;
    } else if !args.settled {
        let variables = environment::missing(&args)?;
        if !variables.is_empty() {
            supervisor.hand_on()?;
            return Err(environment::start_over(argv, &variables));
        }
    }
    serve::run(args, flags, supervisor)
}
