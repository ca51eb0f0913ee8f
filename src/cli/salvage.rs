//! `salvage`: what a writer that was succeeded had not committed, listed and copied out as files.

use super::exit::{Exit, Failure};
use super::origin::Origin;
use super::reach::{ReachArgs, Reached};
use crate::journal::salvage::{Ground, Set, sets_in};
use crate::log::source::{LocalError, LocalKind};
use crate::salvage::{Contents, Report, SalvageError, copy, list};
use crate::store::{Location, ObjectStore};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// List, or copy out, changes that never got into their session
///
/// When another writer has taken a session, what the first had not stored yet is kept in its cache: set aside by the
/// next mount from that cache, or still waiting there when there was none. --list shows it by path: when, why, and
/// whether each file is whole. --to writes it as files: DIR/files has them under their paths, DIR/lost+found those
/// without one, DIR/REPORT.txt and report.json say what is what and which ranges are missing. What a file has in common
/// with the session is fetched from the store, if it can be reached. Nothing is removed from the cache.
#[derive(Debug, clap::Args)]
#[command(after_help = super::exit::below_help(&[
    "cwdfs salvage --list /var/cache/cwdfs",
    "cwdfs salvage --to ~/rescued /var/cache/cwdfs/sid42-0123456789abcdef",
    "cwdfs salvage --list --json /var/cache/cwdfs | jq '.[].entries[] | select(.whole | not)'",
]))]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub struct Args {
    /// Show what is kept
    #[arg(long, group = "what")]
    list: bool,
    /// Copy it into DIR, which must be empty or missing; several sets get a folder each
    #[arg(long, group = "what", value_name = "DIR")]
    to: Option<PathBuf>,
    /// As JSON: an array of objects with set, state, when, why, by, session, store, copied_to, entries
    #[arg(long)]
    json: bool,
    /// Only this set, by the name of its folder, or `waiting`
    #[arg(long, value_name = "NAME")]
    set: Option<String>,
    /// Ask no store: what is not local counts as missing
    #[arg(long)]
    offline: bool,
    /// The session's store, where the cache does not say it: `bucket:prefix` or `file:///directory`
    #[arg(long, value_name = "STORE")]
    store: Option<Location>,
    #[command(flatten)]
    reach: ReachArgs,
    /// A cache directory, one session's folder in it, or one set's
    #[arg(value_name = "CACHE")]
    cache: PathBuf,
}

/// One set, or why it cannot be read.
#[derive(Serialize)]
#[serde(untagged)]
enum Shown {
    Report(Box<Report>),
    Unreadable { set: String, error: String },
}

/// A set that was found, and the session's folder that it is in.
struct Found {
    session: PathBuf,
    name: String,
    set: Result<Set, (PathBuf, String)>,
}

/// Lists or copies.
pub fn run(args: &Args) -> Result<Exit, Failure> {
    let found = find(args)?;
    if found.is_empty() {
        if args.json {
            super::say("[]\n")?;
        }
        eprintln!("cwdfs: nothing is kept in {}", args.cache.display());
        return Ok(Exit::Done);
    }
    let shown = super::wait_for(show(args, &found))?;
    match args.json {
        true => super::say(&super::json(&shown)?)?,
        false => super::say(&text(&shown, &found))?,
    }
    let whole = |shown: &Shown| matches!(shown, Shown::Report(report) if report.is_whole());
    match shown.iter().all(whole) {
        true => Ok(Exit::Done),
        false => {
            Err(Failure::new(Exit::CheckFailed, "not all of it is whole: see above for what is missing"))
        }
    }
}

/// The sets of one session's folder, or of all in a cache directory.
fn find(args: &Args) -> Result<Vec<Found>, Failure> {
    let failed = |error| Failure::new(Exit::CannotStart, format!("{}: {error}", args.cache.display()));
    let mut folders = Vec::new();
    if let Some((session, name)) = one_of(&args.cache) {
        let mut found = set_aside(&session)?;
        found.retain(|found| found.name == name);
        return Ok(found);
    }
    if is_session(&args.cache) {
        folders.push(args.cache.clone());
    } else {
        for entry in std::fs::read_dir(&args.cache).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if is_session(&path) {
                folders.push(path);
            }
        }
    }
    folders.sort();
    let (mut found, mut mounted) = (Vec::new(), Vec::new());
    for folder in folders {
        found.extend(set_aside(&folder)?);
        match waiting(&folder) {
            Ok(set) => found.extend(set),
            Err(busy) => mounted.push(busy),
        }
    }
    found.retain(|found| args.set.as_ref().is_none_or(|name| *name == found.name));
    match mounted.first() {
        Some(busy) if found.is_empty() => Err(Failure::new(Exit::Held, busy)),
        _ => {
            mounted.iter().for_each(|busy| eprintln!("cwdfs: {busy}"));
            Ok(found)
        }
    }
}

