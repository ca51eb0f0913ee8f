//! The end of a mount: commit, publish, give the session back, and say what is left.

use super::draining;
use super::exit::{Exit, Failure};
use super::running::Shared;
use super::values::human_size;
use crate::session::CloseReport;
use std::time::Duration;
use tokio::time::Instant;

/// What giving the lease back and the like may take when the time is up, so that a clean end is not spoilt.
const LEAST: Duration = Duration::from_secs(1);

/// How long our threads may take to see that the kernel has let go; where a process holds the detached mount they
/// never do.
const LETTING_GO: Duration = Duration::from_secs(3);

const NOT_PUBLISHED: &str =
    "everything is in the store, but not all of it is published yet; the next mount goes on";

const NOT_RELEASED: &str = "the lease could not be given back now: a mount elsewhere waits until it has run out, one from this cache does not";

/// Commits, publishes, gives the session back; returns what people should know. Without `until`, the mount's
/// own bounds hold. After `hurry` it only tidies up. `unmounted`: the connection did not end before the mount.
pub(super) async fn finish(
    shared: &Shared,
    unmounted: bool,
    until: Option<Instant>,
    hurry: impl Future<Output = ()>,
) -> Result<Vec<String>, Failure> {
    let committed_by = until.unwrap_or_else(|| Instant::now() + shared.args.reach.timeout);
    take_back(shared, unmounted).await;
    let drain = draining::told(shared, drain(shared, committed_by, until));
    let (published, committed_by) = tokio::select! {
        published = drain => (published, committed_by),
        () = hurry => (false, Instant::now()),
    };
    let rest = committed_by.saturating_duration_since(Instant::now()).max(LEAST);
    let close = async {
        shared.view.stop().await;
        shared.session.close(rest).await
    };
    // Each part is bounded; this is for a store or disk that keeps none of its own bounds.
    let Ok(report) = tokio::time::timeout(rest * 2 + LEAST, close).await else {
        let what = "unmounted, but the session could not be closed in time; what is not in the store is kept";
        return Err(Failure::new(Exit::NotStored, format!("{what} in {}", shared.cache.display())));
    };
    if !report.is_clean() {
        return Err(left_behind(shared, report));
    }
    let mut notes = Vec::new();
    if !published {
        notes.push(NOT_PUBLISHED.to_owned());
    }
    if !report.released && !shared.args.read_only {
        notes.push(NOT_RELEASED.to_owned());
    }
    Ok(notes)
}

/// Takes the files back that the kernel reads and writes by itself, once it has let go of the mount. Where a
/// process still has the detached mount in use they stay its, and count as not stored.
async fn take_back(shared: &Shared, unmounted: bool) {
    let until = Instant::now() + LETTING_GO;
    while shared.session.has_backings() {
        if shared.served.is_gone() {
            return shared.session.take_all_back(unmounted).await;
        }
        if Instant::now() >= until {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Commits everything, then publishes while the time lasts; whether all of it is published.
async fn drain(shared: &Shared, committed_by: Instant, until: Option<Instant>) -> bool {
    if shared.args.read_only {
        return true;
    }
    let rest = committed_by.saturating_duration_since(Instant::now());
    if shared.session.flush_all(rest).await.is_err() {
        // The same error comes again when the session is closed, and is told then.
        return false;
    }
    let drained_by = Instant::now() + shared.args.drain_timeout;
    shared.view.wait_published(until.map_or(drained_by, |until| until.min(drained_by))).await
}

fn left_behind(shared: &Shared, report: CloseReport) -> Failure {
    let why = report.error.map(|error| Failure::from(error).not_stored());
    let exit = why.as_ref().map_or(Exit::NotStored, |failure| failure.exit);
    let because = why.map(|failure| format!(" ({})", failure.line())).unwrap_or_default();
    let kept = report.kept_in.display();
    if report.left.is_nothing() {
        return Failure::new(exit, format!("unmounted{because}"));
    }
    let what = format!("{} files and {}", report.left.files, human_size(report.left.bytes));
    let then = match exit {
        Exit::Held => format!("to see and copy them: cwdfs salvage --list {kept}"),
        _ => format!("to send them: {}", again(shared)),
    };
    Failure::new(
        exit,
        format!("unmounted, but {what} are not in the store{because}; they are kept in {kept}; {then}"),
    )
}

/// The command that mounts the same session from the same cache.
fn again(shared: &Shared) -> String {
    let args = &shared.args;
    let mut words = vec!["cwdfs mount".to_owned()];
    words.extend(args.cache_dir.iter().map(|dir| format!("--cache-dir={}", dir.display())));
    words.extend(args.reach.words());
    words.extend([args.store.to_string(), args.mountpoint.display().to_string()]);
    words.join(" ")
}
