//! A directory tree as it is at a moment, with everything that a session keeps.

use super::work::Error;
use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What lies behind a name, as text for each thing that is kept.
type Entry = BTreeMap<String, String>;

/// A tree; the root has the empty name.
pub struct Tree {
    entries: BTreeMap<PathBuf, Entry>,
    bytes: u64,
}

impl Tree {
    /// Reads everything below `root`.
    pub fn of(root: &Path) -> Result<Tree, Error> {
        let mut tree = Tree { entries: BTreeMap::new(), bytes: 0 };
        let mut todo = vec![PathBuf::new()];
        while let Some(name) = todo.pop() {
            let path = root.join(&name);
            let meta = fs::symlink_metadata(&path)?;
            if meta.is_dir() {
                for child in fs::read_dir(&path)? {
                    todo.push(name.join(child?.file_name()));
                }
            }
            if meta.is_file() {
                tree.bytes += meta.size();
            }
            tree.entries.insert(name, entry(&path, &meta)?);
        }
        Ok(tree)
    }

    /// Reads one name anew.
    pub fn look_again(&mut self, root: &Path, name: &Path) -> Result<(), Error> {
        let path = root.join(name);
        let entry = entry(&path, &fs::symlink_metadata(&path)?)?;
        self.entries.insert(name.to_owned(), entry);
        Ok(())
    }

    /// Names in it.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Bytes in its files.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// What is different in `other`, a line each.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, was) in &self.entries {
            let Some(is) = other.entries.get(name) else {
                lines.push(format!("{} is missing", name.display()));
                continue;
            };
            for field in was.keys().chain(is.keys().filter(|field| !was.contains_key(*field))) {
                let of = |entry: &Entry| entry.get(field).map_or("nothing", String::as_str).to_owned();
                let (was, is) = (of(was), of(is));
                if was != is {
                    lines.push(format!("{}: {field} was {was}, is {is}", name.display()));
                }
            }
        }
        let new = other.entries.keys().filter(|name| !self.entries.contains_key(*name));
        lines.extend(new.map(|name| format!("{} is new", name.display())));
        lines
    }
}

fn entry(path: &Path, meta: &Metadata) -> Result<Entry, Error> {
    let mut entry = Entry::new();
    let mut field = |name: &str, value: String| drop(entry.insert(name.to_owned(), value));
    field("mode", format!("{:o}", meta.mode()));
    field("owner", format!("{}:{}", meta.uid(), meta.gid()));
    field("links", meta.nlink().to_string());
    // Names of one file have one number: so hard links are compared as well.
    field("inode", meta.ino().to_string());
    field("mtime", format!("{}.{:09}", meta.mtime(), meta.mtime_nsec()));
    field("ctime", format!("{}.{:09}", meta.ctime(), meta.ctime_nsec()));
    if meta.is_file() {
        field("size", meta.size().to_string());
        field("content", blake3::hash(&fs::read(path)?).to_hex().to_string());
    }
    if meta.is_symlink() {
        field("target", fs::read_link(path)?.display().to_string());
    }
    for (name, value) in xattrs(path)? {
        field(&format!("xattr {name}"), value);
    }
    Ok(entry)
}

fn xattrs(path: &Path) -> Result<Vec<(String, String)>, Error> {
    let mut names = vec![0_u8; 64 << 10];
    let length = rustix::fs::llistxattr(path, &mut names[..])?;
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let mut value = vec![0_u8; 64 << 10];
        let length = rustix::fs::lgetxattr(path, name, &mut value[..])?;
        found.push((name.escape_ascii().to_string(), value[..length].escape_ascii().to_string()));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let at = |name: &str| dir.path().join(name);
        fs::write(at("same"), "x").expect("write");
        fs::write(at("changed"), "x").expect("write");
        fs::write(at("gone"), "x").expect("write");
        let before = Tree::of(dir.path()).expect("a tree");
        assert!(before.differences(&Tree::of(dir.path()).expect("a tree")).is_empty());
        fs::write(at("changed"), "y").expect("write");
        fs::remove_file(at("gone")).expect("unlink");
        fs::write(at("new"), "x").expect("write");
        let text = before.differences(&Tree::of(dir.path()).expect("a tree")).join("\n");
        for part in ["changed: content", "gone is missing", "new is new"] {
            assert!(text.contains(part), "{part} is not in {text}");
        }
        assert!(!text.contains("same"), "{text}");
    }
}
