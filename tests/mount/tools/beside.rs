//! The same commands on a mount and on a local disk, one after the other and at the same path: each run has a
//! mount namespace of its own in which its tree lies there, so that the paths tools write down are equal too.
//! What the commands print must be equal, and the trees afterwards, but for what [`BY_NATURE`] lists.

use crate::support::mount::Mount;
use crate::support::way::{Way, comes_back, no_error_logged};
use crate::support::{Ran, Tree, World, tree::Entry};
use ignore::gitignore::{Gitignore, GitignoreBuilder};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is not compared of an entry that differs between two runs on any file system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Differs {
    /// Not even its name, nor what is below it.
    Name,
    /// Its bytes and their number.
    Content,
}
use Differs::{Content, Name};

/// What differs between two runs of the same tool by nature: gitignore patterns, and why. Modification times are
/// compared only by tests that set them ([`Beside::same_trees`] takes which); change times, inode numbers and
/// the places of holes never, between file systems. After the machine was lost everything is.
const BY_NATURE: &[(&str, Differs, &str)] = &[
    ("/.npm/", Name, "npm's cache: names with the time in them, and when each was fetched"),
    ("/node_modules/.modules.yaml", Content, "pnpm notes when it pruned"),
    ("/node_modules/.pnpm-workspace-state*.json", Content, "pnpm notes when it looked"),
    ("/.store/**/*-index.json", Content, "pnpm notes when it checked each file"),
    (
        "/.yarn/install-state.gz",
        Content,
        "the newer yarn's own state, in an order and compression of the moment",
    ),
    (".yarn-metadata.json", Content, "yarn notes where the cache was asked"),
    ("/.uv/", Name, "uv draws the names of what it has unpacked"),
    ("/out/*.tar", Content, "tar notes its process id and the times of access and change"),
    ("/out/*.tgz", Content, "the same"),
    ("/.*.un~", Content, "vim notes the time of each change"),
    ("/target/.rustc_info.json", Content, "cargo writes a hash map in any order"),
    ("/target/debug/.fingerprint/*/dep-*", Content, "the same, of the files that a crate was made of"),
    ("/target/debug/**/libtally*.rlib", Content, "rustc's incremental sessions name the parts"),
    ("/target/debug/incremental/", Name, "rustc draws the names of its sessions"),
];

/// What every script may call.
const PRELUDE: &str = r#"quietly() { "$@" > "$HOME/said" 2>&1 || { cat "$HOME/said" >&2; return 1; }; }"#;

/// Which times two trees have to agree in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Times {
    /// None: the tool leaves them to the file system.
    Made,
    /// Those of everything: the tool sets them.
    OfAll,
}

/// A mount and a local directory on which the same is done.
pub struct Beside<'w> {
    world: &'w World,
    options: Vec<&'static str>,
    mount: Option<Mount<'w>>,
    local: PathBuf,
    place: PathBuf,
    home: PathBuf,
    variables: RefCell<Vec<(String, OsString)>>,
}

