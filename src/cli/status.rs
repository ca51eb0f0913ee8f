//! `status`: what is in the store, and what is not yet.

use super::check;
use super::exit::{Exit, Failure};
use super::values::{self, human_duration, human_size};
use crate::control::status::{Amount, Status, ViewStatus};
use crate::control::{ControlError, Request, Response, client};
use std::path::PathBuf;
use std::time::Duration;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A live daemon answers at once.
const LIMIT: Duration = Duration::from_secs(10);

/// Show what is in the store, and what is not yet
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs status /mnt/sid42", "cwdfs status --json /mnt/sid42 | jq .uncommitted", "cwdfs status --check --timeout 5s /mnt/sid42"]))]
pub struct Args {
    /// As JSON, with the fields that are documented in STATUS.md
    #[arg(long)]
    json: bool,
    /// Say only whether it is healthy, by exit code 0 or 8: the mount, its daemon, the lease and the store are
    /// looked at. Never hangs
    #[arg(long)]
    check: bool,
    /// How long a check may take [default: 10s]
    #[arg(long, value_name = "TIME", value_parser = values::positive_duration, requires = "check")]
    timeout: Option<Duration>,
    /// Ask the mount something, and hang with it.
    #[arg(long, hide = true)]
    touch: bool,
    /// Where it is mounted
    mountpoint: PathBuf,
}

/// Asks and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    if args.touch {
        check::touch(&args.mountpoint);
    }
    if args.check {
        return checked(args);
    }
    let entry = client::daemon(&client::mountpoint(&args.mountpoint)?)?;
    let status = match client::ask(&entry, &Request::Status, LIMIT)? {
        Response::Status(status) => status,
        other => {
            let what = format!("{other:?}");
            return Err(ControlError::Protocol { mountpoint: entry.mountpoint, what }.into());
        }
    };
    super::say(&match args.json {
        true => super::json(&status)?,
        false => text(&status, OffsetDateTime::now_utc()),
    })?;
    Ok(Exit::Done)
}

fn checked(args: &Args) -> Result<Exit, Failure> {
    let health = check::check(&args.mountpoint, args.timeout)?;
    let text = match args.json {
        true => super::json(&health)?,
        false => health.text(),
    };
    super::say(&text)?;
    Ok(health.exit())
}

/// For people: one line a matter, left out where there is nothing to say.
fn text(status: &Status, now: OffsetDateTime) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<14}{value}\n"));
    line("store", status.store.clone());
    line("session", status.session.clone().unwrap_or_else(|| "none yet".into()));
    line("mount", mount(status, now));
    line("durability", status.durability.clone());
    if let Some(epoch) = &status.epoch {
        line("epoch", epoch.clone());
    }
    if let Some(holder) = &status.holder {
        line("holder", holder.clone());
    }
    if let Some(lease) = &status.lease {
        let by = lease.by.as_ref().map(|by| format!(" by {by}")).unwrap_or_default();
        line("lease", format!("{}{by}, renewed {} ago", lease.state, seconds(lease.age_seconds)));
    }
    line("last commit", last_commit(status, now));
    line("uncommitted", uncommitted(status));
    if let Some(view) = &status.view {
        line("unpublished", unpublished(view));
        line("view", view_counts(view));
    }
    let cache = &status.cache;
    line("cache", format!("{} of {} in {}", human_size(cache.used), human_size(cache.limit), cache.dir));
    if let Some(quota) = &status.quota {
        line("quota", format!("{} of {} used", human_size(quota.used), human_size(quota.limit)));
    }
    for slow in &status.slow {
        let (of, took) = (
            if slow.path.is_empty() { format!("inode {}", slow.ino) } else { format!("/{}", slow.path) },
            seconds(slow.seconds),
        );
        line(
            "slow",
            format!(
                "{} of {of} by task {}, for {took}: waits for {}",
                slow.operation, slow.pid, slow.waits_for
            ),
        );
    }
    if status.batches.running > 0 {
        line("batches", format!("{} running", status.batches.running));
    }
    if let Some(within) = status.follows_within_seconds {
        line("follows", format!("within {}", seconds(within)));
    }
    line("passthrough", passthrough(status));
    if let Some(latency) = status.store_latency_ms {
        line("store latency", format!("{latency:.1} ms"));
    }
    if let Some(end) = &status.credentials_expire {
        line("credentials", credentials(end, now));
    }
    if let Some(error) = &status.credentials_error {
        line("credentials", format!("{} ({} ago)", error.message, ago(&error.at, now)));
    }
    for kept in &status.salvage {
        line("salvage", format!("changes that could not be replayed are kept: cwdfs salvage --list {kept}"));
    }
    for warning in &status.warnings {
        line("warning", warning.clone());
    }
    if let Some(error) = &status.last_error {
        line("last error", format!("{} ({} ago)", error.message, ago(&error.at, now)));
    }
    out
}

fn mount(status: &Status, now: OffsetDateTime) -> String {
    let Status { mountpoint, state, mode, pid, .. } = status;
    let closed = if status.read_only { ", read-only" } else { "" };
    format!(
        "{mountpoint}: {state}, {mode}{closed}, since {} (pid {pid}, cwdfs {})",
        ago(&status.mounted_at, now),
        status.version
    )
}

/// Those in use, by the end that they state.
fn credentials(end: &str, now: OffsetDateTime) -> String {
    let over = OffsetDateTime::parse(end, &Rfc3339).is_ok_and(|end| end <= now);
    format!("{} {end}", if over { "expired" } else { "expire" })
}

fn last_commit(status: &Status, now: OffsetDateTime) -> String {
    match (status.last_slot, &status.last_commit) {
        (Some(slot), Some(at)) => format!("slot {slot}, {} ago", ago(at, now)),
        (Some(slot), None) => format!("slot {slot}"),
        (None, _) => "none".into(),
    }
}

