//! LMDB, a database in a mapped file: read through the mapping, and written with pwrite and fdatasync or, with
//! `writemap`, through the mapping and msync. Two writers and readers at once do what they do on a local disk,
//! and a transaction that was committed is there after the machine was lost in the middle of the next ones.
//!
//! The processes are those of with_lmdb.py: who has a file of the mount mapped when its daemon is killed dies too.

use super::acknowledged::{Change, Losses, Record, Work};
use crate::support::way::{Way, comes_back};
use crate::support::{Ran, World, full, sh};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// How many processes write to each database.
const WRITERS: u64 = 2;
/// The databases are named after how they are written.
const DATABASES: [&str; 2] = ["pwrite", "writemap"];

/// `with_lmdb.py WHAT` on a database in a directory.
fn command(what: &str, dir: &Path, database: &str) -> Command {
    // Debian's own: the one that python3-lmdb is made for.
    let mut command = Command::new("/usr/bin/python3");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/tools/with_lmdb.py")).arg(what);
    command.arg(dir.join(database)).arg(database);
    command
}

/// A writer of `count` transactions that goes on from number `first`.
fn writer(dir: &Path, database: &str, writer: u64, first: u64, count: u64) -> Command {
    let mut command = command("write", dir, database);
    command.arg(database).args([writer, first, count].map(|n| n.to_string()));
    command
}

/// Everything in it, as LMDB's own tools write it; read once more from a copy that walks every page.
fn dump(dir: &Path, database: &str, copies: &Path) -> String {
    let copy = copies.join(database);
    let copy = copy.display();
    let script =
        format!("rm -rf {copy} && mkdir -p {copy} && mdb_copy -c {database} {copy} && mdb_dump {database}");
    let dump = sh(dir, &script);
    let copied = sh(copies, &format!("mdb_dump {database}"));
    // All but the header, which has the size of the map.
    let data = |dump: &str| dump.split_once("HEADER=END").expect("a header").1.to_owned();
    assert_eq!(data(&dump), data(&copied), "a copy of {database} differs");
    data(&dump)
}

/// Two writers and two readers at once.
fn share(dir: &Path, database: &str, count: u64) {
    let mut commands: Vec<Command> = (0..WRITERS).map(|w| writer(dir, database, w, 0, count)).collect();
    for _ in 0..2 {
        let mut command = command("read", dir, database);
        command.args([WRITERS, WRITERS * count].map(|n| n.to_string()));
        commands.push(command);
    }
    std::thread::scope(|scope| {
        let at_work: Vec<_> =
            commands.iter_mut().map(|command| scope.spawn(|| Ran::of(command).ok())).collect();
        at_work.into_iter().for_each(|thread| drop(thread.join().expect("a process of LMDB's")));
    });
}

/// The transactions that were made, when what is there is what they leave.
#[track_caller]
fn there(dir: &Path, database: &str) -> BTreeSet<Change> {
    let said = Ran::of(command("check", dir, database).arg(WRITERS.to_string())).ok().out;
    let counts: Vec<u64> = serde_json::from_str(&said).expect("a list of counts");
    let change = |writer, n| Change { database: database.to_owned(), writer, n };
    (0..).zip(counts).flat_map(|(writer, count)| (0..count).map(move |n| change(writer, n))).collect()
}

#[test]
fn processes_share_a_mapped_database_as_on_a_local_disk() {
    for way in Way::drawn("lmdb") {
        println!("{way}");
        let world = World::with_relay(&format!("lmdb-{way}"));
        let options = way.options(&[]);
        let mount = world.host("a").mount(&options);
        let (local, copies) = (world.local("here"), world.local("copies"));
        let count = if full() { 500 } else { 25 };
        for database in DATABASES {
            share(mount.root(), database, count);
            share(&local, database, count);
            assert_eq!(there(mount.root(), database).len() as u64, WRITERS * count, "{database}");
            let (here, local) = (dump(mount.root(), database, &copies), dump(&local, database, &copies));
            assert_eq!(here, local, "{database} differs from the local one");
        }

        let mount = comes_back(&world, mount, "b", &options);
        for database in DATABASES {
            let (here, local) = (dump(mount.root(), database, &copies), dump(&local, database, &copies));
            assert_eq!(here, local, "{database} after the machine was lost");
        }
        mount.unmount();
    }
}

#[test]
fn a_committed_transaction_is_there_whenever_the_machine_is_lost() {
    for way in Way::drawn("lmdb-lost") {
        println!("{way}");
        let world = World::with_relay(&format!("lmdb-lost-{way}"));
        let mut losses = Losses::new(&world, &way.options(&[]), "lmdb");
        let mount = losses.mount_elsewhere();
        let (mount, _) = losses.rounds(mount, if full() { 25 } else { 3 }, &Databases);
        mount.unmount();
    }
}

struct Databases;

impl Work for Databases {
    fn databases(&self) -> Vec<&'static str> {
        DATABASES.to_vec()
    }

    fn writers(&self) -> u64 {
        WRITERS
    }

    fn start(&self, root: &Path, database: &str, number: u64, first: u64) -> Command {
        writer(root, database, number, first, 1_000_000)
    }

    fn check(&self, root: &Path, record: &Record) -> usize {
        DATABASES.iter().map(|name| record.check(name, &there(root, name), 0)).sum()
    }
}
