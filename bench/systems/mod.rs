//! What is measured: cwdfs in its ways, the limits, and the peers; each mounts an empty tree in a world of its own.
//!
//! A system that cannot do what it shall panics, with the reason: the runner makes an error of it, never a figure.

mod bare;
mod cwdfs;
mod local;
mod peer;
mod peers;
mod raw;

pub use peers::refuse_unknown;

use crate::args::Asked;
use crate::support::World;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// What kind of system it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Kind {
    /// A local disk, or a FUSE server that does nothing else.
    Limit,
    /// No file system: a plain client of the store.
    Raw,
    /// cwdfs, in one of its ways.
    Ours,
    /// What does the same work elsewhere.
    Peer,
}

/// A file system to be measured.
pub trait System {
    /// Its name, as `--system` takes it.
    fn name(&self) -> String;

    /// What it is.
    fn kind(&self) -> Kind;

    /// What a caller may rely on while it is measured.
    fn promise(&self) -> String;

    /// Why it cannot be measured here, if it cannot.
    fn absent(&self) -> Option<String> {
        None
    }

    /// Mounts it in this world, on the machine of this name; what was stored before is there again. `options` are for
    /// cwdfs only.
    fn mount<'w>(&self, world: &'w World, host: &str, options: &[&str]) -> Box<dyn Mounted + 'w>;
}

/// A mounted file system. Dropping it takes it away.
pub trait Mounted {
    /// Its root.
    fn root(&self) -> &Path;

    /// The processes that serve it.
    fn pids(&self) -> Vec<u32>;

    /// How long it took until it answered.
    fn ready_after(&self) -> Duration;

    /// Returns once everything changed so far is in the store, and when that was so. Where a peer cannot be asked,
    /// that is when its last request was answered.
    fn settle(&self) -> Instant;

    /// Whether plain objects are made of its files by and by, mounted with these options.
    fn publishes(&self, _options: &[&str]) -> bool {
        false
    }

    /// Returns when they are.
    fn publish(&self) {}

    /// Makes sure that it is what it shall be, and says what that is.
    fn made_sure(&self) -> String {
        String::new()
    }

    /// A command as a user of this system runs it.
    fn command(&self, program: &str) -> Command {
        Command::new(program)
    }

    /// Its status, of cwdfs only.
    fn status(&self) -> Option<serde_json::Value> {
        None
    }

    /// How many files were opened in each I/O mode so far, of cwdfs only.
    fn opens(&self) -> BTreeMap<String, u64> {
        BTreeMap::new()
    }

    /// The machine is gone: killed, with everything local.
    fn lose(self: Box<Self>);

    /// Ends it as its manual says.
    fn unmount(self: Box<Self>);
}

/// Every system there is, in the order of the tables.
pub fn all(asked: &Asked) -> Vec<Box<dyn System>> {
    let mut all: Vec<Box<dyn System>> = vec![Box::new(local::Local), Box::new(raw::Raw)];
    all.extend(bare::ALL.map(|bare| Box::new(bare) as Box<dyn System>));
    all.extend(cwdfs::ALL.map(|way| Box::new(way) as Box<dyn System>));
    all.extend(peers::all(asked));
    all
}

/// The bare server in memory, for the baseline.
pub fn bare() -> impl System {
    bare::ALL[0]
}

/// Waits until something is mounted at `path` and answers; panics when `ended` says why it never will.
fn answers(path: &Path, limit: Duration, mut ended: impl FnMut() -> Option<String>) -> Duration {
    let start = Instant::now();
    let before =
        std::fs::metadata(path.parent().unwrap_or(path)).map(|m| std::os::unix::fs::MetadataExt::dev(&m));
    loop {
        let now = std::fs::metadata(path).map(|m| std::os::unix::fs::MetadataExt::dev(&m));
        if let (Ok(before), Ok(now)) = (&before, &now)
            && before != now
            && std::fs::read_dir(path).is_ok_and(|mut entries| entries.all(|entry| entry.is_ok()))
        {
            return start.elapsed();
        }
        if let Some(why) = ended() {
            panic!("{}: not mounted: {why}", path.display());
        }
        assert!(start.elapsed() < limit, "{}: not mounted within {limit:?}", path.display());
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Where a system of this host is mounted.
fn mountpoint(world: &World, host: &str) -> PathBuf {
    world.local(&format!("{host}/mnt"))
}
