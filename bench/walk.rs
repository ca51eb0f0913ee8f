//! Reading trees: all of it as fast as one thread can, and comparing two.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// How much there was.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Total {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// All files below `root`, in order; each has been looked at.
pub fn files(root: &Path) -> io::Result<Vec<(PathBuf, u64)>> {
    let (mut todo, mut found) = (vec![root.to_owned()], Vec::new());
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let meta = entry.metadata()?;
            if meta.is_dir() {
                todo.push(entry.path());
            } else if meta.is_file() {
                found.push((entry.path(), meta.len()));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// Lists everything and looks at it (stat).
pub fn walk(root: &Path) -> Total {
    let files = files(root).expect("walk the tree");
    Total { files: files.len(), bytes: files.iter().map(|(_, size)| size).sum() }
}

/// Lists everything and reads it.
pub fn read_all(root: &Path) -> Total {
    let files = files(root).expect("walk the tree");
    read(files.iter().map(|(path, _)| path.as_path()))
}

/// Reads these files.
pub fn read<'a>(paths: impl Iterator<Item = &'a Path>) -> Total {
    let mut total = Total::default();
    let mut buffer = vec![0; 1 << 20];
    for path in paths {
        let mut file = fs::File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
        loop {
            match file.read(&mut buffer).unwrap_or_else(|e| panic!("read {}: {e}", path.display())) {
                0 => break,
                n => total.bytes += n as u64,
            }
        }
        total.files += 1;
    }
    total
}

/// Panics unless every file of `source` is in `there` with the same bytes, and no other is.
pub fn assert_same(source: &Path, there: &Path) {
    let names = |root: &Path| {
        let files = files(root).unwrap_or_else(|e| panic!("list {}: {e}", root.display()));
        let name = |(path, _): (PathBuf, u64)| path.strip_prefix(root).map(Path::to_owned).unwrap_or(path);
        files.into_iter().map(name).collect::<Vec<_>>()
    };
    let (want, got) = (names(source), names(there));
    assert!(
        want == got,
        "{} files in {}, not the {} that were written",
        got.len(),
        there.display(),
        want.len()
    );
    for name in want {
        let read = |root: &Path| {
            fs::read(root.join(&name)).unwrap_or_else(|e| panic!("read {}: {e}", name.display()))
        };
        assert!(read(source) == read(there), "{}: not the bytes that were written", name.display());
    }
}

/// A line for each file, with its name and its target or a hash of its bytes. What a file system shows in its root by
/// itself is left out.
pub fn listing(root: &Path) -> BTreeSet<String> {
    let (mut todo, mut lines) = (vec![root.to_owned()], BTreeSet::new());
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap_or_else(|e| panic!("list {}: {e}", dir.display())) {
            let path = entry.unwrap_or_else(|e| panic!("list {}: {e}", dir.display())).path();
            let name = path.strip_prefix(root).unwrap_or(&path).to_owned();
            if OWN.iter().any(|own| name == Path::new(own)) {
                continue;
            }
            let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
            if meta.is_dir() {
                todo.push(path);
            } else if meta.is_symlink() {
                lines.insert(format!("{name:?} -> {:?}", fs::read_link(&path).expect("read a link")));
            } else {
                lines.insert(format!("{name:?} {} {}", meta.len(), crate::support::tree::hash(&path)));
            }
        }
    }
    lines
}

/// What JuiceFS has in its root by itself.
const OWN: [&str; 5] = [".accesslog", ".config", ".stats", ".jfsconfig", ".trash"];
