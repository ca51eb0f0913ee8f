//! What a mount shows of a round: names, which of them are one file, and which versions of its blocks it has.

use super::ops::FileId;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// What lies behind a name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    Dir,
    /// With the bytes of all its names' file.
    File {
        inode: u64,
        links: u64,
        bytes: Vec<u8>,
    },
}

/// Everything below a round's directory, by path.
#[derive(Debug, Clone, Default)]
pub struct Shown(pub BTreeMap<String, Found>);

impl Shown {
    /// Reads it all.
    pub fn at(dir: &Path) -> Shown {
        let mut shown = BTreeMap::new();
        let mut todo = vec![String::new()];
        while let Some(name) = todo.pop() {
            let listing = fs::read_dir(dir.join(&name)).unwrap_or_else(|e| panic!("list {name:?}: {e}"));
            for entry in listing {
                let file = entry.unwrap_or_else(|e| panic!("list {name:?}: {e}")).file_name();
                let file = file.into_string().expect("a name of ours");
                let path = if name.is_empty() { file } else { format!("{name}/{file}") };
                let found = look(&dir.join(&path));
                if found == Found::Dir {
                    todo.push(path.clone());
                }
                shown.insert(path, found);
            }
        }
        Shown(shown)
    }

    /// What belongs to one process: its directory, and its names in the shared one.
    pub fn of(&self, worker: u64) -> Shown {
        let (own, below, shared) =
            (format!("w{worker}"), format!("w{worker}/"), format!("shared/w{worker}-"));
        let its = self
            .0
            .iter()
            .filter(|(path, _)| **path == own || path.starts_with(&below) || path.starts_with(&shared));
        Shown(its.map(|(path, found)| (path.clone(), found.clone())).collect())
    }
}

fn look(path: &Path) -> Found {
    let meta = fs::symlink_metadata(path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
    if meta.is_dir() {
        return Found::Dir;
    }
    let bytes = fs::read(path).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    assert_eq!(bytes.len() as u64, meta.len(), "{}: size and bytes", path.display());
    Found::File { inode: meta.ino(), links: meta.nlink(), bytes }
}

/// The version of each block of a file; the error names the first block that was never written like this.
pub fn versions(file: FileId, bytes: &[u8]) -> Result<Vec<u64>, String> {
    let blocks = bytes.chunks(file.block()).zip(0..);
    let versions = blocks.map(|(block, index)| {
        let version = block.first_chunk().map(|head| u64::from_le_bytes(*head));
        let version = version.filter(|version| file.bytes(index, *version) == block);
        version.ok_or_else(|| format!("block {index} of {file:?} has bytes that were never written there"))
    });
    versions.collect()
}
