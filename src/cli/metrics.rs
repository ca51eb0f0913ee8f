//! A mount's figures as a page of metrics.

use super::exit::{Exit, Failure};
use super::log;
use super::options::MountArgs;
use super::running::Shared;
use crate::fuse::{Answer, Counts, MODES, Operation};
use crate::metrics::families as m;
use crate::metrics::{self, Bound, Form, Page, Pages};
use crate::session::Durability;
use crate::session::measures::{Measures, WriterMeasures};
use crate::store::{OUTCOMES, Stats};
use crate::view::ViewStatus;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The states of a lease.
const LEASE: [&str; 5] = ["held", "parked", "free", "fenced", "deleted"];

/// Takes the address that the user names, if any, before anything else is done; also how people name it.
pub fn bind(args: &MountArgs) -> Result<(Option<Bound>, Option<String>), Failure> {
    let Some(address) = &args.metrics else { return Ok((None, None)) };
    let failed = |error| {
        Failure::new(Exit::CannotStart, format!("--metrics {address}: {error}; choose another address"))
    };
    let bound = address.bind().map_err(failed)?;
    let url = bound.url().map_err(failed)?;
    Ok((Some(bound), Some(url)))
}

/// Serves the figures until the process ends.
pub(super) fn serve(bound: Option<Bound>, shared: &Arc<Shared>) {
    let Some(bound) = bound else { return };
    let shared = Arc::clone(shared);
    let pages: Pages = Arc::new(move |form| page(&shared, form));
    tokio::spawn(async move {
        if let Err(error) = metrics::serve(bound, pages).await {
            tracing::error!(%error, "metrics are not served");
        }
    });
}

fn page(shared: &Shared, form: Form) -> String {
    let measures = shared.session.measures();
    let mut page = Page::new(form);
    mount(&mut page, shared, &measures);
    operations(&mut page, shared.served.counts());
    page.value(&m::BATCHES_RUNNING, measures.batches.0);
    page.value(&m::BATCHES, measures.batches.1);
    store(&mut page, &shared.stats);
    page.maybe(&m::CREDENTIALS, shared.access.expiry().map(since_1970));
    commits(&mut page, &measures);
    view(&mut page, shared.view.status().as_ref());
    local(&mut page, &measures);
    page.end()
}

fn mount(page: &mut Page, shared: &Shared, measures: &Measures) {
    page.family(&m::BUILD).value(&[env!("CARGO_PKG_VERSION")], 1);
    let mode = if shared.args.read_only { "follower" } else { "writer" };
    let passthrough = if measures.passthrough { "on" } else { "off" };
    let durability = match shared.args.durability.into() {
        Durability::Sync => "sync",
        Durability::Close => "close",
        Durability::Fsync => "fsync",
    };
    page.family(&m::MOUNT).value(&[mode, durability, passthrough], 1);
    page.value(&m::MOUNTED, since_1970(shared.mounted_at));
}

/// What has not happened yet has no line.
fn operations(page: &mut Page, counts: &Counts) {
    let mut answers = page.family(&m::OPERATIONS);
    for operation in Operation::ALL {
        for answer in Answer::ALL {
            let count = counts.answers(*operation, *answer);
            if count > 0 {
                answers.value(&[operation.name(), answer.name()], count);
            }
        }
    }
    let mut took = page.family(&m::OPERATION_TIME);
    for operation in Operation::ALL {
        let times = counts.times(*operation);
        if times.count > 0 {
            took.times(&[operation.name()], &times);
        }
    }
    page.value(&m::WAITING, counts.waiting());
    let (read, written) = counts.moved();
    page.value(&m::READ, read);
    page.value(&m::WRITTEN, written);
    let mut opens = page.family(&m::OPENS);
    MODES.iter().zip(counts.opens()).for_each(|(mode, count)| opens.value(&[mode], count));
}

