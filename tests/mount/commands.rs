//! The command line: what each command answers, with which exit code, and in which words.

use crate::support::mount::is_mounted;
use crate::support::relay::Act;
use crate::support::world::BUCKET;
use crate::support::{Ran, World};
use rustix::process::Signal;
use std::fs;
use std::path::Path;
use std::time::Duration;

#[test]
fn help_and_version_are_there_and_list_the_exit_codes() {
    let world = World::new("help");
    world.run(["--version"]).ok().says(&["cwdfs", env!("CARGO_PKG_VERSION")]);
    let help =
        world.run(["--help"]).ok().says(&["mount", "unmount", "status", "flush", "refresh", "inspect"]);
    for code in ["0", "2", "3", "4", "5", "6", "7", "8"] {
        let listed = help.out.lines().any(|l| l.trim_start().starts_with(code));
        assert!(listed, "exit code {code} is not in --help:\n{}", help.out);
    }
    help.says(&["cwdfs mount demo:"]);
    for command in ["mount", "unmount", "status", "flush", "refresh", "inspect", "demo"] {
        let example = format!("  cwdfs {command}");
        world.run([command, "--help"]).ok().says(&["Usage", "Examples:", &example, "Exit codes:"]);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_is_2() {
    let world = World::new("usage");
    let dir = world.local("mnt");
    let dir = dir.to_str().expect("utf-8");
    let store = world.store.as_str();
    world.run(["mount"]).exits(2).says(&["usage"]);
    world.run(["frobnicate"]).exits(2).says(&["frobnicate"]);
    world.run(["mount", "no-prefix", dir]).exits(2).says(&["no-prefix", "bucket:prefix"]);
    world.run(["mount", "ftp://x/y", dir]).exits(2).says(&["ftp://x/y"]);
    world.run(["mount", "file://relative/dir", dir]).exits(2).says(&["file://"]);
    world.run(["mount", "demo:a/../b", dir]).exits(2).says(&["demo:a/../b"]);
    world.run(["mount", "--durability", "maybe", store, dir]).exits(2).says(&["maybe", "close", "fsync"]);
    world.run(["mount", "--timeout", "soon", store, dir]).exits(2).says(&["soon"]);
    world.run(["mount", "--cache-size", "big", store, dir]).exits(2).says(&["big"]);
    world.run(["mount", "-o", "nonsense=1", store, dir]).exits(2).says(&["nonsense"]);
    world.run(["mount", "--lazy", "a[", store, dir]).exits(2).says(&["a["]);
    let mut command = world.command(["mount", store, dir]);
    Ran::of(command.env("CWDFS_READ_ONLY", "perhaps")).exits(2).says(&["perhaps"]);
    assert!(!is_mounted(Path::new(dir)));
}

#[test]
fn a_mount_point_that_is_none_is_5() {
    let world = World::new("bad-mountpoint");
    let dir = world.local("x");
    let missing = dir.join("missing");
    let file = dir.join("file");
    fs::write(&file, "x").expect("write");
    for (path, why) in [(&missing, "no such"), (&file, "not a directory")] {
        let ran = world.run([Path::new("mount"), Path::new(&world.store), path]);
        ran.exits(5).says(&[path.to_str().expect("utf-8"), why]).plainly();
    }
    assert!(world.witness.keys().is_empty(), "a failed mount wrote to the store");
}

#[test]
fn what_is_not_mounted_is_said_by_every_command() {
    let world = World::new("not-mounted");
    let host = world.host("a");
    for command in ["status", "flush", "refresh"] {
        let ran = host.run(command, &[]);
        assert!(ran.code != Some(0), "{ran}");
        ran.says(&[host.mountpoint.to_str().expect("utf-8"), "not mounted"]).plainly();
    }
}

#[test]
fn a_bucket_that_is_not_there_is_5() {
    let world = World::new("no-bucket");
    let host = world.host("a");
    let mut command = world.command(["mount", "--timeout", "5s", "no-such-bucket-here:x"]);
    let ran = Ran::of(command.arg(&host.mountpoint));
    ran.exits(5).says(&["no-such-bucket-here"]).plainly();
    assert!(!is_mounted(&host.mountpoint));
}

#[test]
fn wrong_credentials_are_5() {
    let world = World::new("wrong-secret");
    let host = world.host("a");
    let mut command = world.command(["mount", "--timeout", "5s", &world.store]);
    command.env("AWS_SECRET_ACCESS_KEY", "a-wrong-secret").arg(&host.mountpoint);
    let ran = Ran::of(&mut command).exits(5).says(&[BUCKET, "denied"]).plainly();
    assert!(!ran.err.contains("a-wrong-secret"), "a secret was printed");
    assert!(!is_mounted(&host.mountpoint));
}

#[test]
fn no_credentials_at_all_is_5_and_says_how_to_give_them() {
    let world = World::new("no-credentials");
    let host = world.host("a");
    let mut command = world.command(["mount", "--timeout", "5s", &world.store]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY").arg(&host.mountpoint);
    Ran::of(&mut command).exits(5).says(&["credentials", "AWS_ACCESS_KEY_ID"]).plainly();
}

#[test]
fn a_newer_format_is_5_and_nothing_is_written() {
    let world = World::new("newer");
    let mount = world.host("a").mount(&[]);
    mount.unmount();
    let lease = world.witness.text(".cwdfs/lease");
    let mut json: serde_json::Value = serde_json::from_str(&lease).expect("the lease is JSON");
    let version = json.as_object().expect("an object").keys().find(|k| k.contains("format")).cloned();
    json[version.expect("the lease names its format version")] = 999.into();
    world.witness.put(".cwdfs/lease", json.to_string());
    let before = world.witness.keys();
    world.host("b").run_mount(&[]).exits(5).says(&["newer", "999"]).plainly();
    assert_eq!(world.witness.keys(), before, "the mount wrote to a session of a newer format");
}

#[test]
fn a_store_that_cannot_be_reached_is_6() {
    let world = World::new("unreachable");
    let host = world.host("a");
    let mut command = world.command(["mount", "--timeout", "3s", &world.store]);
    command.env("CWDFS_ENDPOINT", "http://127.0.0.1:9").arg(&host.mountpoint);
    let ran = Ran::of(&mut command).exits(6).says(&["127.0.0.1:9"]).plainly();
    assert!(ran.took < Duration::from_secs(15), "it took {:?}", ran.took);
    assert!(!is_mounted(&host.mountpoint));
}

#[test]
fn a_store_that_throttles_is_6() {
    let world = World::with_relay("throttled");
    world.relay().rule(1, usize::MAX, Act::Status(503), |_| true);
    let ran = world.host("a").run_mount(&["--timeout", "3s"]);
    ran.exits(6).says(&[BUCKET]).plainly();
}

#[test]
fn a_session_that_another_writer_holds_is_7_and_names_the_holder() {
    let world = World::new("held");
    let holder = world.host("a").mount(&["--lease-ttl", "3s", "--park-after", "never"]);
    let other = world.host("b");
    let ran = other.run_mount(&[]);
    let pid = holder.pid().as_raw_nonzero().to_string();
    ran.exits(7).says(&[&pid, "--takeover"]).plainly();
    assert!(!is_mounted(&other.mountpoint));
    fs::write(holder.path("f"), "the holder goes on").expect("write");
    holder.unmount();
}

#[test]
fn without_foreground_a_daemon_is_left_that_serves() {
    let world = World::new("daemon");
    let host = world.host("a");
    host.run_mount(&["--log-file", world.local("log").join("l").to_str().expect("utf-8")]).ok();
    let guard = Unmount(&host.mountpoint);
    assert!(is_mounted(&host.mountpoint), "the command returned before the mount was there");
    fs::write(host.mountpoint.join("f"), "x").expect("write");
    host.run_mount(&[]).ok().says(&["already mounted"]);
    let status = host.run("status", &[]).ok().says(&[&world.store, "close"]);
    assert!(!status.out.contains("testsecret"), "a secret in status");
    host.run("unmount", &[]).ok();
    assert!(!is_mounted(&host.mountpoint));
    drop(guard);
    assert_eq!(world.witness.text("f"), "x");
}

#[test]
fn another_session_on_a_mounted_directory_is_refused() {
    let world = World::new("other-session");
    let host = world.host("a");
    let mount = host.mount(&[]);
    let other = format!("{}-other", world.store);
    let ran = world.run([Path::new("mount"), Path::new(&other), &host.mountpoint]);
    ran.exits(5).says(&[host.mountpoint.to_str().expect("utf-8"), &world.store]).plainly();
    mount.unmount();
}

#[test]
fn sigterm_and_sigint_unmount_cleanly() {
    let world = World::new("signals");
    for (signal, name) in [(Signal::TERM, "term"), (Signal::INT, "int")] {
        let host = world.host(name);
        let mut mount = host.mount(&["--lease-ttl", "60s"]);
        fs::write(mount.path(name), name).expect("write");
        mount.signal(signal);
        assert_eq!(mount.wait_end(Duration::from_secs(30)).code(), Some(0), "{}", mount.log());
        assert!(!is_mounted(&host.mountpoint));
        assert_eq!(world.witness.text(name), name, "published on the way out");
    }
}

#[test]
fn what_is_not_in_the_store_at_unmount_is_4_and_kept() {
    let world = World::with_relay("unmount-4");
    let host = world.host("a");
    let mut mount = host.mount(&["--durability", "fsync", "--timeout", "3s"]);
    fs::write(mount.path("before"), "x").expect("write");
    mount.flush();
    world.relay().cut();
    fs::write(mount.path("kept"), "kept here").expect("a write at level fsync does not wait");
    let ran = mount.run("flush", &["--timeout", "2s"]).exits(4).plainly();
    assert!(ran.took < Duration::from_secs(10), "it took {:?}", ran.took);
    let ran = mount.run("unmount", &["--timeout", "3s"]);
    ran.exits(4).says(&[host.cache.to_str().expect("utf-8"), "cwdfs mount"]).plainly();
    assert!(!is_mounted(&host.mountpoint));
    assert_eq!(mount.wait_end(Duration::from_secs(30)).code(), Some(4), "{}", mount.log());
    drop(mount);
    world.relay().heal();
    let mount = host.mount(&[]);
    assert_eq!(fs::read(mount.path("kept")).expect("read"), b"kept here");
    mount.publish();
    assert_eq!(world.witness.text("kept"), "kept here");
    mount.unmount();
}

#[test]
fn a_serving_loop_that_died_is_3() {
    let world = World::new("loop-died");
    let host = world.host("a");
    let mut mount = host.mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    let device = rustix::fs::stat(mount.root()).expect("stat").st_dev;
    let control = Path::new("/sys/fs/fuse/connections");
    if !control.join(rustix::fs::minor(device).to_string()).exists() {
        crate::support::sh(Path::new("/"), "mount -t fusectl fusectl /sys/fs/fuse/connections");
    }
    fs::write(control.join(rustix::fs::minor(device).to_string()).join("abort"), "1").expect("abort");
    assert_eq!(mount.wait_end(Duration::from_secs(30)).code(), Some(3), "{}", mount.log());
    assert_eq!(world.witness.text("f"), "x", "what was there is published all the same");
}

#[test]
fn options_come_from_the_environment_and_from_o_as_well() {
    let world = World::new("options");
    let host = world.host("a");
    let mut command = world.command(["mount", "-f"]);
    command.arg("--cache-dir").arg(&host.cache).env("CWDFS_DURABILITY", "sync").env("CWDFS_TIMEOUT", "7s");
    let mount = host
        .start({
            command.arg(&world.store).arg(&host.mountpoint);
            command
        })
        .expect("mounts");
    assert_eq!(mount.status()["durability"], "sync");
    mount.unmount();

    let options = format!("rw,nosuid,_netdev,durability=fsync,cache-dir={}", host.cache.display());
    let mut command = world.command(["mount", "-f", "-o", &options]);
    command.env("CWDFS_DURABILITY", "sync").arg(&world.store).arg(&host.mountpoint);
    let mount = host.start(command).expect("mounts");
    assert_eq!(mount.status()["durability"], "fsync", "what is said on the command line wins");
    mount.unmount();

    let mut command = host.mount_command(&["-o", "ro"]);
    command.env("CWDFS_NO_PUBLISH", "yes");
    let mount = host.start(command).expect("mounts");
    let error = fs::write(mount.path("f"), "x").expect_err("it is read-only");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
}

#[test]
fn every_form_of_a_store_means_the_same_session() {
    let world = World::new("forms");
    let host = world.host("a");
    let mount = host.mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.unmount();
    for store in [format!("s3://{BUCKET}/{}", world.prefix), format!("{BUCKET}:{}/", world.prefix)] {
        let mut command = world.command(["mount", "-f", "--cache-dir"]);
        command.arg(&host.cache).arg(&store).arg(&host.mountpoint);
        let mount = host.start(command).unwrap_or_else(|ran| panic!("{store}: {ran}"));
        assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
        mount.unmount();
    }
}

#[test]
fn a_directory_is_a_store_too() {
    let world = World::new("directory-store");
    let dir = world.local("sessions").join("sid42");
    let store = format!("file://{}", dir.display());
    for name in ["a", "b"] {
        let host = world.host(name);
        let mut command = world.command(["mount", "-f", "--cache-dir"]);
        command.env_remove("CWDFS_ENDPOINT").arg(&host.cache).arg(&store).arg(&host.mountpoint);
        let mount = host.start(command).unwrap_or_else(|ran| panic!("{ran}"));
        if name == "a" {
            crate::work::one_of_everything(mount.root());
        }
        assert_eq!(fs::read(mount.path("plain")).expect("read"), b"plain");
        mount.unmount();
    }
    assert_eq!(fs::read(dir.join("plain")).expect("the view is plain files"), b"plain");
}

#[test]
fn the_demo_shows_its_promise_on_both_kinds_of_store() {
    let world = World::new("demo");
    let mut command = world.command(["demo"]);
    command.env_remove("CWDFS_ENDPOINT").env_remove("AWS_ACCESS_KEY_ID").env("TMPDIR", world.local("tmp"));
    Ran::of(&mut command).ok().says(&["SIGKILL", "equal"]);
    assert!(fs::read_dir(world.local("tmp")).expect("list").next().is_none(), "the demo left files behind");
    world.run(["demo", &world.store]).ok().says(&["SIGKILL", "equal"]);
    assert!(world.witness.keys().is_empty(), "the demo left objects behind: {:?}", world.witness.keys());
}

#[test]
fn a_flush_that_cannot_publish_is_0_with_a_note() {
    let world = World::with_relay("flush-view");
    let mount = world.host("a").mount(&["--publish-delay", "100ms"]);
    let plain =
        |r: &crate::support::relay::Request| r.kind.changes_the_store() && !r.key.contains("/.cwdfs/");
    world.relay().rule(1, usize::MAX, Act::Status(503), plain);
    fs::write(mount.path("f"), "x").expect("write");
    mount.run("flush", &["--view", "--timeout", "3s"]).ok().says(&["in the store", "1 objects", "published"]);
    assert!(world.witness.plain_keys().is_empty());
    world.relay().clear_rules();
    mount.publish();
    assert_eq!(world.witness.text("f"), "x");
    mount.unmount();
}

#[test]
fn a_store_that_is_gone_when_nothing_is_owed_is_0_with_notes() {
    let world = World::with_relay("gone-at-the-end");
    let host = world.host("a");
    let mut mount = host.mount(&["--lease-ttl", "60s"]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.publish();
    // What publishing learnt is committed too.
    mount.flush();
    world.relay().cut();
    let ran = mount.run("unmount", &["--timeout", "2s"]).ok().says(&["lease", "given back"]);
    assert!(ran.took < Duration::from_secs(10), "it took {:?}", ran.took);
    assert_eq!(mount.wait_end(Duration::from_secs(20)).code(), Some(0), "{}", mount.log());
    drop(mount);
    world.relay().heal();
    let mount = host.mount(&[]);
    assert!(mount.ready_after < Duration::from_secs(20), "the cache's own lease was waited for");
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
    mount.unmount();
}

#[test]
fn a_fenced_flush_and_unmount_are_7() {
    let world = World::new("fenced-7");
    let host = world.host("a");
    let old = host.mount(&["--durability", "fsync", "--park-after", "never", "--lease-ttl", "3s"]);
    fs::write(old.path("f"), "x").expect("write");
    old.flush();
    let new = world.host("b").mount(&["--takeover"]);
    fs::write(new.path("g"), "y").expect("write");
    old.wait_status("it learns of it", Duration::from_secs(20), |s| s["state"] == "fenced");
    old.run("flush", &[]).exits(7).says(&["fenced"]).plainly();
    old.run("unmount", &[]).exits(7).says(&["fenced"]).plainly();
    assert!(!is_mounted(&host.mountpoint));
    new.unmount();
}

#[test]
fn a_signal_while_it_starts_leaves_nothing_mounted() {
    let world = World::new("start-signal");
    let holder = world.host("a").mount(&["--lease-ttl", "30s", "--park-after", "never"]);
    holder.signal(Signal::STOP);
    let other = world.host("b");
    let mut waiting = other.mount_command(&["--lease-ttl", "30s"]);
    let mut waiting = waiting.stderr(std::process::Stdio::piped()).spawn().expect("spawn");
    std::thread::sleep(Duration::from_secs(2));
    let start = std::time::Instant::now();
    rustix::process::kill_process(rustix::process::Pid::from_child(&waiting), Signal::TERM).expect("kill");
    let ended = waiting.wait().expect("reap");
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    assert_eq!(ended.code(), Some(6));
    assert!(!is_mounted(&other.mountpoint));
    holder.signal(Signal::CONT);
    fs::write(holder.path("f"), "the holder goes on").expect("write");
    holder.unmount();
}

#[test]
fn a_mount_whose_caller_is_gone_does_not_stay() {
    let world = World::with_relay("caller-gone");
    let host = world.host("a");
    world.relay().set_delay(Duration::from_millis(700));
    let mut command = world.command(["mount", "--cache-dir"]);
    command.arg(&host.cache).arg(&world.store).arg(&host.mountpoint);
    let mut caller = command.stderr(std::process::Stdio::null()).spawn().expect("spawn");
    std::thread::sleep(Duration::from_millis(1200));
    caller.kill().expect("kill");
    caller.wait().expect("reap");
    world.relay().set_delay(Duration::ZERO);
    std::thread::sleep(Duration::from_secs(5));
    assert!(!is_mounted(&host.mountpoint), "nobody has been told of this mount");
    // And the session is free, or its cache's lock is.
    host.mount(&[]).unmount();
}

#[test]
fn a_second_signal_ends_it_without_waiting_for_the_store() {
    let world = World::with_relay("second-signal");
    let host = world.host("a");
    let mut mount = host.mount(&["--durability", "fsync", "--timeout", "60s"]);
    fs::write(mount.path("before"), "x").expect("write");
    mount.flush();
    world.relay().cut();
    fs::write(mount.path("kept"), "kept").expect("write");
    mount.signal(Signal::TERM);
    std::thread::sleep(Duration::from_secs(1));
    mount.signal(Signal::TERM);
    let start = std::time::Instant::now();
    assert_eq!(mount.wait_end(Duration::from_secs(20)).code(), Some(4), "{}", mount.log());
    assert!(start.elapsed() < Duration::from_secs(12), "it took {:?}", start.elapsed());
    assert!(!is_mounted(&host.mountpoint));
    drop(mount);
    world.relay().heal();
    let mount = host.mount(&[]);
    assert_eq!(fs::read(mount.path("kept")).expect("read"), b"kept");
    mount.unmount();
}

#[test]
fn booleans_come_from_the_environment_in_every_spelling() {
    let world = World::new("booleans");
    let dir = world.local("missing").join("mnt");
    for (spelling, good) in
        [("true", true), ("1", true), ("YES", true), ("0", true), ("no", true), ("2", false), ("ja", false)]
    {
        let mut command = world.command(["mount", &world.store]);
        let ran = Ran::of(command.arg(&dir).env("CWDFS_TAKEOVER", spelling));
        // A good one gets as far as the mount point, which is not there.
        ran.exits(if good { 5 } else { 2 }).says(&[if good { "mount point" } else { spelling }]);
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let world = World::new("broken-pipe");
    let host = world.host("a");
    let mount = host.mount(&[]);
    for options in [&["status"][..], &["status", "--json"], &["refresh"]] {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        let mut command = host.command(options[0]);
        let child = command.args(&options[1..]).arg(&host.mountpoint).stdout(writer);
        let ended = child.stderr(std::process::Stdio::piped()).spawn().expect("spawn").wait_with_output();
        let ended = ended.expect("it ends");
        assert_eq!((ended.status.code(), ended.stderr), (Some(0), Vec::new()), "{options:?}");
    }
    mount.unmount();
}

#[test]
fn status_names_what_the_store_was_asked_and_how_fast_it_is() {
    let world = World::new("status-figures");
    let mount = world.host("a").mount(&[]);
    // One change: a file may be committed, and so published, between its creation and its close.
    std::os::unix::fs::symlink("target", mount.path("link")).expect("symlink");
    mount.publish();
    let status = mount.status();
    assert!(status["store_latency_ms"].as_f64().is_some_and(|ms| ms > 0.0), "{status:#}");
    assert!(status["requests"]["put"]["calls"].as_u64().is_some_and(|n| n > 0), "{status:#}");
    assert_eq!(status["view"]["published"], 1, "{status:#}");
    assert_eq!(status["state"], "mounted");
    mount.unmount();
}

#[test]
fn a_follower_has_nothing_to_flush_and_says_its_bound() {
    let world = World::new("follower-flush");
    world.host("a").mount(&[]).unmount();
    let follower = world.host("b").mount(&["--read-only"]);
    assert_eq!(follower.status()["follows_within_seconds"], 5.0);
    follower.run("flush", &[]).ok().says(&["read-only"]);
    follower.unmount();
}

#[test]
fn a_daemon_that_hangs_is_told_of_in_time_and_can_be_forced() {
    let world = World::new("hung");
    let host = world.host("a");
    let mut mount = host.mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.flush();
    mount.signal(Signal::STOP);
    let ran = mount.run("flush", &["--timeout", "1s"]).exits(4).says(&["did not answer"]).plainly();
    assert!(ran.took < Duration::from_secs(20), "it took {:?}", ran.took);
    host.run_mount(&[]).ok().says(&["already mounted"]);
    let ran = mount.run("unmount", &["--timeout", "1s"]).exits(6).says(&["did not answer"]).plainly();
    assert!(ran.took < Duration::from_secs(20), "it took {:?}", ran.took);
    let pid = mount.pid().as_raw_nonzero().to_string();
    mount.run("unmount", &["--timeout", "1s", "--force"]).exits(4).says(&[&pid, "kill -9"]).plainly();
    assert!(!is_mounted(&host.mountpoint));
    mount.kill_only();
    drop(mount);
    let mount = host.mount(&[]);
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"x");
    mount.unmount();
}

#[test]
fn times_at_both_ends_of_time_do_not_end_the_mount() {
    let world = World::new("end-of-time");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    for tv_sec in [i64::MIN, i64::MIN + 1, i64::MAX] {
        let time = rustix::fs::Timespec { tv_sec, tv_nsec: 999_999_999 };
        let times = rustix::fs::Timestamps { last_access: time, last_modification: time };
        let flags = rustix::fs::AtFlags::empty();
        // Whether it is taken or refused is not the matter here.
        let _ = rustix::fs::utimensat(rustix::fs::CWD, mount.path("f"), &times, flags);
        assert_eq!(fs::read(mount.path("f")).expect("it is served"), b"x");
    }
    mount.unmount();
}

/// Takes a mount away at the end of a test that left a daemon behind.
struct Unmount<'a>(&'a Path);

impl Drop for Unmount<'_> {
    fn drop(&mut self) {
        if is_mounted(self.0) {
            // Best effort: the test has failed already.
            let _ = rustix::mount::unmount(self.0, rustix::mount::UnmountFlags::DETACH);
        }
    }
}
