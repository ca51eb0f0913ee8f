//! `rm`: deletes a session, with everything below its prefix.

use super::exit::{Exit, Failure};
use super::options::Fencing;
use super::reach::{ReachArgs, Reached};
use super::values::human_size;
use crate::log::clock::SystemClock;
use crate::log::lease::{LeaseOptions, Succession};
use crate::log::removal::{Removal, Removed};
use crate::log::summary;
use crate::store::Location;
use std::io::{BufRead, IsTerminal, Write};
use std::time::Duration;

/// After which another may go on when we vanish.
const TTL: Duration = Duration::from_secs(15);

/// Delete a session: its plain objects, its log, everything below its prefix
///
/// Asks before it does, unless told --yes. A session that somebody has mounted is refused (exit 7); a holder
/// that vanished is waited for as by a mount. One that was interrupted is finished by running it again.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs rm demo:sid42", "cwdfs rm --yes --takeover demo:sid42"]))]
pub struct Args {
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Also a session that is held or parked: its holder is fenced, and what it has not stored is lost
    #[arg(long)]
    takeover: bool,
    /// How a second writer is kept out
    #[arg(long, env = "CWDFS_FENCING", value_name = "HOW", default_value = "lease")]
    fencing: Fencing,
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`
    #[arg(value_name = "STORE")]
    store: Location,
}

/// Asks and deletes.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let removed = super::wait_for(remove(args)).map_err(|failure| failure.context(&args.store))?;
    let Some(Removed { objects, bytes }) = removed else {
        eprintln!("cwdfs: nothing was deleted");
        return Ok(Exit::Done);
    };
    super::say(&format!("{}: deleted {objects} objects, {}\n", args.store, human_size(bytes)))?;
    Ok(Exit::Done)
}

/// `None`: the person said no.
async fn remove(args: &Args) -> Result<Option<Removed>, Failure> {
    let reached = Reached::to_write(&args.store, &args.reach, args.fencing).await?;
    let store = &reached.store;
    if !args.yes && !confirmed(args, store.as_ref()).await? {
        return Ok(None);
    }
    let Some(mut removal) = Removal::begin(store, &lease("rm", args.takeover)).await? else {
        let what = "there is no session here; what else there is, any S3 client deletes";
        return Err(Failure::new(Exit::CannotStart, what));
    };
    let view = removal.remove_view().await?;
    let log = removal.remove_log(reached.deletes_with_condition().await?).await?;
    Ok(Some(Removed { objects: view.objects + log.objects, bytes: view.bytes + log.bytes }))
}

/// How the lease is taken by a command that ends a session.
pub(super) fn lease(command: &str, takeover: bool) -> LeaseOptions {
    LeaseOptions {
        holder: format!("cwdfs {command}, pid {}", std::process::id()),
        ttl: TTL,
        // One that is parked may come back.
        succession: if takeover { Succession::AtOnce } else { Succession::NotParked },
        dead: None,
        clock: SystemClock::shared(),
    }
}

async fn confirmed(args: &Args, store: &dyn crate::store::ObjectStore) -> Result<bool, Failure> {
    let (input, output) = (std::io::stdin(), std::io::stderr());
    if !input.is_terminal() {
        return Err(Failure::new(Exit::Usage, "this deletes everything below the prefix: give --yes"));
    }
    let total = summary::usage(store).await?.total();
    let failed = |error: std::io::Error| Failure::new(Exit::CannotStart, error);
    let (objects, size) = (total.objects, human_size(total.bytes));
    write!(output.lock(), "Delete {} ({objects} objects, {size})? Type yes: ", args.store).map_err(failed)?;
    let mut line = String::new();
    input.lock().read_line(&mut line).map_err(failed)?;
    Ok(line.trim() == "yes")
}
