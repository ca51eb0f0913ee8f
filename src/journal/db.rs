//! The database file: opening it, its format, and how its errors are told.

use super::Result;
use crate::log::source::{LocalError, LocalKind};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Statement};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The format that this code writes, and the newest that it reads.
pub const FORMAT: u32 = 1;
pub(super) const FILE: &str = "journal.db";
/// What is written ahead of it.
pub(super) const AHEAD: &str = "journal.db-wal";

/// Names of the `meta` rows.
pub(super) mod meta {
    /// `u32`
    pub const FORMAT: &str = "format";
    /// `SessionId`
    pub const SESSION: &str = "session";
    /// `Base`: absent until the rows are the state after a slot.
    pub const BASE: &str = "base";
    /// `Slot`: `recent` is complete for later ones.
    pub const CHANGES_FROM: &str = "changes-from";
    /// `Slot`: of blobs that died up to it, the accounts may know nothing; absent: 0.
    pub const ACCOUNTS_FROM: &str = "accounts-from";
    /// `String`: the boot of the machine in which this was last opened.
    pub const BOOT: &str = "boot";
    /// `Seq`: changes up to it are in the rows, by slots of an earlier process that were found in the log.
    pub const LANDED: &str = "landed";
    /// `bool`: another writer's slots are in the rows, and changes that were made without them are not settled.
    pub const DIVERGED: &str = "diverged";
    /// `Epoch`: as whom this folder's process last took the session.
    pub const WRITER: &str = "writer";
}

/// Adds what was tried to a database error.
pub(super) trait During<T> {
    fn during(self, what: &str) -> Result<T>;
}

impl<T> During<T> for rusqlite::Result<T> {
    fn during(self, what: &str) -> Result<T> {
        self.map_err(|e| explain(what, &e))
    }
}

fn explain(what: &str, error: &rusqlite::Error) -> LocalError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => LocalError::new(
            LocalKind::Full,
            format!("{what}: the disk with the cache directory is full ({error}); free space there"),
        ),
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            LocalError::new(LocalKind::Damaged, format!("{what}: journal.db is damaged ({error})"))
        }
        _ => LocalError::failed(format!("{what}: {error}")),
    }
}

/// Opens the database for writing; makes it when it is not there. Says whether it was.
pub(super) fn open_writer(dir: &Path) -> Result<(Connection, bool)> {
    let path = dir.join(FILE);
    let named = |e: LocalError| LocalError::new(e.kind, format!("{}: {}", path.display(), e.message));
    let conn = Connection::open(&path).during("opening").map_err(named)?;
    let existed = prepare(&conn).map_err(named)?;
    Ok((conn, existed))
}

fn prepare(conn: &Connection) -> Result<bool> {
    conn.busy_timeout(Duration::from_secs(10)).during("opening")?;
    conn.set_prepared_statement_cache_capacity(64);
    keep_plans(conn)?;
    let tables: i64 = conn
        .query_row("SELECT count(*) FROM sqlite_schema WHERE name = 'meta'", [], |r| r.get(0))
        .during("reading the schema")?;
    if tables == 0 {
        conn.execute_batch("PRAGMA page_size = 8192;").during("setting up")?;
    }
    conn.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA wal_autocheckpoint = 2000;
         PRAGMA journal_size_limit = 67108864; PRAGMA cache_size = -16384; PRAGMA temp_store = MEMORY;",
    )
    .during("setting up")?;
    if tables == 0 {
        create(conn)?;
        return Ok(false);
    }
    match get_meta::<u32>(conn, meta::FORMAT)? {
        Some(FORMAT) => Ok(true),
        Some(newer) if newer > FORMAT => Err(LocalError::new(
            LocalKind::Newer,
            format!("it has format {newer}, this cwdfs reads up to {FORMAT}: use a newer cwdfs"),
        )),
        _ => Err(LocalError::new(LocalKind::Damaged, "it does not say which format it has")),
    }
}

/// A plan never depends on what is bound: without this SQLite prepares a statement with a LIMIT anew each time
/// that another number is bound to it, which costs ten times what running it does.
fn keep_plans(conn: &Connection) -> Result<()> {
    conn.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true).during("opening").map(drop)
}

/// Gives back the memory of pages that can be read again.
pub(super) fn shrink(conn: &Connection) -> Result<()> {
    conn.execute_batch("PRAGMA shrink_memory").during("giving back memory")
}

