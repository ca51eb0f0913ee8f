//! Serving a session at a mount point, from the mount to the end of the request loop.

use super::answer::{Answers, Ttl};
use super::backing::Backings;
use super::count::Counts;
use super::fs::CwdFs;
use super::linger::Linger;
use super::open::Opendir;
use super::refresh::RefreshAttr;
use super::sys::{self, MountError, MountSpec, Unmount};
use super::watch::{self, Slow, Watch};
use super::{Passthrough, invalidate, table, utab};
use crate::session::Session;
use fuser::{Config, SessionACL};
use std::io;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;

/// How long the kernel may keep names and attributes of a session that only we change.
const UNDER_LEASE: Duration = Duration::from_secs(365 * 24 * 3600);
/// And of one that another writes: a change is also told as soon as we learn of it.
const FOLLOWING: Duration = Duration::from_secs(1);
/// How far the kernel reads ahead, in KiB.
const READ_AHEAD: u32 = 2048;

/// How a session is served.
#[derive(Debug, Clone)]
pub struct FuseOptions {
    /// What is mounted, where and how.
    pub mount: MountSpec,
    /// What the probe found, unless it is switched off.
    pub passthrough: Passthrough,
    /// Another writer may change the session.
    pub following: bool,
    /// Threads that read requests.
    pub threads: usize,
    /// The extended attribute that asks for an import.
    pub refresh: Option<RefreshAttr>,
}

/// How the request loop ended.
#[derive(Debug)]
pub enum Ended {
    /// The mount is gone: unmounted, by us or by somebody else.
    Unmounted,
    /// The loop died, and the mount with it, which is still in the tree.
    Died(String),
}

/// A session being served.
#[derive(Debug)]
pub struct Served {
    mount: MountSpec,
    device: String,
    /// The kernel's number of the mount, which stays when a directory above it is renamed.
    id: u64,
    threads: Vec<JoinHandle<()>>,
    counts: Arc<Counts>,
    watch: Arc<Watch>,
}

/// Mounts and serves `session`; the mount answers when this returns. The receiver learns how serving ended.
pub fn serve(
    session: &Arc<Session>,
    options: &FuseOptions,
    runtime: &tokio::runtime::Handle,
) -> Result<(Served, oneshot::Receiver<Ended>), MountError> {
    let prepared = sys::prepare(&options.mount)?;
    let served = serve_prepared(session, options, runtime, prepared);
    if served.is_err()
        && let Err(error) = sys::take_away_ours(&options.mount)
    {
        tracing::error!(%error, "a mount that could not be served could not be taken away");
    }
    served
}

fn serve_prepared(
    session: &Arc<Session>,
    options: &FuseOptions,
    runtime: &tokio::runtime::Handle,
    sys::Prepared { device, place }: sys::Prepared,
) -> Result<(Served, oneshot::Receiver<Ended>), MountError> {
    let failed =
        |error: io::Error| MountError::Kernel { mountpoint: options.mount.mountpoint.clone(), error };
    let counts = Arc::new(Counts::default());
    let watch = Arc::new(Watch::default());
    let linger = Linger::new(&device).map_err(failed)?;
    let fs = file_system(session, options, runtime, (&counts, &watch), linger);
    let mut config = Config::default();
    config.n_threads = Some(options.threads);
    // Who may enter is the kernel's to check, by the mount option.
    let loops = fuser::Session::from_fd(fs, device, SessionACL::All, config).map_err(failed)?;
    let notifier = loops.notifier();
    let at_once = notifier.clone();
    session.forget_at_once(move |ino| invalidate::forget_directory(&at_once, ino));
    let (tell, ended) = oneshot::channel();
    let known = Arc::new(OnceLock::new());
    let (device_known, source) = (Arc::clone(&known), options.mount.source.clone());
    let run = spawn("fuse", move || {
        let result = loops.run();
        // Nobody listens any more once the daemon is on its way out.
        let _ = tell.send(how_it_ended(known.get(), &source, result));
    })
    .map_err(failed)?;
    let mut threads = vec![run];
    if let Some(invalidations) = session.invalidations() {
        threads
            .push(spawn("fuse-forget", move || invalidate::run(invalidations, &notifier)).map_err(failed)?);
    }
    drop(runtime.spawn(watch::run(Arc::clone(&watch), Arc::downgrade(session))));
    place.attach(&options.mount)?;
    let mounted = mounted_at(&options.mount.mountpoint).map_err(failed)?;
    let device = device_known.get_or_init(|| mounted.device).clone();
    if let Err(error) = sys::raise_read_ahead(&device, READ_AHEAD) {
        tracing::debug!(device, %error, "the kernel's read-ahead stays as it is");
    }
    if let Err(error) = utab::add(&options.mount.source, &options.mount.mountpoint) {
        tracing::warn!(%error, "umount(8) will not wait until all is stored: it cannot be told of our helper");
    }
    Ok((Served { mount: options.mount.clone(), device, id: mounted.id, threads, counts, watch }, ended))
}

