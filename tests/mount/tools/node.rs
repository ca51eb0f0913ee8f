//! npm, pnpm and yarn install a project of thousands of files, from a registry of our own, and what they
//! installed is run: a compiler and a bundler, whose output must be the local disk's.

use super::beside::{Beside, Times, beside, fixture, installed};
use crate::support::full;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

/// The package registry that the managers ask, with what the lock file names. Ends with the test.
struct Registry {
    server: Child,
    address: String,
}

impl Registry {
    fn start() -> Registry {
        let mut command = Command::new("node");
        command.arg(fixture("node/registry.mjs")).arg("serve").arg(fixture("node/project/package-lock.json"));
        command.arg(installed("node-archives")).stdout(Stdio::piped());
        let mut server = command.spawn().expect("node (tests/run installs it)");
        let mut address = String::new();
        let said = server.stdout.take().expect("it was piped");
        BufReader::new(said).read_line(&mut address).expect("read the address");
        assert!(address.starts_with("http"), "the registry said {address:?}");
        Registry { server, address: address.trim().to_owned() }
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.server.kill().expect("kill the registry");
        self.server.wait().expect("reap the registry");
    }
}

/// The project in both trees, and the environment of the managers.
fn project(both: &Beside<'_>, registry: &Registry) {
    both.bring(&fixture("node/project"), "");
    project_environment(both, &registry.address);
}

/// `$NPM`, `$PNPM`, `$YARN` and `$BERRY` run the managers, which ask this registry and nobody else. At the small
/// size they leave out what the project needs for development.
fn project_environment(both: &Beside<'_>, registry: &str) {
    let managers = installed("node/node_modules");
    for (name, program) in [
        ("NPM", "npm/bin/npm-cli.js"),
        ("PNPM", "pnpm/bin/pnpm.cjs"),
        ("YARN", "yarn/bin/yarn.js"),
        ("BERRY", "@yarnpkg/cli-dist/bin/yarn.js"),
    ] {
        both.set(name, format!("node {}", managers.join(program).display()));
    }
    for (name, value) in [
        ("registry", registry),
        ("userconfig", "/dev/null"),
        ("audit", "false"),
        ("fund", "false"),
        ("update_notifier", "false"),
    ] {
        both.set(&format!("npm_config_{name}"), value);
    }
    for (name, value) in [
        ("NPM_REGISTRY_SERVER", registry),
        ("UNSAFE_HTTP_WHITELIST", "127.0.0.1"),
        // The registry does not say when a version was published.
        ("NPM_MINIMAL_AGE_GATE", "0"),
        ("ENABLE_TELEMETRY", "0"),
        ("ENABLE_GLOBAL_CACHE", "0"),
        ("ENABLE_SCRIPTS", "1"),
    ] {
        both.set(&format!("YARN_{name}"), value);
    }
    both.set("NODE_ENV", if full() { "development" } else { "production" });
}

/// Takes out what the project needs for development, for managers that would download it all the same.
fn without_development(both: &Beside<'_>) {
    if !full() {
        let delete = r#"const p = JSON.parse(fs.readFileSync("package.json")); delete p.devDependencies;
            fs.writeFileSync("package.json", JSON.stringify(p, null, 2))"#;
        both.run(&format!("node -e '{delete}' && rm package-lock.json"));
    }
}

/// Compiles and bundles the project with what was installed, and runs both: the same output everywhere.
fn compile_and_bundle(both: &Beside<'_>) {
    let said = both.run(
        "rm -rf out
         node node_modules/typescript/bin/tsc -p . --listEmittedFiles
         node_modules/.bin/esbuild src/index.ts --bundle --platform=node --minify --sourcemap \
            --metafile=out/meta.json --outfile=out/bundle.js --log-level=error
         node out/index.js > out/said && node out/bundle.js | cmp - out/said && cat out/said postinstall.txt",
    );
    assert!(said.contains("<td>the 2</td>") && said.ends_with("42\n"), "{said}");
}

/// The managers keep what they download in the tree, as where a sandbox has its home in the session; plain
/// objects of all that are of no use to anybody. At the small size what can be installed again does not wait for
/// the store, file by file.
fn options() -> Vec<&'static str> {
    let mut options = vec!["--publish-exclude", "node_modules/", "--publish-exclude", "/.*/"];
    if !full() {
        options.extend(["--lazy", "node_modules/", "--lazy", "/.*/"]);
    }
    options
}

