//! Checking a session as it lies in the store, and mending what can be mended without losing anything.
//!
//! Invariants:
//! - checking writes nothing, and takes no lease;
//! - what is found is told in words that name the object or the path, never passed over; what a session in use or a
//!   crash leaves behind is told apart from damage;
//! - repairs are one ordinary commit and a checkpoint, made by a writer that holds the lease; no object of the log, of
//!   data or of a checkpoint is deleted, and no content is dropped;
//! - content that is lost is brought back only with the bytes that were written, by their checksum.

mod content;
mod log;
mod mend;
mod repair;
mod rescue;

mod report;
mod state;
mod tree;
mod view;

#[cfg(test)]
mod tests;

pub use repair::repair;
pub use report::{Counts, Kind, Problem, Report};

use crate::log::LogError;
use crate::store::{Listed, ObjectStore, Pages};
use state::State;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How often a session that is written meanwhile is looked at anew.
const TRIES: u32 = 3;

/// How much is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Depth {
    /// All but the bytes of content.
    Quick,
    /// Every byte that a file has in the store.
    Full,
}

/// Checks a session; `None` when there is none in this store. One that its writer changes meanwhile is looked at
/// again before something is called a problem.
pub async fn check(store: &Arc<dyn ObjectStore>, depth: Depth) -> Result<Option<Report>, LogError> {
    let mut tries = TRIES;
    loop {
        tries -= 1;
        let objects = Objects::of(store.as_ref()).await?;
        if !objects.has_session() {
            return Ok(None);
        }
        let (report, state) = look(store, &objects, depth).await?;
        let moved = tries > 0 && !report.problems.is_empty() && state.has_moved_on(store.as_ref()).await?;
        if !moved {
            return Ok(Some(report));
        }
    }
}

/// One look at everything.
async fn look(
    store: &Arc<dyn ObjectStore>,
    objects: &Objects,
    depth: Depth,
) -> Result<(Report, State), LogError> {
    let mut report = Report::default();
    let state = log::read(store, objects, &mut report).await?;
    report.counts.inodes = state.inodes().count() as u64;
    tree::check(&state, &mut report);
    let pieces = content::check(&state, objects, &mut report);
    if depth == Depth::Full {
        content::read(store, pieces, &state, &mut report).await?;
    }
    view::check(&state, objects, &mut report);
    objects.left_over(store.as_ref(), &state, &mut report).await?;
    report.problems.sort_by_key(|problem| problem.kind);
    Ok((report, state))
}

/// What the store has, by key.
pub(crate) struct Objects(BTreeMap<String, Listed>);

impl Objects {
    async fn of(store: &dyn ObjectStore) -> Result<Objects, LogError> {
        let (mut all, mut pages) = (BTreeMap::new(), Pages::of(store, "", None));
        while let Some(objects) = pages.next().await? {
            all.extend(objects.into_iter().map(|object| (object.key.clone(), object)));
        }
        Ok(Objects(all))
    }

    fn get(&self, key: &str) -> Option<&Listed> {
        self.0.get(key)
    }

    fn below<'o>(&'o self, prefix: &'o str) -> impl Iterator<Item = &'o Listed> {
        self.0
            .range(prefix.to_owned()..)
            .map(|(_, object)| object)
            .take_while(move |o| o.key.starts_with(prefix))
    }

    fn has_session(&self) -> bool {
        use crate::log::ids::keys;
        self.get(keys::LEASE).is_some()
            || self.below(keys::LOG).chain(self.below(keys::CHECKPOINT)).next().is_some()
    }

    /// Objects of ours that no row names, and uploads that nobody will complete.
    async fn left_over(
        &self,
        store: &dyn ObjectStore,
        state: &State,
        report: &mut Report,
    ) -> Result<(), LogError> {
        use crate::log::ids::keys;
        let named = state.named_objects();
        let unnamed = self.below(keys::DATA).filter(|object| !named.contains(&object.key));
        for object in unnamed {
            report.counts.unnamed_objects += 1;
            report.counts.unnamed_bytes += object.size;
        }
        for (key, _) in store.list_multipart(keys::ROOT).await? {
            report.add(Kind::LeftUpload, |p| {
                p.object = Some(key);
                p.what =
                    "an upload was begun and neither completed nor aborted: its parts take up room".into();
            });
        }
        Ok(())
    }
}
