//! The works: each does one thing on a system, makes sure that it was done right, and says what it took.

pub mod close;
pub mod fio;
pub mod large;
pub mod mount;
pub mod quiet;
pub mod rates;
pub mod resume;
pub mod sqlite;
pub mod tools;
pub mod untar;

use crate::args::Asked;
use crate::sample::{Meter, Sample, Usage};
use crate::support::World;
use crate::systems::{Kind, Mounted, System};
use crate::watch::Watch;

/// A thing to be measured.
pub struct Work {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// What it is, for the heading of its table.
    pub title: &'static str,
    /// Which systems take part, in a quick run or a full one.
    pub takes: fn(&dyn System, bool) -> bool,
    /// How often it is done on each: quick, full.
    pub rounds: (usize, usize),
    /// Does it once, and adds what it gives; figures that were added before a cap are kept.
    pub run: fn(&Cell<'_>, &mut Sample),
}

/// All works, in the order of the table of goals.
pub const ALL: &[Work] = &[
    close::WORK,
    untar::WORK,
    mount::WORK,
    resume::SMALL,
    resume::MIDDLE,
    resume::LARGE,
    resume::ASKED,
    rates::WORK,
    fio::WORK,
    large::WHOLE,
    large::EDIT,
    sqlite::WORK,
    tools::GIT,
    tools::NPM,
    tools::NPM_VIEW,
    tools::PNPM,
    tools::UV,
    tools::CARGO,
    tools::AGENT,
    quiet::IDLE,
    quiet::STORED,
    quiet::CROWD,
];

/// One run of a work on a system, in a world of its own.
pub struct Cell<'a> {
    /// What the caller asked for.
    pub asked: &'a Asked,
    /// What is measured.
    pub system: &'a dyn System,
    /// Store, relay and disk of this run.
    pub world: World,
    /// Ends it when it takes too long.
    pub watch: &'a Watch,
}

impl Cell<'_> {
    /// Mounts the system on this machine.
    pub fn mount(&self, host: &str, options: &[&str]) -> Box<dyn Mounted + '_> {
        let mounted = self.system.mount(&self.world, host, options);
        self.watch.add(&mounted.pids(), mounted.root());
        mounted
    }

    /// Whether it is cwdfs.
    pub fn is_ours(&self) -> bool {
        self.system.kind() == Kind::Ours
    }

    /// Whether it is a bare FUSE server, which keeps nothing: there is nothing to find elsewhere.
    pub fn is_bare(&self) -> bool {
        self.system.name().starts_with("bare")
    }

    /// Begins to count.
    pub fn meter(&self, mounted: &dyn Mounted) -> Meter<'_> {
        Meter::start(self.world.relay(), mounted.pids())
    }

    /// What the relay has seen since it was reset, and what the processes have used since they started.
    pub fn used_since_reset(&self, mounted: &dyn Mounted) -> Usage {
        Meter::since_reset(self.world.relay(), mounted.pids()).read()
    }

    /// Makes sure that the store holds at least so many bytes of cwdfs's own, which are these contents.
    pub fn bytes_are_stored(&self, sample: &mut Sample, content: u64) {
        if !self.is_ours() {
            return;
        }
        let keys = self.world.witness.keys();
        let held =
            |dir: &str| keys.iter().filter(|(key, _)| key.starts_with(dir)).map(|(_, n)| n).sum::<u64>();
        let stored = held(".cwdfs/log/") + held(".cwdfs/data/");
        assert!(stored >= content, "only {stored} bytes of {content} are in the store");
        sample.sure(format!("all {:.1} MB in log and data", content as f64 / 1e6));
    }
}

/// The peers that a quick run has for the works that a goal compares with peers.
pub const QUICK_PEERS: [&str; 3] = ["geesefs", "tigrisfs", "rclone"];

/// Whether it is one of these systems.
pub fn one_of(system: &dyn System, names: &[&str]) -> bool {
    names.contains(&system.name().as_str())
}