fn store(page: &mut Page, stats: &Stats) {
    let (attempts, counts) = (stats.attempts(), stats.counts());
    let mut outcomes = page.family(&m::REQUESTS);
    for (request, attempts) in &attempts {
        for (outcome, count) in OUTCOMES.iter().zip(attempts.outcomes).filter(|(_, count)| *count > 0) {
            outcomes.value(&[request, outcome], count);
        }
    }
    let mut took = page.family(&m::REQUEST_TIME);
    attempts.iter().for_each(|(request, attempts)| took.times(&[request], &attempts.took));
    let mut retries = page.family(&m::RETRIES);
    counts.iter().for_each(|(request, counts)| retries.value(&[request], counts.retries));
    let mut failures = page.family(&m::FAILURES);
    counts.iter().for_each(|(request, counts)| failures.value(&[request], counts.failures));
    let (sent, received) = stats.moved();
    page.value(&m::SENT, sent);
    page.value(&m::RECEIVED, received);
}

fn commits(page: &mut Page, measures: &Measures) {
    let writer = measures.writer.as_ref();
    let of = |figure: fn(&WriterMeasures) -> u64| writer.map(figure);
    page.value(&m::UNCOMMITTED_ROWS, measures.uncommitted.rows);
    page.value(&m::UNCOMMITTED_FILES, measures.uncommitted.files);
    page.value(&m::UNCOMMITTED, measures.uncommitted.bytes);
    page.value(&m::COMMIT_LAG, seconds(measures.lag));
    page.maybe(&m::IN_FLIGHT, of(|writer| writer.in_flight as u64));
    page.maybe(&m::COMMITS, of(|writer| writer.commits));
    page.maybe(&m::COMMITTED, of(|writer| writer.committed_bytes));
    page.maybe(&m::LAST_COMMIT, writer.and_then(|writer| writer.committed_at).map(since_1970));
    page.maybe(&m::COMMIT_FAILING, of(|writer| u64::from(writer.failing)));
}

fn view(page: &mut Page, view: Option<&ViewStatus>) {
    let of = |figure: fn(&ViewStatus) -> u64| view.map(figure);
    page.maybe(&m::VIEW_LAG, view.map(|view| seconds(view.lag.unwrap_or_default())));
    page.maybe(&m::VIEW_PENDING_OBJECTS, of(|view| view.pending_objects));
    page.maybe(&m::VIEW_PENDING, of(|view| view.pending_bytes));
    page.maybe(&m::VIEW_PUBLISHED, of(|view| view.published));
    page.maybe(&m::VIEW_REMOVED, of(|view| view.deleted));
    page.maybe(&m::VIEW_IMPORTED, of(|view| view.imported + view.outside_deletes));
    page.maybe(&m::VIEW_CONFLICTS, of(|view| view.conflicts));
    page.maybe(&m::VIEW_UNPUBLISHABLE, of(|view| view.unpublishable));
    page.maybe(&m::VIEW_STOPPED, of(|view| u64::from(view.stopped.is_some())));
}

fn local(page: &mut Page, measures: &Measures) {
    let cache = &measures.cache;
    page.value(&m::CACHE, cache.used);
    page.value(&m::CACHE_LIMIT, cache.limit);
    page.value(&m::CACHE_HITS, cache.hits);
    page.value(&m::CACHE_MISSES, cache.misses);
    page.value(&m::EVICTIONS, cache.evicted);
    page.value(&m::EVICTED, cache.evicted_bytes);
    let mut lease = page.family(&m::LEASE);
    if let Some(writer) = &measures.writer {
        LEASE.iter().for_each(|state| lease.value(&[state], u8::from(writer.lease == *state)));
    }
    page.maybe(&m::LEASE_LEFT, measures.writer.as_ref().map(|writer| seconds(writer.lease_left)));
    page.value(&m::JOURNAL, measures.journal_bytes);
    page.maybe(&m::QUOTA, measures.quota.as_ref().map(|quota| quota.limit));
    page.maybe(&m::QUOTA_USED, measures.quota.as_ref().map(|quota| quota.used));
    let (errors, warnings) = log::counts();
    let mut logged = page.family(&m::LOGGED);
    logged.value(&["error"], errors);
    logged.value(&["warn"], warnings);
}

/// To the millisecond.
fn seconds(time: Duration) -> f64 {
    (time.as_secs_f64() * 1000.0).round() / 1000.0
}

/// A clock set before 1970 shows as 0.
fn since_1970(at: SystemTime) -> f64 {
    seconds(at.duration_since(UNIX_EPOCH).unwrap_or_default())
}
