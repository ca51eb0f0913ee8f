//! Import: brings what other clients did to the objects into the tree.
//!
//! The first time a session is mounted, its listing is in the tree before the mount answers: files come from
//! the listing alone, empty objects (a symlink is one) by their headers; then the headers of the files are
//! read for as long as [`super::ViewOptions::headers_wait`], the rest in the background. Until then such a file has version 0.
//!
//! Invariants:
//! - a difference between listing and rows is only a reason to look: what counts is a HEAD made while
//!   nobody else works on that key, and the row being unchanged when the tree is changed;
//! - nothing is taken for deleted unless the listing, and one made after it, show our own lease;
//! - one pass at a time.

mod compare;
mod pending;

use super::error::{Result, ViewError};
use super::names::place_of;
use super::settle::{Settled, gone, millis, place_outside, settle};
use super::shared::Shared;
use crate::log::row::{Key, Record, meta};
use crate::log::rules::{Rule, holds};
use crate::measure::Progress;
use crate::session::outside::Outside;
use crate::store::Listed;
use compare::Differences;
use futures::stream::StreamExt;
pub(super) use pending::read_headers;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use tokio::time::Instant;

/// Objects looked at at once.
const PARALLEL: usize = 32;

/// What one pass did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub struct Imported {
    /// Objects listed.
    pub listed: u64,
    /// Outside edits and new objects that are in the tree now.
    pub imported: u64,
    /// Outside deletes.
    pub deleted: u64,
    /// Files that both sides changed.
    pub conflicts: u64,
    /// Objects that could not be imported this time.
    pub failed: u64,
}

impl fmt::Display for Imported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Imported { listed, imported, deleted, conflicts, failed } = self;
        write!(
            f,
            "{listed} objects looked at, {imported} imported, {deleted} deleted, {conflicts} in conflict"
        )?;
        match failed {
            0 => Ok(()),
            _ => write!(f, ", {failed} could not be read now and are tried again"),
        }
    }
}

impl Imported {
    fn count(&mut self, settled: Settled) {
        match settled {
            Settled::Imported => self.imported += 1,
            Settled::Deleted => self.deleted += 1,
            Settled::Conflict => self.conflicts += 1,
            Settled::Unchanged
            | Settled::Adopted
            | Settled::PublishAgain
            | Settled::Shadowed
            | Settled::Raced
            | Settled::Hostile => (),
        }
    }

    fn is_quiet(&self) -> bool {
        self.imported + self.deleted + self.conflicts + self.failed == 0
    }
}

/// The importer.
pub(super) struct Importer {
    shared: Arc<Shared>,
    /// Held by the pass that runs.
    one: tokio::sync::Mutex<()>,
}

impl Importer {
    /// Does nothing yet.
    pub fn new(shared: Arc<Shared>) -> Arc<Importer> {
        Arc::new(Importer { shared, one: tokio::sync::Mutex::new(()) })
    }

    /// Fills the tree from the prefix, unless an earlier mount did.
    pub async fn first(&self) -> Result<()> {
        let done = Key::Meta { name: meta::VIEW_SLOT.to_vec() };
        if self.shared.journal.get::<u64>(&done)?.is_some() {
            return Ok(());
        }
        let _one = self.one.lock().await;
        let (differences, _) = self.differences().await?;
        let (files, others): (Vec<_>, Vec<_>) =
            differences.new.into_values().partition(|object| object.size > 0);
        let progress = Progress::of("import", (files.len() + others.len()) as u64);
        for object in &files {
            self.place_listed(object).await?;
            progress.step(1, 0);
        }
        // Markers last and the deepest first: what is put into a directory changes its times.
        let (markers, empty): (Vec<_>, Vec<_>) =
            others.into_iter().map(|object| object.key).partition(|key| key.ends_with('/'));
        let (_, failed) = self.look_at_all(empty, &progress).await;
        let (_, failed_too) = self.look_at_all(markers.into_iter().rev().collect(), &progress).await;
        drop(progress);
        // A timeout is fine: the rest is read in the background.
        let read = tokio::time::timeout(self.shared.options.headers_wait, self.read_headers()).await;
        read.unwrap_or(Ok(()))?;
        if failed + failed_too > 0 {
            // The mount is refused rather than shown with files missing; trying again goes on from here.
            let (_, why) =
                self.shared.figures.lock().last_error.clone().unwrap_or((SystemTime::now(), String::new()));
            return Err(ViewError::Incomplete { failed: failed + failed_too, why });
        }
        // 0: the tree holds what was listed; nothing is known to be published.
        self.shared.record(vec![Record::put(&done, &0u64)]).map(drop)
    }

