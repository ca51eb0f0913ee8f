//! The local file system: what nothing that stores elsewhere can beat.

use super::{Kind, Mounted, System};
use crate::support::World;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A directory of the disk that the caches lie on too.
pub struct Local;

struct Directory(PathBuf);

impl System for Local {
    fn name(&self) -> String {
        "local".into()
    }

    fn kind(&self) -> Kind {
        Kind::Limit
    }

    fn promise(&self) -> String {
        "nothing leaves the machine".into()
    }

    fn mount<'w>(&self, world: &'w World, _host: &str, _options: &[&str]) -> Box<dyn Mounted + 'w> {
        Box::new(Directory(world.local("tree")))
    }
}

impl Mounted for Directory {
    fn root(&self) -> &Path {
        &self.0
    }

    fn pids(&self) -> Vec<u32> {
        Vec::new()
    }

    fn ready_after(&self) -> Duration {
        Duration::ZERO
    }

    fn settle(&self) -> Instant {
        Instant::now()
    }

    fn lose(self: Box<Self>) {
        // Another machine would have to read from its disk: the page cache of these files goes.
        rustix::fs::sync();
        crate::shell::drop_caches();
    }

    fn unmount(self: Box<Self>) {}
}
