//! `eject`: the way out. Publishes everything and takes away what is cwdfs's, so that plain objects are left.
//!
//! Invariants:
//! - nothing of ours is deleted before everything is published, or the user has said `--force`;
//! - nor after somebody else has written the session since;
//! - from the first deletion on the session cannot be mounted, and `eject` finishes what it began.

use super::exit::{Exit, Failure};
use super::options::{Fencing, MountArgs};
use super::reach::{ReachArgs, Reached};
use super::start::{self, Begun, Plan};
use super::values::human_size;
use super::{Cli, Command, places, rm};
use crate::fuse::Passthrough;
use crate::log::ids::keys;
use crate::log::lease::{Ending, Lease, LeaseState};
use crate::log::removal::Removal;
use crate::session::Session;
use crate::store::Location;
use crate::view::{Census, View};
use clap::Parser;
use ignore::gitignore::Gitignore;
use rustix::mount::MountFlags;
use std::io::IsTerminal;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often progress is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// The most names that are listed.
const LISTED: usize = 20;

/// Leave only plain objects: publish everything, then remove .cwdfs
///
/// Also what mounts kept out by --publish-exclude or --no-publish. Refuses, listing them, when names cannot be
/// objects (exit 8), and a session that somebody has mounted (exit 7). One that was interrupted is finished by
/// running it again.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs eject demo:sid42", "cwdfs eject --force demo:sid42     # what cannot be an object is lost"]))]
pub struct Args {
    /// Go on although some files cannot be objects: they are lost
    #[arg(long)]
    force: bool,
    /// Also a session that is held or parked: its holder is fenced, and what it has not stored is lost
    #[arg(long)]
    takeover: bool,
    /// How a second writer is kept out
    #[arg(long, env = "CWDFS_FENCING", value_name = "HOW", default_value = "lease")]
    fencing: Fencing,
    /// Where mounts on this machine keep what is not in the store yet [default: as for `cwdfs mount`]
    #[arg(long, env = "CWDFS_CACHE_DIR", value_name = "DIR")]
    cache_dir: Option<PathBuf>,
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `s3://bucket/prefix` or `file:///directory`
    #[arg(value_name = "STORE")]
    store: Location,
}

/// Publishes and removes.
pub fn run(args: Args) -> Result<Exit, Failure> {
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cwdfs").build();
    let runtime = threads.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let store = args.store.clone();
    let done = runtime.block_on(eject(&args)).map_err(|failure| failure.context(&store))?;
    super::say(&format!("{store}: {done}\n"))?;
    Ok(Exit::Done)
}

async fn eject(args: &Args) -> Result<String, Failure> {
    // Looking writes nothing: a plain prefix stays one.
    let seen = Reached::to_read(&args.store, &args.reach).await?.store;
    let begun = match Lease::peek(seen.as_ref()).await? {
        Some(lease) if lease.state == LeaseState::Parked && !args.takeover => {
            let what = "which may come back: unmount it there, or give --takeover";
            return Err(Failure::new(
                Exit::Held,
                format!("the session is parked by {}, {what}", lease.holder),
            ));
        }
        Some(lease) => lease.ending,
        None => None,
    };
    let last = match begun {
        Some(Ending::Eject) => None,
        Some(Ending::Rm) => {
            let what = "`cwdfs rm` of it was begun, plain objects are gone already: run `cwdfs rm` again";
            return Err(Failure::new(Exit::CannotStart, what));
        }
        None if seen.list(keys::ROOT, None, 1).await?.objects.is_empty() => {
            return Ok("there is no session here; nothing was changed".into());
        }
        None => Some(publish(args).await?),
    };
    let reached = Reached::to_write(&args.store, &args.reach, args.fencing).await?;
    remove(args, &reached, last).await
}

/// Publishes everything and closes the session; returns the epoch it was written under.
async fn publish(args: &Args) -> Result<String, Failure> {
    let plan = plan(args)?;
    let begun = Begun::default();
    let published = async {
        let (_reached, session, view) = start::open(&plan, &begun).await?;
        session.flush_all(args.reach.timeout).await?;
        wait(&view, args.reach.timeout).await?;
        judge(&census(&view).await?, args.force)?;
        view.stop().await;
        Ok(session)
    };
    match published.await {
        Ok(session) => close(&session, args.reach.timeout).await,
        Err(failure) => {
            begun.give_back().await;
            Err(failure)
        }
    }
}

