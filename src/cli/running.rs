//! A mount that is served: its clients, and what ends it.

use super::draining;
use super::exit::{Exit, Failure};
use super::figures;
use super::finish::finish;
use super::options::MountArgs;
use super::ready::Supervisor;
use super::signals::Signals;
use crate::control::registry::{Entry, Registry};
use crate::control::status::Status;
use crate::control::{Request, Response, server};
use crate::fuse::sys::Unmount;
use crate::fuse::{Ended, Passthrough, Served};
use crate::session::Session;
use crate::store::{Access, Handed, Keys, ObjectStore, Stats};
use crate::view::View;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

/// For answers to get out.
const LINGER: Duration = Duration::from_secs(1);
/// How long a start whose caller has gone away may take to commit.
const GIVING_UP: Duration = Duration::from_secs(5);
/// How long a mount may be in use by what has just ended.
const LETTING_GO: Duration = Duration::from_secs(1);
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
    /// The store's credentials.
    pub access: Access,
    /// Where metrics are served.
    pub metrics: Option<String>,
    /// For checks.
    pub store: Arc<dyn ObjectStore>,
    /// The mount is gone or going.
    pub leaving: AtomicBool,
    /// How it ended, for clients that come when it is leaving already.
    pub end: watch::Sender<Option<Response>>,
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
    /// A signal.
    Signal,
    /// The mount was taken away, as by umount(8) without our helper.
    TakenAway,
    /// The loop died.
    Died(String),
}

impl Running {
    /// Serves until unmounted or told to end, and says how it ended.
    pub async fn until_the_end(
        mut self,
        signals: &mut Signals,
        supervisor: &Supervisor,
    ) -> Result<Exit, Failure> {
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
        if let Err(error) = self.registry.note_gone(&mut self.entry) {
            tracing::warn!(%error, "the registry still says that this mount is there");
        }
        let hurry = async {
            // systemd sends one to a daemon whose mount it has just taken away.
            if !matches!(why, Why::Signal) {
                signals.next().await;
            }
            let name = signals.next().await;
            tracing::warn!("{name} again: what is not in the store now is kept for the next mount");
        };
        let unmounted = !matches!(why, Why::Died(_));
        let end = supervisor.while_stopping(finish(&self.shared, unmounted, until, hurry)).await;
        accepting.abort();
        let told = match (&end, &why) {
            (Ok(_), Why::Died(why)) => Err(Failure::new(Exit::LoopDied, died(why))),
            (Err(failure), Why::Died(why)) => {
                Err(Failure::new(Exit::LoopDied, format!("{}; {}", died(why), failure.line())))
            }
            (Ok(_), _) => Ok(Exit::Done),
            (Err(failure), _) => Err(Failure::new(failure.exit, failure.line())),
        };
        let response = response(end);
        self.shared.end.send_replace(Some(response.clone()));
        if let Why::Asked(client) = why {
            // The client may be gone.
            let _ = client.answer.send(response);
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
        if let Err(failure) = finish(&self.shared, true, Some(until), std::future::pending()).await {
            tracing::warn!("{}", failure.line());
        }
        forget(&self.registry, &self.entry);
    }
}

fn died(why: &str) -> String {
    format!("the serving loop died: {why}")
}

/// Takes what is known of a mount away, once it is gone or did not come to be.
pub(super) fn forget(registry: &Registry, entry: &Entry) {
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
                    Ok(Ended::Unmounted) | Err(_) => Why::TakenAway,
                },
                name = signals.next() => {
                    tracing::info!("{name}: unmounting");
                    return Why::Signal;
                }
            }
        }
    }

    /// Takes the mount away. One that is in use is tried again for a moment: the kernel lets go of what a process
    /// held only some time after its end.
    async fn unmount(self: &Arc<Self>, how: Unmount, until: Option<Instant>) -> io::Result<()> {
        let patience = Instant::now() + LETTING_GO;
        let patience = until.map_or(patience, |until| until.min(patience));
        loop {
            match self.unmount_now(how, until).await {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && Instant::now() < patience => {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
                done => return done,
            }
        }
    }

    /// The same once, on a thread that may hang with it.
    async fn unmount_now(self: &Arc<Self>, how: Unmount, until: Option<Instant>) -> io::Result<()> {
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
        Request::Status => Response::Status(Box::new(status(shared).await)),
        Request::Flush { timeout_ms, view } => draining::told(shared, flush(shared, timeout_ms, view)).await,
        Request::Refresh => match shared.view.refresh().await {
            Ok(_) if shared.args.read_only => Response::Done { notes: vec![FOLLOWS.to_owned()] },
            Ok(found) => Response::Done { notes: vec![found.to_string()] },
            Err(error) => response(Err(error.into())),
        },
        Request::Credentials { keys } => response(hand(shared, &keys).await),
        Request::Unmount { timeout_ms, force } => {
            let (tell, told) = oneshot::channel();
            let how = if force { Unmount::Detach } else { Unmount::IfIdle };
            let until = timeout_ms.map(|ms| Instant::now() + Duration::from_millis(ms));
            let told = match leave.send(Leave { how, until, answer: tell }).await {
                Ok(()) => told.await.ok(),
                Err(_) => None,
            };
            match told {
                Some(response) => response,
                None => the_end(shared, until).await,
            }
        }
        Request::Check { timeout_ms } => {
            let problems = check(shared, Duration::from_millis(timeout_ms)).await;
            Response::Checked { problems, status: Box::new(status(shared).await) }
        }
    }
}

