//! Reading behind a writer: loads the newest checkpoint and follows the slots, with no lease and no write.

use super::error::LogError;
use super::ids::{Epoch, Slot};
use super::source::RecoverySink;
use crate::store::ObjectStore;
use std::sync::Arc;

/// What a poll found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// Nothing new.
    Nothing,
    /// These many slots were applied.
    Applied(u64),
    /// We had fallen below the floor: the whole tree was loaded anew.
    Reloaded,
}

/// A reader's place in a session's history.
pub struct Follower {
    _private: (),
}

impl Follower {
    /// Loads the newest state. A prefix without a session is an empty tree that may get one later.
    pub async fn open(
        _store: Arc<dyn ObjectStore>,
        _sink: &mut dyn RecoverySink,
    ) -> Result<Follower, LogError> {
        todo!()
    }
    /// Applies what has been committed since.
    pub async fn poll(&mut self, _sink: &mut dyn RecoverySink) -> Result<Followed, LogError> {
        todo!()
    }
    /// Where we are; `None` before there is a session.
    pub fn at(&self) -> Option<(Epoch, Slot)> {
        todo!()
    }
}
