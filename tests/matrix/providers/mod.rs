//! Where sandboxes run. A sandbox mounts the session, runs an agent in it, and ends: told to, or not.
//!
//! Invariants:
//! - the session is at the same path in each sandbox of a provider, since agents tell conversations apart by it;
//! - when a sandbox has ended, nothing of it is left but what is in the store: no process, no cache.

mod container;
mod local;

use crate::agents::Setup;
use crate::support::{Ran, Tree, World};
use std::path::PathBuf;

/// A kind of sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// This machine: a daemon, and processes in a process and mount namespace of their own.
    Local,
    /// podman with runc, its default seccomp profile, and CAP_SYS_ADMIN and no other capability.
    Container,
}

/// A running sandbox with the session mounted.
pub trait Sandbox {
    /// Runs a command line in the session, with the agent's environment, to its end and that of all it left behind.
    fn run(&self, setup: &Setup, command: &[String]) -> Ran;

    /// A path of the session as the host sees it.
    fn path(&self, name: &str) -> PathBuf;

    /// `cwdfs COMMAND OPTIONS MOUNTPOINT`.
    fn cwdfs(&self, command: &str, options: &[&str]) -> Ran;

    /// Ends it as told: unmounted, everything stored.
    fn unmount(self: Box<Self>);

    /// SIGKILL for all its processes, the daemon among them; its cache is thrown away.
    fn kill(self: Box<Self>);

    /// The session's tree as it is now.
    fn tree(&self) -> Tree {
        Tree::of(&self.path(""))
    }
}

impl Provider {
    /// All of them.
    pub const ALL: [Provider; 2] = [Provider::Local, Provider::Container];

    /// The session's path in the sandboxes.
    pub fn cwd(self, world: &World) -> String {
        match self {
            Provider::Local => local::cwd(world).to_str().expect("the tests' paths are text").to_owned(),
            Provider::Container => container::CWD.to_owned(),
        }
    }

    /// Starts a sandbox that nobody has used before and mounts the session in it.
    pub fn start<'w>(self, world: &'w World, name: &str, options: &[&str]) -> Box<dyn Sandbox + 'w> {
        match self {
            Provider::Local => Box::new(local::Local::start(world, name, options)),
            Provider::Container => Box::new(container::InContainer::start(world, options)),
        }
    }
}

/// A word as a shell takes it literally.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A shell line that runs `command` with nothing in its environment but this, programs of `tools` first.
fn line(tools: &str, setup: &Setup, command: &[String]) -> String {
    let path = format!("PATH={tools}/node_modules/.bin:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
    let env = setup.env.iter().map(|(name, value)| format!("{name}={value}"));
    let fixed = [path, "LANG=C.UTF-8".to_owned(), "TERM=dumb".to_owned()];
    let words = fixed.into_iter().chain(env).chain(command.iter().cloned());
    format!("env -i {}", words.map(|word| quoted(&word)).collect::<Vec<_>>().join(" "))
}
