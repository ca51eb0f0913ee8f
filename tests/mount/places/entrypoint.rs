//! The entrypoint of the images, as process 1 of a real container: the command runs in the session or not at all.

use super::entrypoint_volume;
use crate::support::container::Container;
use crate::support::{Tree, World, eventually};
use std::path::Path;
use std::time::Duration;

const ENTRYPOINT: &str = "/usr/local/bin/cwdfs-entrypoint";

/// To mount; and what it takes to run the command as a user, and to hand a signal on to it.
const CAPABILITIES: &str = "SYS_ADMIN,SETUID,SETGID,SETPCAP,KILL";

/// Runs the command as a user, whose the session's files are shown to be.
const AS_USER: [&str; 4] =
    ["CWDFS_RUN_AS=1234:1234", "CWDFS_UID=1234", "CWDFS_GID=1234", "CWDFS_ALLOW_OTHER=true"];

/// A container that runs a shell script through the entrypoint; `/out` is a directory of the host.
fn start<'w>(world: &'w World, store: &str, env: &[&str], script: &str) -> Container<'w> {
    let (entrypoint, store) = (entrypoint_volume(), format!("CWDFS_STORE={store}"));
    let out = format!("{}:/out", world.local("out").display());
    let caps = format!("--cap-add={CAPABILITIES}");
    let mut options =
        vec!["--cap-drop=all", &caps, "--volume", &entrypoint, "--volume", &out, "--env", &store];
    options.extend(env.iter().flat_map(|variable| ["--env", *variable]));
    Container::start(world, &options, &[ENTRYPOINT, "bash", "-euo", "pipefail", "-c", script])
}

#[test]
fn a_command_runs_in_the_session_and_all_of_it_is_stored_when_it_has_ended() {
    let world = World::with_relay("entrypoint-runs");
    let script = "test $(stat -f -c %T .) = fuseblk && git init -q . && seq 9000 > numbers
        id -u > uid; grep CapEff /proc/self/status > caps; exit 3";
    let container = start(&world, &world.store, &AS_USER, script);
    assert_eq!(container.wait(), Some(3), "the command's exit code: {}", container.log());
    drop(container);
    // It gave the session back, so nothing has to be taken over.
    let mount = world.host("a").mount(&["--lease-ttl", "1h", "--require-session"]);
    let read = |name: &str| std::fs::read_to_string(mount.path(name)).expect("what the command wrote");
    assert_eq!(read("numbers").lines().count(), 9000);
    assert_eq!(read("uid").trim(), "1234");
    assert!(read("caps").contains("0000000000000000"), "no capability for the command: {}", read("caps"));
    mount.unmount();
}

#[test]
fn a_mount_that_fails_runs_nothing() {
    let world = World::with_relay("entrypoint-fails");
    let script = "echo ran > /out/ran; echo ran > /work/ran";
    let refused = start(&world, "no-such-bucket-here:session", &[], script);
    assert_eq!(refused.wait(), Some(5), "{}", refused.log());
    assert!(refused.log().contains("is not started"), "{}", refused.log());
    world.relay().cut();
    let unreachable = start(&world, &world.store, &["CWDFS_TIMEOUT=3s"], script);
    assert_eq!(unreachable.wait(), Some(6), "{}", unreachable.log());
    world.relay().heal();
    let unnamed = start(&world, "", &[], script);
    assert_eq!(unnamed.wait(), Some(2), "{}", unnamed.log());
    assert!(!world.local("out").join("ran").exists(), "the command ran without its session");
}

#[test]
fn a_command_whose_session_is_gone_writes_nowhere() {
    let world = World::with_relay("entrypoint-gone");
    // The daemon dies; then the dead mount is taken away too.
    let script = r#"
        echo kept > kept
        kill -KILL $(grep -l '^cwdfs' /proc/[0-9]*/comm | cut -d/ -f3 | sort -n | tail -n 1)
        until ! ls /work > /dev/null 2>&1; do sleep 0.1; done
        (echo lost > /work/lost) 2> /out/dead && exit 91
        umount -l /work
        (echo lost > /work/lost) 2> /out/below && exit 92
        exit 7"#;
    let container = start(&world, &world.store, &[], script);
    // Of the unmount, which finds nothing of ours.
    assert_eq!(container.wait(), Some(5), "{}", container.log());
    let said = |name: &str| std::fs::read_to_string(world.local("out").join(name)).expect("what was said");
    assert!(said("dead").contains("Transport endpoint is not connected"), "{}", said("dead"));
    assert!(said("below").contains("Read-only file system"), "{}", said("below"));
    let mount = world.host("a").mount(&["--takeover"]);
    assert_eq!(std::fs::read_to_string(mount.path("kept")).expect("what was closed"), "kept\n");
    assert!(!mount.path("lost").exists());
    mount.unmount();
}

#[test]
fn a_stop_is_handed_to_the_command_and_then_everything_is_stored() {
    let world = World::with_relay("entrypoint-stop");
    let script = "trap 'echo told > told; exit 0' TERM; echo ready > ready; while true; do sleep 0.1; done";
    let env = [&AS_USER[..], &["CWDFS_DURABILITY=fsync", "CWDFS_COMMIT_INTERVAL=1h"]].concat();
    let container = start(&world, &world.store, &env, script);
    eventually("the command", Duration::from_secs(60), || container.path("/work/ready").exists());
    let before = Tree::of(&container.path("/work"));
    assert_eq!(container.stop(), Some(0), "{}", container.log());
    drop(container);
    let mount = world.host("a").mount(&["--lease-ttl", "1h", "--require-session"]);
    assert_eq!(std::fs::read_to_string(mount.path("told")).expect("what the trap wrote"), "told\n");
    let (after, ready) = (Tree::of(mount.root()), Path::new("ready"));
    assert_eq!(before.0.get(ready), after.0.get(ready), "what was there before the signal");
    mount.unmount();
}
