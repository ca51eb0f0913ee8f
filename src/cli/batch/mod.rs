//! `batch`: runs a command whose closes wait together, at its end.
//!
//! Invariants:
//! - the command runs only once every mount knows of the batch;
//! - its exit status is returned only where everything is known to be in the store;
//! - this process is the parent of whatever its command leaves behind, until the end: so all of it is in the batch.

mod child;
mod mounts;

use super::exit::BatchExit;
use crate::fuse::sys::wrap::Blocked;
use child::Ended;
use mounts::{Begun, Mounted};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

const ABOUT: &str = "\
What CMD and its descendants change is in the store when this returns, at the price of one wait instead of one for each
file: their closes return at once, and their changes start no commits of their own. fsync waits as ever, unless told
otherwise. Other processes' closes wait as ever. In what order things happen does not change: should the machine be lost
in the middle, the session is as it was at some moment of CMD's run.

CMD keeps standard input, output and error, its process group and its terminal; signals sent to this process reach it.
Processes that it leaves running when it ends are not waited for: what they closed until then is in the store, and from
then on their closes wait again. Batches may be nested, and run side by side; each waits at its own end.";

/// Run a command whose closes do not wait one by one, and wait for the store once at its end
#[derive(Debug, clap::Args)]
#[command(long_about = ABOUT, after_help = after_help())]
pub struct Args {
    /// fsync by CMD and its descendants does not wait either
    #[arg(long)]
    fsync: bool,
    /// A directory of the mount that is meant [default: the current directory]; may be given again
    #[arg(long, value_name = "DIR")]
    mount: Vec<PathBuf>,
    /// The command, and what it is given
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

fn after_help() -> String {
    let examples = [
        "cd /mnt/sid42 && cwdfs batch -- tar xf /tmp/source.tar",
        "cwdfs batch --mount /mnt/sid42 -- sh -c 'cd /mnt/sid42 && npm install'",
    ];
    let lines = examples.map(|line| format!("  {line}\n")).concat();
    format!("Examples:\n{lines}\n{}", BatchExit::table())
}

/// Why it ended without its command's status.
#[derive(Debug)]
pub struct Failure {
    exit: BatchExit,
    line: String,
}

impl Failure {
    fn not_run(line: impl std::fmt::Display) -> Failure {
        Failure { exit: BatchExit::NotRun, line: line.to_string() }
    }
}

/// Runs it to its end.
pub fn run(args: &Args) -> ExitCode {
    match batch(args) {
        Ok(ended) => ExitCode::from(ended.status()),
        Err(failure) => {
            eprintln!("cwdfs: batch: {}", failure.line);
            failure.exit.into()
        }
    }
}

fn batch(args: &Args) -> Result<Ended, Failure> {
    let mounts = Mounted::find(&args.mount)?;
    let signals =
        Blocked::new(&child::KEPT).map_err(|error| Failure::not_run(format!("signals: {error}")))?;
    child::adopt()?;
    let begun: Vec<Begun> = mounts.iter().map(|mount| mount.begin(args.fsync)).collect::<Result<_, _>>()?;
    let ended = child::run(&args.command, &signals)?;
    // Who is tired of waiting now may end it; the exit status is the signal's.
    drop(signals);
    mounts::end(&begun).map_err(|mut failure| {
        failure.line = format!("{}; the command {ended}", failure.line);
        failure
    })?;
    Ok(ended)
}
