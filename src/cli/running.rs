//! A mount that is served: its clients, and what ends it.

use super::exit::{Exit, Failure};
use super::figures;
use super::finish::finish;
use super::options::MountArgs;
use super::signals::Signals;
use crate::control::registry::{Entry, Registry};
use crate::control::{Request, Response, server};
use crate::fuse::sys::Unmount;
use crate::fuse::{Ended, Passthrough, Served};
use crate::session::Session;
use crate::store::Stats;
use crate::view::View;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// For answers to get out.
const LINGER: Duration = Duration::from_secs(1);
/// How long a start whose caller has gone away may take to commit.
const GIVING_UP: Duration = Duration::from_secs(5);
/// How long umount(2) may take where nobody has said so.
const LONG: Duration = Duration::from_secs(600);

/// A mount that is served.
pub struct Running {
    pub(super) shared: Arc<Shared>,
    pub(super) registry: Registry,
    pub(super) entry: Entry,
    pub(super) listener: UnixListener,
    pub(super) ended: oneshot::Receiver<Ended>,
}

/// What clients ask about.
pub(super) struct Shared {
    pub args: MountArgs,
    pub session: Arc<Session>,
    pub view: Arc<View>,
    pub served: Served,
    pub passthrough: Passthrough,
    pub mounted_at: SystemTime,
    pub cache: PathBuf,
    pub stats: Arc<Stats>,
    /// The mount is gone or going.
    pub leaving: AtomicBool,
}

/// A client that asked for the end.
struct Leave {
    how: Unmount,
    until: Option<Instant>,
    answer: oneshot::Sender<Response>,
}

/// What ended a mount.
enum Why {
    /// The mount is away already, for this client.
    Asked(Leave),
    /// A signal, or umount(8).
    Told,
    /// The loop died.
    Died(String),
}

impl Running {
    /// Serves until unmounted or told to end, and says how it ended.
    pub async fn until_the_end(mut self, signals: &mut Signals) -> Result<Exit, Failure> {
        let (leave, mut leaving) = mpsc::channel::<Leave>(4);
        let shared = Arc::clone(&self.shared);
        let handler: server::Handler = Arc::new(move |request| {
            let (shared, leave) = (Arc::clone(&shared), leave.clone());
            Box::pin(async move { answer(&shared, request, &leave).await })
        });
        let (clients, listener) = (TaskTracker::new(), self.listener);
        let accepting = tokio::spawn(server::run(listener, handler, clients.clone()));
        let why = self.shared.wait(signals, &mut leaving, &mut self.ended).await;
        drop(leaving);
        self.shared.leaving.store(true, Ordering::Release);
        let until = if let Why::Asked(client) = &why { client.until } else { None };
        // A mount that is gone already is what we want; one that cannot be taken away dies with us.
        if let Err(error) = self.shared.unmount(Unmount::Detach, until).await {
            tracing::warn!(%error, "the mount could not be taken away");
        }
        let hurry = async {
            let name = signals.next().await;
            tracing::warn!("{name} again: what is not in the store now is kept for the next mount");
        };
        let end = finish(&self.shared, until, hurry).await;
        accepting.abort();
        let told = match (&end, &why) {
            (Ok(_), Why::Died(why)) => Err(Failure::new(Exit::LoopDied, died(why))),
            (Err(failure), Why::Died(why)) => {
                Err(Failure::new(Exit::LoopDied, format!("{}; {}", died(why), failure.line())))
            }
            (Ok(_), _) => Ok(Exit::Done),
            (Err(failure), _) => Err(Failure::new(failure.exit, failure.line())),
        };
        if let Why::Asked(client) = why {
            // The client may be gone.
            let _ = client.answer.send(response(end));
        }
        clients.close();
        if tokio::time::timeout(LINGER, clients.wait()).await.is_err() {
            tracing::debug!("a client did not take its answer");
        }
        forget(&self.registry, &self.entry);
        told
    }

    /// Ends a mount that nobody waits for any more.
    pub async fn give_up(self) {
        if let Err(error) = self.shared.unmount(Unmount::Detach, None).await {
            tracing::warn!(%error, "the mount could not be taken away");
        }
        let until = Instant::now() + GIVING_UP;
        if let Err(failure) = finish(&self.shared, Some(until), std::future::pending()).await {
            tracing::warn!("{}", failure.line());
        }
        forget(&self.registry, &self.entry);
    }
}

