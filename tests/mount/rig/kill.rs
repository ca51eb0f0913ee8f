//! Rounds: work, a kill in the middle of it with something on its way to the store, and a look from another mount.
//!
//! `CWDFS_TEST_ROUNDS` says how many that count; a round in which nothing was on its way does not.

use super::crew::{Crew, random};
use super::found::Shown;
use super::history::{History, Level};
use super::judge::judge;
use super::ops::now;
use crate::support::mount::Mount;
use crate::support::network::{Network, Segment};
use crate::support::relay::Fate;
use crate::support::seaweed::Seaweed;
use crate::support::way::{no_error_logged, seed};
use crate::support::world::Host;
use crate::support::{Tree, World, full};
use rand::Rng;
use rand::seq::IndexedRandom;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How many machines there are.
const MACHINES: usize = 3;
/// How many rounds' directories are kept and compared.
const KEPT: u64 = 3;

/// What is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Victim {
    Daemon,
    /// Everything that runs on the machine, and its link.
    Machine,
    Relay,
    Store,
}

/// The draws of one round.
#[derive(Debug)]
struct Plan {
    victim: Victim,
    level: Level,
    /// How long the relay holds each request back.
    hold: Duration,
    /// Whether the log is packed and checkpointed every few commits, and whether plain objects are written.
    keep: bool,
    publish: bool,
    wiped: bool,
    /// Whether the next mount is on the machine that was killed.
    same: bool,
    /// Whether the daemon is killed before the relay or the store is back, the link cut before the kill.
    both: bool,
    /// How long a killed relay or store is away.
    away: Duration,
    /// How many acknowledgements are waited for, and how long after that the kill comes.
    acknowledged: usize,
    after: Duration,
}

impl Plan {
    fn draw(round: u64) -> Plan {
        let mut random = random(&format!("round {round}"));
        let victims = [(Victim::Daemon, 9), (Victim::Machine, 6), (Victim::Relay, 4), (Victim::Store, 1)];
        let levels = [(Level::Close, 5), (Level::Fsync, 3), (Level::Sync, 1)];
        let mut millis = |range: std::ops::Range<u64>| Duration::from_millis(random.random_range(range));
        let (after, away) = (millis(0..150), millis(100..900));
        let hold = *[10, 30, 80].choose(&mut random).expect("there are some");
        Plan {
            victim: victims.choose_weighted(&mut random, |(_, weight)| *weight).expect("weights").0,
            level: levels.choose_weighted(&mut random, |(_, weight)| *weight).expect("weights").0,
            hold: Duration::from_millis(hold),
            keep: random.random(),
            publish: random.random(),
            wiped: random.random(),
            same: random.random(),
            both: random.random_ratio(1, 3),
            away,
            acknowledged: random.random_range(3..=12),
            after,
        }
    }

    fn options(&self) -> Vec<&str> {
        let mut options = vec!["--takeover", "--timeout", "60s", "--durability", self.level.name()];
        options.extend(["--lazy", "*.lazy", "--publish-delay", "200ms"]);
        if self.keep {
            options.push("--keep-for-tests");
        }
        if !self.publish {
            options.push("--no-publish");
        }
        options
    }
}

fn rounds() -> usize {
    match std::env::var("CWDFS_TEST_ROUNDS") {
        Ok(rounds) => rounds.parse().expect("CWDFS_TEST_ROUNDS is a number"),
        Err(_) if full() => 1000,
        Err(_) => 50,
    }
}

#[test]
fn everything_acknowledged_is_there_whatever_is_killed() {
    let mut server = Seaweed::own();
    let network = Network::new();
    let world = World::over("rig", &server, &network);
    let mut rig = Rig::new(&world, &network);
    let (mut counted, mut by_victim) = (0, BTreeMap::new());
    let wanted = rounds();
    for round in 1..=2 * wanted as u64 {
        let plan = Plan::draw(round);
        let cut = rig.round(round, &plan, &mut server);
        if cut > 0 {
            counted += 1;
            *by_victim.entry(plan.victim).or_insert(0) += 1;
        }
        if counted == wanted {
            break;
        }
    }
    rig.end();
    println!("rig: {counted} rounds that count of seed {}, by what was killed: {by_victim:?}", seed());
    assert_eq!(counted, wanted, "in the other rounds nothing was on its way to the store");
}

/// A machine: its cache stays when it is killed, its network does not.
struct Machine {
    name: String,
    segment: Segment,
}

struct Rig<'w> {
    world: &'w World,
    network: &'w Network,
    machines: Vec<Machine>,
    /// The machine that is used.
    at: usize,
    /// What a round that was looked at is to stay.
    before: BTreeMap<u64, Tree>,
}