    /// Imports now and then until the view is stopped.
    pub async fn run(self: Arc<Self>) {
        let shortest = self.shared.options.import_interval;
        // What happened while nobody had the session mounted comes in at once.
        let mut pause = Duration::ZERO;
        let stop = self.shared.stop.clone();
        loop {
            let (began, passing) = (Instant::now(), self.headers_and_pass(pause));
            let passed = tokio::select! {
                biased;
                () = stop.cancelled() => return,
                passed = passing => passed,
            };
            let quiet = match passed {
                Ok(imported) => imported.is_quiet(),
                Err(error) => {
                    self.failed(&error);
                    false
                }
            };
            // A listing that takes long is made more rarely: at most a fiftieth of the time.
            let took = began.elapsed().saturating_sub(pause);
            let least = shortest.max(took * 50);
            pause = if quiet { (pause * 2).min(super::ViewOptions::MAX_IDLE).max(least) } else { least };
        }
    }

    async fn headers_and_pass(&self, pause: Duration) -> Result<Imported> {
        self.read_headers().await?;
        tokio::time::sleep(pause).await;
        self.pass().await
    }

    /// Compares the listing with the rows and imports what differs.
    pub async fn pass(&self) -> Result<Imported> {
        let _one = self.one.lock().await;
        let (differences, mut imported) = self.differences().await?;
        let look: Vec<_> = differences.new.into_keys().chain(differences.changed).collect();
        let progress = Progress::of("import", look.len() as u64);
        let (found, failed) = self.look_at_all(look, &progress).await;
        drop(progress);
        let shadowed = found.iter().filter(|settled| **settled == Settled::Shadowed).count();
        self.shared.figures.lock().shadowed += shadowed as u64;
        found.into_iter().for_each(|settled| imported.count(settled));
        imported.failed += failed;
        if !differences.gone.is_empty() && !self.shared.sees_lease().await? {
            return Err(ViewError::BadListing { store: self.shared.store.describe() });
        }
        // One by one and from the end: a directory comes after what was in it.
        for key in differences.gone.into_keys().rev() {
            let looked = match holds(Rule::LookBeforeGone) {
                true => self.look_at(&key).await,
                false => self.believe_gone(&key).await,
            };
            match looked {
                Ok(settled) => imported.count(settled),
                Err(error) => {
                    imported.failed += 1;
                    self.failed(&error);
                }
            }
        }
        self.shared.deletes.sweep(|rows| self.shared.record(rows).map(drop))?;
        self.shared.figures.lock().last_import = Some(SystemTime::now());
        Ok(imported)
    }

    async fn differences(&self) -> Result<(Differences, Imported)> {
        let (differences, listed) = compare::list(&self.shared).await?;
        let mut figures = self.shared.figures.lock();
        (figures.hostile, figures.shadowed) = (listed.hostile, listed.shadowed);
        Ok((differences, Imported { listed: listed.objects, ..Imported::default() }))
    }

    /// Looks at objects, many at once; what became of them, and how many could not be looked at.
    async fn look_at_all(&self, keys: Vec<String>, progress: &Progress) -> (Vec<Settled>, u64) {
        let looking = keys.into_iter().map(async |key| self.look_at(&key).await);
        let mut looking = std::pin::pin!(futures::stream::iter(looking).buffer_unordered(PARALLEL));
        let (mut found, mut failed) = (Vec::new(), 0);
        while let Some(settled) = looking.next().await {
            progress.step(1, 0);
            match settled {
                Ok(settled) => found.push(settled),
                Err(error) => {
                    failed += 1;
                    self.failed(&error);
                }
            }
        }
        (found, failed)
    }

    async fn look_at(&self, key: &str) -> Result<Settled> {
        self.shared.writable().await?;
        let _lock = self.shared.keys.lock(key).await;
        let row = self.shared.row(key)?;
        settle(&self.shared, key, row.as_ref()).await
    }

    /// What the listing says is taken for true; only tests do that.
    async fn believe_gone(&self, key: &str) -> Result<Settled> {
        let Ok(place) = place_of(key) else { return Ok(Settled::Hostile) };
        let _lock = self.shared.keys.lock(key).await;
        let row = self.shared.row(key)?;
        gone(&self.shared, key, place.path, row.as_ref()).await
    }

    /// Puts a file into the tree by its listing alone.
    async fn place_listed(&self, object: &Listed) -> Result<()> {
        let Ok(place) = place_of(&object.key) else { return Ok(()) };
        let _lock = self.shared.keys.lock(&object.key).await;
        let outside = Outside {
            key: object.key.clone(),
            path: place.path.to_owned(),
            directory: place.directory,
            etag: object.etag.0.clone(),
            size: object.size,
            modified_ms: millis(object.modified),
            headers: None,
        };
        place_outside(&self.shared, &outside, None).await.map(drop)
    }

    fn failed(&self, error: &ViewError) {
        tracing::warn!("import: {error}");
        self.shared.failed(error);
    }
}
