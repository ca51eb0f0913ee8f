//! The ways a session is mounted that every suite is run in, the seed that draws one of them, and how a tree
//! is shown to come back after its machine was lost.

use super::mount::Mount;
use super::tree::Tree;
use super::world::{World, full};
use std::fmt;
use std::sync::OnceLock;

/// One way to mount a session: what waits for the store, and who does the I/O of large files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Way {
    /// `--durability`: `close` or `fsync`.
    pub level: &'static str,
    /// Whether large files may bypass the daemon.
    pub passthrough: bool,
}

impl Way {
    /// Every combination.
    pub const ALL: [Way; 4] = [
        Way { level: "close", passthrough: true },
        Way { level: "close", passthrough: false },
        Way { level: "fsync", passthrough: true },
        Way { level: "fsync", passthrough: false },
    ];

    /// The ways a tool is run in: the one that the seed draws, or all of them at full size. `of` tells the
    /// tools apart, so that a run of all of them covers all ways.
    pub fn drawn(of: &str) -> Vec<Way> {
        if full() {
            return Way::ALL.to_vec();
        }
        let hash = blake3::hash(format!("{} {of}", seed()).as_bytes());
        vec![Way::ALL[usize::from(hash.as_bytes()[0]) % Way::ALL.len()]]
    }

    /// The mount options that make it so, and `more`. Passthrough is demanded: a mount without it fails.
    pub fn options<'a>(&self, more: &[&'a str]) -> Vec<&'a str> {
        let passthrough = if self.passthrough { "on" } else { "off" };
        [&["--durability", self.level, "--passthrough", passthrough], more].concat()
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.level, if self.passthrough { "passthrough" } else { "daemon" })
    }
}

/// The seed of this run, printed once: `CWDFS_TEST_SEED`, or a fresh one.
pub fn seed() -> u64 {
    static SEED: OnceLock<u64> = OnceLock::new();
    *SEED.get_or_init(|| {
        let seed = match std::env::var("CWDFS_TEST_SEED") {
            Ok(seed) => seed.parse().expect("CWDFS_TEST_SEED is a number"),
            Err(_) => rand::random(),
        };
        eprintln!("CWDFS_TEST_SEED={seed}");
        seed
    })
}

/// Commits everything, loses the machine (SIGKILL, cache wiped, requests under way dropped), mounts the
/// session on host `next`, and compares the trees: names, bytes, types, modes, owners, links, inode numbers,
/// times, xattrs and ACLs, holes, targets. Needs a world with a relay. What the daemon logged until then must
/// not have an error in it.
#[track_caller]
pub fn comes_back<'w>(world: &'w World, mount: Mount<'w>, next: &str, options: &[&str]) -> Mount<'w> {
    mount.flush();
    let before = Tree::of(mount.root());
    no_error_logged(&mount);
    mount.lose_machine();
    let mount = world.host(next).mount(&[options, &["--takeover"]].concat());
    before.assert_same(&Tree::of(mount.root()), "after the machine was lost");
    mount
}

/// Panics with the first error in the daemon's log.
#[track_caller]
pub fn no_error_logged(mount: &Mount<'_>) {
    let log = mount.log();
    let error = log.lines().find(|line| line.contains("ERROR") || line.contains("panicked"));
    assert!(error.is_none(), "the daemon logged {error:?}");
}
