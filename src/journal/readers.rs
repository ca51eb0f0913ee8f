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
    /// How often the database was asked.
    #[cfg(test)]
    pub asked: std::sync::atomic::AtomicU64,
}

impl Readers {
    pub fn new(path: ReaderPath) -> Readers {
        Readers {
            path,
            idle: Mutex::new(Vec::new()),
            #[cfg(test)]
            asked: Default::default(),
        }
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
        #[cfg(test)]
        self.asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let idle = self.idle.lock().pop();
        idle.map_or_else(|| self.path.open(), Ok)
    }

    /// Has those that nobody uses give back their memory.
    pub fn shrink(&self) -> Result<()> {
        self.idle.lock().iter().try_for_each(super::db::shrink)
    }

    pub fn put_back(&self, conn: Connection) {
        let mut idle = self.idle.lock();
        if idle.len() < IDLE {
            idle.push(conn);
        }
    }
}
