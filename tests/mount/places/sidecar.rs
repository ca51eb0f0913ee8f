//! A daemon in one container and an agent in another, as a pod has them: the mount reaches the agent's container by
//! propagation, and no end of either lets the agent write to a directory that is thrown away.

use super::entrypoint_volume;
use crate::support::container::Container;
use crate::support::{Tree, World, eventually, sh};
use std::path::PathBuf;
use std::time::Duration;

/// A directory whose mounts spread to the containers that have it, and from them; like a pod's emptyDir.
struct Volume(PathBuf);

impl Volume {
    fn new(world: &World) -> Volume {
        let dir = world.local("volume");
        sh(&dir, "mount --bind . . && mount --make-private . && mount --make-shared .");
        Volume(dir)
    }

    fn session(&self) -> PathBuf {
        self.0.join("work")
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // From within it would be busy; what is not mounted any more is what we want.
        let lazily = ["--recursive", "--lazy"];
        let _ = std::process::Command::new("umount").args(lazily).arg(&self.0).status();
    }
}

/// Serves the world's session below the volume.
fn sidecar<'w>(world: &'w World, volume: &Volume, options: &[&str]) -> Container<'w> {
    let (entrypoint, store) = (entrypoint_volume(), format!("CWDFS_STORE={}", world.store));
    let shared = format!("{}:/session:rshared", volume.0.display());
    let fixed = [
        &["--cap-drop", "all", "--cap-add", "SYS_ADMIN", "--volume", &entrypoint, "--volume", &shared][..],
        &["--env", &store, "--env", "CWDFS_MOUNTPOINT=/session/work", "--env", "CWDFS_ALLOW_OTHER=true"],
    ];
    let options = [&fixed.concat()[..], options].concat();
    Container::start(world, &options, &["/usr/local/bin/cwdfs-entrypoint"])
}

/// Where an agent would work: no capability at all.
fn agent<'w>(world: &'w World, volume: &Volume) -> Container<'w> {
    let received = format!("{}:/session:rslave", volume.0.display());
    Container::start(world, &["--cap-drop", "all", "--volume", &received], &["sleep", "infinity"])
}

fn wait_for_session(agent: &Container<'_>) {
    eventually("the session in the agent's container", Duration::from_secs(60), || {
        agent.run("stat -f -c %T /session/work | grep -q fuse").code == Some(0)
    });
}

/// An attempt of the agent to write where the session was; it has to fail, with these words.
fn refused(agent: &Container<'_>, words: &str) {
    let ran = agent.run("echo lost > /session/work/lost");
    assert!(ran.code != Some(0) && ran.err.contains(words), "expected {words:?} of {ran}");
}

const WORK: &str = "cd /session/work && git init -q -b main r && cd r && seq 5000 > n && git add n
    git -c user.name=T -c user.email=t@example.com commit -q -m one && mkdir -p d/e && ln -s ../n d/link";

fn same_on_a_host(world: &World, options: &[&str], before: &Tree) {
    let mount = world.host("a").mount(options);
    before.assert_same(&Tree::of(mount.root()), "on a host");
    assert!(!mount.path("lost").exists());
    mount.unmount();
}

#[test]
fn an_agent_works_in_it_and_when_the_sidecar_is_stopped_all_is_stored() {
    let world = World::with_relay("sidecar-stopped");
    let volume = Volume::new(&world);
    let sidecar = sidecar(&world, &volume, &[]);
    let first = agent(&world, &volume);
    wait_for_session(&first);
    first.run(WORK).ok();
    // The agent's end is not the session's: the next one finds it.
    first.lose();
    let second = agent(&world, &volume);
    wait_for_session(&second);
    second.run("cd /session/work/r && git fsck --strict && echo more >> n").ok();
    let before = Tree::of(&volume.session());
    assert_eq!(sidecar.stop(), Some(0), "{}", sidecar.log());
    refused(&second, "Read-only file system");
    same_on_a_host(&world, &["--lease-ttl", "1h", "--require-session"], &before);
}

#[test]
fn when_the_sidecar_is_killed_the_agent_gets_errors_until_there_is_another() {
    let world = World::with_relay("sidecar-killed");
    let volume = Volume::new(&world);
    let killed = sidecar(&world, &volume, &[]);
    let agent = agent(&world, &volume);
    wait_for_session(&agent);
    agent.run(WORK).ok();
    agent.run("sync /session/work/r/n").ok();
    let before = Tree::of(&volume.session());
    killed.lose();
    world.relay().drop_held();
    refused(&agent, "Transport endpoint is not connected");

    let next = sidecar(&world, &volume, &["--env", "CWDFS_TAKEOVER=true"]);
    eventually("the session again", Duration::from_secs(60), || {
        agent.run("ls /session/work/r").code == Some(0)
    });
    before.assert_same(&Tree::of(&volume.session()), "with the next sidecar");
    agent.run("git -C /session/work/r fsck --strict && echo more > /session/work/more").ok();
    let before = Tree::of(&volume.session());
    assert_eq!(next.stop(), Some(0), "{}", next.log());
    refused(&agent, "Read-only file system");
    same_on_a_host(&world, &["--lease-ttl", "1h", "--require-session"], &before);
}
