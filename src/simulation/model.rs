//! What was done, and what may be seen of it: a tree of steps, each a whole state on top of the one before.
//!
//! Every step writes its own number into a meta row with what it changes, so rows tell which step they claim to
//! be the state after, and everything else in them is compared with that step.

use crate::log::ids::Ino;
use crate::log::row::{ExtentRow, InodeRow, Key, Row};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Rows by key.
pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

/// The number of a step; 0 is the empty session.
pub type StepId = u64;

/// The name of the meta row that holds the step.
pub const STEP: &[u8] = b"step";

/// A file, as the model has it.
#[derive(Debug, Clone)]
pub struct File {
    pub version: u64,
    pub content: Arc<Vec<u8>>,
}

/// Files by inode.
pub type Files = BTreeMap<u64, File>;

struct Step {
    parent: StepId,
    files: Arc<Files>,
    /// No inode number from here on was given out in this history.
    next_ino: u64,
}

/// All steps that were ever made.
pub struct Model {
    steps: Vec<Step>,
}

impl Model {
    pub fn new() -> Model {
        Model { steps: vec![Step { parent: 0, files: Arc::default(), next_ino: 2 }] }
    }

    /// A step that turns the state after `parent` into `files`.
    pub fn step(&mut self, parent: StepId, files: Files) -> StepId {
        let highest = files.keys().next_back().map_or(0, |ino| ino + 1);
        let next_ino = highest.max(self.steps[parent as usize].next_ino);
        self.steps.push(Step { parent, files: Arc::new(files), next_ino });
        self.steps.len() as u64 - 1
    }

    /// The first inode number that is free after a step. Histories that part give out the same.
    pub fn next_ino(&self, id: StepId) -> u64 {
        self.steps[id as usize].next_ino
    }

    /// The number that the next step gets.
    pub fn next(&self) -> StepId {
        self.steps.len() as u64
    }

    pub fn files(&self, id: StepId) -> Arc<Files> {
        self.steps[id as usize].files.clone()
    }

    pub fn knows(&self, id: StepId) -> bool {
        (id as usize) < self.steps.len()
    }

    /// Whether `earlier` is `later` or happened before it, in one history.
    pub fn is_within(&self, earlier: StepId, mut later: StepId) -> bool {
        while later > earlier {
            later = self.steps[later as usize].parent;
        }
        later == earlier
    }

    /// Whether `rows` are exactly the state after the step that they name, which is returned.
    pub fn compare(
        &self,
        rows: &Rows,
        read: &mut dyn FnMut(&ExtentRow) -> Result<Bytes, String>,
    ) -> Result<StepId, String> {
        let id = step_of(rows)?;
        if !self.knows(id) {
            return Err(format!("rows name step {id}, which was never made"));
        }
        let files = &self.steps[id as usize].files;
        let found = assemble(rows, read).map_err(|what| format!("in the state after step {id}: {what}"))?;
        for (ino, file) in files.iter() {
            let Some((version, content)) = found.get(ino) else {
                return Err(format!("the state after step {id} has no inode {ino}"));
            };
            if *version != file.version {
                return Err(format!(
                    "after step {id} inode {ino} is of step {version}, not {}",
                    file.version
                ));
            }
            if content != file.content.as_ref() {
                return Err(format!("after step {id} inode {ino} has the content of another moment"));
            }
        }
        if let Some(ino) = found.keys().find(|ino| !files.contains_key(ino)) {
            return Err(format!("the state after step {id} has an inode {ino} that was not there"));
        }
        Ok(id)
    }
}

/// The step that rows claim to be the state after.
pub fn step_of(rows: &Rows) -> Result<StepId, String> {
    match rows.get(&Key::Meta { name: STEP.to_vec() }.encode()) {
        Some(value) => u64::decode(value).map_err(|e| e.to_string()),
        None => Ok(0),
    }
}

type Found = BTreeMap<u64, (u64, Vec<u8>)>;

/// The files that rows hold, their content read through their extents.
fn assemble(rows: &Rows, read: &mut dyn FnMut(&ExtentRow) -> Result<Bytes, String>) -> Result<Found, String> {
    let mut files = Found::new();
    for (key, value) in rows {
        match Key::decode(key) {
            Some(Key::Inode { ino: Ino(ino) }) => {
                let row = InodeRow::decode(value).map_err(|e| e.to_string())?;
                files.insert(ino, (row.version, Vec::with_capacity(row.size as usize)));
            }
            Some(Key::Extent { ino: Ino(ino), offset }) => {
                let Some((_, content)) = files.get_mut(&ino) else {
                    return Err(format!("inode {ino} has content and no row"));
                };
                if content.len() as u64 != offset {
                    return Err(format!("inode {ino} has a hole before {offset}"));
                }
                let row = ExtentRow::decode(value).map_err(|e| e.to_string())?;
                let piece = read(&row).map_err(|what| format!("inode {ino} at {offset}: {what}"))?;
                let (from, to) = (row.skip as usize, row.skip as usize + row.len as usize);
                if row.crc != Some(crc32c::crc32c(&piece)) || piece.len() < to {
                    return Err(format!("inode {ino} at {offset}: its content is damaged"));
                }
                content.extend_from_slice(&piece[from..to]);
            }
            _ => {}
        }
    }
    Ok(files)
}

/// Applies a commit's records, as every reader must.
pub fn apply(rows: &mut Rows, records: &[crate::log::row::Record]) {
    for record in records {
        match &record.value {
            Some(value) => drop(rows.insert(record.key.clone(), value.clone())),
            None => {
                if let Some(ino) = Key::own_row_of(&record.key) {
                    let children = Key::children_of(ino);
                    rows.retain(|key, _| !children.iter().any(|prefix| key.starts_with(prefix)));
                }
                rows.remove(&record.key);
            }
        }
    }
}
