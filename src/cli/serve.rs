//! Serving a session: from the store to a mount that answers.

use super::exit::{Exit, Failure};
use super::options::{self, MountArgs, PassthroughMode};
use super::origin::Origin;
use super::places::{self, Ground};
use super::ready::Supervisor;
use super::signals::Signals;
use super::start::{Plan, start};
use super::{daemon, log, metrics, rest};
use crate::control::registry::Entry;
use crate::control::{client, registry};
use crate::fuse::{Passthrough, probe, sys, table};
use crate::metrics::Bound;
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::mount::MountFlags;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::path::Path;
use std::time::{Duration, Instant};

/// How long threads may take to end when everything else has.
const TIDYING: Duration = Duration::from_secs(2);

/// Between two looks at a daemon that has no mount.
const LOOK: Duration = Duration::from_millis(500);

/// For a daemon whose mount is gone already, beside the bounds of its mount.
const MARGIN: Duration = Duration::from_secs(10);

/// Mounts and serves until unmounted; the supervisor is told when the mount answers.
pub fn run(mut args: MountArgs, flags: MountFlags, supervisor: &Supervisor) -> Result<Exit, Failure> {
    places::absolute(&mut args)?;
    args.mountpoint = client::mountpoint(&args.mountpoint)?;
    let (lazy, exclude) = globs(&args)?;
    let key = args.store.session_key(args.reach.known_endpoint().as_deref());
    outwait_draining(&args, &key)?;
    if let Some(entry) = mounted_already(&args, &key)? {
        super::say(&format!("{} is already mounted at {}\n", args.store, args.mountpoint.display()))?;
        supervisor.ready(&args, entry.pid);
        return Ok(Exit::Done);
    }
    places::are_apart(&args)?;
    let (bound, metrics) = metrics::bind(&args)?;
    sys::keep_memory_together();
    log::start(&args)?;
    raise_descriptors();
    let cache = places::cache_folder(&args, &key)?;
    if let Err(error) = Origin::note(&args, &cache) {
        // Only `salvage` reads it, and says where it misses it.
        tracing::warn!(%error, "which store this cache is of could not be noted");
    }
    let passthrough = passthrough(&args, &cache)?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cwdfs").build();
    let runtime = threads.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let plan = Plan { args, flags, key, cache, lazy, exclude, passthrough, metrics };
    let served = runtime.block_on(serve(plan, bound, supervisor));
    // A thread that hangs with a disk or a store does not keep us.
    runtime.shutdown_timeout(TIDYING);
    log::end();
    served
}

async fn serve(plan: Plan, bound: Option<Bound>, supervisor: &Supervisor) -> Result<Exit, Failure> {
    let args = plan.args.clone();
    let what = format!("cannot mount {} at {}", args.store, args.mountpoint.display());
    let mut signals = Signals::listen()?;
    let running = start(plan, &mut signals).await.map_err(|failure| failure.context(what))?;
    metrics::serve(bound, &running.shared);
    rest::keep(&running.shared);
    if args.daemon
        && let Err(failure) = daemon::ready(&args)
    {
        running.give_up().await;
        return Err(failure);
    }
    tracing::info!(store = %args.store, mountpoint = %args.mountpoint.display(), "mounted");
    supervisor.ready(&args, std::process::id());
    running.until_the_end(&mut signals, supervisor).await
}

/// Each large file in use has a descriptor of ours: as many as we may have.
fn raise_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let most = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, most) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

/// A daemon whose mount was taken away by umount(8) still stores what it owes; the session is its until then. One that
/// is about to mount looks the same for a moment.
fn outwait_draining(args: &MountArgs, key: &str) -> Result<(), Failure> {
    let (at, start) = (args.mountpoint.display(), Instant::now());
    let limit = args.reach.timeout + args.drain_timeout + MARGIN;
    let mut told = false;
    while let Some(entry) = without_mount(args, key)? {
        let pid = entry.pid;
        if entry.wait_for_end(LOOK) {
            return Ok(());
        }
        if start.elapsed() > limit {
            let what = format!("{at}: the daemon of the mount that was there (pid {pid}) does not end");
            return Err(Failure::new(Exit::TryAgain, what));
        }
        if !told {
            eprintln!(
                "cwdfs: waiting for the daemon of the mount that was at {at} (pid {pid}): it stores what it owes"
            );
            told = true;
        }
    }
    Ok(())
}

/// A live daemon of this session at this place, that has no mount.
fn without_mount(args: &MountArgs, key: &str) -> Result<Option<Entry>, Failure> {
    let failed = |error: std::io::Error| Failure::new(Exit::CannotStart, error);
    let Some(entry) = registry::find(&args.mountpoint).map_err(failed)? else { return Ok(None) };
    let mounts = table::all().map_err(failed)?;
    let mounted = mounts.iter().any(|mounted| entry.is_of(mounted));
    Ok((!mounted && entry.session_key == key && entry.is_alive()).then_some(entry))
}

/// The daemon, where this very session is mounted there already; any other mount is an error.
fn mounted_already(args: &MountArgs, key: &str) -> Result<Option<Entry>, Failure> {
    let mountpoint = &args.mountpoint;
    let mounted = match places::ground(mountpoint)? {
        Ground::Free { hides } => {
            if hides {
                let at = mountpoint.display();
                eprintln!(
                    "cwdfs: warning: {at} is not empty; its files are hidden while the session is mounted"
                );
            }
            return Ok(None);
        }
        Ground::Taken(mounted) => mounted,
    };
    let known = registry::find(mountpoint).map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let ours = |e: &Entry| e.is_alive() && e.is_of(&mounted) && e.session_key == key;
    if let Some(entry) = known.filter(ours) {
        return Ok(Some(entry));
    }
    let what = format!(
        "mount point {}: {} ({}) is mounted there already; unmount it first",
        mountpoint.display(),
        mounted.source,
        mounted.kind
    );
    Err(Failure::new(Exit::CannotStart, what))
}

fn globs(args: &MountArgs) -> Result<(Gitignore, Gitignore), Failure> {
    let build = |option: &str, globs: Vec<String>| {
        let mut builder = GitignoreBuilder::new("");
        builder.allow_unclosed_class(false);
        for glob in globs {
            builder
                .add_line(None, &glob)
                .map_err(|error| Failure::new(Exit::Usage, format!("{option} {glob}: {error}")))?;
        }
        builder.build().map_err(|error| Failure::new(Exit::Usage, format!("{option}: {error}")))
    };
    let lazy = build("--lazy", options::globs(&args.lazy, "CWDFS_LAZY"))?;
    let exclude = options::globs(&args.publish_exclude, "CWDFS_PUBLISH_EXCLUDE");
    Ok((lazy, build("--publish-exclude", exclude)?))
}

fn passthrough(args: &MountArgs, cache: &Path) -> Result<Passthrough, Failure> {
    match (args.passthrough, args.passthrough != PassthroughMode::Off) {
        (PassthroughMode::Off, _) => Ok(Passthrough::Unavailable("switched off".into())),
        (mode, _) => match probe::passthrough(cache) {
            Passthrough::Unavailable(why) if mode == PassthroughMode::On => {
                Err(Failure::new(Exit::CannotStart, format!("--passthrough on: not here: {why}")))
            }
            found => Ok(found),
        },
    }
}
