//! Connections that read.

use super::Result;
use super::db::ReaderPath;
use parking_lot::Mutex;
use rusqlite::Connection;

/// How many stay open when nobody uses them.
const IDLE: usize = 6;

/// A pool of connections, opened as they are needed.
pub(super) struct Readers {
    path: ReaderPath,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub fn new(path: ReaderPath) -> Readers {
        Readers { path, idle: Mutex::new(Vec::new()) }
    }

    /// Lends a connection outside of any transaction.
    pub fn with<T>(&self, read: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let conn = self.take()?;
        let result = read(&conn);
        self.put_back(conn);
        result
    }

    /// Takes a connection for longer.
    pub fn take(&self) -> Result<Connection> {
        let idle = self.idle.lock().pop();
        idle.map_or_else(|| self.path.open(), Ok)
    }

    pub fn put_back(&self, conn: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(conn);
        }
    }
}
