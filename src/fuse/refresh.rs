//! The extended attribute that asks for an import, as geesefs has one.

use crate::session::SessionError;
use crate::session::api::Outcome;
use crate::view::{View, ViewError};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// How long the request waits for the kernel to forget what it has cached. The kernel holds the inode's lock
/// meanwhile, and cannot forget names in a directory that is locked: those follow right after the reply.
const FORGET: Duration = Duration::from_millis(100);

/// The attribute and what it refreshes.
#[derive(Clone)]
pub struct RefreshAttr {
    name: Arc<str>,
    view: Arc<View>,
}

impl RefreshAttr {
    /// Setting `name` on any inode refreshes `view`.
    pub fn new(name: &str, view: &Arc<View>) -> RefreshAttr {
        RefreshAttr { name: name.into(), view: Arc::clone(view) }
    }

    /// Whether an attribute is this one.
    pub fn is_named(&self, name: &[u8]) -> bool {
        self.name.as_bytes() == name
    }

    /// Imports what other clients did.
    pub fn refresh(&self) -> Outcome<()> {
        let view = Arc::clone(&self.view);
        Outcome::Later(Box::pin(async move {
            view.refresh_within(FORGET).await.map(drop).map_err(|error| match error {
                ViewError::Session(error) => error,
                ViewError::Store(error) => error.into(),
                ViewError::Log(error) => error.into(),
                ViewError::Local(error) => error.into(),
                other => {
                    tracing::warn!(error = %other, "what other clients did was not imported");
                    SessionError::Errno(libc::EIO)
                }
            })
        }))
    }
}

impl fmt::Debug for RefreshAttr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefreshAttr").field("name", &self.name).finish_non_exhaustive()
    }
}
