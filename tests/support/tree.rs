//! A directory tree as it is at a moment, with everything a session promises to keep, and what differs
//! between two of them, in words.

use rustix::fs::{SeekFrom, XattrFlags};
use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// One name and what lies behind it.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// `file`, `dir`, `symlink`, `fifo`, `socket`, `char`, `block`.
    pub kind: &'static str,
    /// Permission, set-id and sticky bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of links.
    pub nlink: u64,
    /// Inode number; 0 where trees of different file systems are compared.
    pub ino: u64,
    /// Bytes of a file, length of a symlink's target; 0 for everything else.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, i64),
    /// Change time of the inode; zero where trees of different file systems are compared.
    pub ctime: (i64, i64),
    /// Device number of a device node.
    pub rdev: u64,
    /// Where a symlink points.
    pub target: Option<PathBuf>,
    /// Hash of a file's bytes.
    pub content: Option<String>,
    /// Where a file has data, from and to; empty where trees of different file systems are compared.
    pub data: Vec<(u64, u64)>,
    /// Extended attributes.
    pub xattrs: BTreeMap<String, Vec<u8>>,
    /// The first name, in order, of the same inode.
    pub same_as: PathBuf,
}

/// A tree, the root under the empty path.
#[derive(Clone, PartialEq, Eq)]
pub struct Tree(pub BTreeMap<PathBuf, Entry>);

impl Tree {
    /// Reads the tree below `root`, contents included.
    pub fn of(root: &Path) -> Tree {
        let mut tree = BTreeMap::new();
        let mut first_names = BTreeMap::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(name) = todo.pop() {
            let path = if name.as_os_str().is_empty() { root.to_owned() } else { root.join(&name) };
            let meta = fs::symlink_metadata(&path).unwrap_or_else(|e| panic!("stat {}: {e}", path.display()));
            if meta.is_dir() {
                let listing = fs::read_dir(&path).unwrap_or_else(|e| panic!("list {}: {e}", path.display()));
                for entry in listing {
                    let entry = entry.unwrap_or_else(|e| panic!("list {}: {e}", path.display()));
                    todo.push(name.join(entry.file_name()));
                }
            }
            let first = first_names.entry(meta.ino()).or_insert_with(|| name.clone());
            if name < *first {
                *first = name.clone();
            }
            tree.insert(name.clone(), (path, meta));
        }
        let entries = tree.into_iter().map(|(name, (path, meta))| {
            let first = first_names[&meta.ino()].clone();
            (name, Entry::of(&path, &meta, first))
        });
        Tree(entries.collect())
    }

    /// The same tree as another file system would show it: without inode numbers and change
    /// times, and without what belongs to the root directory itself.
    pub fn elsewhere(&self) -> Tree {
        let entries = self.0.iter().filter(|(name, _)| !name.as_os_str().is_empty());
        Tree(
            entries
                .map(|(name, entry)| {
                    (name.clone(), Entry { ino: 0, ctime: (0, 0), data: Vec::new(), ..entry.clone() })
                })
                .collect(),
        )
    }

    /// What is different in `other`, one line each; empty when nothing is.
    pub fn differences(&self, other: &Tree) -> Vec<String> {
        let mut lines = Vec::new();
        for (name, entry) in &self.0 {
            match other.0.get(name) {
                None => lines.push(format!("{}: missing (was {entry:?})", name.display())),
                Some(now) if now != entry => {
                    lines.push(format!("{}: {}", name.display(), entry.against(now)))
                }
                Some(_) => {}
            }
        }
        let new = other.0.iter().filter(|(name, _)| !self.0.contains_key(*name));
        lines.extend(new.map(|(name, entry)| format!("{}: new ({entry:?})", name.display())));
        lines
    }

    /// Panics with the differences, if there are any.
    pub fn assert_same(&self, other: &Tree, what: &str) {
        let lines = self.differences(other);
        let shown = lines.iter().take(30).map(|l| format!("\n  {l}")).collect::<String>();
        assert!(lines.is_empty(), "{what}: {} differences{shown}", lines.len());
    }
}