/// Makes the tables of an empty database.
pub(super) fn create(conn: &Connection) -> Result<()> {
    conn.execute_batch("BEGIN").during("creating the tables")?;
    conn.execute_batch(include_str!("schema.sql")).during("creating the tables")?;
    put_meta(conn, meta::FORMAT, &FORMAT)?;
    conn.execute_batch("COMMIT").during("creating the tables")
}

/// Checks the whole file for damage; for a file that an abrupt end of the machine may have torn.
pub(super) fn check(conn: &Connection) -> Result<()> {
    let said: String =
        conn.query_row("PRAGMA quick_check(1)", [], |r| r.get(0)).during("checking the database")?;
    if said == "ok" {
        return Ok(());
    }
    Err(LocalError::new(LocalKind::Damaged, format!("journal.db is damaged ({said})")))
}

/// Where readers find the database.
#[derive(Clone)]
pub(super) struct ReaderPath(PathBuf);

impl ReaderPath {
    pub fn new(dir: &Path) -> ReaderPath {
        ReaderPath(dir.join(FILE))
    }

    pub fn open(&self) -> Result<Connection> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let conn = Connection::open_with_flags(&self.0, flags);
        let conn = conn.during("opening a reader").map_err(without_descriptor)?;
        conn.busy_timeout(Duration::from_secs(10)).during("opening a reader")?;
        conn.set_prepared_statement_cache_capacity(32);
        keep_plans(&conn)?;
        conn.execute_batch("PRAGMA cache_size = -2048;").during("opening a reader")?;
        Ok(conn)
    }
}

/// SQLite says only that it cannot open the file: whether that is for want of a descriptor, one more try tells.
fn without_descriptor(error: LocalError) -> LocalError {
    let left = std::fs::File::open("/dev/null").err().and_then(|error| error.raw_os_error());
    match left {
        Some(libc::EMFILE | libc::ENFILE) => LocalError::new(LocalKind::Descriptors, error.message),
        _ => error,
    }
}

/// Hands rows over in groups, a statement each: one for many costs half of what one for each does where they come in the
/// order of their keys. There are three sizes of groups, so that few statements are prepared.
pub(super) fn in_groups<R>(
    rows: &[R],
    mut each: impl FnMut(&[R]) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let mut left = rows;
    for size in [64, 8, 1] {
        let mut groups = left.chunks_exact(size);
        left = groups.remainder();
        groups.try_for_each(&mut each)?;
    }
    Ok(())
}

/// Puts rows of so many columns into a table, in place of those that are there; `bind` binds a row's from a parameter on.
pub(super) fn insert_many<R>(
    conn: &Connection,
    table: &str,
    columns: usize,
    rows: &[R],
    bind: impl Fn(&mut Statement<'_>, usize, &R) -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let one = format!("(?{})", ", ?".repeat(columns - 1));
    in_groups(rows, |group| {
        let more = format!(", {one}").repeat(group.len() - 1);
        let sql = format!("INSERT OR REPLACE INTO {table} VALUES {one}{more}");
        let mut insert = conn.prepare_cached(&sql)?;
        for (n, row) in group.iter().enumerate() {
            bind(&mut insert, n * columns + 1, row)?;
        }
        insert.raw_execute().map(drop)
    })
}

pub(super) fn get_meta<T: DeserializeOwned>(conn: &Connection, name: &str) -> Result<Option<T>> {
    let bytes: Option<Vec<u8>> = conn
        .prepare_cached("SELECT value FROM meta WHERE name = ?")
        .and_then(|mut s| s.query_row([name], |r| r.get(0)).optional())
        .during("reading a journal's own facts")?;
    bytes.map(|b| unpack(&b)).transpose()
}

pub(super) fn put_meta<T: Serialize>(conn: &Connection, name: &str, value: &T) -> Result<()> {
    conn.prepare_cached("INSERT OR REPLACE INTO meta VALUES (?, ?)")
        .and_then(|mut s| s.execute((name, pack(value))))
        .during("writing a journal's own facts")?;
    Ok(())
}

pub(super) fn delete_meta(conn: &Connection, name: &str) -> Result<()> {
    conn.execute("DELETE FROM meta WHERE name = ?", [name]).during("writing a journal's own facts")?;
    Ok(())
}

/// The postcard form of one of the journal's own values.
pub(super) fn pack<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    // Plain structs into a growing Vec: no failing path.
    postcard::to_stdvec(value).expect("the journal's own values serialise")
}

pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Result<T> {
    postcard::from_bytes(bytes)
        .map_err(|_| LocalError::new(LocalKind::Damaged, "journal.db holds a value that cannot be read"))
}
