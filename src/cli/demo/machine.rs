//! A machine of the demo: a directory with a cache and a mount point, and the daemon that serves it.

use crate::cli::daemon;
use crate::cli::exit::{Exit, Failure};
use crate::cli::reach::ReachArgs;
use crate::cli::signals::Signals;
use crate::control::{Request, Response, client};
use crate::fuse::sys::{self, Unmount};
use crate::fuse::table;
use crate::store::{Location, ObjectStore, list_all};
use parking_lot::Mutex;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Child;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long the end of a mount may take.
const ENDING: Duration = Duration::from_secs(120);

/// The daemon of a machine, while there is one.
pub type Daemon = Arc<Mutex<Option<Child>>>;

/// A machine. Its daemon ends with it.
pub struct Machine {
    mountpoint: PathBuf,
    cache: PathBuf,
    daemon: Daemon,
}

impl Machine {
    /// A machine below `root`.
    pub fn new(root: &Path, name: &str) -> Result<Machine, Failure> {
        let mountpoint = root.join(name).join("work");
        let made = fs::create_dir_all(&mountpoint);
        made.map_err(|error| Failure::new(Exit::CannotStart, format!("{}: {error}", mountpoint.display())))?;
        Ok(Machine { mountpoint, cache: root.join(name).join("cache"), daemon: Daemon::default() })
    }

    /// Where it mounts.
    pub fn mountpoint(&self) -> &Path {
        &self.mountpoint
    }

    /// Its daemon.
    pub fn daemon(&self) -> Daemon {
        Arc::clone(&self.daemon)
    }

    /// Mounts `store`; the mount answers when this returns.
    pub fn mount(&self, store: &Location, reach: &ReachArgs, takeover: bool) -> Result<(), Failure> {
        let mut words: Vec<OsString> = reach.words().into_iter().map(OsString::from).collect();
        words.push("--cache-dir".into());
        words.push(self.cache.clone().into());
        if takeover {
            words.push("--takeover".into());
        }
        words.push(store.to_string().into());
        words.push(self.mountpoint.clone().into());
        let started = daemon::launch(&words, &Default::default())?;
        match started {
            daemon::Launched::Serving(child) => *self.daemon.lock() = Some(child),
            daemon::Launched::Ended(exit) => {
                return Err(Failure::new(exit, "the demo's session cannot be mounted, for the reason above"));
            }
        }
        Ok(())
    }

    /// SIGKILL.
    pub fn kill(&self) -> Result<(), Failure> {
        let Some(mut child) = self.daemon.lock().take() else { return Ok(()) };
        let killed = child.kill().and_then(|()| child.wait());
        killed.map(drop).map_err(|error| Failure::new(Exit::CannotStart, format!("SIGKILL: {error}")))
    }

    /// Takes away what a machine that is gone has: its mount and its cache.
    pub fn wipe(&self) -> Result<(), Failure> {
        let failed = |error| Failure::new(Exit::CannotStart, format!("{}: {error}", self.cache.display()));
        self.detach().map_err(failed)?;
        fs::remove_dir_all(&self.cache).map_err(failed)
    }

    fn detach(&self) -> std::io::Result<()> {
        match table::at(&self.mountpoint)?.filter(table::Mounted::is_ours) {
            Some(mounted) => sys::unmount(&self.mountpoint, &mounted.device, Unmount::Detach).map(drop),
            None => Ok(()),
        }
    }

    /// Waits until everything is published; what is to be said of it.
    pub fn publish(&self, limit: Duration) -> Result<Vec<String>, Failure> {
        let timeout_ms = u64::try_from(limit.as_millis()).ok();
        Ok(client::done(&self.mountpoint, &Request::Flush { timeout_ms, view: true }, limit * 2)?)
    }

    /// Unmounts cleanly, and waits for the daemon's end.
    pub fn unmount(&self) -> Result<(), Failure> {
        let entry = client::daemon(&self.mountpoint)?;
        let request = Request::Unmount { timeout_ms: None, force: false };
        match client::ask(&entry, &request, ENDING)? {
            Response::Done { .. } => {}
            other => return Err(Failure::new(Exit::TryAgain, format!("unmount: {other:?}"))),
        }
        if let Some(mut child) = self.daemon.lock().take() {
            let ended = child.wait();
            ended.map_err(|error| Failure::new(Exit::CannotStart, format!("the daemon's end: {error}")))?;
        }
        Ok(())
    }

    /// Whatever is left goes; what cannot go is said.
    pub fn clear(&self) {
        if let Err(failure) = self.kill() {
            eprintln!("cwdfs: {}", failure.line());
        }
        if let Err(error) = self.detach() {
            eprintln!("cwdfs: {} is still mounted: {error}", self.mountpoint.display());
        }
    }
}

/// On SIGINT or SIGTERM the daemons are killed: whatever waits for them fails, and the demo cleans up.
pub async fn end_on_signal(daemons: [Daemon; 2], interrupted: Arc<AtomicBool>) {
    let Ok(mut signals) = Signals::listen() else { return std::future::pending().await };
    signals.next().await;
    interrupted.store(true, Ordering::Release);
    for daemon in daemons {
        if let Some(child) = daemon.lock().as_mut() {
            // One that has ended already is what we want.
            let _ = child.kill();
        }
    }
}

/// All keys with their sizes.
pub async fn keys(store: &dyn ObjectStore) -> Result<Vec<(String, u64)>, Failure> {
    let objects = list_all(store, "", None).await?;
    Ok(objects.into_iter().map(|object| (object.key, object.size)).collect())
}
