//! `credentials`: hands other credentials to a running mount, for those whose platform renews them from outside.

mod read;

use super::exit::{Exit, Failure};
use crate::control::{Request, client};
use std::path::PathBuf;
use std::time::Duration;

/// The store is asked whether it takes them.
const LIMIT: Duration = Duration::from_secs(60);

/// Hand new credentials to a running mount
///
/// They are read from standard input, or from a file: AWS_ACCESS_KEY_ID=… lines, or JSON as credential_process, STS
/// and IMDS give it. They serve in the place of all other sources until they end, and are kept in memory only. What
/// the store refuses changes nothing.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&[
    "aws sts assume-role … | cwdfs credentials /mnt/sid42",
    "cwdfs credentials --file /run/secrets/sid42.env /mnt/sid42",
]))]
pub struct Args {
    /// Read them from here; the file is yours or root's, and others cannot read it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Where it is mounted
    mountpoint: PathBuf,
}

/// Reads, hands over, and says what became of them.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let keys = match &args.file {
        Some(file) => read::from_file(file)?,
        None => read::from_input()?,
    };
    for note in client::done(&args.mountpoint, &Request::Credentials { keys }, LIMIT)? {
        super::say(&format!("{note}\n"))?;
    }
    Ok(Exit::Done)
}