/// The session's folder and the name of a set, where it is a set that is given, as `status` names it.
fn one_of(folder: &Path) -> Option<(PathBuf, String)> {
    let above = folder.parent()?;
    let name = file_name(folder);
    if name.starts_with("damaged-") {
        return Some((above.to_owned(), name));
    }
    (file_name(above) == crate::journal::salvage::FOLDER).then(|| Some((above.parent()?.to_owned(), name)))?
}

fn is_session(folder: &Path) -> bool {
    ["journal.db", "lock", crate::journal::salvage::FOLDER].iter().any(|name| folder.join(name).exists())
}

fn set_aside(session: &Path) -> Result<Vec<Found>, Failure> {
    let found = sets_in(session)?.into_iter().map(|folder| {
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let set = Set::open(&folder).map_err(|error| (folder, error.message));
        Found { session: session.to_owned(), name, set }
    });
    Ok(found.collect())
}

/// What waits in a folder that nobody has mounted; the error says that somebody has.
fn waiting(session: &Path) -> Result<Option<Found>, String> {
    let found = |set| Found { session: session.to_owned(), name: "waiting".into(), set };
    match Set::waiting(session) {
        Ok(set) => Ok(set.map(|set| found(Ok(set)))),
        Err(LocalError { kind: LocalKind::Busy, .. }) => Err(format!(
            "{} is in use by a mount: what is not stored there is not looked at; unmount it first",
            session.display()
        )),
        Err(error) => Ok(Some(found(Err((session.to_owned(), error.message))))),
    }
}

async fn show(args: &Args, found: &[Found]) -> Result<Vec<Shown>, Failure> {
    let mut all = Vec::with_capacity(found.len());
    if let Some(to) = args.to.as_ref().filter(|to| found.len() > 1 && has_entries(to)) {
        return Err(Failure::new(Exit::CannotStart, format!("{}: is not empty", to.display())));
    }
    for one in found {
        let set = match &one.set {
            Ok(set) => set,
            Err((folder, error)) => {
                all.push(Shown::Unreadable { set: folder.display().to_string(), error: error.clone() });
                continue;
            }
        };
        let to = args.to.as_ref().map(|to| match found.len() {
            1 => to.clone(),
            _ => to.join(format!("{}.{}", file_name(&one.session), one.name)),
        });
        all.push(Shown::Report(Box::new(one_set(args, &one.session, set, to.as_deref()).await?)));
    }
    Ok(all)
}

fn has_entries(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

async fn one_set(args: &Args, session: &Path, set: &Set, to: Option<&Path>) -> Result<Report, Failure> {
    let origin = Origin::of(session);
    let contents = Contents::of(set, store(args, origin.as_ref()).await).await;
    let mut report = list(set, &contents).await.map_err(failure)?;
    report.store = match &args.store {
        Some(store) => Some(store.to_string()),
        None => origin.map(|origin| origin.name().to_owned()),
    };
    match to {
        Some(to) => copy(set, &contents, to, report).await.map_err(failure),
        None => Ok(report),
    }
}

/// The store to fetch from, or why there is none.
async fn store(args: &Args, origin: Option<&Origin>) -> Result<Arc<dyn ObjectStore>, String> {
    if args.offline {
        return Err("it is not asked (--offline)".into());
    }
    let noted = origin.and_then(Origin::store);
    let location = args.store.clone().or(noted).ok_or("which one is not noted here: give --store")?;
    let reach = origin.map_or_else(|| args.reach.clone(), |origin| origin.complete(&args.reach));
    let reached = Reached::to_read(&location, &reach).await.map_err(|failure| failure.line())?;
    Ok(reached.store)
}

fn failure(error: SalvageError) -> Failure {
    match error {
        SalvageError::Local(error) => error.into(),
        SalvageError::Log(error) => error.into(),
        output @ SalvageError::Output { .. } => Failure::new(Exit::CannotStart, output),
    }
}

fn text(shown: &[Shown], found: &[Found]) -> String {
    let mut text = String::new();
    for one in shown {
        match one {
            Shown::Report(report) => text += &format!("{report}\n"),
            Shown::Unreadable { set, error } => text += &format!("{set}\n  cannot be read: {error}\n\n"),
        }
    }
    let mut aside = found.iter().filter_map(|one| match &one.set {
        Ok(set) if set.ground == Ground::Waiting => None,
        Ok(set) => Some(set.folder.display().to_string()),
        Err((folder, _)) => (one.name != "waiting").then(|| folder.display().to_string()),
    });
    if let Some(first) = aside.next() {
        let all = aside.fold(first, |all, one| format!("{all} {one}"));
        text += &format!("Nothing was removed. When you have what you want: rm -r {all}\n");
    }
    text
}
