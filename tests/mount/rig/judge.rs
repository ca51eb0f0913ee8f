//! Whether what a mount shows is a state that the session had, with everything acknowledged in it.
//!
//! A state is a number of operations for each process. It is one of the session's when
//! - its names are those after so many operations;
//! - each file has bytes that it had by then, and not from before a rename or link of it;
//! - what ended before something in it began is in it, whoever did it;
//! - what was acknowledged is in it: what ended before, and the content of the file that was closed or synced.

use super::found::{Found, Shown, versions};
use super::history::{Barrier, History, Level};
use super::names::{Names, Node};
use super::ops::FileId;
use std::collections::BTreeMap;

/// Panics unless what is shown is such a state; returns how many operations of each process are in it.
#[track_caller]
pub fn judge(histories: &[History], level: Level, shown: &Shown) -> Vec<usize> {
    let barriers: Vec<Vec<Barrier>> = histories.iter().map(|history| history.barriers(level)).collect();
    let covered = barriers.iter().flatten().map(|barrier| barrier.covers).max().unwrap_or(0);
    let mut possible = Vec::new();
    for ((worker, history), barriers) in histories.iter().enumerate().zip(&barriers) {
        let shown = shown.of(worker as u64);
        let had = states(history, &shown, &[]);
        let states = match had {
            Ok(_) => states(history, &shown, barriers),
            Err(why) => panic!("not a state that process {worker} has ever made: {why}"),
        };
        let states = states
            .unwrap_or_else(|why| panic!("acknowledged, but not in the store: of process {worker}, {why}"));
        let own = barriers.iter().filter(|b| b.file.is_none()).map(|b| b.n + 1).max();
        let least = history.ended_by(covered).max(own.unwrap_or(0));
        let last = states.last().copied().unwrap_or(0);
        assert!(
            last >= least,
            "acknowledged, but not in the store: process {worker} is back after {last} operations, and the first \
             {least} are acknowledged: {:?}",
            &history.0[last.saturating_sub(2)..(least + 2).min(history.0.len())]
        );
        possible.push(states.into_iter().filter(|count| *count >= least).collect::<Vec<_>>());
    }
    in_order(histories, &possible)
}

/// The smallest state in which nothing is missing that ended before something in it began.
#[track_caller]
fn in_order(histories: &[History], possible: &[Vec<usize>]) -> Vec<usize> {
    let mut counts: Vec<usize> = possible.iter().map(|states| states[0]).collect();
    loop {
        let begins =
            counts.iter().zip(histories).filter_map(|(count, h)| Some(h.0[count.checked_sub(1)?].begin));
        let last = begins.max().unwrap_or(0);
        let mut changed = false;
        for ((worker, history), states) in histories.iter().enumerate().zip(possible) {
            let least = history.ended_by(last);
            if counts[worker] >= least {
                continue;
            }
            let next = states.iter().find(|count| **count >= least);
            counts[worker] = *next.unwrap_or_else(|| {
                panic!(
                    "out of order: process {worker} is back after {:?} operations, though {least} had ended before \
                     something began that is there: {:?}",
                    states.last(),
                    &history.0[states.last().copied().unwrap_or(0)..least]
                )
            });
            changed = true;
        }
        if !changed {
            return counts;
        }
    }
}

/// The numbers of operations after which a process's names and files were as shown. The error says what is wrong
/// with the nearest.
fn states(history: &History, shown: &Shown, barriers: &[Barrier]) -> Result<Vec<usize>, String> {
    let mut states = Vec::new();
    let mut nearest = (usize::MAX, String::new());
    for count in 0..=history.0.len() {
        match differences(history, count, shown, barriers) {
            wrong if wrong.is_empty() => states.push(count),
            wrong if wrong.len() <= nearest.0 => {
                nearest = (wrong.len(), format!("after {count} operations: {}", wrong.join("; ")));
            }
            _ => {}
        }
    }
    if states.is_empty() { Err(nearest.1) } else { Ok(states) }
}

fn differences(history: &History, count: usize, shown: &Shown, barriers: &[Barrier]) -> Vec<String> {
    let names = history.names(count);
    let mut wrong = Vec::new();
    let mut files: BTreeMap<FileId, (u64, &[u8])> = BTreeMap::new();
    for (path, node) in &names.0 {
        match (node, shown.0.get(path)) {
            (Node::Dir, Some(Found::Dir)) => {}
            (Node::File(file), Some(Found::File { inode, links, bytes })) => {
                let first = files.entry(*file).or_insert((*inode, bytes));
                if first.0 != *inode || links_of(&names, *file) != *links {
                    wrong.push(format!("{path} has inode {inode} and {links} links, of {file:?}"));
                }
            }
            (node, found) => wrong.push(format!("{path} is to be {node:?}, and is {}", kind(found))),
        }
    }
    wrong.extend(
        shown.0.keys().filter(|path| !names.0.contains_key(*path)).map(|path| format!("{path} is there")),
    );
    if wrong.is_empty() {
        let contents = files
            .iter()
            .filter_map(|(file, (_, bytes))| content(history, count, *file, bytes, barriers).err());
        wrong.extend(contents);
    }
    wrong
}

fn links_of(names: &Names, file: FileId) -> u64 {
    names.files().filter(|(_, other)| *other == file).count() as u64
}

fn kind(found: Option<&Found>) -> &'static str {
    match found {
        None => "missing",
        Some(Found::Dir) => "a directory",
        Some(Found::File { .. }) => "a file",
    }
}

/// Whether a file has bytes that it had at one time, not later than `count`, and not before they were fixed.
fn content(
    history: &History,
    count: usize,
    file: FileId,
    bytes: &[u8],
    barriers: &[Barrier],
) -> Result<(), String> {
    let found = versions(file, bytes)?;
    let acknowledged =
        barriers.iter().filter(|barrier| barrier.file == Some(file)).map(|barrier| barrier.n).max();
    let least = history.captured_by(file, count).max(acknowledged.unwrap_or(0));
    let contents = history.contents(file);
    let fixed = contents.iter().filter(|(after, _)| *after <= least).count().saturating_sub(1);
    let mut could = contents[fixed..].iter().filter(|(after, _)| *after <= count);
    if could.any(|(_, versions)| *versions == found) {
        return Ok(());
    }
    let had = contents
        .iter()
        .filter(|(_, versions)| *versions == found)
        .map(|(after, _)| *after)
        .collect::<Vec<_>>();
    Err(format!(
        "{file:?} has blocks {found:?}, which it had after operations {had:?}; fixed by operation {least}, when it had {:?}",
        contents.get(fixed)
    ))
}