impl Entry {
    fn of(path: &Path, meta: &Metadata, same_as: PathBuf) -> Entry {
        let kind = kind(meta);
        let content = (kind == "file").then(|| hash(path));
        let target = (kind == "symlink")
            .then(|| fs::read_link(path).unwrap_or_else(|e| panic!("readlink {}: {e}", path.display())));
        Entry {
            kind,
            mode: meta.mode() & 0o7777,
            uid: meta.uid(),
            gid: meta.gid(),
            nlink: meta.nlink(),
            ino: meta.ino(),
            size: if matches!(kind, "file" | "symlink") { meta.size() } else { 0 },
            mtime: (meta.mtime(), meta.mtime_nsec()),
            ctime: (meta.ctime(), meta.ctime_nsec()),
            rdev: if matches!(kind, "char" | "block") { meta.rdev() } else { 0 },
            target,
            content,
            data: if kind == "file" { data(path, meta.size()) } else { Vec::new() },
            xattrs: xattrs(path),
            same_as,
        }
    }

    /// The fields that differ, in words.
    fn against(&self, now: &Entry) -> String {
        let mut words = Vec::new();
        let mut note = |field: &str, was: &dyn fmt::Debug, is: &dyn fmt::Debug| {
            let (was, is) = (format!("{was:?}"), format!("{is:?}"));
            if was != is {
                words.push(format!("{field} {was} -> {is}"));
            }
        };
        note("kind", &self.kind, &now.kind);
        note("mode", &format!("{:o}", self.mode), &format!("{:o}", now.mode));
        note("owner", &(self.uid, self.gid), &(now.uid, now.gid));
        note("links", &self.nlink, &now.nlink);
        note("inode", &self.ino, &now.ino);
        note("size", &self.size, &now.size);
        note("mtime", &self.mtime, &now.mtime);
        note("ctime", &self.ctime, &now.ctime);
        note("device", &self.rdev, &now.rdev);
        note("target", &self.target, &now.target);
        note("content", &self.content, &now.content);
        note("data", &self.data, &now.data);
        note("xattrs", &self.xattrs, &now.xattrs);
        note("linked with", &self.same_as, &now.same_as);
        words.join(", ")
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:o} {} bytes, inode {}", self.kind, self.mode, self.size, self.ino)
    }
}

fn kind(meta: &Metadata) -> &'static str {
    let kind = meta.file_type();
    match () {
        () if kind.is_dir() => "dir",
        () if kind.is_symlink() => "symlink",
        () if kind.is_fifo() => "fifo",
        () if kind.is_socket() => "socket",
        () if kind.is_char_device() => "char",
        () if kind.is_block_device() => "block",
        () => "file",
    }
}

/// The hash of a file's bytes.
pub fn hash(path: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let file = fs::File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    hasher.update_reader(file).unwrap_or_else(|e| panic!("read {}: {e}", path.display()));
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The ranges of a file between its holes.
fn data(path: &Path, size: u64) -> Vec<(u64, u64)> {
    let file = fs::File::open(path).unwrap_or_else(|e| panic!("open {}: {e}", path.display()));
    let (mut ranges, mut at) = (Vec::new(), 0);
    while at < size {
        let from = match rustix::fs::seek(&file, SeekFrom::Data(at)) {
            Ok(from) => from,
            Err(rustix::io::Errno::NXIO) => break,
            Err(e) => panic!("look for data in {}: {e}", path.display()),
        };
        let seen = rustix::fs::seek(&file, SeekFrom::Hole(from));
        at = seen.unwrap_or_else(|e| panic!("look for a hole in {}: {e}", path.display()));
        ranges.push((from, at));
    }
    ranges
}

/// All extended attributes of a name, a symlink's own for a symlink.
pub fn xattrs(path: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut names = vec![0u8; 64 * 1024];
    let size = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(size) => size,
        Err(rustix::io::Errno::OPNOTSUPP) => return BTreeMap::new(),
        Err(e) => panic!("list xattrs of {}: {e}", path.display()),
    };
    let names = names[..size].split(|b| *b == 0).filter(|n| !n.is_empty());
    let pairs = names.map(|name| {
        let mut value = vec![0u8; 64 * 1024];
        let name = std::ffi::OsStr::from_bytes(name);
        let size = rustix::fs::lgetxattr(path, name, &mut value[..])
            .unwrap_or_else(|e| panic!("xattr {name:?} of {}: {e}", path.display()));
        value.truncate(size);
        (name.to_string_lossy().into_owned(), value)
    });
    pairs.collect()
}

/// Sets an extended attribute.
pub fn set_xattr(path: &Path, name: &str, value: &[u8]) -> rustix::io::Result<()> {
    rustix::fs::lsetxattr(path, name, value, XattrFlags::empty())
}
