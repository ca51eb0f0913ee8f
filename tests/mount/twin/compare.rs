//! What has to be equal, and the one list of what need not be.

use super::apply::time_told;
use super::ops::{Op, Step};
use crate::support::Tree;
use std::path::Path;

/// Where the mount may answer otherwise than ext4, with the reason. It is what the README's table says, as far
/// as a step can meet it.
pub fn may_differ(step: &Step, ours: &str, theirs: &str) -> bool {
    match &step.op {
        // Files reach further than ext4's, and nothing from beyond ext4's end is nothing.
        Op::Sendfile { from_at, len: 0, .. } => *from_at >= EXT4_END && theirs.starts_with("EOVERFLOW"),
        // ext4 makes the whiteout before it looks whether the directory is empty, and the times of what it undid stay.
        Op::Rename { flags, .. } if flags & libc::RENAME_WHITEOUT != 0 => {
            [ours, theirs].iter().all(|told| told.starts_with("ENOTEMPTY; "))
        }
        _ => false,
    }
}

/// The longest file of ext4.
const EXT4_END: i64 = 16 << 40;

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
        // The kernel moves no time of a FIFO on FUSE.
        if entry.kind == "fifo" || time_told(entry.mtime.0, entry.mtime.1) == "now" {
            entry.mtime = (0, 0);
        }
    }
    tree
}