fn file_system(
    session: &Arc<Session>,
    options: &FuseOptions,
    runtime: &tokio::runtime::Handle,
    (counts, watch): (&Arc<Counts>, &Arc<Watch>),
    linger: Linger,
) -> CwdFs {
    let keep = if options.following { FOLLOWING } else { UNDER_LEASE };
    let answers = Answers {
        session: Arc::clone(session),
        runtime: runtime.clone(),
        ttl: Ttl { attr: keep, entry: keep },
        counts: Arc::clone(counts),
        watch: Arc::clone(watch),
        linger,
    };
    CwdFs {
        answers: Arc::new(answers),
        backings: Arc::new(Backings::default()),
        depth: options.passthrough.depth(),
        opendir: if options.following { Opendir::Fresh } else { Opendir::Never },
        refresh: options.refresh.clone(),
    }
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name(name.to_owned()).spawn(run)
}

fn mounted_at(mountpoint: &Path) -> io::Result<table::Mounted> {
    let mounted = table::at(mountpoint)?.filter(table::Mounted::is_ours);
    mounted.ok_or_else(|| io::Error::other("the mount was taken away at once"))
}

/// A connection that ended while its mount is still in the tree was not unmounted.
fn how_it_ended(device: Option<&String>, source: &str, result: io::Result<()>) -> Ended {
    let is_it = |m: &table::Mounted| Some(&m.device) == device && m.source == source;
    let there = |mounts: Vec<table::Mounted>| mounts.iter().any(is_it);
    match (table::all().map(there), result) {
        (Ok(false), _) => Ended::Unmounted,
        (_, Ok(())) => Ended::Died("the kernel ended the connection".into()),
        (_, Err(error)) => Ended::Died(error.to_string()),
    }
}

impl Served {
    /// Takes the mount away, wherever it is by now; `false` when it was gone already. EBUSY while processes hold
    /// it, unless detached.
    pub fn unmount(&self, how: Unmount) -> io::Result<bool> {
        match table::all()?.into_iter().find(|mounted| self.is(mounted)) {
            Some(mounted) => sys::unmount(&mounted.mountpoint, &self.device, how),
            None => Ok(false),
        }
    }

    /// Whether this is our mount. The kernel gives both numbers again, to the next mount, as soon as ours is gone.
    fn is(&self, mounted: &table::Mounted) -> bool {
        mounted.id == self.id && mounted.device == self.device && mounted.source == self.mount.source
    }

    /// What was asked and answered.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// What has been under way for long.
    pub fn slow(&self) -> Vec<Slow> {
        self.watch.slow()
    }

    /// `major:minor` of the mount.
    pub fn device(&self) -> &str {
        &self.device
    }

    /// Whether the kernel has let go of the file system: no request comes any more, no file of it is open.
    pub fn is_gone(&self) -> bool {
        // The first thread is the one that runs the loops.
        self.threads.first().is_none_or(JoinHandle::is_finished)
    }
}