/// A mount of the same session that is never mounted: the options that matter are those of the command.
fn plan(args: &Args) -> Result<Plan, Failure> {
    let mut words = vec!["cwdfs".to_owned(), "mount".to_owned()];
    words.extend(args.reach.words());
    words.extend(["--".to_owned(), args.store.to_string(), "/".to_owned()]);
    let cli = Cli::try_parse_from(words).map_err(super::refused)?;
    let Command::Mount(mount) = cli.command else {
        return Err(Failure::new(Exit::CannotStart, "the options of mount were not understood"));
    };
    let mount = MountArgs {
        reach: args.reach.clone(),
        cache_dir: args.cache_dir.clone(),
        takeover: args.takeover,
        leave_parked: !args.takeover,
        require_session: false,
        require_empty: false,
        fencing: args.fencing,
        read_only: false,
        no_publish: false,
        publish_delay: Duration::ZERO,
        ..*mount
    };
    let key = args.store.session_key(args.reach.known_endpoint().as_deref());
    let cache = places::cache_folder(&mount, &key)?;
    Ok(Plan {
        args: mount,
        flags: MountFlags::empty(),
        key,
        cache,
        lazy: Gitignore::empty(),
        exclude: Gitignore::empty(),
        passthrough: Passthrough::Unavailable("nothing is mounted".into()),
        metrics: None,
    })
}

/// Waits until everything is published; fails when nothing moves any more for `patience`.
async fn wait(view: &View, patience: Duration) -> Result<(), Failure> {
    let (mut moved, mut last) = (Instant::now(), u64::MAX);
    loop {
        if view.wait_published(Instant::now() + LOOK).await {
            return Ok(());
        }
        let Some(status) = view.status() else { return Ok(()) };
        if let Some(why) = status.stopped {
            return Err(Failure::new(Exit::NotStored, format!("not everything could be published: {why}")));
        }
        let left = status.pending_objects;
        if left < last {
            (moved, last) = (Instant::now(), left);
        }
        if moved.elapsed() > patience {
            let why = status.last_error.map_or_else(|| "no reason was given".into(), |(_, error)| error);
            let what = format!("{left} objects could not be published ({why}); nothing was removed");
            return Err(Failure::new(Exit::NotStored, what));
        }
        if std::io::stderr().is_terminal() {
            eprintln!("cwdfs: {left} objects to publish, {}", human_size(status.pending_bytes));
        }
    }
}

async fn census(view: &Arc<View>) -> Result<Census, Failure> {
    let view = Arc::clone(view);
    let counted = tokio::task::spawn_blocking(move || view.census()).await;
    Ok(counted.map_err(|error| Failure::new(Exit::CannotStart, error))??)
}

/// Says what plain objects cannot hold; fails where that is whole files and nobody said `--force`.
fn judge(census: &Census, force: bool) -> Result<(), Failure> {
    let mut lost = Vec::new();
    if census.further_names > 0 {
        lost.push(format!(
            "{} further names of hard-linked files become files of their own",
            census.further_names
        ));
    }
    if census.lost_xattrs > 0 {
        lost.push(format!(
            "{} files lose extended attributes or ACLs that object metadata cannot hold",
            census.lost_xattrs
        ));
    }
    if let Some(mode) = census.root_mode {
        lost.push(format!("the root's mode {mode:04o} is not kept"));
    }
    for lost in lost {
        eprintln!("cwdfs: warning: {lost}");
    }
    let without = &census.without_object;
    if without.is_empty() {
        return Ok(());
    }
    for path in without.iter().take(LISTED) {
        eprintln!("cwdfs: cannot be an object: {}", path.escape_ascii());
    }
    if without.len() > LISTED {
        eprintln!("cwdfs: and {} more", without.len() - LISTED);
    }
    match force {
        true => Ok(()),
        false => {
            let what = "files cannot be objects and would be lost: rename them, or give --force; nothing was removed";
            Err(Failure::new(Exit::CheckFailed, format!("{} {what}", without.len())))
        }
    }
}

async fn close(session: &Arc<Session>, patience: Duration) -> Result<String, Failure> {
    let epoch = session.status().writer.map(|writer| writer.epoch).unwrap_or_default();
    let report = session.close(patience).await;
    match report.error {
        Some(error) => Err(Failure::from(error).not_stored()),
        None if !report.released => Err(Failure::new(
            Exit::TryAgain,
            "the lease could not be given back; nothing was removed, run it again",
        )),
        None => Ok(epoch),
    }
}

/// Removes what is ours. `last`: the epoch that everything was published under; `None`: that was seen to by the
/// command that began this.
async fn remove(args: &Args, reached: &Reached, last: Option<String>) -> Result<String, Failure> {
    // First, so that what a probe notes in the session is there before everything is deleted.
    let conditional = reached.deletes_with_condition().await?;
    let Some(removal) = Removal::begin(&reached.store, &rm::lease("eject", args.takeover)).await? else {
        return Ok("there is no session any more; the rest was removed elsewhere".into());
    };
    let before = removal.before().map(|epoch| epoch.to_string());
    if last.is_some() && (before != last || removal.begun().is_some()) {
        removal.give_back().await?;
        let what = "another writer took the session in between; nothing was removed, run it again";
        return Err(Failure::new(Exit::Held, what));
    }
    let removed = removal.remove_log(conditional).await?;
    let size = human_size(removed.bytes);
    Ok(format!("only plain objects are left; removed {} objects of cwdfs's own, {size}", removed.objects))
}
