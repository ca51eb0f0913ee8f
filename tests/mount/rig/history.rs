//! What one process did, as it noted it, and what of it was acknowledged in the sense of the level.

use super::names::Names;
use super::ops::{FileId, LAZY, Line, Op, What};
use std::collections::BTreeMap;

/// One operation that was begun.
#[derive(Debug, Clone)]
pub struct Entry {
    pub op: Op,
    pub begin: u64,
    /// When it returned success; `None` where it never returned, or failed.
    pub end: Option<u64>,
    /// How it failed, and when.
    pub failed: Option<(i32, u64)>,
}

/// The operations of one process, in order. Only the last may be without an end.
#[derive(Debug, Default)]
pub struct History(pub Vec<Entry>);

/// A call that the level makes wait, and that has returned.
#[derive(Debug, Clone, Copy)]
pub struct Barrier {
    /// Its place in the history.
    pub n: usize,
    /// Every change that had ended by then is stored.
    pub covers: u64,
    /// The file whose content up to here is stored.
    pub file: Option<FileId>,
}

/// The level that a session was mounted with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    Close,
    Fsync,
    Sync,
}

impl Level {
    /// As the option says it.
    pub fn name(self) -> &'static str {
        match self {
            Level::Close => "close",
            Level::Fsync => "fsync",
            Level::Sync => "sync",
        }
    }
}

impl History {
    /// Of a process's notes.
    pub fn of(lines: Vec<Line>) -> History {
        let mut entries: Vec<Entry> = Vec::new();
        for Line { n, at, what } in lines {
            match what {
                What::Begun(op) => {
                    assert_eq!(n as usize, entries.len(), "notes in order");
                    entries.push(Entry { op, begin: at, end: None, failed: None });
                }
                What::Done => entries[n as usize].end = Some(at),
                What::Failed(errno) => entries[n as usize].failed = Some((errno, at)),
            }
        }
        History(entries)
    }

    /// The names after the first `count` operations.
    pub fn names(&self, count: usize) -> Names {
        let mut names = Names::default();
        self.0[..count].iter().for_each(|entry| names.apply(&entry.op));
        names
    }

    /// The calls that waited, as this level has it, and returned.
    pub fn barriers(&self, level: Level) -> Vec<Barrier> {
        let mut last_write: BTreeMap<FileId, u64> = BTreeMap::new();
        let mut barriers = Vec::new();
        let mut names = Names::default();
        for (n, entry) in self.0.iter().enumerate() {
            names.apply(&entry.op);
            if let Op::Create(_, file) | Op::Write(file, ..) | Op::Truncate(file, _) = &entry.op {
                last_write.insert(*file, entry.begin);
            }
            // What has no name any more is never stored, and nobody waits for it.
            if entry.end.is_none() || entry.op.handle().is_some_and(|file| !names.has(file)) {
                continue;
            }
            let barrier = match (&entry.op, level) {
                (Op::Fsync(file), _) => Some((entry.begin, Some(*file))),
                (Op::SyncDir(_), _) => Some((entry.begin, None)),
                // A close is for its file, and for what happened before its last change.
                (Op::Close(file), Level::Close | Level::Sync) if !file.is_lazy() => {
                    last_write.remove(file).map(|changed| (changed, Some(*file)))
                }
                (Op::Mkdir(path) | Op::Rmdir(path) | Op::Unlink(path), Level::Sync) if !is_lazy(path) => {
                    Some((entry.begin, None))
                }
                (Op::Rename(_, path) | Op::Link(_, path), Level::Sync) if !is_lazy(path) => {
                    Some((entry.begin, None))
                }
                _ => None,
            };
            barriers.extend(barrier.map(|(covers, file)| Barrier { n, covers, file }));
        }
        barriers
    }

    /// How many operations begun before `time` had ended by then: they are a prefix.
    pub fn ended_by(&self, time: u64) -> usize {
        self.0.iter().take_while(|entry| entry.end.is_some_and(|end| end <= time)).count()
    }

    /// The versions of a file's blocks after each of its changes: after how many operations, and what.
    pub fn contents(&self, file: FileId) -> Vec<(usize, Vec<u64>)> {
        let mut blocks: Vec<u64> = Vec::new();
        let mut contents = Vec::new();
        for (n, entry) in self.0.iter().enumerate() {
            match &entry.op {
                Op::Create(_, made) if *made == file => {}
                Op::Write(written, from, count) if *written == file => {
                    let end = (from + count) as usize;
                    blocks.resize(blocks.len().max(end), 0);
                    blocks[*from as usize..end].fill(n as u64);
                }
                Op::Truncate(cut, count) if *cut == file => blocks.truncate(*count as usize),
                _ => continue,
            }
            contents.push((n + 1, blocks.clone()));
        }
        contents
    }

    /// The last operations that fix a file's content among the first `count`: a rename or a link of it.
    pub fn captured_by(&self, file: FileId, count: usize) -> usize {
        let mut names = Names::default();
        let mut captured = 0;
        for (n, entry) in self.0[..count].iter().enumerate() {
            if let Op::Rename(path, to) | Op::Link(path, to) = &entry.op
                && names.file(path) == Some(file)
                && names.file(to) != Some(file)
            {
                captured = n;
            }
            names.apply(&entry.op);
        }
        captured
    }
}

/// Whether changes of this name do not wait.
fn is_lazy(path: &str) -> bool {
    path.ends_with(&format!(".{LAZY}"))
}
