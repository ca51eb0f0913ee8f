//! A mount that is served: its clients, its signals, its end.

use super::exit::{Exit, Failure};
use super::options::MountArgs;
use super::values::human_size;
use crate::control::registry::{Entry, Registry};
use crate::control::status::{Amount, CacheStatus, ErrorStatus, LeaseStatus, Status, ViewStatus};
use crate::control::{Request, Response, server};
use crate::fuse::sys::Unmount;
use crate::fuse::{Ended, Passthrough, Served};
use crate::session::Session;
use crate::view::View;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::net::UnixListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// For answers to get out.
const LINGER: Duration = Duration::from_millis(300);

/// A mount that is served.
pub struct Running {
    shared: Arc<Shared>,
    registry: Registry,
    entry: Entry,
    listener: UnixListener,
}

struct Shared {
    args: MountArgs,
    session: Arc<Session>,
    view: Arc<View>,
    served: Served,
    passthrough: Passthrough,
    mounted_at: SystemTime,
    cache: String,
}

/// A client that asked for the end.
struct Leave {
    how: Unmount,
    limit: Option<Duration>,
    answer: oneshot::Sender<Response>,
}

impl Running {
    #[allow(clippy::too_many_arguments)] // What a mount is made of, once.
    pub fn new(
        args: MountArgs,
        session: Arc<Session>,
        view: Arc<View>,
        served: Served,
        registry: Registry,
        entry: Entry,
        listener: UnixListener,
        passthrough: Passthrough,
        mounted_at: SystemTime,
    ) -> Running {
        let cache = entry.cache.display().to_string();
        let shared = Shared { args, session, view, served, passthrough, mounted_at, cache };
        Running { shared: Arc::new(shared), registry, entry, listener }
    }

    /// Serves until unmounted or told to end, and says how it ended.
    pub async fn until_the_end(self, mut ended: oneshot::Receiver<Ended>) -> Result<Exit, Failure> {
        let failed = |error: std::io::Error| Failure::new(Exit::CannotStart, error);
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
        let (leave, mut leaving) = mpsc::channel::<Leave>(4);
        let shared = Arc::clone(&self.shared);
        let handler: server::Handler = Arc::new(move |request| {
            let (shared, leave) = (Arc::clone(&shared), leave.clone());
            Box::pin(async move { answer(&shared, request, &leave).await })
        });
        let clients = tokio::spawn(server::run(self.listener, handler));
        let mut died = None;
        let mut asked = None;
        let mut limit = None;
        loop {
            tokio::select! {
                Some(client) = leaving.recv() => match self.shared.served.unmount(client.how) {
                    Ok(_) => {
                        (asked, limit) = (Some(client.answer), client.limit);
                        break;
                    }
                    Err(error) => refuse(client.answer, &error),
                },
                how = &mut ended => {
                    if let Ok(Ended::Died(why)) = how {
                        died = Some(why);
                    }
                    break;
                }
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
            }
        }
        // A mount that is gone already is what we want; one that cannot be taken away dies with us.
        if let Err(error) = self.shared.served.unmount(Unmount::Detach) {
            tracing::warn!(%error, "the mount could not be taken away");
        }
        let hurry = async {
            tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} }
        };
        let end = finish(&self.shared, limit, hurry).await;
        if let Some(client) = asked {
            let response = match &end {
                Ok(notes) => Response::Done { notes: notes.clone() },
                Err(failure) => Response::Failed { exit: failure.exit.code(), message: failure.line() },
            };
            // The client may be gone.
            let _ = client.send(response);
            tokio::time::sleep(LINGER).await;
        }
        clients.abort();
        if let Err(error) = self.registry.remove(&self.entry) {
            tracing::warn!(%error, "the entry of this mount stays in the registry");
        }
        match (died, end) {
            (Some(why), _) => Err(Failure::new(Exit::LoopDied, format!("the serving loop died: {why}"))),
            (None, end) => end.map(|_| Exit::Done),
        }
    }
}

fn refuse(client: oneshot::Sender<Response>, error: &std::io::Error) {
    let response = if error.raw_os_error() == Some(libc::EBUSY) {
        Response::Busy
    } else {
        Response::Failed { exit: Exit::CannotStart.code(), message: format!("cannot unmount: {error}") }
    };
    // The client may be gone.
    let _ = client.send(response);
}

/// Commits, publishes, gives the session back; returns what people should know.
async fn finish(
    shared: &Shared,
    limit: Option<Duration>,
    hurry: impl Future<Output = ()>,
) -> Result<Vec<String>, Failure> {
    let commit = limit.unwrap_or(shared.args.timeout);
    let publish = limit.map_or(shared.args.drain_timeout, |limit| limit.min(shared.args.drain_timeout));
    let drain = async {
        if !shared.args.read_only && shared.session.flush_all(commit).await.is_ok() {
            return shared.view.wait_published(Instant::now() + publish).await;
        }
        shared.args.read_only
    };
    let (published, rest) = tokio::select! {
        published = drain => (published, commit),
        () = hurry => (false, Duration::from_secs(1)),
    };
    shared.view.stop().await;
    let report = shared.session.close(rest).await;
    if !report.is_clean() {
        let exit = match report.error.clone().map(Failure::from) {
            Some(Failure { exit: Exit::Held, .. }) => Exit::Held,
            _ => Exit::NotStored,
        };
        let why = report.error.map(|error| format!(" ({error})")).unwrap_or_default();
        let message = format!(
            "unmounted, but {} files and {} are not in the store{why}; they are kept in {}; to send them: cwdfs mount {} {}",
            report.left.files,
            human_size(report.left.bytes),
            report.kept_in.display(),
            shared.args.store,
            shared.args.mountpoint.display()
        );
        return Err(Failure::new(exit, message));
    }
    let note = "everything is in the store, but not all of it is published yet; the next mount goes on";
    Ok(if published { Vec::new() } else { vec![note.to_owned()] })
}

