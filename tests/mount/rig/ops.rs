//! What the processes do: one operation is one system call, noted before it begins and after it has ended.

use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

/// The extension of names whose closes do not wait: the session is mounted with `--lazy *.lazy`.
pub const LAZY: &str = "lazy";

/// A file for as long as it has a name or is open: unique among all processes and rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct FileId(pub u64);

impl FileId {
    /// The size of its blocks, in bytes: content is written in blocks, and changes where they end.
    pub fn block(self) -> usize {
        match self.0 % 8 {
            0 => 64 << 10,
            1 => 12_000,
            _ => 500,
        }
    }

    /// How many blocks it may have.
    pub fn longest(self) -> u32 {
        if self.block() > 500 { 30 } else { 12 }
    }

    /// How many blocks one call writes at most: what goes in one request is not torn.
    pub fn at_once(self) -> u32 {
        if self.block() > 500 { 1 } else { 4 }
    }

    /// Whether its names are ones whose closes do not wait.
    pub fn is_lazy(self) -> bool {
        self.0 % 5 == 3
    }

    /// The bytes of one of its blocks, as operation `version` wrote them: the version comes first.
    pub fn bytes(self, index: u32, version: u64) -> Vec<u8> {
        let mut bytes = vec![0; self.block()];
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0.to_le_bytes()).update(&index.to_le_bytes()).update(&version.to_le_bytes());
        hasher.finalize_xof().fill(&mut bytes);
        bytes[..8].copy_from_slice(&version.to_le_bytes());
        bytes
    }
}

/// One system call. Paths are relative to the round's directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Mkdir(String),
    Rmdir(String),
    /// Makes a new file and leaves it open.
    Create(String, FileId),
    /// Opens one for writing.
    Open(String, FileId),
    /// Writes so many blocks from this one on.
    Write(FileId, u32, u32),
    /// Cuts it to so many blocks.
    Truncate(FileId, u32),
    Fsync(FileId),
    Close(FileId),
    Rename(String, String),
    Link(String, String),
    Unlink(String),
    /// fsync of a directory.
    SyncDir(String),
}

impl Op {
    /// The open file that it is about.
    pub fn handle(&self) -> Option<FileId> {
        match self {
            Op::Write(file, ..) | Op::Truncate(file, _) | Op::Fsync(file) | Op::Close(file) => Some(*file),
            _ => None,
        }
    }
}

/// What a process notes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum What {
    Begun(Op),
    Done,
    /// With this error number.
    Failed(i32),
}

/// A line of a process's notes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Line {
    /// The operation's number in the process's history.
    pub n: u64,
    /// When, by the clock that all processes share ([`now`]).
    pub at: u64,
    pub what: What,
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub fn now() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The notes of one process: a file outside of the mount, which survives whatever is killed.
pub struct Notes(File);

impl Notes {
    pub fn at(path: &Path) -> io::Result<Notes> {
        Ok(Notes(OpenOptions::new().create(true).append(true).open(path)?))
    }

    /// In one write, so that a line is there whole or not at all.
    pub fn note(&mut self, n: u64, what: What) -> io::Result<()> {
        let mut line = serde_json::to_vec(&Line { n, at: now(), what })?;
        line.push(b'\n');
        self.0.write_all(&line)
    }
}

/// Reads what a process has noted so far.
pub fn read(path: &Path) -> Vec<Line> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    // The last line may be on its way into the file.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{line:?}: {e}"))).collect()
}