fn died(why: &str) -> String {
    format!("the serving loop died: {why}")
}

fn forget(registry: &Registry, entry: &Entry) {
    if let Err(error) = registry.remove(entry) {
        tracing::warn!(%error, "the entry of this mount stays in the registry");
    }
}

fn response(end: Result<Vec<String>, Failure>) -> Response {
    match end {
        Ok(notes) => Response::Done { notes },
        Err(failure) => Response::Failed { exit: failure.exit.code(), message: failure.line() },
    }
}

impl Shared {
    /// Waits for what ends the mount. A client that cannot have its way is told so, and the wait goes on.
    async fn wait(
        self: &Arc<Self>,
        signals: &mut Signals,
        leaving: &mut mpsc::Receiver<Leave>,
        ended: &mut oneshot::Receiver<Ended>,
    ) -> Why {
        loop {
            tokio::select! {
                Some(client) = leaving.recv() => match self.unmount(client.how, client.until).await {
                    Ok(()) => return Why::Asked(client),
                    Err(error) => refuse(client.answer, &error),
                },
                how = &mut *ended => return match how {
                    Ok(Ended::Died(why)) => Why::Died(why),
                    Ok(Ended::Unmounted) | Err(_) => Why::Told,
                },
                name = signals.next() => {
                    tracing::info!("{name}: unmounting");
                    return Why::Told;
                }
            }
        }
    }

    /// Takes the mount away, on a thread that may hang with it.
    async fn unmount(self: &Arc<Self>, how: Unmount, until: Option<Instant>) -> io::Result<()> {
        let shared = Arc::clone(self);
        let unmounting = tokio::task::spawn_blocking(move || shared.served.unmount(how));
        let until = until.unwrap_or_else(|| Instant::now() + LONG);
        match tokio::time::timeout_at(until, unmounting).await {
            Ok(Ok(done)) => done.map(drop),
            Ok(Err(panicked)) => Err(io::Error::other(panicked)),
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the kernel did not let go of it in time")),
        }
    }
}

fn refuse(client: oneshot::Sender<Response>, error: &io::Error) {
    let response = if error.raw_os_error() == Some(libc::EBUSY) {
        Response::Busy
    } else {
        Response::Failed { exit: Exit::TryAgain.code(), message: format!("cannot unmount: {error}") }
    };
    // The client may be gone.
    let _ = client.send(response);
}

async fn answer(shared: &Shared, request: Request, leave: &mpsc::Sender<Leave>) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(figures::status(shared))),
        Request::Flush { timeout_ms, view } => flush(shared, timeout_ms, view).await,
        Request::Refresh => match shared.view.refresh().await {
            Ok(_) if shared.args.read_only => Response::Done { notes: vec![FOLLOWS.to_owned()] },
            Ok(found) => Response::Done { notes: vec![found.to_string()] },
            Err(error) => response(Err(error.into())),
        },
        Request::Unmount { timeout_ms, force } => {
            let (tell, told) = oneshot::channel();
            let how = if force { Unmount::Detach } else { Unmount::IfIdle };
            let until = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
            let gone =
                || Response::Failed { exit: Exit::TryAgain.code(), message: "already unmounting".into() };
            match leave.send(Leave { how, until, answer: tell }).await {
                Ok(()) => told.await.unwrap_or_else(|_| gone()),
                Err(_) => gone(),
            }
        }
    }
}

const FOLLOWS: &str = "this mount is read-only: it follows the writer, and has nothing of its own to do here";

async fn flush(shared: &Shared, timeout_ms: Option<u64>, view: bool) -> Response {
    if shared.args.read_only {
        return Response::Done { notes: vec![FOLLOWS.to_owned()] };
    }
    let timeout = timeout_ms.map_or(shared.args.reach.timeout, Duration::from_millis);
    let until = Instant::now() + timeout;
    if let Err(error) = shared.session.flush_all(timeout).await {
        let failure = Failure::from(error).not_stored();
        return Response::Failed { exit: failure.exit.code(), message: failure.line() };
    }
    let mut notes = Vec::new();
    if view && !shared.view.wait_published(until).await {
        let left = shared.view.status().map_or(0, |view| view.pending_objects);
        notes.push(format!(
            "everything is in the store, but {left} objects were not published within {timeout:?}; publishing goes on"
        ));
    }
    Response::Done { notes }
}
