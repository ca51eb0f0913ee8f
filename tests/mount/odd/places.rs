//! Where a session is mounted, and what lies about it.

use crate::support::mount::is_mounted;
use crate::support::relay::Kind;
use crate::support::way::{Way, no_error_logged};
use crate::support::{Ran, World, same_as_ext4, sh};
use crate::work::write_closed;
use rustix::io::Errno;
use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;
use std::time::Duration;

/// A test of its own in a mount namespace of its own, where the mount can be taken away without our knowing.
fn elsewhere(script: &str) -> Ran {
    Ran::of(Command::new("unshare").args(["--mount", "--propagation", "private", "bash", "-euc", script]))
}

#[test]
fn a_mount_point_in_use_cannot_be_removed_or_renamed() {
    let world = World::new("odd-inuse");
    let host = world.host("a");
    let mount = host.mount(&[]);
    let busy = Some(Errno::BUSY.raw_os_error());
    let root = mount.root();
    assert_eq!(fs::remove_dir(root).expect_err("it is mounted on").raw_os_error(), busy);
    assert_eq!(
        fs::rename(root, root.with_file_name("x")).expect_err("it is mounted on").raw_os_error(),
        busy
    );
    write_closed(&mount.path("f"), b"x").expect("it is served on");
    mount.unmount();
}

/// From where the mount is not seen its mount point is a directory like any other, and goes; the mount goes with it.
#[test]
fn a_mount_point_that_is_removed_below_us_ends_the_mount_cleanly() {
    let world = World::with_relay("odd-removed");
    let host = world.host("a");
    let mut mount = host.mount(&["--durability", "fsync", "--commit-interval", "1h"]);
    fs::write(mount.path("f"), "not yet in the store").expect("write");
    let at = mount.root().display().to_string();
    elsewhere(&format!("umount '{at}'; rmdir '{at}'")).ok();
    assert!(!is_mounted(mount.root()));
    assert_eq!(mount.wait_end(Duration::from_secs(60)).code(), Some(0), "{}", mount.log());
    no_error_logged(&mount);
    host.wipe();
    drop(mount);
    let mount = world.host("b").mount(&[]);
    assert_eq!(fs::read_to_string(mount.path("f")).expect("read"), "not yet in the store");
    mount.unmount();
}

#[test]
fn a_mount_goes_along_when_a_directory_above_it_is_renamed() {
    let world = World::with_relay("odd-moved");
    let host = world.host("a");
    let above = world.local("above");
    fs::create_dir(above.join("at")).expect("mkdir");
    let moved = above.with_file_name("moved");
    let run = |command: &str, at: &std::path::Path| Ran::of(world.command([command]).arg(at));
    for how in ["unmount", "signal"] {
        let mut command =
            world.command(["mount", "--durability", "fsync", "--commit-interval", "1h", "--cache-dir"]);
        Ran::of(command.arg(&host.cache).arg(&world.store).arg(above.join("at"))).ok();
        fs::rename(&above, &moved).expect("rename");
        fs::write(moved.join("at").join(how), how).expect("it is served on");
        run("status", &moved.join("at")).ok().says(&["mounted"]);
        match how {
            "unmount" => drop(run("unmount", &moved.join("at")).ok()),
            _ => {
                let said = Ran::of(world.command(["status", "--json"]).arg(moved.join("at"))).ok().out;
                let status: serde_json::Value = serde_json::from_str(&said).expect("JSON");
                let pid = i32::try_from(status["pid"].as_i64().expect("a number")).expect("a process");
                let pid = rustix::process::Pid::from_raw(pid).expect("a process");
                rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
                let gone = || !is_mounted(&moved.join("at"));
                crate::support::eventually("the mount is taken away", Duration::from_secs(30), gone);
                let ended = || rustix::process::test_kill_process(pid).is_err();
                crate::support::eventually("the daemon ends", Duration::from_secs(30), ended);
            }
        }
        assert!(!is_mounted(&moved.join("at")), "{how}");
        fs::rename(&moved, &above).expect("rename back");
    }
    host.wipe();
    let mount = world.host("b").mount(&[]);
    for how in ["unmount", "signal"] {
        assert_eq!(fs::read_to_string(mount.path(how)).expect("read"), how);
    }
    mount.unmount();
}

