//! What was found, in words and as JSON.

use crate::log::ids::Ino;
use serde::Serialize;
use std::fmt;

/// What kind of thing is wrong; in the order in which they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The lease is missing or cannot be read.
    Lease,
    /// A slot is missing that was committed.
    Gap,
    /// A segment cannot be read.
    Segment,
    /// A checkpoint cannot be read, and no sound one is newer.
    Checkpoint,
    /// A row cannot be read.
    Row,
    /// There is no root directory, or it is none.
    Root,
    /// An extent names a blob that is missing or too short, or bytes that are not its own.
    MissingContent,
    /// Content does not match its checksum.
    DamagedContent,
    /// An extent is not as extents are: it overlaps another, or reaches beyond its piece.
    Extent,
    /// Rows of an inode that has no row of its own.
    NoInode,
    /// An inode that no name leads to.
    Orphan,
    /// A name of an inode that is not there.
    DanglingName,
    /// A name's row is not as it should be: in no directory, of another type, under another cookie.
    Name,
    /// What an inode says of its names is not so.
    Links,
    /// The number of links.
    Nlink,
    /// Bytes that are not holes.
    Allocated,
    /// A number that may be given out twice.
    NextIno,
    /// A plain object that was published is not there.
    MissingObject,
    /// An upload that nobody completes.
    LeftUpload,
}

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// What kind.
    pub kind: Kind,
    /// In words.
    pub what: String,
    /// The object in the store.
    pub object: Option<String>,
    /// The inode.
    pub inode: Option<u64>,
    /// The file's paths.
    pub paths: Vec<String>,
    /// The bytes of the file that it is about.
    pub range: Option<(u64, u64)>,
    /// What was done about it; `None`: nothing, or not asked for.
    pub repaired: Option<String>,
}

/// What was looked at.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Slots read after the checkpoint.
    pub slots: u64,
    /// Checkpoints read.
    pub checkpoints: u64,
    /// Inodes.
    pub inodes: u64,
    /// Pieces of content that files have.
    pub pieces: u64,
    /// Bytes of content that were read and compared with their checksums.
    pub bytes_read: u64,
    /// Data objects that no file has content in: collected by a mounted session in time.
    pub unnamed_objects: u64,
    /// Their bytes.
    pub unnamed_bytes: u64,
    /// Plain objects that are not as last published: the next mount imports them.
    pub changed_objects: u64,
    /// Plain objects that the session knows nothing of: the next mount imports them.
    pub new_objects: u64,
}

/// A session's state.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Its id.
    pub session: Option<String>,
    /// `held`, `parked` or `free`.
    pub state: Option<String>,
    /// Who has it, or had it last.
    pub holder: Option<String>,
    /// The last slot that could be read.
    pub last_slot: u64,
    /// What was looked at.
    pub counts: Counts,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is no problem by itself, but good to know.
    pub notes: Vec<String>,
}

impl Report {
    /// Adds a problem, which `fill` describes.
    pub(super) fn add(&mut self, kind: Kind, fill: impl FnOnce(&mut Problem)) {
        let mut problem = Problem {
            kind,
            what: String::new(),
            object: None,
            inode: None,
            paths: Vec::new(),
            range: None,
            repaired: None,
        };
        fill(&mut problem);
        self.problems.push(problem);
    }

    /// Adds a problem of an inode.
    pub(super) fn of_inode(&mut self, kind: Kind, ino: Ino, paths: Vec<String>, what: impl Into<String>) {
        let what = what.into();
        self.add(kind, |p| (p.inode, p.paths, p.what) = (Some(ino.0), paths, what));
    }

    /// Whether nothing is wrong, or all of it was repaired.
    pub fn is_sound(&self) -> bool {
        self.problems.iter().all(|problem| problem.repaired.is_some())
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = serde_json::to_value(self.kind).ok();
        write!(f, "{}: ", kind.as_ref().and_then(|kind| kind.as_str()).unwrap_or_default())?;
        if let Some(object) = &self.object {
            write!(f, "{}: ", object.escape_debug())?;
        }
        match (&self.paths[..], self.inode) {
            ([], Some(inode)) => write!(f, "inode {inode}: ")?,
            ([], None) => {}
            (paths, _) => {
                let shown: Vec<String> = paths.iter().map(|path| path.escape_debug().to_string()).collect();
                write!(f, "{}: ", shown.join(", "))?;
            }
        }
        if let Some((from, to)) = self.range {
            write!(f, "bytes {from} to {to}: ")?;
        }
        write!(f, "{}", self.what.escape_debug())?;
        self.repaired.iter().try_for_each(|done| write!(f, " -> {}", done.escape_debug()))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |value: &Option<String>| value.as_deref().unwrap_or("unknown").escape_debug().to_string();
        writeln!(f, "session {} ({}, {})", known(&self.session), known(&self.state), known(&self.holder))?;
        let c = &self.counts;
        writeln!(
            f,
            "read: slot {}, {} checkpoints, {} slots after them, {} inodes, {} pieces of content, {} bytes of it",
            self.last_slot, c.checkpoints, c.slots, c.inodes, c.pieces, c.bytes_read
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "note: {}", note.escape_debug()))?;
        self.problems.iter().try_for_each(|problem| writeln!(f, "{problem}"))?;
        match (self.problems.len(), self.problems.iter().filter(|p| p.repaired.is_some()).count()) {
            (0, _) => writeln!(f, "nothing is wrong"),
            (all, 0) => writeln!(f, "{all} problems"),
            (all, repaired) => writeln!(f, "{all} problems, {repaired} repaired"),
        }
    }
}
