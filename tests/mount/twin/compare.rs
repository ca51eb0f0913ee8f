//! What has to be equal, and the one list of what need not be.

use super::apply::time_told;
use super::ops::Step;
use crate::support::Tree;
use std::path::Path;

/// Where the mount may answer otherwise than ext4, with the reason. It is what the README's table says, as far
/// as a step can meet it.
pub fn may_differ(_step: &Step, _ours: &str, _theirs: &str) -> bool {
    false
}

/// The error is what differs; `WRONG` is what a process found out by itself.
pub fn answers(step: &Step, ours: &str, theirs: &str) -> Result<(), String> {
    let wrong = ours.contains("WRONG") || theirs.contains("WRONG");
    if !wrong && ours == theirs || may_differ(step, ours, theirs) {
        return Ok(());
    }
    Err(format!("{step:?}\n  mount: {ours}\n  ext4:  {theirs}"))
}

/// Compares what lies below two directories: everything but inode numbers, change times, times of now, and
/// where holes are.
pub fn trees(ours: &Path, theirs: &Path) -> Result<(), String> {
    let (ours, theirs) = (without_now(Tree::of(ours)), without_now(Tree::of(theirs)));
    let lines = theirs.differences(&ours);
    match lines.is_empty() {
        true => Ok(()),
        false => Err(format!("ext4 -> mount:\n  {}", lines.join("\n  "))),
    }
}

fn without_now(tree: Tree) -> Tree {
    let mut tree = tree.elsewhere();
    for entry in tree.0.values_mut() {
        if time_told(entry.mtime.0, entry.mtime.1) == "now" {
            entry.mtime = (0, 0);
        }
    }
    tree
}
