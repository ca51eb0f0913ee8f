//! `flush`: returns when everything changed before it is in the store.

use super::draining;
use super::exit::{Exit, Failure};
use super::values;
use crate::control::{ControlError, Request, client};
use std::path::PathBuf;
use std::time::Duration;

/// The daemon keeps the bound; this is for one that does not.
const MARGIN: Duration = Duration::from_secs(10);
/// Without a bound of ours it is the mount's.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Return when everything changed before is in the store
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs flush /mnt/sid42", "cwdfs flush --view --timeout 30s /mnt/sid42"]))]
pub struct Args {
    /// Give up after this long [default: the mount's --timeout]
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration)]
    timeout: Option<Duration>,
    /// Also wait until it is published
    #[arg(long)]
    view: bool,
    /// Where it is mounted
    mountpoint: PathBuf,
}

/// Asks and waits.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let request = Request::Flush { timeout_ms: args.timeout.map(millis), view: args.view };
    let limit = args.timeout.map_or(LONGEST, |timeout| timeout + MARGIN);
    let entry = client::daemon(&client::mountpoint(&args.mountpoint)?)?;
    let notes = match draining::shown(&entry, || client::done(&args.mountpoint, &request, limit)) {
        Err(silent @ ControlError::Silent { .. }) => return Err(Failure::from(silent).not_stored()),
        done => done?,
    };
    for note in notes {
        eprintln!("cwdfs: {note}");
    }
    Ok(Exit::Done)
}

/// As the protocol carries it.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
