//! What there is, in words and as JSON.

use super::Result;
use super::content::{Contents, Missing};
use crate::journal::salvage::{Ground, Item, Set, What};
use serde::Serialize;
use std::fmt;

/// What a set holds, or what was copied of it.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The set's folder.
    pub set: String,
    /// `set aside`: no mount will send it; `waiting`: the next mount from this cache sends it or sets it aside.
    pub state: &'static str,
    /// When it was set aside.
    pub when: Option<String>,
    /// Why.
    pub why: String,
    /// Who had the session instead.
    pub by: Option<String>,
    /// The session's id.
    pub session: Option<String>,
    /// Where it was mounted from, where that was noted.
    pub store: Option<String>,
    /// Where it was copied to.
    pub copied_to: Option<String>,
    /// What happened to which path.
    pub entries: Vec<Entry>,
}

/// What happened to one inode.
#[derive(Debug, Clone, Serialize)]
pub struct Entry {
    /// `created`, `changed`, `renamed`, `attributes`, `deleted`.
    pub what: Vec<What>,
    /// `file`, `directory`, `symlink`, `fifo`, `socket`, `device`.
    pub kind: &'static str,
    /// Its path; before, of what is deleted. `None`: no directory is known to hold it.
    pub path: Option<String>,
    /// The same in hexadecimal digits, where it is not UTF-8.
    pub path_hex: Option<String>,
    /// Its further names.
    pub links: Vec<String>,
    /// Its paths before, where they differ.
    pub was: Vec<String>,
    /// Its inode number.
    pub inode: u64,
    /// Bytes of a file.
    pub size: u64,
    /// Whether all of its content is to be had (in the list: as far as that can be seen without reading the store).
    pub whole: bool,
    /// What is not.
    pub missing: Vec<Missing>,
    /// Where it was written, below the directory.
    pub written: Option<String>,
    /// What else could not be kept.
    pub notes: Vec<String>,
}

/// A path as text, and in hexadecimal digits where it is none.
pub(super) fn shown(path: &[Vec<u8>]) -> (String, Option<String>) {
    let bytes = path.join(&b'/');
    match String::from_utf8(bytes) {
        Ok(text) => (text, None),
        Err(e) => {
            let bytes = e.into_bytes();
            let hex = bytes.iter().map(|b| format!("{b:02x}")).collect();
            (String::from_utf8_lossy(&bytes).into_owned(), Some(hex))
        }
    }
}

/// What kind of thing a mode is of.
pub(super) fn kind(mode: u32) -> &'static str {
    match mode & 0o170_000 {
        0o040_000 => "directory",
        0o120_000 => "symlink",
        0o010_000 => "fifo",
        0o140_000 => "socket",
        0o020_000 | 0o060_000 => "device",
        _ => "file",
    }
}

impl Report {
    /// Of a set, without entries.
    pub(super) fn of(set: &Set) -> Report {
        let info = &set.info;
        Report {
            set: set.folder.display().to_string(),
            state: match set.ground {
                Ground::SetAside => "set aside",
                Ground::Waiting => "waiting",
            },
            when: Some(info.when.clone()).filter(|when| !when.is_empty()),
            why: info.why.clone(),
            by: info.by.clone(),
            session: info.session.map(|id| id.to_string()),
            store: None,
            copied_to: None,
            entries: Vec::new(),
        }
    }

    /// Whether nothing is missing.
    pub fn is_whole(&self) -> bool {
        self.entries.iter().all(|entry| entry.whole)
    }
}

impl Entry {
    pub(super) fn of(item: &Item) -> Entry {
        let gone = item.what == [What::Deleted];
        let named = if gone { &item.were } else { &item.names };
        let first = named.first().map(|path| shown(path));
        let text = |paths: &[Vec<Vec<u8>>]| paths.iter().map(|path| shown(path).0).collect::<Vec<_>>();
        let moved = item.what.contains(&What::Renamed);
        Entry {
            what: item.what.clone(),
            kind: kind(item.row.as_ref().map_or(0, |row| row.mode)),
            path: first.clone().map(|(text, _)| text),
            path_hex: first.and_then(|(_, hex)| hex),
            links: text(named.get(1..).unwrap_or_default()),
            was: if moved { text(&item.were) } else { Vec::new() },
            inode: item.ino.0,
            size: item.row.as_ref().filter(|row| kind(row.mode) == "file").map_or(0, |row| row.size),
            whole: true,
            missing: Vec::new(),
            written: None,
            notes: Vec::new(),
        }
    }

    pub(super) fn lacks(&mut self, missing: Vec<Missing>) {
        self.whole &= missing.is_empty();
        self.missing.extend(missing);
    }
}

/// Whether an item's content is what counts.
pub(super) fn is_file(item: &Item) -> bool {
    item.what != [What::Deleted] && item.row.as_ref().is_none_or(|row| kind(row.mode) == "file")
}

/// What happened to which path, and whether its content is to be had.
pub async fn list(set: &Set, contents: &Contents<'_>) -> Result<Report> {
    let mut report = Report::of(set);
    for item in set.items()? {
        let mut entry = Entry::of(&item);
        if is_file(&item) {
            entry.lacks(contents.check(&item).await?);
        }
        report.entries.push(entry);
    }
    report.entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(report)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.set)?;
        let when = self.when.as_deref().map(|when| format!(" {when}")).unwrap_or_default();
        let by = self.by.as_deref().map(|by| format!(" ({})", by.escape_debug())).unwrap_or_default();
        match self.state {
            "waiting" => writeln!(f, "  waits for a mount from this cache: {}", self.why)?,
            _ => writeln!(f, "  set aside{when}: {}{by}", self.why)?,
        }
        for (name, value) in
            [("session", &self.session), ("store", &self.store), ("copied to", &self.copied_to)]
        {
            value.iter().try_for_each(|value| writeln!(f, "  {name} {value}"))?;
        }
        self.entries.iter().try_for_each(|entry| write!(f, "{entry}"))
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = |what: &What| format!("{what:?}").to_lowercase();
        let what = self.what.iter().map(word).collect::<Vec<_>>().join(",");
        let path = self.path.as_deref().map(|path| path.escape_debug().to_string());
        let path = path.unwrap_or_else(|| format!("inode {} (no directory holds it)", self.inode));
        write!(f, "  {what:<18} {:<9} {:>12}  {path}", self.kind, self.size)?;
        self.was.iter().try_for_each(|was| write!(f, " (was {})", was.escape_debug()))?;
        self.links.iter().try_for_each(|link| write!(f, " (and {})", link.escape_debug()))?;
        writeln!(f)?;
        for Missing { from, to, why } in &self.missing {
            writeln!(f, "      not whole: bytes {from} to {to}: {}", why.escape_debug())?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "      {}", note.escape_debug()))
    }
}
