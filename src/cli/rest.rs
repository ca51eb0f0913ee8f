//! A mount that nobody uses gives back the memory that it does not need.

use super::running::Shared;
use crate::fuse::sys;
use crate::session::Session;
use std::sync::{Arc, Weak};
use std::time::Duration;

/// Without a request for so long, a mount is at rest.
const QUIET: Duration = Duration::from_secs(1);
/// One that rests is looked at less and less often, down to this: it is not to wake up for nothing.
const ASLEEP: Duration = Duration::from_secs(4);

/// Looks after the mount's memory until it is gone.
pub(super) fn keep(shared: &Arc<Shared>) {
    tokio::spawn(watch(Arc::downgrade(shared)));
}

async fn watch(shared: Weak<Shared>) {
    // How many requests were answered when it was last at rest: it rests once, not again and again.
    let (mut seen, mut rested) = (0, None);
    let mut pause = QUIET;
    loop {
        tokio::time::sleep(pause).await;
        let Some(shared) = shared.upgrade() else { return };
        let answered = shared.served.counts().answered_in_all();
        pause = if rested == Some(answered) { (pause * 2).min(ASLEEP) } else { QUIET };
        if answered == seen && rested != Some(answered) {
            rested = Some(answered);
            let session = Arc::clone(&shared.session);
            // With the runtime it ends.
            drop(tokio::task::spawn_blocking(move || rest(&session)));
        }
        seen = answered;
    }
}

fn rest(session: &Session) {
    if let Err(error) = session.shrink() {
        tracing::debug!(%error, "the journal keeps its memory");
    }
    sys::give_memory_back();
}
