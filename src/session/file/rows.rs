//! Where content finds its rows: the journal, or the node of an inode that has no name any more.

use crate::content::Rows;
use crate::journal::Journal;
use crate::log::ids::{Blob, Ino, LocalId};
use crate::log::row::ExtentRow;
use crate::log::source::LocalError;
use crate::session::node::Nodes;
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Arc, Weak};

/// The rows of a session.
pub(super) struct SessionRows {
    pub journal: Arc<Journal>,
    /// Weak: a node's content holds this.
    pub nodes: Weak<Nodes>,
}

impl SessionRows {
    fn orphan_extents(&self, ino: Ino, range: &Range<u64>) -> Option<Vec<(u64, ExtentRow)>> {
        let node = self.nodes.upgrade()?.get(ino)?;
        node.orphan(|orphan| {
            let before = orphan.extents.range(..range.start).next_back();
            let before = before.filter(|(at, row)| *at + row.len > range.start);
            let inside = orphan.extents.range(range.clone());
            before.into_iter().chain(inside).map(|(at, row)| (*at, row.clone())).collect()
        })
    }
}

impl Rows for SessionRows {
    fn extents(&self, ino: Ino, range: Range<u64>) -> Result<Vec<(u64, ExtentRow)>, LocalError> {
        if let Some(rows) = self.orphan_extents(ino, &range) {
            return Ok(rows);
        }
        let rows = self.journal.extents(ino, range.clone())?;
        match rows.is_empty() {
            // It may have lost its last name between the two looks.
            true => Ok(self.orphan_extents(ino, &range).unwrap_or_default()),
            false => Ok(rows),
        }
    }

    fn version(&self, ino: Ino) -> Result<Option<u64>, LocalError> {
        Ok(self.journal.inode(ino)?.map(|row| row.version))
    }

    fn put_local(&self, bytes: Bytes) -> Result<LocalId, LocalError> {
        self.journal.put_local(bytes)
    }

    fn abandon_local(&self, ids: &[LocalId]) {
        self.journal.abandon_local(ids);
    }

    fn piece(&self, extent: &ExtentRow) -> Result<Option<Bytes>, LocalError> {
        self.journal.piece(extent)
    }

    fn resolve(&self, extent: &ExtentRow) -> ExtentRow {
        self.journal.resolve(extent)
    }

    fn keep_piece(&self, extent: &ExtentRow, bytes: &Bytes) {
        debug_assert!(!matches!(extent.blob, Blob::Local(_)), "a local piece is never fetched");
        self.journal.keep_piece(extent, bytes);
    }

    fn local_put(&self, table: &str, key: &[u8], value: Option<Vec<u8>>) -> Result<(), LocalError> {
        self.journal.local_put(table, key, value)
    }

    fn local_all(&self, table: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>, LocalError> {
        self.journal.local_all(table)
    }

    fn settle(&self) -> Result<(), LocalError> {
        self.journal.settle()
    }
}