/// Nobody who was told that his change is in the store reads here that it is not.
async fn status(shared: &Shared) -> Status {
    shared.session.settled().await;
    figures::status(shared)
}

/// Uses other credentials from now on.
async fn hand(shared: &Shared, keys: &Keys) -> Result<Vec<String>, Failure> {
    let note = match shared.access.hand(keys).await? {
        Handed::Accepted => "the store takes them; they are in use".to_owned(),
        Handed::Unchecked(error) => {
            format!("they are in use; whether the store takes them is not known: {error}")
        }
    };
    tracing::info!(end = keys.expiration.map(super::values::rfc3339), "other credentials were handed over");
    Ok(vec![note])
}

/// How the mount ends, for a client that comes when it is ending already.
async fn the_end(shared: &Shared, until: Option<Instant>) -> Response {
    let mut end = shared.end.subscribe();
    let until = until.unwrap_or_else(|| Instant::now() + LONG);
    match tokio::time::timeout_at(until, end.wait_for(Option::is_some)).await {
        Ok(Ok(response)) => response.clone().unwrap_or(Response::Busy),
        _ => Response::Failed {
            exit: Exit::TryAgain.code(),
            message: "it is unmounted already, and still stores what it owes".into(),
        },
    }
}

/// What is wrong with this mount, as far as its daemon can tell; asks the store.
async fn check(shared: &Shared, limit: Duration) -> Vec<String> {
    let session = shared.session.status();
    let mut problems: Vec<String> = shared.session.cache_error().into_iter().collect();
    if let Some(writer) = &session.writer {
        let by = writer.lost_to.as_deref().unwrap_or("unknown");
        match writer.lease {
            "fenced" => problems.push(format!("fenced: another writer ({by}) has taken the session")),
            "deleted" => problems.push(format!("the session was deleted from outside: {by}")),
            _ => {}
        }
        if let Some(error) = &writer.error {
            problems.push(format!("what is changed cannot be stored: {}", error.message));
        }
    }
    if shared.leaving.load(Ordering::Acquire) {
        problems.push("it is unmounted, and stores what it owes".into());
    }
    if let Some(why) = shared.view.status().and_then(|view| view.stopped) {
        problems.push(format!("nothing is published and imported any more: {why}"));
    }
    match tokio::time::timeout(limit, shared.store.list(SOMETHING_SMALL, None, 1)).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => problems.push(format!("the store: {error}")),
        Err(_) => problems.push(format!("the store did not answer within {limit:?}")),
    }
    problems
}

/// Listed to see whether the store answers.
const SOMETHING_SMALL: &str = ".cwdfs/lease";

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
