//! `fsck`: whether a session in its store is sound, and mending it.

use super::exit::{self, Exit, Failure};
use super::options::Fencing;
use super::reach::{ReachArgs, Reached};
use crate::fsck::{self, Depth, Report};
use crate::log::LogError;
use crate::log::clock::SystemClock;
use crate::log::lease::{LeaseOptions, Succession};
use crate::store::Location;
use std::time::Duration;

/// After which another may go on when we vanish.
const TTL: Duration = Duration::from_secs(15);

/// Check a session in its store, and repair it
///
/// Reads the lease, every checkpoint, the log, and every byte of content that a file has, and compares all with its
/// checksums; then the tree's rows with each other, and the published objects with theirs. Needs no mount, and disturbs
/// none. --repair puts right what can be told from the rest (numbers of links, names, a damaged checkpoint, missing
/// published objects, uploads left behind); files that no name leads to get one in /lost+found. Content that is missing or
/// damaged is brought back where the published object has the very bytes that were written. Nothing is deleted. What
/// cannot be repaired is named with the files it is about.
///
/// Exit code 0: nothing is wrong, or all of it was repaired. 8: something is. 5 or 6: it could not be looked at.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&[
    "cwdfs fsck demo:sid42",
    "cwdfs fsck --quick --json demo:sid42 | jq '.problems[].what'",
    "cwdfs fsck --repair demo:sid42",
]))]
pub struct Args {
    /// Repair what can be repaired, as a writer: a session that is mounted is refused (exit 7)
    #[arg(long)]
    repair: bool,
    /// Also repair a session that is held or parked: its holder is fenced
    #[arg(long, requires = "repair")]
    takeover: bool,
    /// Do not read the bytes of content
    #[arg(long)]
    quick: bool,
    /// As JSON: session, state, holder, last_slot, counts, problems (kind, what, object, inode, paths, range,
    /// repaired), notes
    #[arg(long)]
    json: bool,
    /// How a second writer is kept out
    #[arg(long, env = "CWDFS_FENCING", value_name = "HOW", default_value = "lease")]
    fencing: Fencing,
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`
    #[arg(value_name = "STORE")]
    store: Location,
}

/// Checks, repairs where told to, and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cwdfs").build();
    let runtime = threads.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let report = runtime.block_on(look(args)).map_err(|failure| failure.context(&args.store))?;
    match args.json {
        true => super::say(&super::json(&report)?)?,
        false => super::say(&report.to_string())?,
    }
    match report.is_sound() {
        true => Ok(Exit::Done),
        false => Err(Failure::new(Exit::CheckFailed, format!("{}: {}", args.store, advice(args, &report)))),
    }
}

fn advice(args: &Args, report: &Report) -> String {
    let left = report.problems.iter().filter(|problem| problem.repaired.is_none()).count();
    match args.repair {
        true => format!("{left} problems are left: see above for the files they are about"),
        false => format!("{left} problems; `cwdfs fsck --repair` puts right what can be"),
    }
}

async fn look(args: &Args) -> Result<Report, Failure> {
    let depth = if args.quick { Depth::Quick } else { Depth::Full };
    let failed = |error: LogError| Failure::new(exit::of_check(&error), error);
    let report = match args.repair {
        true => {
            let store = Reached::to_write(&args.store, &args.reach, args.fencing).await?.store;
            fsck::repair(&store, lease(args), depth).await.map_err(failed)?
        }
        false => {
            let store = Reached::to_read(&args.store, &args.reach).await?.store;
            fsck::check(&store, depth).await.map_err(failed)?
        }
    };
    report.ok_or_else(|| Failure::new(Exit::CannotStart, "there is no session here"))
}

fn lease(args: &Args) -> LeaseOptions {
    LeaseOptions {
        holder: format!("cwdfs fsck, pid {}", std::process::id()),
        ttl: TTL,
        // One that is parked may come back.
        succession: if args.takeover { Succession::AtOnce } else { Succession::NotParked },
        dead: None,
        clock: SystemClock::shared(),
    }
}
