//! Unmounts while somebody is at work.

use crate::support::descriptors::apart;
use crate::support::mount::is_mounted;
use crate::support::way::no_error_logged;
use crate::support::{World, sh};
use crate::work::{noise, write_closed};
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::Write;
use std::sync::Barrier;
use std::time::{Duration, Instant};

#[test]
fn an_unmount_while_a_file_is_open_is_busy_and_changes_nothing() {
    let world = World::with_relay("odd-busy");
    let mount = world.host("a").mount(&[]);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(b"before").expect("write");
    mount.run("unmount", &[]).exits(6).says(&["in use by", "open file", "--force"]).plainly();
    let refused = rustix::mount::unmount(mount.root(), rustix::mount::UnmountFlags::empty());
    assert_eq!(refused, Err(Errno::BUSY));
    file.write_all(b" and after").expect("it goes on");
    drop(file);
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    assert_eq!(fs::read_to_string(mount.path("f")).expect("read"), "before and after");
    mount.unmount();
}

/// `umount -l`: who is inside goes on, and the daemon ends when the last of them has gone.
#[test]
fn a_lazy_unmount_lets_those_inside_finish() {
    let world = World::with_relay("odd-lazy");
    let host = world.host("a");
    let mut mount = host.mount(&["--durability", "fsync", "--commit-interval", "1h"]);
    fs::create_dir(mount.path("d")).expect("mkdir");
    let inside = rustix::fs::open(
        mount.path("d"),
        rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .expect("open");
    let mut file = File::create(mount.path("f")).expect("create");
    sh(&world.local("x"), &format!("umount -l '{}'", mount.root().display()));
    assert!(!is_mounted(mount.root()));
    // The session is still written here, so that it cannot be mounted again.
    let again = host.run_mount(&["--timeout", "1s", "--drain-timeout", "1s"]);
    again.exits(6).says(&["waiting for the daemon", "does not end"]).plainly();
    file.write_all(&noise(300_000, 4)).expect("write");
    file.sync_all().expect("fsync");
    let late = rustix::fs::openat(
        &inside,
        "late",
        rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::RUSR,
    );
    rustix::io::write(late.expect("create"), b"late").expect("write");
    drop((file, inside));
    assert_eq!(mount.wait_end(Duration::from_secs(60)).code(), Some(0), "{}", mount.log());
    no_error_logged(&mount);
    drop(mount);
    let mount = world.host("b").mount(&[]);
    assert!(fs::read(mount.path("f")).expect("read") == noise(300_000, 4));
    assert_eq!(fs::read_to_string(mount.path("d/late")).expect("read"), "late");
    mount.unmount();
}

/// Who is inside when the mount is taken by force gets an error, not a hang; what it had written is there.
#[test]
fn a_forced_unmount_ends_writers_with_an_error_and_keeps_what_they_wrote() {
    let world = World::with_relay("odd-forced");
    let mut mount = world.host("a").mount(&["--durability", "fsync", "--commit-interval", "1h"]);
    let mut file = File::create(mount.path("f")).expect("create");
    file.write_all(&noise(500_000, 5)).expect("write");
    mount.run("unmount", &["--force"]).ok();
    assert_eq!(mount.wait_end(Duration::from_secs(60)).code(), Some(0), "{}", mount.log());
    let error = file.write_all(b"too late").expect_err("the daemon has gone");
    assert_eq!(error.raw_os_error(), Some(Errno::NOTCONN.raw_os_error()), "{error}");
    assert!(file.sync_all().is_err());
    drop((file, mount));
    let mount = world.host("b").mount(&[]);
    assert!(fs::read(mount.path("f")).expect("read") == noise(500_000, 5));
    mount.unmount();
}

/// The daemon stands still and goes on, as when its machine is suspended: callers wait, and nothing else.
#[test]
fn a_daemon_that_stood_still_goes_on() {
    let world = World::with_relay("odd-stopped");
    let mount = world.host("a").mount(&["--lease-ttl", "3s"]);
    write_closed(&mount.path("before"), b"x").expect("write");
    mount.signal(rustix::process::Signal::STOP);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| write_closed(&mount.path("during"), b"waits"));
        // Longer than the lease lasts.
        std::thread::sleep(Duration::from_secs(5));
        assert!(!writer.is_finished(), "nobody can have answered");
        mount.signal(rustix::process::Signal::CONT);
        writer.join().expect("a writer").expect("nobody else took the session");
    });
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    assert_eq!(fs::read_to_string(mount.path("during")).expect("read"), "waits");
    mount.unmount();
}

/// What [`apart`] is for: a program starts while another thread has a file of a daemon that stands still.
#[test]
fn a_program_starts_beside_a_file_of_a_daemon_that_stands_still() {
    let world = World::new("odd-beside");
    let mount = world.host("a").mount(&[]);
    let (local, opened, done) = (world.local("beside"), Barrier::new(2), Barrier::new(2));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            apart(|| {
                let mut file = File::create(mount.path("f")).expect("create");
                file.write_all(b"unflushed").expect("write");
                opened.wait();
                done.wait();
            });
        });
        opened.wait();
        mount.signal(rustix::process::Signal::STOP);
        let start = Instant::now();
        let starter = scope.spawn(|| sh(&local, "true"));
        while !starter.is_finished() && start.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_millis(10));
        }
        let started = starter.is_finished();
        mount.signal(rustix::process::Signal::CONT);
        done.wait();
        starter.join().expect("a program");
        assert!(started, "it waited for the daemon");
    });
    mount.unmount();
}

/// The same, but a successor took the session meanwhile: the late writer is told, and changes nothing.
#[test]
fn a_daemon_that_stood_still_too_long_gets_estale() {
    let world = World::with_relay("odd-fenced");
    let mount = world.host("a").mount(&["--lease-ttl", "3s", "--commit-interval", "1h"]);
    write_closed(&mount.path("f"), b"first").expect("write");
    mount.signal(rustix::process::Signal::STOP);
    let second = world.host("b").mount(&["--takeover"]);
    write_closed(&second.path("f"), b"second").expect("write");
    mount.signal(rustix::process::Signal::CONT);
    let late = write_closed(&mount.path("f"), b"late").expect_err("it was fenced");
    assert_eq!(late.raw_os_error(), Some(Errno::STALE.raw_os_error()), "{late}");
    assert_eq!(fs::read_to_string(second.path("f")).expect("read"), "second");
    mount.run("unmount", &["--force"]).exits(7);
    second.unmount();
    let third = world.host("c").mount(&[]);
    assert_eq!(fs::read_to_string(third.path("f")).expect("read"), "second");
    third.unmount();
}
