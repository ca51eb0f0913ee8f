//! PostgreSQL with its cluster in the mount: what pgbench leaves is what it leaves on a local disk, and after
//! the loss of server and machine in the middle of the work recovery finds every committed transaction.

mod server;

use super::acknowledged::{Change, Losses, Record, Work};
use crate::support::way::{Way, comes_back};
use crate::support::{World, full};
use server::{Server, init, program};
use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// How many connections commit at once.
const WRITERS: u64 = 4;
/// Rows that each transaction adds to each of two tables.
const ROWS: u64 = 3;

/// What pgbench has left, without the times of day.
const LEFT: &str = "
    select 'accounts', md5(string_agg(aid || ' ' || abalance, ',' order by aid)) from pgbench_accounts;
    select 'tellers', md5(string_agg(tid || ' ' || tbalance, ',' order by tid)) from pgbench_tellers;
    select 'branches', md5(string_agg(bid || ' ' || bbalance, ',' order by bid)) from pgbench_branches;
    select 'history', count(*), md5(string_agg(row(tid, bid, aid, delta)::text, ',' order by tid, bid, aid, delta))
      from pgbench_history;";

/// pgbench's own condition: every sum is the same.
const SUMS: &str = "select count(distinct sum) from (
    select sum(abalance) from pgbench_accounts union all select sum(tbalance) from pgbench_tellers
    union all select sum(bbalance) from pgbench_branches union all select sum(delta) from pgbench_history) s";

/// Fills a new cluster and lets four clients change it, the same for the same seed in whatever order.
fn bench(server: &Server) {
    let (scale, transactions) = if full() { ("5", "1000") } else { ("1", "25") };
    server.run("pgbench", &["-q", "-i", "-s", scale]);
    server.run("pgbench", &["-n", "-c", "4", "-j", "2", "-t", transactions, "--random-seed", "11"]);
    server.query("vacuum full pgbench_tellers");
}

#[test]
fn pgbench_leaves_what_it_leaves_on_a_local_disk() {
    for way in Way::drawn("postgres") {
        println!("{way}");
        let world = World::for_any_user(&format!("postgres-{way}"));
        let options = way.options(&["--allow-other"]);
        let mount = world.host("a").mount(&options);
        let local = world.local("cluster");
        for cluster in [&local, &mount.path("cluster")] {
            init(cluster);
            let server = Server::start(cluster, &world.local("server"));
            bench(&server);
            server.stop();
        }

        let mount = comes_back(&world, mount, "b", &options);
        let mut left = Vec::new();
        for cluster in [&local, &mount.path("cluster")] {
            let server = Server::start(cluster, &world.local("server"));
            server.query("create extension amcheck");
            server.run("pg_amcheck", &["--all", "--heapallindexed", "--parent-check"]);
            assert_eq!(server.query(SUMS), "1\n", "sums that differ");
            left.push(server.query(LEFT));
            server.stop();
            // Reads every block there is.
            program("pg_checksums", &["--check", "-D"], cluster);
        }
        assert_eq!(left[1], left[0], "in the mount, and on a local disk");
        mount.unmount();
    }
}

#[test]
fn a_committed_transaction_is_there_whenever_server_and_machine_are_lost() {
    for way in Way::drawn("postgres-lost") {
        println!("{way}");
        let world = World::for_any_user(&format!("postgres-lost-{way}"));
        let mut losses = Losses::new(&world, &way.options(&["--allow-other"]), "postgres");
        let mount = losses.mount_elsewhere();
        init(&mount.path("cluster"));
        let work = Cluster::start(mount.root(), world.local("server"));
        let (mount, _) = losses.rounds(mount, if full() { 15 } else { 2 }, &work);
        work.server.take().expect("it was started after the last round").stop();
        program("pg_checksums", &["--check", "-D"], &mount.path("cluster"));
        mount.unmount();
    }
}

/// A cluster whose connections insert, each transaction some rows into two tables.
struct Cluster {
    server: RefCell<Option<Server>>,
    /// Where the server's socket and log are.
    place: PathBuf,
}

impl Cluster {
    fn start(root: &Path, place: PathBuf) -> Cluster {
        let server = Server::start(&root.join("cluster"), &place);
        server.query(
            "create extension amcheck;
             create table one(writer int, n int, part int, body text, primary key (writer, n, part));
             create table two(like one including all);",
        );
        Cluster { server: RefCell::new(Some(server)), place }
    }
}

impl Work for Cluster {
    fn databases(&self) -> Vec<&'static str> {
        vec!["postgres"]
    }

    fn writers(&self) -> u64 {
        WRITERS
    }

    /// psql says what it begins, and what was committed once the server has said so.
    fn start(&self, _: &Path, database: &str, writer: u64, first: u64) -> Command {
        let script = format!(
            r#"for ((n = {first}; ; n++)); do
                echo "\echo begun {database} {writer} $n"
                echo "begin;"
                for table in one two; do
                    echo "insert into $table select {writer}, $n, part, repeat(md5('$n/' || part), 1 + $n % 60)
                        from generate_series(1, {ROWS}) part;"
                done
                echo "commit;"
                echo "\echo done {database} {writer} $n"
            done | stdbuf -oL "$@""#
        );
        let server = self.server.borrow();
        let psql = server.as_ref().expect("the server is up while writers are started").psql();
        let mut command = Command::new("bash");
        command.args(["-c", &script, "bash"]).arg(psql.get_program()).args(psql.get_args());
        command
    }

    fn killed(&self) {
        drop(self.server.take());
    }

    /// Recovers, and finds each transaction whole, in tables and indexes that are whole.
    fn check(&self, root: &Path, record: &Record) -> usize {
        let server = Server::start(&root.join("cluster"), &self.place);
        server.has_recovered();
        server.run("pg_amcheck", &["--all", "--heapallindexed", "--parent-check"]);
        let rows = |table| {
            let wrong = "count(*) filter (where body <> repeat(md5(n || '/' || part), 1 + n % 60))";
            let query =
                format!("select writer, n, count(*), {wrong} from {table} group by 1, 2 order by 1, 2");
            server.query(&query)
        };
        let one = rows("one");
        assert_eq!(one, rows("two"), "half a transaction");
        let there = one.lines().map(|line| {
            let numbers: Vec<u64> = line.split('|').map(|word| word.parse().expect("a number")).collect();
            let [writer, n, ROWS, 0] = numbers[..] else { panic!("half a transaction: {line}") };
            Change { database: "postgres".to_owned(), writer, n }
        });
        let missing = record.check("postgres", &there.collect::<BTreeSet<_>>(), 0);
        self.server.replace(Some(server));
        missing
    }
}