async fn answer(shared: &Shared, request: Request, leave: &mpsc::Sender<Leave>) -> Response {
    match request {
        Request::Status => Response::Status(Box::new(status(shared))),
        Request::Flush { timeout_ms, view } => flush(shared, timeout_ms, view).await,
        Request::Refresh => match shared.view.refresh().await {
            Ok(found) => Response::Done { notes: vec![format!("imported: {found:?}")] },
            Err(error) => Response::Failed { exit: Exit::TryAgain.code(), message: error.to_string() },
        },
        Request::Unmount { timeout_ms, force } => {
            let (tell, told) = oneshot::channel();
            let how = if force { Unmount::Detach } else { Unmount::IfIdle };
            let wish = Leave { how, limit: timeout_ms.map(Duration::from_millis), answer: tell };
            let gone =
                || Response::Failed { exit: Exit::TryAgain.code(), message: "already unmounting".into() };
            match leave.send(wish).await {
                Ok(()) => told.await.unwrap_or_else(|_| gone()),
                Err(_) => gone(),
            }
        }
    }
}

async fn flush(shared: &Shared, timeout_ms: Option<u64>, view: bool) -> Response {
    let timeout = timeout_ms.map_or(shared.args.timeout, Duration::from_millis);
    let until = Instant::now() + timeout;
    if let Err(error) = shared.session.flush_all(timeout).await {
        let failure = Failure::from(error);
        return Response::Failed { exit: failure.exit.code(), message: failure.line() };
    }
    if view && !shared.view.wait_published(until).await {
        let message =
            format!("everything is in the store, but not all of it was published within {timeout:?}");
        return Response::Failed { exit: Exit::NotStored.code(), message };
    }
    Response::Done { notes: Vec::new() }
}

fn rfc3339(at: SystemTime) -> String {
    OffsetDateTime::from(at).format(&Rfc3339).unwrap_or_default()
}

fn of_millis(ms: u64) -> String {
    rfc3339(SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
}

fn status(shared: &Shared) -> Status {
    let session = shared.session.status();
    let writer = session.writer.as_ref();
    let why = match &shared.passthrough {
        Passthrough::Unavailable(why) => Some(why.clone()),
        Passthrough::Available { .. } => None,
    };
    let lease = writer.map(|w| LeaseStatus {
        state: w.lease.to_owned(),
        age_seconds: w.lease_age_ms as f64 / 1000.0,
        by: w.lost_to.clone(),
    });
    let state = match writer.map(|w| w.lease) {
        Some("fenced") => "fenced",
        Some("deleted") => "deleted",
        _ => "mounted",
    };
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        store: shared.args.store.to_string(),
        session: session.session.map(|id| format!("{:032x}", id.0)),
        mountpoint: shared.args.mountpoint.display().to_string(),
        state: state.into(),
        mode: if shared.args.read_only { "follower" } else { "writer" }.into(),
        durability: session.durability.into(),
        mounted_at: rfc3339(shared.mounted_at),
        passthrough: session.passthrough,
        passthrough_off_because: why,
        epoch: writer.map(|w| w.epoch.clone()).or_else(|| session.following.map(|f| f.epoch.to_string())),
        holder: writer.map(|w| w.holder.clone()),
        lease,
        last_slot: writer
            .map(|w| w.slot.0)
            .or_else(|| session.following.map(|f| f.slot.0))
            .filter(|slot| *slot > 0),
        last_commit: writer.and_then(|w| w.committed_ms).map(of_millis),
        uncommitted: Amount { files: session.uncommitted.files, bytes: session.uncommitted.bytes },
        slots_in_flight: writer.map_or(0, |w| w.in_flight as u64),
        view: shared.view.status().map(|v| ViewStatus {
            unpublished: Amount { files: v.pending_objects, bytes: v.pending_bytes },
            behind_seconds: v.lag.map(|lag| lag.as_secs_f64()),
            unpublishable_names: v.unpublishable,
            imported: v.imported + v.outside_deletes,
            conflicts: v.conflicts,
            skipped_keys: v.hostile_keys,
            last_import: v.last_import.map(rfc3339),
        }),
        cache: CacheStatus {
            dir: shared.cache.clone(),
            used: session.cache.used,
            limit: session.cache.limit,
        },
        last_error: writer
            .and_then(|w| w.error.clone())
            .map(|e| ErrorStatus { at: of_millis(e.at_ms), message: e.message }),
        warnings: session.notices.into_iter().map(|notice| notice.message).collect(),
        ..Status::default()
    }
}
