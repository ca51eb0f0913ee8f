//! Real tools at work: each step until the tool has ended, and until the store has all; then another machine finds
//! the same tree.

mod registry;
mod scripts;

use super::{Cell, Work};
use crate::sample::{Sample, Unit};
use crate::systems::{Kind, Mounted, System};
use crate::{shell, walk};
use registry::Registry;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

/// A tool's story: what is run, step by step, in the root of the tree.
pub struct Story {
    /// Each step's name and script (bash, `-e`).
    pub steps: &'static [(&'static str, &'static str)],
    /// Mount options of cwdfs.
    pub options: &'static [&'static str],
    /// It asks a registry of packages.
    pub registry: bool,
}

const fn work(name: &'static str, title: &'static str, run: fn(&Cell<'_>, &mut Sample)) -> Work {
    Work { name, title, takes, rounds: (1, 5), run }
}

/// The works.
pub const GIT: Work = Work {
    // What any FUSE file system takes for it.
    takes: |system, quick| system.name() == "bare" || takes(system, quick),
    rounds: (2, 7),
    ..work("git", "git: clone of 138 files, a commit, status", |cell, sample| {
        run(cell, &scripts::GIT, sample)
    })
};
/// See [`scripts::NPM`].
pub const NPM: Work = work("npm", "npm ci, packages from a registry on this machine", |cell, sample| {
    run(cell, &scripts::NPM, sample)
});
/// The same with plain objects of everything.
pub const NPM_VIEW: Work = Work {
    takes: |system, _| system.name() == "cwdfs-fsync",
    rounds: (1, 1),
    ..work("npm-view", "npm ci, and a plain object of each file", |cell, sample| {
        run(cell, &scripts::NPM_VIEW, sample)
    })
};
/// See [`scripts::PNPM`].
pub const PNPM: Work = work("pnpm", "pnpm install, its store in the tree, hard links", |cell, sample| {
    run(cell, &scripts::PNPM, sample)
});
/// See [`scripts::UV`].
pub const UV: Work = Work {
    takes: |system, quick| !quick && takes(system, quick),
    ..work("uv", "uv pip install, its cache in the tree, hard links", |cell, sample| {
        run(cell, &scripts::UV, sample)
    })
};
/// See [`scripts::CARGO`].
pub const CARGO: Work =
    work("cargo", "cargo build, its target in the tree", |cell, sample| run(cell, &scripts::CARGO, sample));
/// See [`scripts::AGENT`].
pub const AGENT: Work = Work {
    takes: |system, quick| !quick && takes(system, quick),
    ..work(
        "agent",
        "an agent's hour in small: reads, greps, edits, tests, git, a transcript",
        |cell, sample| run(cell, &scripts::AGENT, sample),
    )
};

fn takes(system: &dyn System, quick: bool) -> bool {
    match system.kind() {
        Kind::Limit => system.name() == "local",
        Kind::Raw => false,
        Kind::Ours => system.name() == "cwdfs-fsync" || (!quick && system.name() == "cwdfs-batch"),
        Kind::Peer => !quick,
    }
}

/// The measure of a step, until the tool has ended.
pub fn ended(step: &str) -> String {
    format!("{step}, the caller goes on")
}

/// The measure of a step, until the store has all.
pub fn stored(step: &str) -> String {
    format!("{step}, all in the store")
}

/// Files there are at the end.
pub const FILES: &str = "files at the end";

fn run(cell: &Cell<'_>, story: &Story, sample: &mut Sample) {
    let registry = story.registry.then(Registry::start);
    let mounted = cell.mount("a", story.options);
    let home = cell.world.local("home");
    for (step, script) in story.steps {
        let mut command = mounted.command("bash");
        command.args(["-ec", script]).current_dir(mounted.root());
        environment(&mut command, &home, registry.as_ref());
        let meter = cell.meter(mounted.as_ref());
        let start = Instant::now();
        let took = shell::timed(&mut command);
        sample.add(ended(step), Unit::Seconds, took.as_secs_f64());
        let all = mounted.settle() - start;
        if mounted.publishes(story.options) {
            mounted.publish();
        }
        sample.add_with(stored(step), Unit::Seconds, all.as_secs_f64(), meter.read());
    }
    sample.sure(mounted.made_sure());
    match cell.is_bare() {
        true => mounted.unmount(),
        false => comes_back(cell, mounted, sample),
    }
}

/// Another machine finds the tree as it was.
fn comes_back<'c>(cell: &'c Cell<'_>, mounted: Box<dyn Mounted + 'c>, sample: &mut Sample) {
    let before = walk::listing(mounted.root());
    sample.add(FILES, Unit::Count, before.len() as f64);
    mounted.lose();
    let mounted = cell.mount("b", &["--no-publish", "--takeover"]);
    let after = walk::listing(mounted.root());
    let (gone, new) = (before.difference(&after).next(), after.difference(&before).next());
    assert!(gone.is_none() && new.is_none(), "another machine does not find {gone:?}, but {new:?}");
    sample.sure(format!("all {} files as they were, on another machine", before.len()));
    mounted.unmount();
}

/// What the scripts use, and nothing of the user's own settings.
fn environment(command: &mut Command, home: &Path, registry: Option<&Registry>) {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mount/tools/fixtures");
    let user = std::env::home_dir().unwrap_or_default();
    let rustup = std::env::var_os("RUSTUP_HOME").map_or(user.join(".rustup"), PathBuf::from);
    command.env("HOME", home).env("RUSTUP_HOME", rustup).env("CARGO_HOME", tools.join("cargo"));
    command.env_remove("CARGO_TARGET_DIR").env("CARGO_NET_OFFLINE", "true");
    command.env("TOOLS", &tools).env("FIXTURES", &fixtures).env("NODE_ENV", "production");
    command.env("REPOSITORY", crate::sources::repository());
    if let Some(registry) = registry {
        command.env("npm_config_registry", registry.address()).env("npm_config_userconfig", "/dev/null");
    }
    for name in ["audit", "fund", "update_notifier"] {
        command.env(format!("npm_config_{name}"), "false");
    }
}