impl<'w> Rig<'w> {
    fn new(world: &'w World, network: &'w Network) -> Rig<'w> {
        let machine = |n| Machine { name: format!("machine-{n}"), segment: network.machine() };
        Rig { world, network, machines: (0..MACHINES).map(machine).collect(), at: 0, before: BTreeMap::new() }
    }

    fn host(&self) -> Host<'w> {
        let machine = &self.machines[self.at];
        self.world.host(&machine.name).behind(machine.segment.clone())
    }

    /// One round; returns how many requests with changes were on their way when the daemon was killed.
    #[track_caller]
    fn round(&mut self, round: u64, plan: &Plan, server: &mut Seaweed) -> usize {
        let start = Instant::now();
        let mount = self.host().mount(&plan.options());
        self.same_as_before(&mount);
        self.forget(&mount, round);
        mount.flush();
        self.world.relay().reset();
        self.world.relay().set_delay(plan.hold);
        let runner = || self.machines[self.at].segment.runner();
        let crew = Crew::start(self.world, round, &mount.path(format!("r{round}")), runner);
        let (killed, cut) = self.strike(&mount, plan, &crew, server);
        let histories = crew.end(killed);
        if matches!(plan.victim, Victim::Daemon | Victim::Machine) {
            no_error_logged(&mount);
        }
        self.lose(mount, plan);
        let (counts, total) = self.look(round, &histories, plan);
        let acknowledged: usize = histories.iter().map(|history| history.barriers(plan.level).len()).sum();
        println!(
            "round {round}: {:?} at level {}, {}, {}: {cut} requests cut, {acknowledged} barriers returned, back \
             are {counts:?} of {total:?} operations, {:.1?}",
            plan.victim,
            plan.level.name(),
            if plan.wiped { "wiped" } else { "kept" },
            self.machines[self.at].name,
            start.elapsed()
        );
        cut
    }

    /// Waits for the moment, and kills what is to be killed, the daemon last. Returns when that was, and how many
    /// requests with changes got no answer then.
    #[track_caller]
    fn strike(&self, mount: &Mount<'_>, plan: &Plan, crew: &Crew, server: &mut Seaweed) -> (u64, usize) {
        let relay = self.world.relay();
        crew.wait_acknowledged(mount, plan.level, plan.acknowledged);
        std::thread::sleep(plan.after);
        match plan.victim {
            Victim::Relay => {
                self.wait_under_way();
                relay.cut();
                std::thread::sleep(plan.away);
                if !plan.both {
                    relay.heal();
                    crew.wait_acknowledged(mount, plan.level, 2);
                }
            }
            Victim::Store => {
                self.wait_under_way();
                server.kill();
                std::thread::sleep(plan.away);
                if !plan.both {
                    server.revive();
                    server.wait_until_up();
                    crew.wait_acknowledged(mount, plan.level, 2);
                }
            }
            Victim::Daemon | Victim::Machine => {}
        }
        if !plan.both || matches!(plan.victim, Victim::Daemon | Victim::Machine) {
            self.wait_under_way();
        }
        let killed = now();
        self.kill(mount, plan);
        let seen = relay.seen();
        let cut = seen.iter().filter(|seen| seen.carries_changes() && seen.is_unanswered()).count();
        if plan.both && plan.victim == Victim::Store {
            server.revive();
            server.wait_until_up();
        }
        relay.heal();
        relay.set_delay(Duration::ZERO);
        (killed, cut)
    }

    fn kill(&self, mount: &Mount<'_>, plan: &Plan) {
        if plan.victim != Victim::Machine {
            return mount.kill_now();
        }
        let segment = &self.machines[self.at].segment;
        // A machine whose power goes is cut off and dead at once; the order of the two is luck.
        if plan.both {
            segment.unplug();
            segment.kill_all();
        } else {
            segment.kill_all();
            segment.unplug();
        }
        self.world.relay().drop_held();
    }

    /// Waits, not for ever, until something is on its way to the store.
    fn wait_under_way(&self) {
        let start = Instant::now();
        let under_way = || {
            let seen = self.world.relay().seen();
            seen.iter().rev().take(50).any(|seen| seen.carries_changes() && seen.fate == Fate::UnderWay)
        };
        while !under_way() && start.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Takes the dead mount away, and chooses where the session is mounted next.
    fn lose(&mut self, mount: Mount<'_>, plan: &Plan) {
        mount.kill();
        if plan.wiped {
            self.host().wipe();
        }
        if plan.victim == Victim::Machine {
            self.machines[self.at].segment = self.network.machine();
        }
        if plan.wiped || !plan.same {
            self.at = (self.at + 1) % MACHINES;
        }
    }

    /// Mounts the session and holds it against what was noted; how many operations are back, and of how many.
    #[track_caller]
    fn look(&mut self, round: u64, histories: &[History], plan: &Plan) -> (Vec<usize>, Vec<usize>) {
        let mount = self.host().mount(&["--takeover", "--no-publish"]);
        let shown = Shown::at(&mount.path(format!("r{round}")));
        let judged = std::panic::catch_unwind(|| judge(histories, plan.level, &shown));
        let counts = judged.unwrap_or_else(|panic| {
            eprintln!(
                "round {round} of seed {}, {plan:?}; the notes are in {:?}",
                seed(),
                self.world.local("notes")
            );
            std::panic::resume_unwind(panic)
        });
        self.same_as_before(&mount);
        self.before.insert(round, Tree::of(&mount.path(format!("r{round}"))));
        mount.flush();
        mount.unmount();
        (counts, histories.iter().map(|history| history.0.len()).collect())
    }

    /// Rounds that were looked at stay what they were.
    #[track_caller]
    fn same_as_before(&self, mount: &Mount<'_>) {
        for (round, tree) in &self.before {
            tree.assert_same(
                &Tree::of(&mount.path(format!("r{round}"))),
                &format!("what round {round} left"),
            );
        }
    }

    /// Removes what is old, which is one more thing that has to come back.
    fn forget(&mut self, mount: &Mount<'_>, round: u64) {
        while let Some(entry) = self.before.first_entry().filter(|entry| entry.key() + KEPT < round) {
            let (old, _) = entry.remove_entry();
            std::fs::remove_dir_all(mount.path(format!("r{old}"))).expect("remove an old round");
        }
    }

    fn end(mut self) {
        self.at = (self.at + 1) % MACHINES;
        let mount = self.host().mount(&["--takeover"]);
        self.same_as_before(&mount);
        mount.unmount();
    }
}
