//! Serving a session: from the store to a mount that answers.

use super::exit::{Exit, Failure};
use super::options::{self, MountArgs, PassthroughMode};
use super::places::{self, Ground};
use super::signals::Signals;
use super::start::{Plan, start};
use super::{daemon, log};
use crate::control::{client, registry};
use crate::fuse::{Passthrough, probe};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::mount::MountFlags;
use std::path::Path;
use std::time::Duration;

/// How long threads may take to end when everything else has.
const TIDYING: Duration = Duration::from_secs(2);

/// Mounts and serves until unmounted.
pub fn run(mut args: MountArgs, flags: MountFlags) -> Result<Exit, Failure> {
    places::absolute(&mut args)?;
    args.mountpoint = client::mountpoint(&args.mountpoint)?;
    let (lazy, exclude) = globs(&args)?;
    let key = args.store.session_key(args.reach.known_endpoint().as_deref());
    if is_free(&args, &key)?.is_none() {
        super::say(&format!("{} is already mounted at {}\n", args.store, args.mountpoint.display()))?;
        return Ok(Exit::Done);
    }
    log::start(&args)?;
    let cache = places::cache_folder(&args, &key)?;
    let passthrough = passthrough(&args, &cache)?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cwdfs").build();
    let runtime = threads.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let served = runtime.block_on(serve(Plan { args, flags, key, cache, lazy, exclude, passthrough }));
    // A thread that hangs with a disk or a store does not keep us.
    runtime.shutdown_timeout(TIDYING);
    served
}

async fn serve(plan: Plan) -> Result<Exit, Failure> {
    let args = plan.args.clone();
    let what = format!("cannot mount {} at {}", args.store, args.mountpoint.display());
    let mut signals = Signals::listen()?;
    let running = start(plan, &mut signals).await.map_err(|failure| failure.context(what))?;
    if args.daemon
        && let Err(failure) = daemon::ready(&args)
    {
        running.give_up().await;
        return Err(failure);
    }
    tracing::info!(store = %args.store, mountpoint = %args.mountpoint.display(), "mounted");
    running.until_the_end(&mut signals).await
}

/// `None`: this very session is mounted there already.
fn is_free(args: &MountArgs, key: &str) -> Result<Option<()>, Failure> {
    let mountpoint = &args.mountpoint;
    let mounted = match places::ground(mountpoint)? {
        Ground::Free { hides } => {
            if hides {
                let at = mountpoint.display();
                eprintln!(
                    "cwdfs: warning: {at} is not empty; its files are hidden while the session is mounted"
                );
            }
            return Ok(Some(()));
        }
        Ground::Taken(mounted) => mounted,
    };
    let known = registry::find(mountpoint).map_err(|error| Failure::new(Exit::CannotStart, error))?;
    if known.as_ref().is_some_and(|e| e.is_alive() && e.device == mounted.device && e.session_key == key) {
        return Ok(None);
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
