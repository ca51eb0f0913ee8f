//! A container as a sandbox: a root file system of its own, the agents beside it, the cache on its overlay.

use super::{Sandbox, line, quoted};
use crate::agents::{Setup, installed};
use crate::support::container::Container;
use crate::support::{Ran, World};
use std::path::PathBuf;

/// The session's path.
pub const CWD: &str = "/work";

/// Where the agents are.
const TOOLS: &str = "/opt/agents";

/// A sandbox in a container.
pub struct InContainer<'w> {
    container: Container<'w>,
    world: &'w World,
}

impl<'w> InContainer<'w> {
    /// Starts a container and mounts the session in it.
    pub fn start(world: &'w World, options: &[&str]) -> InContainer<'w> {
        let tools = format!("{}:{TOOLS}:ro", installed().display());
        let least = ["--cap-drop", "all", "--cap-add", "SYS_ADMIN", "--volume", &tools];
        let container = Container::start(world, &least, &["sleep", "infinity"]);
        container.mount(&options.join(" "), CWD).ok();
        InContainer { container, world }
    }
}

impl Sandbox for InContainer<'_> {
    fn run(&self, setup: &Setup, command: &[String]) -> Ran {
        let run = line(TOOLS, setup, command);
        let alone = format!("cd {CWD} && {run}");
        self.container.run(&format!("unshare --pid --fork --kill-child bash -c {}", quoted(&alone)))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.container.path(CWD).join(name)
    }

    fn cwdfs(&self, command: &str, options: &[&str]) -> Ran {
        self.container.run(&format!("cwdfs {command} {} {CWD}", options.join(" ")))
    }

    fn unmount(self: Box<Self>) {
        self.cwdfs("unmount", &[]).ok();
    }

    fn kill(self: Box<Self>) {
        self.container.lose();
        self.world.relay().drop_held();
    }
}
