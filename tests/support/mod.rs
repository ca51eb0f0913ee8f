//! What the tests on a real mount stand on: the store they share, a relay that makes it bad, a world and
//! hosts for each test, the mounted daemon, tree snapshots, and a second S3 client as a witness.
//!
//! Nothing here uses cwdfs's own code: the binary is looked at from outside only.

pub mod container;
pub mod descriptors;
pub mod disk;
pub mod issuer;
pub mod machine;
pub mod mount;
pub mod network;
pub mod ran;
pub mod reboot;
pub mod relay;
pub mod seaweed;
pub mod story;
pub mod tree;
pub mod user;
pub mod way;
pub mod witness;
pub mod world;

pub use disk::Disk;
pub use ran::{Ran, bash, run_by, sh};
pub use story::{Story, same_as_ext4};
pub use tree::Tree;
pub use world::{World, full};

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::{Duration, Instant};

/// A program that tests/run installs: of the directory that `variable` names, or of `place` in the project. Panics
/// when it is not there.
pub fn installed(variable: &str, place: &str, name: &str) -> PathBuf {
    let dir = match std::env::var_os(variable) {
        Some(dir) => PathBuf::from(dir),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join(place),
    };
    let path = dir.join(name);
    assert!(path.is_file(), "{} is missing: tests/run installs it", path.display());
    path
}

/// Has each panic told where and when it happens too: the test runner keeps what a test printed to its end, after which
/// nobody knows what else went on at that moment.
pub fn tell_panics_at_once() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let thread = std::thread::current();
            // Not captured, as what `eprintln` prints is. Without an error output there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "== {} {panic}", thread.name().unwrap_or("a thread"));
            usual(panic);
        }));
    });
}

/// Waits until `done`; panics, naming `what`, when `limit` passes first.
#[track_caller]
pub fn eventually(what: &str, limit: Duration, done: impl Fn() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < limit, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
