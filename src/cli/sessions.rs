//! `sessions`: all sessions below a bucket, prefix or directory, as an operator of many asks for them.

use super::exit::{Exit, Failure};
use super::reach::ReachArgs;
use super::values::{human_size, rfc3339};
use crate::log::LogError;
use crate::log::lease::{Lease, LeaseState};
use crate::log::summary::{Summary, summary};
use crate::store::{self, Location, Opened};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use serde::Serialize;
use std::collections::VecDeque;

/// Folders and sessions looked into at once.
const AT_ONCE: usize = 16;
/// The folder that makes a prefix a session.
const OURS: &str = ".cwdfs";

/// List the sessions below a bucket, prefix or directory
///
/// Reads each session's lease and tree, and no content; a mounted one is not disturbed. This is the one command
/// that lists above a session's prefix. One that cannot be read is shown with the reason, and the exit code is 8.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&["cwdfs sessions demo:", "cwdfs sessions --json demo:mounts/p1 | jq '.[] | select(.state == \"held\")'", "cwdfs sessions file:///srv/sessions"]))]
pub struct Args {
    /// As JSON: an array of objects with store, session, state, holder, files, bytes, last_commit, error
    #[arg(long)]
    json: bool,
    /// Look this many folders deep; folders of a session are never looked into
    #[arg(long, value_name = "N", default_value_t = 4)]
    depth: usize,
    #[command(flatten)]
    reach: ReachArgs,
    /// `bucket:prefix`, `bucket:` for all of it, or `file:///directory`
    #[arg(value_name = "STORE")]
    store: Location,
}

/// A session as it is listed; the JSON of `--json`.
#[derive(Debug, Serialize)]
struct Found {
    /// As `mount` takes it.
    store: String,
    /// Its id.
    session: Option<String>,
    /// `held`, `parked` or `free`; `unreadable` with an `error`.
    state: &'static str,
    /// Who writes, or wrote last.
    holder: Option<String>,
    /// Regular files.
    files: u64,
    /// Their bytes, without holes.
    bytes: u64,
    /// RFC 3339, UTC.
    last_commit: Option<String>,
    /// Why it cannot be read.
    error: Option<String>,
}

/// A folder that may be a session, or hold some.
struct Folder {
    opened: Opened,
    location: Location,
    depth: usize,
}

/// Looks and prints.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let mut found = super::wait_for(search(args)).map_err(|failure| failure.context(&args.store))?;
    found.sort_by(|a, b| a.store.cmp(&b.store));
    let unreadable = found.iter().any(|session| session.error.is_some());
    if args.json {
        super::say(&super::json(&found)?)?;
    } else {
        super::say(&table(&found))?;
    }
    Ok(if unreadable { Exit::CheckFailed } else { Exit::Done })
}

async fn search(args: &Args) -> Result<Vec<Found>, Failure> {
    let opened = store::open(&args.store, &args.reach.store_options()).await?;
    let root = Folder { opened, location: args.store.clone(), depth: 0 };
    let (mut todo, mut found) = (VecDeque::from([root]), Vec::new());
    let mut looking = FuturesUnordered::new();
    loop {
        while looking.len() < AT_ONCE
            && let Some(folder) = todo.pop_front()
        {
            looking.push(look(folder, args.depth));
        }
        match looking.next().await {
            None => return Ok(found),
            Some(Look::Session(session)) => found.push(session),
            Some(Look::Folders(folders)) => todo.extend(folders),
            Some(Look::Failed(failure)) => return Err(failure),
        }
    }
}

enum Look {
    Session(Found),
    Folders(Vec<Folder>),
    Failed(Failure),
}

async fn look(folder: Folder, deepest: usize) -> Look {
    let name = folder.location.to_string();
    match Lease::peek(folder.opened.store.as_ref()).await {
        Ok(Some(_)) => return Look::Session(read(name, &folder.opened).await),
        Ok(None) => {}
        Err(LogError::Store(error)) => return Look::Failed(Failure::from(error)),
        Err(error) => return Look::Session(unreadable(name, error)),
    }
    let names = match folder.opened.store.folders().await {
        Ok(names) => names,
        Err(error) => return Look::Failed(Failure::from(error)),
    };
    if names.iter().any(|name| name == OURS) {
        let what = "it has lost its lease; a mount makes a new one and recovers it";
        return Look::Session(unreadable(name, what));
    }
    if folder.depth >= deepest {
        return Look::Folders(Vec::new());
    }
    let below = names.iter().map(|name| Folder {
        opened: folder.opened.below(name),
        location: folder.location.below(name),
        depth: folder.depth + 1,
    });
    Look::Folders(below.collect())
}

async fn read(store: String, opened: &Opened) -> Found {
    match summary(&opened.store).await {
        Ok(Some(Summary { session, state, holder, files, bytes, last_commit })) => Found {
            store,
            session: Some(session.to_string()),
            state: match state {
                LeaseState::Held => "held",
                LeaseState::Parked => "parked",
                LeaseState::Free => "free",
            },
            holder: Some(holder),
            files,
            bytes,
            last_commit: last_commit.map(rfc3339),
            error: None,
        },
        Ok(None) => unreadable(store, "it was deleted just now"),
        Err(error) => unreadable(store, error),
    }
}

fn unreadable(store: String, error: impl std::fmt::Display) -> Found {
    let error = Some(error.to_string());
    let state = "unreadable";
    Found { store, session: None, state, holder: None, files: 0, bytes: 0, last_commit: None, error }
}

fn table(found: &[Found]) -> String {
    let head = ["SESSION", "STATE", "FILES", "SIZE", "LAST COMMIT", "HOLDER"].map(str::to_owned);
    let row = |session: &Found| {
        [
            // What a store says ends on terminals.
            session.store.escape_debug().to_string(),
            session.state.to_owned(),
            session.files.to_string(),
            human_size(session.bytes),
            session.last_commit.clone().unwrap_or_else(|| "-".into()),
            session.error.clone().or_else(|| session.holder.clone()).unwrap_or_else(|| "-".into()),
        ]
    };
    let rows: Vec<[String; 6]> = [head].into_iter().chain(found.iter().map(row)).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..6).map(width).collect();
    let line = |row: &[String; 6]| {
        let cells = row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_has_a_line_for_each_and_shows_no_control_characters() {
        let found = [Found {
            files: 12,
            bytes: 1536,
            last_commit: Some("2026-01-02T03:04:05Z".into()),
            holder: Some("host pid 1".into()),
            state: "held",
            ..unreadable("demo:a\x1b[31m".into(), "x")
        }];
        let found = found.map(|session| Found { error: None, ..session });
        let text = table(&found);
        assert_eq!(text.lines().count(), 2);
        assert!(text.starts_with("SESSION"), "{text}");
        assert!(text.contains("demo:a\\u{1b}[31m") && !text.contains('\x1b'), "{text}");
        assert!(
            text.contains("held") && text.contains("1.5 KiB") && text.ends_with("host pid 1\n"),
            "{text}"
        );
    }
}
