//! Content that an import left in its plain object: copied to where only we write before it becomes content
//! that was closed here.

use super::super::api::Result;
use super::super::node::Node;
use super::super::outside::is_imported;
use super::super::{Session, SessionError};
use crate::content::File;
use crate::log::ids::Ino;
use crate::log::row::ExtentRow;
use crate::store::Kind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The pause after a copy that the store failed.
const PAUSE: Duration = Duration::from_secs(2);

/// Whether any byte of an extent at `offset` is left when `replaced` is.
fn is_kept(replaced: &crate::content::ranges::Ranges, offset: u64, extent: &ExtentRow) -> bool {
    let range: Range<u64> = offset..offset + extent.len;
    !replaced.covers(range)
}

impl Session {
    /// Whether a capture of `file` now would leave content of a changed file in plain objects.
    pub(super) fn leans_on_objects(&self, node: &Node, file: &File) -> Result<bool> {
        if node.file.owned.load(Ordering::Relaxed) || !file.is_changed() || file.is_orphan() {
            return Ok(false);
        }
        let mut imported = self.journal.extents(node.ino, 0..u64::MAX)?;
        imported.retain(|(_, extent)| is_imported(&extent.blob));
        if imported.is_empty() {
            node.file.owned.store(true, Ordering::Relaxed);
            return Ok(false);
        }
        let replaced = file.replaced();
        Ok(imported.iter().any(|(offset, extent)| is_kept(&replaced, *offset, extent)))
    }

    /// Copies what the next capture of `file` leaves of its content in plain objects.
    pub(super) async fn own_kept(self: &Arc<Self>, node: &Node, file: &File) -> Result<()> {
        if self.leans_on_objects(node, file)? {
            let replaced = file.replaced();
            self.own_some(node.ino, |offset, extent| is_kept(&replaced, offset, extent)).await?;
        }
        Ok(())
    }

    /// Copies the content of a file whose names change, however long that takes.
    pub(super) async fn own_for_names(self: &Arc<Self>, ino: Ino) {
        loop {
            match self.own_content(ino).await {
                Ok(_) => return,
                Err(SessionError::Store(e)) if is_gone(e.kind) => {
                    let what = format!(
                        "inode {ino}: another client has replaced or deleted {} before its content could be \
                         copied for a change of its file's name: the file cannot be read any more",
                        e.key
                    );
                    tracing::error!("{what}");
                    return self.notices.add(what);
                }
                Err(SessionError::Store(e)) if self.alive().is_ok() => {
                    tracing::warn!("inode {ino}: {e}; commits wait for a copy of its content");
                    tokio::time::sleep(PAUSE).await;
                }
                Err(e) => return tracing::error!("inode {ino}: its content stays in a plain object: {e}"),
            }
        }
    }
}

/// The object is not the one that was imported any more.
fn is_gone(kind: Kind) -> bool {
    matches!(kind, Kind::Precondition | Kind::NotFound | Kind::InvalidRange)
}
