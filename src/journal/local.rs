//! Facts of this machine that are no part of the session.

use super::db::During;
use super::queue::Op;
use super::{Journal, Result};
use rusqlite::OptionalExtension;

impl Journal {
    /// Local facts that are not part of the session (cached files, import progress), by name.
    pub fn local_get(&self, table: &str, key: &[u8]) -> Result<Option<Vec<u8>>> {
        self.settle()?;
        self.shared.readers.with(|conn| {
            conn.prepare_cached("SELECT value FROM local WHERE tbl = ? AND key = ?")
                .and_then(|mut s| s.query_row((table, key), |r| r.get(0)).optional())
                .during("reading a local fact")
        })
    }

    /// Sets or removes a local fact; written behind, in order with changes. It is removed on a full disk, too: whoever
    /// makes room does not wait for room.
    pub fn local_put(&self, table: &str, key: &[u8], value: Option<Vec<u8>>) -> Result<()> {
        if value.is_some() {
            self.shared.queue.check_failing()?;
        }
        self.shared.queue.push(Op::Local { table: table.to_owned(), key: key.to_vec(), value });
        Ok(())
    }

    /// All local facts of a table, in the order of their keys.
    pub fn local_all(&self, table: &str) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        self.settle()?;
        self.shared.readers.with(|conn| {
            conn.prepare_cached("SELECT key, value FROM local WHERE tbl = ? ORDER BY key")
                .and_then(|mut s| s.query_map([table], |r| Ok((r.get(0)?, r.get(1)?)))?.collect())
                .during("reading local facts")
        })
    }
}
