//! Serving a session: from the store to a mount that answers.

use super::exit::{Exit, Failure};
use super::location::Location;
use super::options::{self, Fencing, MountArgs, PassthroughMode};
use super::places::{self, Ground, SessionKey};
use super::running::Running;
use super::{daemon, log};
use crate::control::registry::{self, Entry, Registry};
use crate::control::{client, server};
use crate::fuse::sys::MountSpec;
use crate::fuse::{self, FuseOptions, Passthrough, probe};
use crate::session::{Session, SessionOptions};
use crate::store::{self, ObjectStore, S3Options, StoreOptions};
use crate::view::{View, ViewOptions};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use rustix::mount::MountFlags;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

/// Threads that read requests.
const THREADS: usize = 3;
/// A follower's longest time between polls: the bound that people are told.
const FOLLOW: Duration = Duration::from_secs(5);

/// Mounts and serves until unmounted.
pub fn run(mut args: MountArgs, flags: MountFlags) -> Result<Exit, Failure> {
    places::absolute(&mut args)?;
    args.mountpoint = client::mountpoint(&args.mountpoint)?;
    let (lazy, exclude) = globs(&args)?;
    let key = SessionKey::of(&args.store, places::endpoint(&args).as_deref());
    if is_free(&args, &key)?.is_none() {
        println!("{} is already mounted at {}", args.store, args.mountpoint.display());
        return Ok(Exit::Done);
    }
    log::start(&args)?;
    let cache = places::cache_folder(&args, &key)?;
    let passthrough = passthrough(&args, &cache)?;
    let threads = tokio::runtime::Builder::new_multi_thread().enable_all().thread_name("cwdfs").build();
    let runtime = threads.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let what = format!("cannot mount {} at {}", args.store, args.mountpoint.display());
    runtime.block_on(async {
        let start = start(&args, flags, &key, cache, (lazy, exclude), passthrough);
        let (running, ended) = start.await.map_err(|failure| failure.context(what))?;
        if args.daemon {
            daemon::ready(&args)?;
        }
        tracing::info!(store = %args.store, mountpoint = %args.mountpoint.display(), "mounted");
        running.until_the_end(ended).await
    })
}

/// `None`: this very session is mounted there already.
fn is_free(args: &MountArgs, key: &SessionKey) -> Result<Option<()>, Failure> {
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
    if known
        .as_ref()
        .is_some_and(|e| e.is_alive() && e.device == mounted.device && e.session_key == key.as_str())
    {
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

async fn open_store(args: &MountArgs) -> Result<Arc<dyn ObjectStore>, Failure> {
    let place = match &args.store {
        Location::Directory(path) => store::Location::Dir { path: path.clone() },
        Location::S3 { bucket, prefix } => {
            store::Location::S3 { bucket: bucket.clone(), prefix: prefix.clone() }
        }
    };
    let s3 = S3Options {
        endpoint: args.endpoint.clone(),
        region: args.region.clone(),
        profile: args.profile.clone(),
        virtual_host: args.virtual_host,
        ..S3Options::default()
    };
    let opened = store::open(&place, &StoreOptions { s3, timeout: args.timeout }).await?;
    Ok(opened.store)
}

async fn start(
    args: &MountArgs,
    flags: MountFlags,
    key: &SessionKey,
    cache: PathBuf,
    (lazy, exclude): (Gitignore, Gitignore),
    passthrough: Passthrough,
) -> Result<(Running, tokio::sync::oneshot::Receiver<fuse::Ended>), Failure> {
    if args.fencing == Fencing::None {
        tracing::warn!("--fencing none: nothing keeps a second writer out");
    }
    let store = open_store(args).await?;
    let options = session_options(args, cache.clone(), lazy, &passthrough);
    let session = Session::start(store, options).await?;
    let publish = ViewOptions {
        publish: !args.no_publish,
        exclude,
        delay: args.publish_delay,
        ..ViewOptions::default()
    };
    let view = View::start(Arc::clone(&session), session.journal.clone(), publish).await;
    let view = view.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let flags = if args.read_only { flags | MountFlags::RDONLY } else { flags };
    let mount = MountSpec {
        source: args.store.to_string(),
        mountpoint: args.mountpoint.clone(),
        allow_other: args.allow_other,
        flags,
    };
    let served =
        FuseOptions { mount, passthrough: passthrough.clone(), following: args.read_only, threads: THREADS };
    let (served, ended) = fuse::serve(&session, &served, &tokio::runtime::Handle::current())?;
    let registry = Registry::own().map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let pid = std::process::id();
    let entry = Entry {
        mountpoint: args.mountpoint.clone(),
        device: served.device().to_owned(),
        pid,
        started: registry::started(pid).unwrap_or_default(),
        socket: registry.socket(&args.mountpoint),
        session_key: key.as_str().to_owned(),
        store: args.store.to_string(),
        cache,
    };
    let listener = registry
        .prepare()
        .and_then(|()| server::listen(&entry.socket))
        .and_then(|listener| registry.add(&entry).map(|()| listener))
        .map_err(|error| Failure::new(Exit::CannotStart, format!("{}: {error}", entry.socket.display())))?;
    let args = args.clone();
    let mounted_at = SystemTime::now();
    Ok((Running::new(args, session, view, served, registry, entry, listener, passthrough, mounted_at), ended))
}

fn session_options(
    args: &MountArgs,
    cache_dir: PathBuf,
    lazy: Gitignore,
    passthrough: &Passthrough,
) -> SessionOptions {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    SessionOptions {
        cache_dir,
        cache_size: args.cache_size,
        durability: args.durability.into(),
        lazy,
        commit_interval: args.commit_interval,
        timeout: args.timeout,
        holder: format!("{host} pid {} at {}", std::process::id(), args.mountpoint.display()),
        lease_ttl: args.lease_ttl,
        takeover: args.takeover,
        park_after: args.park_after.0,
        read_only: args.read_only,
        follow_interval: FOLLOW,
        passthrough: passthrough.depth() > 0,
    }
}
