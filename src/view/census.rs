//! What plain objects cannot hold of the committed tree: counted before a session is left to them.

use super::View;
use super::error::Result;
use super::headers;
use super::names::key_of;
use super::tree::Tree;
use crate::log::ids::Ino;
use std::collections::HashSet;

/// What is lost when only the plain objects are left.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// Paths that have no object, in their order.
    pub without_object: Vec<Vec<u8>>,
    /// Names of hard-linked files beyond the first: each is an object of its own, and will be a file of its own.
    pub further_names: u64,
    /// Files and directories with extended attributes (ACLs too) that do not fit into an object's metadata.
    pub lost_xattrs: u64,
    /// The root's mode, where an import would give it another one.
    pub root_mode: Option<u32>,
}

/// The permission bits of a root that nobody changed.
const ROOT_MODE: u32 = 0o755;

impl View {
    /// Looks at the whole committed tree. Empty of a session that only follows.
    pub fn census(&self) -> Result<Census> {
        match &self.active {
            Some(active) => count(&active.shared.tree()?),
            None => Ok(Census::default()),
        }
    }
}

fn count(tree: &Tree) -> Result<Census> {
    let mut census = Census::default();
    let mut seen = HashSet::new();
    let mut found = Vec::new();
    tree.walk(Ino::ROOT, b"", &mut |entry| {
        found.push(entry);
        Ok(true)
    })?;
    for entry in found {
        let Some(row) = tree.inode(entry.ino)? else { continue };
        let again = !row.is_dir() && row.nlink > 1 && !seen.insert(entry.ino);
        census.further_names += u64::from(again);
        let shown = tree.shown(entry.ino, row)?;
        let fits = key_of(&entry.path, entry.directory).is_ok();
        match headers::left_out(&shown.row, &shown.xattrs) {
            Ok(left_out) if fits => census.lost_xattrs += u64::from(left_out > 0 && !again),
            Ok(_) | Err(_) => census.without_object.push(entry.path),
        }
    }
    let root = tree.inode(Ino::ROOT)?.map(|row| row.mode & 0o7777);
    census.root_mode = root.filter(|mode| *mode != ROOT_MODE);
    census.without_object.sort();
    Ok(census)
}
