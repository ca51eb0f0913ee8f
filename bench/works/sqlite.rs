//! SQLite, WAL, synchronous FULL: 200 transactions, and PUTs in turns with them.

use super::{Cell, Work};
use crate::raw::Raw;
use crate::sample::{Sample, Unit, median};
use crate::sources;
use crate::systems::Kind;
use rusqlite::Connection;
use std::time::Instant;

/// The work.
pub const WORK: Work = Work {
    name: "sqlite",
    title: "SQLite, WAL, FULL: 200 transactions",
    takes: |system, quick| match system.kind() {
        Kind::Limit => ["local", "bare"].contains(&system.name().as_str()),
        Kind::Raw => false,
        Kind::Ours => system.name() == "cwdfs-fsync",
        Kind::Peer => !quick,
    },
    rounds: (1, 5),
    run,
};

/// All of them.
pub const ALL: &str = "200 transactions";
/// One of them.
pub const COMMIT: &str = "a transaction, p50";
/// A PUT in turns with them.
pub const PUT: &str = "a PUT of 4 KiB, p50";

const TRANSACTIONS: u64 = 200;

fn run(cell: &Cell<'_>, sample: &mut Sample) {
    let mounted = cell.mount("a", &["--no-publish"]);
    let client = Raw::new(&cell.world);
    let path = mounted.root().join("t.db");
    let mut database = Connection::open(&path).expect("open a database");
    let setup = "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; CREATE TABLE t (n INTEGER PRIMARY KEY, b BLOB)";
    database.execute_batch(setup).expect("set it up");
    let (mut commits, mut puts) = (Vec::new(), Vec::new());
    for n in 0..TRANSACTIONS {
        let body = sources::noise(n, 400);
        let start = Instant::now();
        let transaction = database.transaction().expect("begin");
        transaction.execute("INSERT INTO t VALUES (?, ?)", (n as i64, &body)).expect("insert");
        transaction.commit().expect("commit");
        commits.push(start.elapsed().as_secs_f64() * 1e3);
        if cell.is_ours() {
            puts.push(client.put("wal", sources::noise(n, 4096)).as_secs_f64() * 1e3);
        }
    }
    sample.add(ALL, Unit::Seconds, commits.iter().sum::<f64>() / 1e3);
    sample.add(COMMIT, Unit::Millis, median(&commits));
    if cell.is_ours() {
        sample.add(PUT, Unit::Millis, median(&puts));
    }
    sample.sure(mounted.made_sure());
    drop(database);
    if cell.is_bare() {
        mounted.unmount();
        return;
    }
    mounted.settle();
    mounted.lose();
    let mounted = cell.mount("b", &["--no-publish", "--takeover"]);
    let database = Connection::open(mounted.root().join("t.db")).expect("open the database elsewhere");
    let count = database.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).expect("count");
    assert_eq!(count, TRANSACTIONS as i64, "transactions on another machine");
    let check: String = database.query_row("PRAGMA integrity_check", [], |row| row.get(0)).expect("check");
    assert_eq!(check, "ok");
    drop(database);
    mounted.unmount();
}
