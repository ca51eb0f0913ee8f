//! Environments made by venv, pip and uv, compiled and run: the packages' own records of their files are the
//! first oracle, the same on a local disk the second.

use super::beside::{Beside, Times, beside, fixture, installed};
use crate::support::full;

/// The environment of the scripts, the second time round too: `$PYTHON` is the one that tests/run found, `$UV` is
/// uv, `$WHEELS` are the packages, so that there is no network.
fn environment(both: &Beside<'_>) {
    let python = installed("python/bin");
    both.set("PYTHON", python.join("python"));
    both.set("UV", python.join("uv"));
    both.set("WHEELS", installed("wheels"));
    both.set("REQUIREMENTS", if full() { "-r requirements.txt -r more.txt" } else { "-r requirements.txt" });
    both.set("PIP_CONFIG_FILE", "/dev/null");
    both.set("PIP_DISABLE_PIP_VERSION_CHECK", "1");
    both.set("PYTHONDONTWRITEBYTECODE", "1");
    // What pip and uv compile carries a hash of the source and not its time, so that it can be compared.
    both.set("SOURCE_DATE_EPOCH", "1700000000");
    both.set("PYTHONHASHSEED", "0");
}

/// Every installed file as its package recorded it, and what the installer says of it all.
fn check(both: &Beside<'_>, environment: &str, installer: &str) {
    let said = both.run(&format!(
        "{environment}/bin/python installed.py && {installer} check && {installer} freeze
         {environment}/bin/python -c 'import rich, pytest; print(rich.__file__)'"
    ));
    assert!(said.contains("files as recorded") && said.contains("requests=="), "{said}");
}

/// The view of an environment is of no use to anybody; at the small size it does not wait for the store, file by
/// file.
fn options() -> Vec<&'static str> {
    let mut options = vec!["--publish-exclude", ".venv*/", "--publish-exclude", "/.uv/"];
    if !full() {
        options.extend(["--lazy", ".venv*/", "--lazy", "/.uv/"]);
    }
    options
}

/// Compiles by time stamp, as Python does by itself.
const COMPILE: &str = "python -m compileall -j 2 --invalidation-mode timestamp";

#[test]
fn venv_pip_compileall_and_pytest() {
    let work = |both: &Beside<'_>| {
        environment(both);
        both.bring(&fixture("python"), "");
        both.run("$PYTHON -m venv .venv");
        both.run("quietly .venv/bin/pip install --no-index --find-links $WHEELS $REQUIREMENTS");
        check(both, ".venv", ".venv/bin/pip");
        both.same_trees(Times::Made);

        // The compiled files name the times of their sources, so that those are made equal first.
        both.run("find .venv project -name '*.py' -exec touch -d @1700000000.123456789 {} +");
        both.run(&format!("quietly .venv/bin/{COMPILE} -f .venv project"));
        both.same_trees(Times::Made);
        pytest(both);
        both.same_trees(Times::Made);
    };
    beside("python", &options(), work, |both| {
        environment(both);
        check(both, ".venv", ".venv/bin/pip");
        // Whether a compiled file is stale is told from the times of the sources, which have come back.
        let said = both.run(&format!(".venv/bin/{COMPILE} .venv project | sort"));
        assert!(said.contains("Listing") && !said.contains("Compiling"), "compiled again: {said}");
        let again = both.run(&TEST.replace("$ARGUMENTS", "--cache-show"));
        assert!(again.contains("test_fails_when_told_to"), "what pytest knows of the last run: {again}");
    });
}

/// Runs the tests; what differs in the output by nature is how long they took.
const TEST: &str = "cd project && PYTHONDONTWRITEBYTECODE= COLUMNS=100 ../.venv/bin/pytest $ARGUMENTS \
    --basetemp=../.temporary 2>&1 | sed -E 's/in [0-9.]+s/in some time/'";

/// Twice, with a test that fails, and then only what failed last.
fn pytest(both: &Beside<'_>) {
    let run = |before: &str, arguments: &str| {
        both.run(&format!("{before} {}", TEST.replace("$ARGUMENTS", arguments)))
    };
    assert!(run("", "-q").contains("22 passed"));
    let failing = run("set +o pipefail; export FAIL=1;", "-q");
    assert!(failing.contains("1 failed, 21 passed"), "{failing}");
    let last = run("", "--lf -v");
    assert!(last.contains("1 passed") && last.contains("test_fails_when_told_to PASSED"), "{last}");
    let failing = run("set +o pipefail; export FAIL=1;", "-q --ff -x");
    assert!(failing.contains("1 failed"), "{failing}");
}

#[test]
fn uv_links_from_a_cache_in_the_mount() {
    let install = "quietly $UV pip install --offline --no-index --find-links $WHEELS --link-mode hardlink $REQUIREMENTS";
    let links = "stat -c %h .venv/lib/python*/site-packages/rich/console.py
        find .venv/lib -name '*.py' -links -3 ! -name '_virtualenv.py' | sort";
    let uv = |both: &Beside<'_>| {
        environment(both);
        both.set("UV_CACHE_DIR", ".uv");
        both.set("UV_NO_CONFIG", "1");
        both.set("UV_PYTHON_DOWNLOADS", "never");
    };
    let work = |both: &Beside<'_>| {
        uv(both);
        both.bring(&fixture("python"), "");
        both.run("quietly $UV venv --python $PYTHON .venv && quietly $UV venv --python $PYTHON .venv2");
        both.run(&format!("export VIRTUAL_ENV=.venv; {install}"));
        both.run(&format!("export VIRTUAL_ENV=.venv2; {install}"));
        assert_eq!(both.run(links), "3\n", "one name in the cache and one in each environment");
        check(both, ".venv", "env VIRTUAL_ENV=.venv $UV pip");
        both.same_trees(Times::Made);
        both.run("export VIRTUAL_ENV=.venv2; quietly $UV pip uninstall rich pygments");
        both.same_trees(Times::Made);
    };
    beside("uv", &options(), work, |both| {
        uv(both);
        check(both, ".venv", "env VIRTUAL_ENV=.venv $UV pip");
        // From the cache that came back, links again.
        both.run(&format!("export VIRTUAL_ENV=.venv2; {install}"));
        assert_eq!(both.run(links), "3\n");
        both.same_trees(Times::Made);
    });
}
