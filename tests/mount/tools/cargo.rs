//! cargo builds and tests a crate with dependencies, its target directory in the tree, at the same path each
//! time. What cargo takes to be fresh depends on times to the nanosecond, also after they have come back.

use super::beside::{Beside, Times, beside, fixture, installed};
use crate::support::full;
use std::path::PathBuf;

/// The crates come from what tests/run has downloaded; nothing is asked of the network.
fn environment(both: &Beside<'_>) {
    both.set("CARGO_HOME", installed("cargo"));
    both.set("CARGO_NET_OFFLINE", "true");
    both.set("CARGO_TERM_COLOR", "never");
    // The lines of its tests come in one order.
    both.set("RUST_TEST_THREADS", "1");
    both.set("FEATURES", if full() { "--features full" } else { "" });
    // Where rustup has the toolchain, as HOME is another here.
    let home = std::env::home_dir().unwrap_or_default();
    let rustup = std::env::var_os("RUSTUP_HOME").map_or(home.join(".rustup"), PathBuf::from);
    both.set("RUSTUP_HOME", rustup);
    if let Some(toolchain) = std::env::var_os("RUSTUP_TOOLCHAIN") {
        both.set("RUSTUP_TOOLCHAIN", toolchain);
    }
}

/// Builds; says of each crate whether it was `Fresh`, `Dirty` or `Compiling`, in the order of their names, without the times.
const BUILD: &str = "cargo build --locked -v $FEATURES 2> $HOME/said || { cat $HOME/said >&2; exit 1; }
    grep -E '^ *(Fresh|Dirty|Compiling) ' $HOME/said | sed 's/): the file .*/)/' | sort";

/// Builds and runs the tests; what differs in the output by nature is how long it took.
const TEST: &str = "cargo test --locked $FEATURES 2> $HOME/said | sed -E 's/in [0-9.]+s/in some time/' \
    || { cat $HOME/said >&2; exit 1; }
    grep -E '^ *(Dirty|Compiling|Running|Doc-tests) ' $HOME/said";

/// Panics unless every crate was fresh.
#[track_caller]
fn fresh(said: &str) {
    let lines: Vec<_> = said.lines().collect();
    assert!(lines.len() >= 5 && lines.iter().all(|l| l.contains(" Fresh ")), "not all fresh:\n{said}");
}

#[test]
fn cargo_builds_tests_and_knows_what_is_fresh() {
    let work = |both: &Beside<'_>| {
        environment(both);
        both.bring(&fixture("cargo"), "");
        let said = both.run(BUILD);
        assert!(said.contains("Compiling memchr") && said.contains("Compiling tally"), "{said}");
        let said = both.run("target/debug/tally src/main.rs");
        assert_eq!(said, "Hello from the build script: 8 lines\n");
        fresh(&both.run(BUILD));
        let said = both.run(TEST);
        assert!(said.contains("its_own_source_is_counted ... ok") && !said.contains("FAILED"), "{said}");
        both.same_trees(Times::Made);

        // A change of one source compiles its crate and no other; one of what a build script reads runs that.
        let said = both.run(&format!("echo >> src/lib.rs\n{BUILD}"));
        assert!(said.contains("Dirty tally") && said.contains("Fresh memchr"), "{said}");
        both.run(&format!("echo Good day > greeting.txt\n{BUILD}"));
        assert!(both.run("target/debug/tally greeting.txt").starts_with("Good day: 1"));
        both.run(TEST);
        fresh(&both.run(BUILD));
        both.same_trees(Times::Made);
    };
    beside("cargo", &["--publish-exclude", "/target/"], work, |both| {
        environment(both);
        fresh(&both.run(BUILD));
        let said = both.run(TEST);
        assert!(!said.contains("Compiling") && !said.contains("Dirty"), "built again elsewhere:\n{said}");
        let said = both.run(&format!("touch src/main.rs\n{BUILD}"));
        assert!(said.contains("Dirty tally") && said.contains("Fresh anyhow"), "{said}");
    });
}