/// Does `work` in each way that the seed draws, then once more compares the trees after the machine was lost, and
/// does `after` on what came back elsewhere.
pub fn beside(name: &str, options: &[&'static str], work: impl Fn(&Beside<'_>), after: impl Fn(&Beside<'_>)) {
    for way in Way::drawn(name) {
        println!("{name}: {way}");
        let world = World::with_relay(&format!("{name}-{way}"));
        // Thousands of files wait for the store, which may be slow on a loaded machine.
        let options = way.options(&[options, &["--timeout", "600s"]].concat());
        let mount = world.host("a").mount(&options);
        let (local, place, home) = (world.local("tree"), world.local("place"), world.local("home"));
        let variables = RefCell::default();
        let mut both = Beside { world: &world, options, mount: Some(mount), local, place, home, variables };
        work(&both);
        both.lose_machine();
        after(&both);
        both.end();
    }
}

impl<'w> Beside<'w> {
    /// The test's world.
    pub fn world(&self) -> &'w World {
        self.world
    }

    /// The root of the mounted tree.
    pub fn mounted(&self) -> &Path {
        self.mount.as_ref().expect("mounted until the end").root()
    }

    /// The root of the local tree.
    pub fn local(&self) -> &Path {
        &self.local
    }

    /// Sets an environment variable for every command from now on.
    pub fn set(&self, name: &str, value: impl Into<OsString>) {
        self.variables.borrow_mut().push((name.to_owned(), value.into()));
    }

    /// Copies a file or directory of the fixtures, or any other, into both trees, times included.
    pub fn bring(&self, from: &Path, name: &str) {
        for root in [self.local(), self.mounted()] {
            Ran::of(Command::new("cp").arg("-rT").arg(from).arg(root.join(name))).ok();
        }
    }

    /// Runs a bash script on both, `-euo pipefail`, in the root of the tree. Both must succeed and print the
    /// same; returns what. In scripts, `quietly COMMAND` shows the output only of a command that fails.
    #[track_caller]
    pub fn run(&self, script: &str) -> String {
        let (local, mounted) = self.each(script);
        let differing = differing_lines(&local, &mounted);
        assert!(
            differing.is_empty(),
            "not what the local disk (-) shows, but (+):\n{differing}\nof {script}"
        );
        mounted
    }

    /// The same where the outputs differ by nature: those on the local disk and on the mount.
    #[track_caller]
    pub fn each(&self, script: &str) -> (String, String) {
        let local = self.at(&self.local, script).ok();
        let mounted = self.at(self.mounted(), script).ok();
        let label = script.trim().lines().next().unwrap_or_default();
        println!("  {:6.1?} local, {:6.1?} mounted: {label}", local.took, mounted.took);
        (local.out, mounted.out)
    }

    /// Runs a script with `root` at the common place.
    fn at(&self, root: &Path, script: &str) -> Ran {
        Ran::of(&mut self.command(root, script))
    }

    fn command(&self, root: &Path, script: &str) -> Command {
        let mut command = Command::new("unshare");
        let enter = r#"mount --bind "$0" "$1" && cd "$1" && exec bash -euo pipefail -c "$2""#;
        let script = format!("{PRELUDE}\n{script}");
        command.args(["--mount", "bash", "-c", enter]).arg(root).arg(&self.place).arg(script);
        // Nothing of the machine's or the user's settings, and nothing of the cargo that runs the tests.
        command.env_clear().env("HOME", &self.home).env("LANG", "C.UTF-8").env("TZ", "UTC");
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.envs(self.variables.borrow().iter().map(|(name, value)| (name, value)));
        command
    }

    /// Panics where the two trees differ, `times` included.
    #[track_caller]
    pub fn same_trees(&self, times: Times) {
        let tree = |root: &Path| comparable(&Tree::of(root).elsewhere(), root, times);
        let local = tree(&self.local);
        println!("  {} names compared", local.0.len());
        local.assert_same(&tree(self.mounted()), "the mount's tree and the local disk's");
    }

    /// Loses the machine and goes on elsewhere; everything has to be as it was.
    fn lose_machine(&mut self) {
        let mount = self.mount.take().expect("mounted until the end");
        self.mount = Some(comes_back(self.world, mount, "b", &self.options));
    }

    fn end(mut self) {
        let mount = self.mount.take().expect("mounted until the end");
        no_error_logged(&mount);
        mount.unmount();
    }
}

/// The lines that are in one of two outputs only, as a diff shows them; of different order alone, all.
fn differing_lines(local: &str, mounted: &str) -> String {
    if local == mounted {
        return String::new();
    }
    let only = |sign: char, a: &str, b: &str| {
        let lines = a.lines().filter(|line| !b.lines().any(|other| other == *line));
        lines.map(|line| format!("{sign} {line}\n")).collect::<String>()
    };
    let lines = only('-', local, mounted) + &only('+', mounted, local);
    if lines.is_empty() { format!("- in this order: {local}\n+ in this order: {mounted}") } else { lines }
}

/// The tree without what differs by nature.
fn comparable(tree: &Tree, root: &Path, times: Times) -> Tree {
    let (names, contents) = (patterns(root, Name), patterns(root, Content));
    let listed = |list: &Gitignore, name: &Path, entry: &Entry| {
        list.matched_path_or_any_parents(name, entry.kind == "dir").is_ignore()
    };
    let kept = tree.0.iter().filter(|(name, entry)| !listed(&names, name, entry));
    // Names come in order: the first that is kept stands for those that are linked with it.
    let mut first_kept = BTreeMap::new();
    let entries = kept.map(|(name, entry)| {
        let mut entry = entry.clone();
        entry.same_as = first_kept.entry(entry.same_as).or_insert_with(|| name.clone()).clone();
        if listed(&contents, name, &entry) {
            (entry.size, entry.content) = (0, None);
        }
        if times == Times::Made {
            entry.mtime = (0, 0);
        }
        (name.clone(), entry)
    });
    Tree(entries.collect())
}

fn patterns(root: &Path, differs: Differs) -> Gitignore {
    let mut builder = GitignoreBuilder::new(root);
    for (pattern, _, _) in BY_NATURE.iter().filter(|(_, what, _)| *what == differs) {
        builder.add_line(None, pattern).unwrap_or_else(|e| panic!("{pattern}: {e}"));
    }
    builder.build().expect("the patterns are fixed")
}

/// A file of the fixtures.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/mount/tools/fixtures").join(name)
}

/// What tests/run has installed into the target folder under this name.
#[track_caller]
pub fn installed(name: &str) -> PathBuf {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("it is inside target");
    let path = target.join("tools").join(name);
    assert!(path.exists(), "{} is missing: `tests/install` puts it there", path.display());
    path
}