#[test]
fn npm_installs_and_installs_again() {
    let install = "quietly $NPM ci --cache .npm";
    let installed = "find node_modules -type f | wc -l; $NPM ls --cache .npm --all --omit=dev";
    let work = |both: &Beside<'_>| {
        let registry = Registry::start();
        project(both, &registry);
        both.run(install);
        compile_and_bundle(both);
        both.same_trees(Times::Made);
        // From its cache now, over what is there.
        both.run(install);
        let said = both.run(installed);
        assert!(said.lines().next().and_then(|n| n.parse().ok()) > Some(1500), "{said}");
        both.same_trees(Times::Made);
    };
    beside("npm", &options(), work, |both| {
        project_environment(both, "http://127.0.0.1:9");
        both.run(installed);
        compile_and_bundle(both);
    });
}

#[test]
fn pnpm_links_from_a_store_in_the_mount() {
    let install = |more: &str| format!("quietly $PNPM install --store-dir .store {more}");
    // The manager's own look at each file of the store, and how many names the files have.
    let check = "$PNPM store status --store-dir .store || true
        find node_modules/ -type f -links -2 | sort
        stat -c '%h %n' node_modules/lodash/lodash.js node_modules/typescript/lib/tsc.js
        ls -l node_modules | awk 'NR > 1 { print $1, $9, $10, $11 }'";
    let checked = |both: &Beside<'_>| {
        let said = both.run(check);
        // Its own installation script replaces the program in place, links and all; nothing else is changed.
        let changed = "These packages are modified:\nesbuild@0.21.5\n\nYou can run";
        assert!(said.contains(changed), "changed in the store: {said}");
        assert!(said.contains("\n2 node_modules/lodash/lodash.js"), "not linked from the store: {said}");
    };
    let work = |both: &Beside<'_>| {
        let registry = Registry::start();
        project(both, &registry);
        without_development(both);
        both.run(&install(""));
        compile_and_bundle(both);
        checked(both);
        both.same_trees(Times::Made);
        both.run(&format!("rm -rf node_modules\n{}", install("--offline --frozen-lockfile")));
        both.same_trees(Times::Made);
    };
    beside("pnpm", &options(), work, |both| {
        project_environment(both, "http://127.0.0.1:9");
        checked(both);
        compile_and_bundle(both);
    });
}

#[test]
fn yarn_installs_and_checks() {
    // It asks for its umask again and again, which sets it to 0 for a moment, for its other threads as well: what
    // these make then has another mode. So it is 0 all the time.
    // Its network is this machine, which may have much else to do: half a minute without a byte is no failure.
    let patient = "--network-timeout 600000";
    let install =
        |more: &str| format!("umask 0; quietly $YARN install {patient} --cache-folder .yarn {more}");
    let again = format!("rm -rf node_modules\n{}", install("--offline --frozen-lockfile"));
    let check = "quietly $YARN check --integrity && quietly $YARN check --verify-tree";
    // The programs of other systems, which are not in its cache, and which it would ask for.
    let lock_only_ours = r#"here=$(node -p 'process.platform + "-" + process.arch')
        sed -i "\,^    \"@esbuild/,{/$here\"/!d}" yarn.lock; grep -c '^    "@esbuild/' yarn.lock"#;
    let work = |both: &Beside<'_>| {
        let registry = Registry::start();
        project(both, &registry);
        without_development(both);
        both.run(&install(""));
        assert_eq!(both.run(lock_only_ours), "1\n");
        both.run(check);
        compile_and_bundle(both);
        both.same_trees(Times::Made);
    };
    beside("yarn", &options(), work, |both| {
        project_environment(both, "http://127.0.0.1:9");
        both.run(check);
        // From the cache that came back.
        both.run(&again);
        both.run(check);
        both.same_trees(Times::Made);
    });
}

#[test]
fn the_newer_yarn_links_files_that_are_the_same() {
    let install = |more: &str| format!("quietly $BERRY install {more}");
    let work = |both: &Beside<'_>| {
        let registry = Registry::start();
        project(both, &registry);
        without_development(both);
        // Files of the same content have one inode.
        both.run("printf 'nodeLinker: node-modules\nnmMode: hardlinks-local\n' > .yarnrc.yml");
        both.run(&install("--no-immutable"));
        compile_and_bundle(both);
        both.same_trees(Times::Made);
        // The second is its verifier: it downloads nothing, and fails if lock file or cache had to change.
        both.run(&format!("rm -rf node_modules\n{}", install("--immutable --immutable-cache")));
        both.same_trees(Times::Made);
    };
    beside("berry", &options(), work, |both| {
        project_environment(both, "http://127.0.0.1:9");
        both.run(&install("--immutable --immutable-cache"));
        compile_and_bundle(both);
    });
}