fn amount(amount: &Amount) -> String {
    let files = if amount.files == 1 { "1 file".into() } else { format!("{} files", amount.files) };
    format!("{files}, {}", human_size(amount.bytes))
}

fn uncommitted(status: &Status) -> String {
    let Amount { files, bytes } = status.uncommitted;
    let flying = match status.slots_in_flight {
        0 => String::new(),
        n => format!(", {n} commits under way"),
    };
    if files == 0 && bytes == 0 { format!("nothing{flying}") } else { amount(&status.uncommitted) + &flying }
}

fn unpublished(view: &ViewStatus) -> String {
    let Amount { files, bytes } = view.unpublished;
    if files == 0 && bytes == 0 {
        return "nothing".into();
    }
    let behind = view.behind_seconds.map(|s| format!(", {} behind", seconds(s))).unwrap_or_default();
    amount(&view.unpublished) + &behind
}

fn view_counts(view: &ViewStatus) -> String {
    let ViewStatus { imported, conflicts, unpublishable_names, skipped_keys, .. } = view;
    format!(
        "{imported} outside changes imported, {conflicts} conflicts, {unpublishable_names} unpublishable names, {skipped_keys} keys skipped"
    )
}

fn passthrough(status: &Status) -> String {
    match (&status.passthrough_off_because, status.passthrough) {
        (_, true) => "on".into(),
        (Some(why), false) => format!("off ({why})"),
        (None, false) => "off".into(),
    }
}

fn seconds(seconds: f64) -> String {
    Duration::try_from_secs_f64(seconds).map_or_else(|_| "?".into(), human_duration)
}

/// How long ago a time of the status was.
fn ago(at: &str, now: OffsetDateTime) -> String {
    match OffsetDateTime::parse(at, &Rfc3339) {
        Ok(then) => seconds((now - then).as_seconds_f64().max(0.0)),
        Err(_) => "?".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::status::{ErrorStatus, LeaseStatus};
    use time::macros::datetime;

    fn status() -> Status {
        Status {
            version: "1.2.3".into(),
            pid: 42,
            store: "demo:sid42".into(),
            mountpoint: "/mnt/x".into(),
            state: "mounted".into(),
            mode: "writer".into(),
            durability: "close".into(),
            mounted_at: "2026-01-02T03:04:05Z".into(),
            ..Status::default()
        }
    }

    const NOW: OffsetDateTime = datetime!(2026-01-02 03:14:05 UTC);

    #[test]
    fn a_quiet_mount_says_that_nothing_is_owed() {
        let text = text(&status(), NOW);
        assert!(text.contains("store         demo:sid42\n"), "{text}");
        assert!(text.contains("/mnt/x: mounted, writer, since 10 min (pid 42, cwdfs 1.2.3)"), "{text}");
        assert!(text.contains("uncommitted   nothing\n") && text.contains("last commit   none\n"), "{text}");
        assert!(!text.contains("last error") && !text.contains("lease"), "{text}");
    }

    #[test]
    fn what_is_owed_and_what_failed_is_shown() {
        let status = Status {
            lease: Some(LeaseStatus { state: "fenced".into(), age_seconds: 90.0, by: Some("host b".into()) }),
            last_slot: Some(17),
            last_commit: Some("2026-01-02T03:14:00Z".into()),
            uncommitted: Amount { files: 1, bytes: 1536 },
            slots_in_flight: 2,
            view: Some(ViewStatus {
                unpublished: Amount { files: 3, bytes: 10 },
                behind_seconds: Some(2.5),
                conflicts: 1,
                ..ViewStatus::default()
            }),
            last_error: Some(ErrorStatus { at: "2026-01-02T03:13:05Z".into(), message: "put x: no".into() }),
            credentials_expire: Some("2026-01-02T03:14:00Z".into()),
            credentials_error: Some(ErrorStatus {
                at: "2026-01-02T03:14:01Z".into(),
                message: "exit 1".into(),
            }),
            passthrough_off_because: Some("the cache directory is a tmpfs".into()),
            ..status()
        };
        let text = text(&status, NOW);
        for part in [
            "fenced by host b, renewed 90 s ago",
            "slot 17, 5 s ago",
            "1 file, 1.5 KiB, 2 commits under way",
            "3 files, 10 B, 2 s behind",
            "1 conflicts",
            "put x: no (60 s ago)",
            "credentials   expired 2026-01-02T03:14:00Z",
            "credentials   exit 1 (4 s ago)",
            "off (the cache directory is a tmpfs)",
        ] {
            assert!(text.contains(part), "{part:?} is not in:\n{text}");
        }
    }

    /// The document beside the struct names every field, and no other.
    #[test]
    fn every_field_is_documented() {
        let full = Status {
            lease: Some(LeaseStatus::default()),
            view: Some(ViewStatus::default()),
            quota: Some(Default::default()),
            ..Status::default()
        };
        let document = include_str!("../control/STATUS.md");
        let json = serde_json::to_value(&full).expect("JSON");
        let fields = json.as_object().expect("an object");
        for (name, value) in fields {
            assert!(document.contains(&format!("`{name}")), "{name} is not documented");
            for inner in value.as_object().into_iter().flat_map(|o| o.keys()) {
                let named = document.contains(&format!("`{name}.{inner}"));
                assert!(named, "{name}.{inner} is not documented");
            }
        }
        for line in document.lines().filter(|l| l.starts_with("| `")) {
            let name = line.split('`').nth(1).and_then(|n| n.split('.').next()).expect("a field");
            assert!(fields.contains_key(name), "{name} is documented and not there");
        }
    }
}
