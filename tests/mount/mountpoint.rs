//! The mount point: a dead mount, the next one in its place, files below, who holds it.

use crate::support::World;
use crate::support::mount::is_mounted;
use rustix::process::Signal;
use std::fs;
use std::time::Duration;

#[test]
fn a_dead_mount_is_cleared_away_first() {
    let world = World::new("dead-mount");
    let host = world.host("a");
    let mut mount = host.mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.kill_only();
    assert!(fs::metadata(&host.mountpoint).is_err(), "the mount is dead");
    let again = host.mount(&[]);
    assert_eq!(fs::read(again.path("f")).expect("read"), b"x");
    again.unmount();
    assert!(!is_mounted(&host.mountpoint), "the dead mount is still there, below");
}

#[test]
fn a_mount_is_known_to_be_served_from_its_first_moment() {
    let world = World::new("first-moment");
    let host = world.host("a");
    let mountpoint = host.mountpoint.to_str().expect("utf-8");
    let known = || {
        let entries = fs::read_dir("/run/cwdfs").expect("the registry").flatten();
        // Others come and go meanwhile.
        entries.filter_map(|e| fs::read_to_string(e.path()).ok()).any(|entry| entry.contains(mountpoint))
    };
    for round in 0..4 {
        let mount = std::thread::scope(|scope| {
            let mounting = scope.spawn(|| host.mount(&[]));
            while !is_mounted(&host.mountpoint) && !mounting.is_finished() {}
            assert!(known(), "round {round}: mounted, and a command would take its daemon for dead");
            mounting.join().expect("it mounts")
        });
        mount.unmount();
        assert!(!known(), "round {round}: it is not forgotten");
    }
}

#[test]
fn unmount_clears_a_dead_mount_too() {
    let world = World::new("dead-unmount");
    let host = world.host("a");
    let mut mount = host.mount(&[]);
    mount.kill_only();
    host.run("unmount", &[]).ok();
    assert!(!is_mounted(&host.mountpoint));
}

#[test]
fn a_daemon_whose_mount_was_taken_away_leaves_the_next_mount_alone() {
    let (world, other) = (World::new("number-before"), World::new("number-after"));
    let mut before = world.host("a").mount(&[]);
    // It learns late that its mount is gone; the kernel has given its numbers to the next one by then.
    before.signal(Signal::STOP);
    before.detach();
    let after = other.host("b").mount(&[]);
    before.signal(Signal::CONT);
    assert_eq!(before.wait_end(Duration::from_secs(60)).code(), Some(0), "{}", before.log());
    fs::write(after.path("f"), "still there").expect("the other mount is used");
    after.unmount();
    assert_eq!(other.witness.text("f"), "still there");
}

#[test]
fn files_below_the_mount_point_get_a_warning() {
    let world = World::new("hidden-files");
    let host = world.host("a");
    fs::write(host.mountpoint.join("in the way"), "x").expect("write");
    host.run_mount(&[]).ok().says(&["warning", host.mountpoint.to_str().expect("utf-8"), "hidden"]);
    host.run("unmount", &[]).ok();
    assert!(host.mountpoint.join("in the way").exists());
}

#[test]
fn a_busy_mount_names_who_holds_it_and_stays_unless_forced() {
    let world = World::new("busy");
    let host = world.host("a");
    let mut mount = host.mount(&[]);
    let mut shell = std::process::Command::new("sleep");
    let mut holder = shell.arg("60").current_dir(mount.root()).spawn().expect("sleep");
    let ran = mount.run("unmount", &[]);
    assert!(ran.code != Some(0), "{ran}");
    ran.says(&[&holder.id().to_string(), "sleep", "--force"]).plainly();
    fs::write(mount.path("f"), "still works").expect("nothing changed");
    mount.run("unmount", &["--force"]).ok();
    assert!(!is_mounted(&host.mountpoint));
    mount.wait_end(Duration::from_secs(30));
    holder.kill().expect("kill");
    holder.wait().expect("reap");
    assert_eq!(world.witness.text("f"), "still works");
}
