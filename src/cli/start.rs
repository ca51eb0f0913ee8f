//! Starting: from the store to a mount that answers.
//!
//! Invariant: a start that fails or is broken off leaves nothing mounted, and gives the session back.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use super::reach::Reached;
use super::require;
use super::running::{Running, Shared, forget};
use super::signals::{self, Signals};
use crate::control::registry::{self, Entry, Registry};
use crate::control::server;
use crate::fuse::sys::{MountSpec, Unmount};
use crate::fuse::{self, FuseOptions, Passthrough, RefreshAttr, Served};
use crate::log::lease::Succession;
use crate::session::{KeepOptions, Modes, Owners, Session, SessionOptions};
use crate::view::{View, ViewOptions};
use ignore::gitignore::Gitignore;
use rustix::mount::MountFlags;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

/// Threads that read requests: one for each processor, within these bounds. One that reads the journal's database does
/// not hold up who needs no more than memory, even on a single processor.
const THREADS: RangeInclusive<usize> = 2..=8;
/// A follower's longest time between polls: the bound that people are told.
pub const FOLLOW: Duration = Duration::from_secs(5);
/// How long a start that failed may take to give the session back.
const GIVING_BACK: Duration = Duration::from_secs(5);

/// A mount to be made, checked as far as that is possible without the store.
pub struct Plan {
    /// The options; paths are absolute.
    pub args: MountArgs,
    /// Of the mount.
    pub flags: MountFlags,
    /// The session's name on this machine.
    pub key: String,
    /// Its folder in the cache.
    pub cache: PathBuf,
    /// `--lazy`.
    pub lazy: Gitignore,
    /// `--publish-exclude`.
    pub exclude: Gitignore,
    /// What the probe found.
    pub passthrough: Passthrough,
    /// Where metrics will be served.
    pub metrics: Option<String>,
}

/// What is open already, should the rest fail.
#[derive(Default)]
pub(super) struct Begun {
    session: OnceLock<Arc<Session>>,
    view: OnceLock<Arc<View>>,
}

/// Mounts; the mount answers when this returns.
pub async fn start(plan: Plan, signals: &mut Signals) -> Result<Running, Failure> {
    let begun = Begun::default();
    let failure = tokio::select! {
        started = stages(&plan, &begun) => match started {
            Ok(running) => return Ok(running),
            Err(failure) => failure,
        },
        why = broken_off(&plan.args, signals) => {
            Failure::new(Exit::TryAgain, format!("{why} before the mount answered; nothing is mounted"))
        }
    };
    let again = signals.next();
    tokio::select! {
        given = tokio::time::timeout(GIVING_BACK * 2, begun.give_back()) => if given.is_err() {
            tracing::warn!("the session could not be closed in time; its lease runs out by itself");
        },
        _ = again => {}
    }
    Err(failure)
}

/// Returns when a signal comes, or when the command that waits for this daemon is gone.
async fn broken_off(args: &MountArgs, signals: &mut Signals) -> String {
    let caller_gone = async {
        match args.daemon {
            true => signals::reader_gone().await,
            false => std::future::pending().await,
        }
    };
    tokio::select! {
        name = signals.next() => name.to_owned(),
        () = caller_gone => "the command that waited for it ended".to_owned(),
    }
}

impl Begun {
    /// Gives the session back after a failure.
    pub(super) async fn give_back(&self) {
        if let Some(view) = self.view.get() {
            view.stop().await;
        }
        if let Some(session) = self.session.get() {
            let report = session.close(GIVING_BACK).await;
            if let Some(error) = report.error {
                tracing::warn!(%error, "the session was not closed cleanly");
            }
        }
    }
}

async fn stages(plan: &Plan, begun: &Begun) -> Result<Running, Failure> {
    let (reached, session, view) = open(plan, begun).await?;
    mount(plan, reached, session, view)
}

/// Opens the session and its view, without a mount.
pub(super) async fn open(plan: &Plan, begun: &Begun) -> Result<(Reached, Arc<Session>, Arc<View>), Failure> {
    let args = &plan.args;
    if args.require_session || args.require_empty {
        let look = Reached::to_read(&args.store, &args.reach).await?;
        require::met(args, look.store.as_ref()).await?;
    }
    let reached = match args.read_only {
        true => Reached::to_read(&args.store, &args.reach).await?,
        false => Reached::to_write(&args.store, &args.reach, args.fencing).await?,
    };
    let session = Session::start(Arc::clone(&reached.store), session_options(plan)).await?;
    // Set once, here.
    let session = Arc::clone(begun.session.get_or_init(|| session));
    let publish = ViewOptions {
        publish: !args.no_publish,
        exclude: plan.exclude.clone(),
        delay: args.publish_delay,
        content_types: args.content_type,
        delete_conditions: args.read_only || reached.deletes_with_condition().await?,
        ..ViewOptions::default()
    };
    let view = View::start(Arc::clone(&session), publish).await?;
    let view = Arc::clone(begun.view.get_or_init(|| view));
    Ok((reached, session, view))
}

