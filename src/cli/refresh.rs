//! `refresh`: outside changes of the view are imported now.

use super::exit::{Exit, Failure};
use crate::control::{Request, client};
use std::path::PathBuf;
use std::time::Duration;

/// An import lists the whole prefix and may fetch from it.
const LIMIT: Duration = Duration::from_secs(3600);

/// Import outside changes now
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs refresh /mnt/sid42"]))]
pub struct Args {
    /// Where it is mounted
    mountpoint: PathBuf,
}

/// Asks and says what was found.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    for note in client::done(&args.mountpoint, &Request::Refresh, LIMIT)? {
        super::say(&format!("{note}\n"))?;
    }
    Ok(Exit::Done)
}