#[test]
fn a_second_place_of_a_mount_is_not_taken_for_the_mount() {
    let world = World::new("odd-bind");
    let mount = world.host("a").mount(&[]);
    let bound = world.local("bound");
    let at = bound.display().to_string();
    sh(mount.root(), &format!("mount --bind . '{at}'"));
    fs::write(bound.join("f"), "x").expect("write");
    Ran::of(world.command(["status"]).arg(&bound)).ok().says(&[mount.root().to_str().expect("UTF-8")]);
    Ran::of(world.command(["unmount"]).arg(&bound)).exits(5).says(&["second place", "umount"]).plainly();
    assert_eq!(fs::read_to_string(mount.path("f")).expect("read"), "x");
    sh(&world.local("x"), &format!("umount '{at}'"));
    mount.unmount();
}

#[test]
fn a_mount_point_may_be_a_symlink() {
    let world = World::new("odd-symlink");
    let dir = world.local("dir");
    fs::create_dir(dir.join("real")).expect("mkdir");
    symlink("real", dir.join("link")).expect("symlink");
    let run = |command: &str| Ran::of(world.command([command]).arg(dir.join("link")));
    let mut command = world.command(["mount", "--cache-dir"]);
    Ran::of(command.arg(world.local("cache")).arg(&world.store).arg(dir.join("link"))).ok();
    assert!(is_mounted(&dir.join("real")));
    fs::write(dir.join("link/f"), "x").expect("write");
    run("status").ok().says(&["real"]);
    run("flush").ok();
    run("unmount").ok();
    assert!(!is_mounted(&dir.join("real")));
    assert_eq!(world.witness.text("f"), "x");
}

#[test]
fn what_would_lie_in_the_mount_point_is_refused() {
    let world = World::new("odd-inside");
    let host = world.host("a");
    let inside = host.mountpoint.join("deep/cache");
    let at = host.mountpoint.to_str().expect("UTF-8");
    for words in [
        ["--cache-dir", inside.to_str().expect("UTF-8")],
        ["--log-file", host.mountpoint.join("log").to_str().expect("UTF-8")],
    ] {
        let mut command = world.command(["mount"]);
        let ran = Ran::of(command.args(words).arg(&world.store).arg(&host.mountpoint));
        ran.exits(5).says(&[words[1], at, words[0]]).plainly();
    }
    let store = format!("file://{at}/store");
    let ran =
        Ran::of(world.command(["mount", "--cache-dir"]).arg(&host.cache).arg(store).arg(&host.mountpoint));
    ran.exits(5).says(&["store", at]).plainly();
    assert_eq!(fs::read_dir(&host.mountpoint).expect("list").count(), 0, "nothing was made there");
    assert!(!is_mounted(&host.mountpoint));
}

#[test]
fn a_session_is_not_mounted_twice_on_a_host_nor_in_itself() {
    let world = World::new("odd-twice");
    let host = world.host("a");
    let mount = host.mount(&[]);
    fs::create_dir(mount.path("sub")).expect("mkdir");
    fs::create_dir(mount.root().with_file_name("second")).expect("mkdir");
    for place in [mount.root().with_file_name("second"), mount.path("sub")] {
        let mut command = world.command(["mount", "--timeout", "5s", "--cache-dir"]);
        let ran = Ran::of(command.arg(&host.cache).arg(&world.store).arg(&place));
        ran.exits(7).says(&["another process uses", "--cache-dir"]).plainly();
        let mut command = world.command(["mount", "--timeout", "5s", "--cache-dir"]);
        let ran = Ran::of(command.arg(world.local("cache")).arg(&world.store).arg(&place));
        ran.exits(7).says(&["held by", mount.root().to_str().expect("UTF-8")]).plainly();
    }
    write_closed(&mount.path("sub/f"), b"x").expect("the first goes on");
    mount.unmount();
}

