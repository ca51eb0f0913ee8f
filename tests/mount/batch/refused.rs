//! Which mount is meant, and where a batch is not possible.

use super::*;
use crate::support::ran::run_by;
use crate::support::user::{as_user, on_own_machine};
use crate::support::{Ran, sh};
use std::fs;
use std::os::unix::fs::PermissionsExt;

const USER: u32 = 1001;
const OTHER: u32 = 1002;

#[track_caller]
fn run(dir: &Path, options: &[&str], script: &str) -> Ran {
    let mut command = Command::new(binary());
    Ran::of(command.arg("batch").args(options).args(["--", "sh", "-ec", script]).current_dir(dir))
}

#[test]
fn the_mount_is_that_of_the_current_directory_or_the_one_named() {
    let (one, two) = (World::with_relay("batch-one"), World::with_relay("batch-two"));
    let (first, second) = (one.host("a").mount(&[]), two.host("a").mount(&[]));
    let begun = || (first.status()["batches"]["begun"].clone(), second.status()["batches"]["begun"].clone());
    let outside = one.local("outside");
    run(&outside, &[], "touch ran")
        .exits(125)
        .says(&["the current directory", "no mount", "--mount DIR"])
        .plainly();
    let named = outside.display().to_string();
    run(&outside, &["--mount", &named], "touch ran").exits(125).says(&[&named, "no mount"]).plainly();
    run(&outside, &["--mount", "/no/such"], "touch ran").exits(125).says(&["/no/such"]).plainly();
    assert!(!outside.join("ran").exists(), "nothing was run");

    fs::create_dir_all(first.path("deep/down")).expect("mkdir");
    run(&first.path("deep/down"), &[], "echo 1 > f").ok();
    assert_eq!(begun(), (1.into(), 0.into()));
    sh(first.root().parent().expect("a parent"), "ln -s mnt/deep link");
    run(&first.root().with_file_name("link"), &[], "echo 2 > g").ok();
    assert_eq!(begun(), (2.into(), 0.into()));
    let mounts = [first.path("deep").display().to_string(), second.root().display().to_string()];
    let both = ["--mount", &mounts[0], "--mount", &mounts[1], "--mount", &mounts[0]];
    for world in [&one, &two] {
        world.relay().set_delay(Duration::from_millis(300));
    }
    let script = format!("echo 3 > {}/h; echo 4 > {}/i", mounts[0], mounts[1]);
    run(&outside, &both, &script).ok();
    assert_eq!(begun(), (3.into(), 1.into()), "each once");
    let first = elsewhere(&one, first);
    holds(first.root(), "deep/down/f", "1\n");
    holds(first.root(), "deep/g", "2\n");
    holds(first.root(), "deep/h", "3\n");
    let second = elsewhere(&two, second);
    holds(second.root(), "i", "4\n");
}

/// Of two mounts, one that cannot store is told, though the other can.
#[test]
fn each_of_several_mounts_has_to_store() {
    let (one, two) = (World::with_relay("batch-well"), World::with_relay("batch-ill"));
    let (first, second) = (one.host("a").mount(&[]), two.host("a").mount(&["--timeout", "2s"]));
    second.flush();
    two.relay().black_hole();
    let named = second.root().display().to_string();
    let script = format!("echo 1 > f; echo 2 > {named}/f");
    let ran = run(first.root(), &["--mount", ".", "--mount", &named], &script);
    ran.exits(114).says(&[&named, "not everything"]).plainly();
    let first = elsewhere(&one, first);
    holds(first.root(), "f", "1\n");
    two.relay().heal();
}

#[test]
fn a_daemon_that_cannot_see_the_caller_refuses_and_stays_strict() {
    let world = World::with_relay("batch-unseen");
    let marks = Marks::of(&world);
    let host = world.host("a");
    let mut apart = Command::new("unshare");
    apart.args(["--pid", "--fork", "--kill-child"]);
    let mount = host.start(run_by(apart, &host.mount_command(&[]))).expect("it mounts");
    let ran = run(mount.root(), &[], "touch ran");
    ran.exits(125).says(&["no batch is possible", "pid namespace"]).plainly();
    assert!(!mount.path("ran").exists());
    let told = mount.root().display().to_string();
    sh(Path::new("/"), &format!("echo 1 > {told}/f"));
    world.relay().black_hole();
    let mut waits = start(strict(&mount, &marks, "echo 2 > g; mark closed"));
    goes_on_waiting(&mut waits);
    world.relay().heal();
    end(waits).ok();
    holds(mount.root(), "g", "2\n");
}

/// A command in a pid namespace of its own is seen from outside, and in the batch.
#[test]
fn a_pid_namespace_within_a_batch_is_part_of_it() {
    let world = World::with_relay("batch-inside");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    mount.flush();
    world.relay().black_hole();
    let script = "unshare --pid --fork --mount-proc sh -ec 'echo 1 > f; : > $MARKS/closed'
                  unshare --pid --fork \"$CWDFS\" batch -- sh -ec 'echo 2 > g; : > $MARKS/inner'";
    let mut batched = start(batch(&mount, &marks, &[], script));
    marks.wait("closed");
    marks.wait("inner");
    goes_on_waiting(&mut batched);
    world.relay().heal();
    end(batched).ok();
    let mount = elsewhere(&world, mount);
    holds(mount.root(), "f", "1\n");
    holds(mount.root(), "g", "2\n");
}

/// Who may enter the mount may batch; with a /proc that hides others' processes, only the daemon's own user.
#[test]
fn any_user_may_batch_whom_the_daemon_can_see() {
    let world = World::for_any_user("batch-users");
    on_own_machine("user_allow_other\n", |machine| {
        let home = machine.home(USER);
        let batch_of = |user: u32, root: &Path, name: &str| {
            let script = format!("echo {user} > {name}");
            as_user(user, || {
                let mut command = Command::new(machine.program());
                Ran::of(command.args(["batch", "--", "sh", "-ec", &script]).current_dir(root))
            })
        };
        let mounted = as_user(USER, || world.host_of(machine.program(), &home).mount(&["--allow-other"]));
        fs::set_permissions(&home, fs::Permissions::from_mode(0o755)).expect("chmod");
        let open = mounted.path("open");
        as_user(USER, || {
            fs::create_dir(&open).expect("mkdir");
            fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).expect("chmod");
        });
        batch_of(USER, &open, "own").ok();
        batch_of(OTHER, &open, "theirs").ok();
        sh(Path::new("/"), "mount -t proc -o hidepid=invisible proc /proc");
        batch_of(USER, &open, "hidden-own").ok();
        let refused = batch_of(OTHER, &open, "hidden-theirs");
        refused.exits(125).says(&["no batch is possible", "/proc"]).plainly();
        sh(Path::new("/"), "umount /proc");
        as_user(USER, || mounted.unmount());
    });
}

/// Nothing can be changed on a follower, and so nothing has to be waited for.
#[test]
fn on_a_follower_the_command_is_run() {
    let world = World::with_relay("batch-follower");
    let writer = world.host("a").mount(&[]);
    fs::write(writer.path("f"), "1\n").expect("write");
    let follower = world.host("b").mount(&["--read-only"]);
    run(follower.root(), &[], "test $(cat f) = 1").ok();
    run(follower.root(), &[], "echo 2 > f").exits(2);
    follower.unmount();
    writer.unmount();
}
