//! This machine as a sandbox: the daemon has a cache of its own, and what runs in the session sees it at a path that
//! is the same for all sandboxes of a world, in namespaces that end with the command.

use super::{Sandbox, line, quoted};
use crate::agents::{Setup, installed};
use crate::support::mount::Mount;
use crate::support::{Ran, World};
use std::path::PathBuf;
use std::process::Command;

/// The session's path.
pub fn cwd(world: &World) -> PathBuf {
    world.local("cwd")
}

/// A sandbox on this machine.
pub struct Local<'w> {
    mount: Mount<'w>,
    cwd: PathBuf,
}

impl<'w> Local<'w> {
    /// Mounts the session on host `name`.
    pub fn start(world: &'w World, name: &str, options: &[&str]) -> Local<'w> {
        Local { mount: world.host(name).mount(options), cwd: cwd(world) }
    }
}

impl Sandbox for Local<'_> {
    fn run(&self, setup: &Setup, command: &[String]) -> Ran {
        let tools = installed();
        let cwd = quoted(&self.cwd.display().to_string());
        let mounted = quoted(&self.mount.root().display().to_string());
        let run = line(&tools.display().to_string(), setup, command);
        // Process 1 of its namespace: when it ends, so does all that the command left behind.
        let script = format!("mount --bind {mounted} {cwd} && cd {cwd} && {run}");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "bash", "-c", &script]);
        Ran::of(&mut unshare)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.mount.path(name)
    }

    fn cwdfs(&self, command: &str, options: &[&str]) -> Ran {
        self.mount.run(command, options)
    }

    fn unmount(self: Box<Self>) {
        self.mount.unmount();
    }

    fn kill(self: Box<Self>) {
        self.mount.lose_machine();
    }
}