#[test]
fn a_session_in_a_session_keeps_the_outer_one() {
    let world = World::new("odd-nested");
    let mount = world.host("a").mount(&[]);
    fs::create_dir(mount.path("inner")).expect("mkdir");
    let mut command = world.command(["mount", "--cache-dir"]);
    let store = format!("{}-inner", world.store);
    Ran::of(command.arg(world.local("cache")).arg(store).arg(mount.path("inner"))).ok();
    write_closed(&mount.path("inner/f"), b"x").expect("write");
    let inner = mount.path("inner").display().to_string();
    mount.run("unmount", &[]).exits(6).says(&["in use by", &inner]).plainly();
    Ran::of(world.command(["unmount"]).arg(mount.path("inner"))).ok();
    assert_eq!(fs::read_dir(mount.path("inner")).expect("list").count(), 0);
    mount.unmount();
}

#[test]
fn a_prefix_may_have_odd_characters() {
    let world = World::with_relay("odd-prefix");
    let odd = format!("{}/a b+c&d=e;f@ü%20{{x}}~'q", world.store);
    let host = world.host("a");
    let run = |command: &str| Ran::of(world.command([command]).arg(&host.mountpoint));
    let mount = |cache: &str| {
        let mut command = world.command(["mount", "--cache-dir"]);
        Ran::of(command.arg(world.local(cache)).arg(&odd).arg(&host.mountpoint)).ok()
    };
    mount("one");
    write_closed(&host.mountpoint.join("f % 20"), b"x").expect("write");
    run("flush").ok();
    run("status").ok().says(&["a b+c&d=e;f@ü%20{x}~'q"]);
    run("unmount").ok();
    assert!(
        world.witness.keys().keys().any(|key| key == "a b+c&d=e;f@ü%20{x}~'q/f % 20"),
        "{:?}",
        world.witness.keys()
    );
    mount("two");
    assert_eq!(fs::read_to_string(host.mountpoint.join("f % 20")).expect("read"), "x");
    run("unmount").ok();
    assert!(world.relay().seen().iter().any(|seen| seen.request.kind == Kind::Put));
}

/// A process whose working directory was removed: the same errors as on ext4, and nothing of it comes back.
#[test]
fn a_working_directory_that_was_removed_is_as_on_ext4() {
    let world = World::with_relay("odd-cwd");
    let way = Way::drawn("odd-cwd")[0];
    let options = way.options(&[]);
    let mount = same_as_ext4(&world, &options, |dir, story| {
        fs::create_dir_all(dir.join("up/gone")).expect("mkdir");
        let script = "
            open('kept', 'w').write('x'); held = open('kept', 'r+')
            import os, errno
            os.unlink('kept'); os.rmdir('../gone')
            def note(what, call):
                try: print(what, call())
                except OSError as e: print(what, errno.errorcode[e.errno])
            note('getcwd', lambda: os.getcwd())
            note('list', lambda: os.listdir('.'))
            note('links', lambda: os.stat('.').st_nlink)
            note('create', lambda: open('new', 'w'))
            note('mkdir', lambda: os.mkdir('new'))
            note('symlink', lambda: os.symlink('x', 'new'))
            note('link', lambda: os.link('../other', 'new'))
            note('rename into', lambda: os.rename('../other', 'new'))
            note('look', lambda: os.stat('new'))
            note('chmod', lambda: os.chmod('.', 0o700))
            note('setxattr', lambda: os.setxattr('.', 'user.a', b'1'))
            note('utime', lambda: os.utime('.', (5, 5)))
            note('write to what was in it', lambda: (held.write('yy'), held.flush())[0])
            note('fsync', lambda: os.fsync(os.open('.', os.O_RDONLY)))
            note('up', lambda: os.chdir('..'))
            note('there', lambda: os.path.basename(os.getcwd()))
            note('back', lambda: os.chdir('gone'))";
        let script: String = script
            .lines()
            .map(|line| format!("{}\n", line.strip_prefix("            ").unwrap_or(line)))
            .collect();
        fs::write(dir.join("up/other"), "x").expect("write");
        let ran =
            Ran::of(Command::new("python3").args(["-c", &script]).current_dir(dir.join("up/gone"))).ok();
        story.note("it saw", Ok(ran.out));
    });
    let mount = crate::support::way::comes_back(&world, mount, "b", &options);
    assert!(!mount.path("up/gone").exists());
    mount.unmount();
}
