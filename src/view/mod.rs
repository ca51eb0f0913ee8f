//! The view: the session as plain objects that any S3 tool reads and writes.
//!
//! [`publish`] brings the objects up to the committed tree, [`import`] brings what other clients did to the
//! objects into the tree. Both work object by object under one lock for each key, and both look at an object
//! that surprises them in the same way ([`settle`]).
//!
//! Invariants:
//! - nothing that has bytes is written or deleted but under the condition that it is as we last saw it, and
//!   only while the lease is ours;
//! - no outside content is overwritten before it is committed in the tree, and no object while it holds the
//!   only copy of a file's content.

mod census;
mod deletes;
mod error;
pub mod headers;
mod import;
mod keylock;
pub mod names;
mod options;
mod publish;
mod read;
mod settle;
mod shared;
mod status;
pub mod tag;
mod tree;

pub use census::Census;
pub use error::ViewError;
pub use import::Imported;
pub use options::ViewOptions;
pub use status::ViewStatus;

use crate::session::Session;
use error::Result;
use import::Importer;
use parking_lot::Mutex;
use publish::Publisher;
use shared::Shared;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// The view of a mounted session.
pub struct View {
    /// `None`: the session only follows a writer, nothing is published or imported.
    active: Option<Active>,
}

struct Active {
    shared: Arc<Shared>,
    importer: Arc<Importer>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

impl View {
    /// Starts publishing and importing. The first time a session is mounted, this returns once what the
    /// prefix holds is in the tree.
    pub async fn start(session: Arc<Session>, options: ViewOptions) -> Result<Arc<View>> {
        let Some(shared) = Shared::new(session, options)? else {
            return Ok(Arc::new(View { active: None }));
        };
        let publisher = Publisher::new(shared.clone());
        let importer = Importer::new(shared.clone());
        importer.first().await?;
        // Without publishing it still sees to it that moved files do not hang on an object at their old path.
        let tasks = Mutex::new(vec![tokio::spawn(importer.clone().run()), tokio::spawn(publisher.run())]);
        Ok(Arc::new(View { active: Some(Active { shared, importer, tasks }) }))
    }

    /// Imports what other clients did, now; when it returns, the mount shows that.
    pub async fn refresh(&self) -> Result<Imported> {
        self.refresh_within(Duration::MAX).await
    }

    /// Like [`View::refresh`], but waits at most so long for the kernel to forget what it has cached: for
    /// callers that hold a lock which the kernel needs for that.
    pub async fn refresh_within(&self, forget: Duration) -> Result<Imported> {
        let Some(active) = &self.active else { return Ok(Imported::default()) };
        let imported = active.importer.pass().await;
        if tokio::time::timeout(forget, active.shared.session.invalidated()).await.is_err() {
            tracing::debug!("the kernel has not forgotten everything yet");
        }
        imported
    }

    /// Returns once everything that is committed by now is published. False: time ran out, or nothing is
    /// published any more; [`View::status`] says what is left.
    pub async fn wait_published(&self, deadline: Instant) -> bool {
        let Some(active) = self.active.as_ref().filter(|active| active.shared.options.publish) else {
            return true;
        };
        let shared = &active.shared;
        let wait = async {
            if !shared.all_marked().await {
                return false;
            }
            let mut steps = shared.steps.subscribe();
            let stamp = {
                let mut dirty = shared.dirty.lock();
                dirty.hurry(Instant::now());
                dirty.newest_stamp()
            };
            shared.wake.notify_one();
            while !shared.dirty.lock().clean_up_to(stamp) {
                if steps.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => false,
            done = tokio::time::timeout_at(deadline, wait) => done.unwrap_or(false),
        }
    }

    /// How far the view is; `None` of a session that only follows.
    pub fn status(&self) -> Option<ViewStatus> {
        Some(self.active.as_ref()?.shared.status())
    }

    /// Stops publishing and importing; requests under way are given up, and known by their tags later.
    pub async fn stop(&self) {
        let Some(active) = &self.active else { return };
        active.shared.stop.cancel();
        let tasks = std::mem::take(&mut *active.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::warn!("a task of the view died: {error}");
            }
        }
    }
}

/// How long [`View::stop`]'s callers give [`View::wait_published`] when nothing else is said.
pub const DRAIN_TIMEOUT: Duration = Duration::from_secs(30);
