//! The names that there are after some operations: what a process chooses from, and what a session is held against.

use super::ops::{FileId, Op};
use std::collections::BTreeMap;

/// What a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Node {
    Dir,
    File(FileId),
}

/// The names of one process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names(pub BTreeMap<String, Node>);

impl Names {
    /// Applies an operation that succeeds.
    pub fn apply(&mut self, op: &Op) {
        match op {
            Op::Mkdir(path) => {
                self.0.insert(path.clone(), Node::Dir);
            }
            Op::Create(path, file) => {
                self.0.insert(path.clone(), Node::File(*file));
            }
            Op::Rmdir(path) | Op::Unlink(path) => {
                self.0.remove(path);
            }
            Op::Link(from, to) => {
                let node = self.0[from];
                self.0.insert(to.clone(), node);
            }
            Op::Rename(from, to) => self.rename(from, to),
            Op::Open(..)
            | Op::Write(..)
            | Op::Truncate(..)
            | Op::Fsync(_)
            | Op::Close(_)
            | Op::SyncDir(_) => {}
        }
    }

    fn rename(&mut self, from: &str, to: &str) {
        // Between two names of one file it does nothing.
        if self.0.get(from) == self.0.get(to) && matches!(self.0.get(to), Some(Node::File(_))) {
            return;
        }
        let below = format!("{from}/");
        let moved: Vec<String> =
            self.0.keys().filter(|name| *name == from || name.starts_with(&below)).cloned().collect();
        for name in moved {
            let node = self.0.remove(&name);
            self.0.extend(node.map(|node| (format!("{to}{}", &name[from.len()..]), node)));
        }
    }

    /// The file of this name.
    pub fn file(&self, path: &str) -> Option<FileId> {
        match self.0.get(path) {
            Some(Node::File(file)) => Some(*file),
            _ => None,
        }
    }

    /// Whether this file has a name.
    pub fn has(&self, file: FileId) -> bool {
        self.files().any(|(_, other)| other == file)
    }

    /// All names of files.
    pub fn files(&self) -> impl Iterator<Item = (&String, FileId)> {
        self.0.iter().filter_map(|(path, node)| match node {
            Node::File(file) => Some((path, *file)),
            Node::Dir => None,
        })
    }

    /// All directories.
    pub fn dirs(&self) -> impl Iterator<Item = &String> {
        self.0.iter().filter(|(_, node)| **node == Node::Dir).map(|(path, _)| path)
    }

    /// Whether nothing is below this directory.
    pub fn is_empty(&self, dir: &str) -> bool {
        let below = format!("{dir}/");
        !self.0.keys().any(|name| name.starts_with(&below))
    }
}
