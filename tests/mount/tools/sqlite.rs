//! SQLite with each of its journals: several processes at once do what they do on a local disk, and a
//! transaction that was committed is there after the machine was lost in the middle of the next ones.
//!
//! The processes are those of with_sqlite.py: who has a file of the mount mapped when its daemon is killed dies too.

use super::acknowledged::{Change, Losses, Record, Work};
use crate::support::way::{Way, comes_back};
use crate::support::{Ran, World, full, sh};
use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

/// How many processes write to each database.
const WRITERS: u64 = 2;

/// A database: its name, journal mode, and how much SQLite syncs.
#[derive(Clone, Copy)]
struct Database {
    name: &'static str,
    mode: &'static str,
    synchronous: &'static str,
    /// How many of the last commits may be missing after the machine was lost.
    lacking: usize,
}

/// With FULL, SQLite does not sync the directory after it has deleted its journal, which is what commits:
/// a machine that is lost at once may roll the last transaction back, on any file system. EXTRA does.
const DATABASES: [Database; 5] = [
    Database { name: "wal", mode: "wal", synchronous: "full", lacking: 0 },
    Database { name: "truncate", mode: "truncate", synchronous: "full", lacking: 0 },
    Database { name: "persist", mode: "persist", synchronous: "full", lacking: 0 },
    Database { name: "delete-extra", mode: "delete", synchronous: "extra", lacking: 0 },
    Database { name: "delete-full", mode: "delete", synchronous: "full", lacking: 1 },
];

impl Database {
    /// `with_sqlite.py WHAT` on this database in a directory.
    fn command(&self, what: &str, dir: &Path) -> Command {
        // Debian's own: the one whose SQLite is Debian's too.
        let mut command = Command::new("/usr/bin/python3");
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/mount/tools/with_sqlite.py")).arg(what);
        command.arg(dir.join(self.name)).args([self.mode, self.synchronous]);
        command
    }

    fn make(&self, dir: &Path) {
        Ran::of(self.command("make", dir).arg(WRITERS.to_string())).ok();
    }

    /// A writer of `count` transactions that goes on from number `first`.
    fn writer(&self, dir: &Path, writer: u64, first: u64, count: u64) -> Command {
        let mut command = self.command("write", dir);
        command.arg(self.name).args([writer, first, count].map(|n| n.to_string()));
        command
    }

    /// The transactions that are there, each whole, in a database that is whole.
    #[track_caller]
    fn there(&self, dir: &Path) -> BTreeSet<Change> {
        let said = Ran::of(&mut self.command("check", dir)).ok().out;
        let rows: Vec<(u64, u64)> = serde_json::from_str(&said).expect("a list of transactions");
        let change = |(writer, n)| Change { database: self.name.to_owned(), writer, n };
        rows.into_iter().map(change).collect()
    }

    /// Everything in it, as SQLite's own shell writes it.
    fn dump(&self, dir: &Path) -> String {
        sh(dir, &format!("sqlite3 {} 'pragma integrity_check' .dump", self.name))
    }

    /// Two writers, a reader and, with a write-ahead log, one who writes it back, all at once.
    fn share(&self, dir: &Path, count: u64) {
        self.make(dir);
        let until = (WRITERS * count).to_string();
        let mut commands: Vec<Command> = (0..WRITERS).map(|w| self.writer(dir, w, 0, count)).collect();
        for what in if self.mode == "wal" { &["read", "checkpoint"][..] } else { &["read"] } {
            let mut command = self.command(what, dir);
            command.arg(&until);
            commands.push(command);
        }
        std::thread::scope(|scope| {
            let at_work: Vec<_> =
                commands.iter_mut().map(|command| scope.spawn(|| Ran::of(command).ok())).collect();
            for ran in at_work.into_iter().map(|thread| thread.join().expect("a process of SQLite's")) {
                assert!(!ran.out.ends_with(" 0\n"), "it was never its turn: {ran}");
            }
        });
    }
}

#[test]
fn processes_share_a_database_as_on_a_local_disk() {
    for way in Way::drawn("sqlite") {
        println!("{way}");
        let world = World::with_relay(&format!("sqlite-{way}"));
        let options = way.options(&[]);
        let mount = world.host("a").mount(&options);
        let (here, local) = (mount.path("here"), world.local("here"));
        std::fs::create_dir(&here).expect("mkdir");
        let count = if full() { 400 } else { 25 };
        for database in DATABASES {
            database.share(&here, count);
            database.share(&local, count);
            assert_eq!(database.there(&here).len() as u64, WRITERS * count, "{}", database.name);
            let dump = database.dump(&here);
            assert!(dump.starts_with("ok\n"), "{}", database.name);
            assert_eq!(dump, database.dump(&local), "{} differs from the local one", database.name);
        }

        let mount = comes_back(&world, mount, "b", &options);
        for database in DATABASES {
            let dump = database.dump(&mount.path("here"));
            assert_eq!(dump, database.dump(&local), "{} after the machine was lost", database.name);
        }
        mount.unmount();
    }
}

#[test]
fn a_committed_transaction_is_there_whenever_the_machine_is_lost() {
    for way in Way::drawn("sqlite-lost") {
        println!("{way}");
        let world = World::with_relay(&format!("sqlite-lost-{way}"));
        let options = way.options(&[]);
        lose_it_often(&world, &options, &DATABASES, if full() { 25 } else { 3 });
    }
}

/// Where every change waits for the store, so does the deletion of a journal.
#[test]
fn at_sync_a_deleted_journal_loses_nothing_at_full_either() {
    let world = World::with_relay("sqlite-sync");
    let database = Database { lacking: 0, ..DATABASES[4] };
    lose_it_often(&world, &["--durability", "sync"], &[database], if full() { 10 } else { 2 });
}

/// Rounds of work in all the databases at once, each ended by the loss of the machine.
fn lose_it_often(world: &World, options: &[&str], databases: &[Database], rounds: usize) {
    let mut losses = Losses::new(world, options, "sqlite");
    let mount = losses.mount_elsewhere();
    databases.iter().for_each(|database| database.make(mount.root()));
    let (mount, rolled_back) = losses.rounds(mount, rounds, &databases);
    println!("{rolled_back} commits at FULL were rolled back by a journal that came back");
    mount.unmount();
}

impl Work for &[Database] {
    fn databases(&self) -> Vec<&'static str> {
        self.iter().map(|database| database.name).collect()
    }

    fn writers(&self) -> u64 {
        WRITERS
    }

    fn start(&self, root: &Path, database: &str, writer: u64, first: u64) -> Command {
        let database = self.iter().find(|d| d.name == database).expect("one of them");
        database.writer(root, writer, first, 1_000_000)
    }

    fn check(&self, root: &Path, record: &Record) -> usize {
        self.iter().map(|d| record.check(d.name, &d.there(root), d.lacking)).sum()
    }
}

/// What EXTRA is for, and FULL is not enough for: shown at the one moment that tells them apart.
#[test]
fn a_deleted_journal_comes_back_at_full_and_not_at_extra() {
    for (database, kept) in [(DATABASES[4], 0), (DATABASES[3], 1)] {
        let world = World::with_relay(&format!("sqlite-{}", database.name));
        let mount = world.host("a").mount(&["--durability", "fsync", "--commit-interval", "1h"]);
        database.make(mount.root());
        mount.flush();
        Ran::of(&mut database.writer(mount.root(), 0, 0, 1)).ok();
        mount.lose_machine();
        let mount = world.host("b").mount(&["--takeover"]);
        assert_eq!(database.there(mount.root()).len(), kept, "{}", database.name);
        mount.unmount();
    }
}
