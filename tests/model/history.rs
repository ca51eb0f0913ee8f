//! The model with its past: what a crash may leave.
//!
//! A recovered tree has to be the tree after one of the operations since the last acknowledged one; each
//! file's content may be any version since the one that a barrier, or a move of the file, made sure of.

use crate::reference::{Id, Model, ROOT, What};
use crate::subject::Found;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The states after each operation.
pub struct History {
    states: Vec<Model>,
    /// The first state that a crash may leave.
    acked: usize,
    /// Of each file: from which state on its content is in the store, whatever tree is.
    safe: BTreeMap<Id, usize>,
    /// Of each file: the states from which on a name was moved or made with its content.
    moved: BTreeMap<Id, Vec<usize>>,
    /// Of each file: its last change of content.
    changed: BTreeMap<Id, usize>,
}

/// What a crash left.
pub struct Recovered {
    /// After which operation.
    at: usize,
    /// The tree as it was found.
    pub model: Model,
}

impl History {
    pub fn new(model: &Model) -> History {
        History {
            states: vec![model.clone()],
            acked: 0,
            safe: BTreeMap::new(),
            moved: BTreeMap::new(),
            changed: BTreeMap::new(),
        }
    }

    /// The number of the newest state.
    fn last(&self) -> usize {
        self.states.len() - 1
    }

    pub fn push(&mut self, model: &Model) {
        self.states.push(model.clone());
    }

    /// The content of a file was changed by the newest operation.
    pub fn changed(&mut self, id: Id) {
        self.changed.insert(id, self.last());
    }

    /// A name of a file was moved or made by the newest operation.
    pub fn moved(&mut self, id: Id) {
        let last = self.last();
        self.moved.entry(id).or_default().push(last);
    }

    /// Everything so far is in the store, but the content of files that are open.
    pub fn acked(&mut self) {
        self.acked = self.last();
    }

    /// A file's content is in the store, and what happened before its last change.
    pub fn closed(&mut self, id: Id) {
        if let Some(&changed) = self.changed.get(&id) {
            self.acked = self.acked.max(changed);
        }
        self.safe.insert(id, self.last());
    }

    /// Everything is in the store.
    pub fn all_safe(&mut self, model: &Model) {
        self.acked();
        let last = self.last();
        self.safe.extend(model.nodes.keys().map(|id| (*id, last)));
    }

    /// The state that a crash left, with the content that was found.
    pub fn recovered(&self, found: &BTreeMap<String, Found>) -> Option<Recovered> {
        let states = (self.acked..self.states.len()).rev();
        let mut fitting = states.filter_map(|at| Some(Recovered { at, model: self.fits(at, found)? }));
        fitting.next()
    }

    /// What was recovered came from the local journal: of what the store does not have, the next crash may still
    /// take a part.
    pub fn goes_on_from(self, recovered: &Recovered) -> History {
        let History { states, acked, safe, moved, changed } = self;
        let since = |at: usize| at.saturating_sub(acked).min(recovered.at - acked);
        let mut states: Vec<Model> = states.into_iter().take(recovered.at + 1).skip(acked).collect();
        states.push(recovered.model.clone());
        History {
            states,
            acked: 0,
            safe: safe.into_iter().map(|(id, at)| (id, since(at))).collect(),
            moved: moved.into_iter().map(|(id, at)| (id, at.into_iter().map(since).collect())).collect(),
            changed: changed.into_iter().map(|(id, at)| (id, since(at))).collect(),
        }
    }

    fn fits(&self, k: usize, found: &BTreeMap<String, Found>) -> Option<Model> {
        let mut model = self.states[k].clone();
        let paths = paths(&model);
        if !paths.keys().eq(found.keys()) {
            return None;
        }
        for (path, id) in &paths {
            let there = &found[path];
            if let What::File(_) = model.nodes[id].what {
                let content = self.version(k, *id, &there.data)?;
                let changed = !Arc::ptr_eq(&content, model.data(*id));
                let node = model.node(*id);
                node.what = What::File(content);
                if changed {
                    node.mtime = None;
                }
                // Which version's mtime came with it is not told apart.
                node.mtime = node.mtime.filter(|&mtime| mtime == there.mtime);
            }
        }
        model.forget_open();
        crate::check::differences(&model, found).is_empty().then_some(model)
    }

    /// The version of a file's content that equals `data`, among those that may be there with state `k`.
    fn version(&self, k: usize, id: Id, data: &[u8]) -> Option<Arc<Vec<u8>>> {
        let moved = self.moved.get(&id).into_iter().flatten().filter(|&&at| at <= k).max().copied();
        let from = self.safe.get(&id).copied().unwrap_or(0).max(moved.unwrap_or(0));
        let versions =
            self.states[from.min(k)..].iter().filter_map(|state| match &state.nodes.get(&id)?.what {
                What::File(content) => Some(content),
                _ => None,
            });
        versions.into_iter().skip(from.saturating_sub(from.min(k))).find(|v| v.as_slice() == data).cloned()
    }
}

/// The inode of each path, the root's as the empty one.
pub fn paths(model: &Model) -> BTreeMap<String, Id> {
    fn walk(model: &Model, id: Id, path: String, all: &mut BTreeMap<String, Id>) {
        if let What::Dir(entries) = &model.nodes[&id].what {
            for (name, child) in entries {
                walk(model, *child, format!("{path}/{}", String::from_utf8_lossy(name)), all);
            }
        }
        all.insert(path, id);
    }
    let mut all = BTreeMap::new();
    walk(model, ROOT, String::new(), &mut all);
    all
}