/// Mounts what is open, and makes the mount known.
fn mount(plan: &Plan, reached: Reached, session: Arc<Session>, view: Arc<View>) -> Result<Running, Failure> {
    let args = &plan.args;
    let registry = Registry::own().map_err(|error| Failure::new(Exit::CannotStart, error))?;
    let socket = registry.socket(&args.mountpoint);
    let failed = |error| Failure::new(Exit::CannotStart, format!("{}: {error}", socket.display()));
    let listener = registry.prepare().and_then(|()| server::listen(&socket)).map_err(failed)?;
    // Known before it is there: who finds a mount that nobody is known to serve takes its daemon for dead.
    let begun = entry(plan, &registry);
    registry.add(&begun).map_err(failed)?;
    let options = fuse_options(plan, &view);
    let (served, ended) = match fuse::serve(&session, &options, &tokio::runtime::Handle::current()) {
        Ok(served) => served,
        Err(error) => {
            forget(&registry, &begun);
            return Err(error.into());
        }
    };
    let entry = Entry { device: Some(served.device().to_owned()), ..begun.clone() };
    if let Err(error) = registry.add(&entry) {
        take_away(&served);
        forget(&registry, &begun);
        return Err(failed(error));
    }
    let shared = Shared {
        args: args.clone(),
        session,
        view,
        served,
        passthrough: plan.passthrough.clone(),
        mounted_at: SystemTime::now(),
        cache: plan.cache.clone(),
        stats: reached.stats,
        access: reached.access,
        store: reached.store,
        metrics: plan.metrics.clone(),
        leaving: Default::default(),
        end: Default::default(),
    };
    Ok(Running { shared: Arc::new(shared), registry, entry, listener, ended })
}

fn take_away(served: &Served) {
    if let Err(error) = served.unmount(Unmount::Detach) {
        tracing::error!(%error, "the mount could not be taken away; it ends with this process");
    }
}

fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).clamp(*THREADS.start(), *THREADS.end())
}

fn fuse_options(plan: &Plan, view: &Arc<View>) -> FuseOptions {
    let args = &plan.args;
    let flags = if args.read_only { plan.flags | MountFlags::RDONLY } else { plan.flags };
    let mount = MountSpec {
        source: args.store.to_string(),
        mountpoint: args.mountpoint.clone(),
        allow_other: args.allow_other,
        flags,
    };
    let refresh = args.refresh_attr.as_ref().map(|name| RefreshAttr::new(name, view));
    let passthrough = plan.passthrough.clone();
    FuseOptions { mount, passthrough, following: args.read_only, threads: threads(), refresh }
}

/// What is known of a mount before it is there.
fn entry(plan: &Plan, registry: &Registry) -> Entry {
    let (args, pid) = (&plan.args, std::process::id());
    Entry {
        mountpoint: args.mountpoint.clone(),
        device: None,
        pid,
        started: registry::started(pid).unwrap_or_default(),
        socket: registry.socket(&args.mountpoint),
        session_key: plan.key.clone(),
        store: args.store.to_string(),
        cache: plan.cache.clone(),
    }
}

fn succession(args: &MountArgs) -> Succession {
    match (args.takeover, args.leave_parked) {
        (true, _) => Succession::AtOnce,
        (false, true) => Succession::NotParked,
        (false, false) => Succession::WhenDue,
    }
}

fn session_options(plan: &Plan) -> SessionOptions {
    let args = &plan.args;
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    SessionOptions {
        cache_dir: plan.cache.clone(),
        cache_size: args.cache_size,
        quota: args.quota,
        durability: args.durability.into(),
        lazy: plan.lazy.clone(),
        commit_interval: args.commit_interval,
        timeout: args.reach.timeout,
        holder: format!("{host} pid {} at {}", std::process::id(), args.mountpoint.display()),
        lease_ttl: args.lease_ttl,
        succession: succession(args),
        park_after: args.park_after.0,
        owners: Owners { uid: args.uid, gid: args.gid },
        modes: Modes { file: args.file_mode, directory: args.dir_mode },
        read_only: args.read_only,
        follow_interval: FOLLOW,
        keep: if args.keep_for_tests { KeepOptions::for_tests() } else { KeepOptions::default() },
        passthrough: plan.passthrough.depth() > 0,
    }
}
