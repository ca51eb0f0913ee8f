//! What `status` shows of a running mount.

use super::running::Shared;
use super::start::FOLLOW;
use super::values::rfc3339;
use crate::control::status::{
    Amount, BatchStatus, CacheStatus, ErrorStatus, LeaseStatus, QuotaStatus, Requests, Status, ViewStatus,
};
use crate::fuse::{Passthrough, table};
use crate::session::status::{Status as OfSession, WriterStatus};
use crate::view::ViewStatus as OfView;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

fn at_millis(ms: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
}

/// Everything about this mount, now.
pub(super) fn status(shared: &Shared) -> Status {
    let session = shared.session.status();
    let view = shared.view.status();
    let (args, writer) = (&shared.args, session.writer.as_ref());
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        store: args.store.to_string(),
        session: session.session.map(|id| format!("{:032x}", id.0)),
        mountpoint: args.mountpoint.display().to_string(),
        state: state(shared, writer).into(),
        mode: if args.read_only { "follower" } else { "writer" }.into(),
        read_only: args.read_only || is_read_only(shared),
        durability: session.durability.into(),
        mounted_at: rfc3339(shared.mounted_at),
        passthrough: session.passthrough,
        passthrough_off_because: match &shared.passthrough {
            Passthrough::Unavailable(why) => Some(why.clone()),
            Passthrough::Available { .. } => None,
        },
        epoch: writer.map(|w| w.epoch.clone()).or_else(|| session.following.map(|f| f.epoch.to_string())),
        holder: writer.map(|w| w.holder.clone()),
        lease: writer.map(lease),
        last_slot: last_slot(&session),
        last_commit: writer.and_then(|w| w.committed_ms).map(|ms| rfc3339(at_millis(ms))),
        uncommitted: Amount { files: session.uncommitted.files, bytes: session.uncommitted.bytes },
        slots_in_flight: writer.map_or(0, |w| w.in_flight as u64),
        last_error: last_error(shared, writer, view.as_ref()),
        view: view.map(of_view),
        cache: CacheStatus {
            dir: shared.cache.display().to_string(),
            used: session.cache.used,
            limit: session.cache.limit,
        },
        quota: session.quota.map(|quota| QuotaStatus { limit: quota.limit, used: quota.used }),
        slow: shared.served.slow(),
        batches: BatchStatus { running: session.batches.0, begun: session.batches.1 },
        salvage: salvage(&shared.cache),
        store_latency_ms: shared.stats.latency_ms(),
        requests: requests(shared),
        metrics: shared.metrics.clone(),
        follows_within_seconds: args.read_only.then(|| FOLLOW.as_secs_f64()),
        credentials_expire: shared.access.expiry().map(rfc3339),
        credentials_error: shared
            .access
            .trouble()
            .map(|(at, message)| ErrorStatus { at: rfc3339(at), message }),
        warnings: session
            .cache_error
            .into_iter()
            .chain(session.notices.into_iter().map(|n| n.message))
            .collect(),
    }
}

fn state(shared: &Shared, writer: Option<&WriterStatus>) -> &'static str {
    match writer.map(|w| w.lease) {
        Some("fenced") => "fenced",
        Some("deleted") => "deleted",
        _ if shared.leaving.load(Ordering::Acquire) => "unmounting",
        _ => "mounted",
    }
}

/// As the mount table says; a mount that is gone is not read-only.
fn is_read_only(shared: &Shared) -> bool {
    let mounts = table::all().unwrap_or_default();
    mounts.iter().any(|mounted| mounted.device == shared.served.device() && mounted.read_only)
}

fn lease(writer: &WriterStatus) -> LeaseStatus {
    LeaseStatus {
        state: writer.lease.to_owned(),
        age_seconds: writer.lease_age_ms as f64 / 1000.0,
        by: writer.lost_to.clone(),
    }
}

/// 0 means that there is none yet.
fn last_slot(session: &OfSession) -> Option<u64> {
    let of_writer = session.writer.as_ref().map(|w| w.slot.0);
    of_writer.or_else(|| session.following.map(|f| f.slot.0)).filter(|slot| *slot > 0)
}

fn of_view(view: OfView) -> ViewStatus {
    ViewStatus {
        unpublished: Amount { files: view.pending_objects, bytes: view.pending_bytes },
        behind_seconds: view.lag.map(|lag| lag.as_secs_f64()),
        unpublishable_names: view.unpublishable,
        imported: view.imported + view.outside_deletes,
        conflicts: view.conflicts,
        skipped_keys: view.hostile_keys,
        shadowed: view.shadowed,
        headers_pending: view.headers_pending,
        published: view.published,
        deleted: view.deleted,
        stopped: view.stopped,
        last_import: view.last_import.map(rfc3339),
    }
}

/// The newest of what the store, a commit and the view have met.
fn last_error(shared: &Shared, writer: Option<&WriterStatus>, view: Option<&OfView>) -> Option<ErrorStatus> {
    let of_store = shared.stats.last_error().map(|(at, error)| (at, error.to_string()));
    let of_commit = writer.and_then(|w| w.error.clone()).map(|e| (at_millis(e.at_ms), e.message));
    let of_view = view.and_then(|view| view.last_error.clone());
    let newest = [of_store, of_commit, of_view].into_iter().flatten().max_by_key(|(at, _)| *at);
    newest.map(|(at, message)| ErrorStatus { at: rfc3339(at), message })
}

fn requests(shared: &Shared) -> BTreeMap<String, Requests> {
    let counted = shared.stats.counts().into_iter().map(|(operation, counts)| {
        let requests = Requests {
            calls: counts.calls,
            retries: counts.retries,
            failures: counts.failures,
            latency_ms: counts.latency_ms,
        };
        (operation.to_owned(), requests)
    });
    counted.collect()
}

/// Folders with what could not be replayed, and databases that were found damaged.
fn salvage(cache: &Path) -> Vec<String> {
    let folder =
        |dir: &Path| std::fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let damaged = folder(cache)
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("damaged-")));
    let mut kept: Vec<String> =
        folder(&cache.join("salvage")).chain(damaged).map(|p| p.display().to_string()).collect();
    kept.sort();
    kept
}
