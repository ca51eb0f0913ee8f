//! One writer: who may succeed whom, how soon, and what the one that was succeeded learns of it.

use crate::support::{World, eventually};
use crate::work::write_closed;
use rustix::process::Signal;
use std::fs::{self, File};
use std::io::Write;
use std::time::{Duration, Instant};

fn is_stale(error: &std::io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::STALE.raw_os_error())
}

#[test]
fn after_a_takeover_the_old_mount_gets_estale_and_changes_nothing() {
    let world = World::new("takeover");
    let old = world.host("a").mount(&["--park-after", "never"]);
    write_closed(&old.path("shared"), b"from a").expect("write");
    let mut open = File::create(old.path("open")).expect("create");
    open.write_all(b"written before").expect("write");
    fs::create_dir(old.path("listed")).expect("mkdir");
    let list = |at: &str| fs::read_dir(old.path(at))?.collect::<Result<Vec<_>, _>>();
    // Twice: the kernel keeps it.
    for at in [".", "listed", ".", "listed"] {
        list(at).expect("list");
    }

    let new = world.host("b").mount(&["--takeover"]);
    write_closed(&new.path("shared"), b"from b").expect("the successor writes");
    let error = write_closed(&old.path("shared"), b"from the fenced one").expect_err("it is fenced");
    assert!(is_stale(&error), "{error}");
    eventually("every operation is refused", Duration::from_secs(20), || {
        fs::create_dir(old.path("d")).is_err_and(|e| is_stale(&e))
    });
    for at in [".", "listed"] {
        eventually("what the kernel kept of a listing too", Duration::from_secs(20), || {
            list(at).is_err_and(|e| is_stale(&e))
        });
    }
    assert!(open.sync_all().is_err_and(|e| is_stale(&e)), "a later fsync tells the truth again");
    old.wait_status("status says so", Duration::from_secs(20), |s| s["state"] == "fenced");
    assert_eq!(fs::read(new.path("shared")).expect("read"), b"from b");
    assert!(!new.path("d").exists());
    new.publish();
    assert_eq!(world.witness.text("shared"), "from b");
    let ran = old.run("unmount", &["--force"]);
    assert_eq!(ran.code, Some(7), "{ran}");
    new.unmount();
}

#[test]
fn a_quiet_holder_parks_and_is_succeeded_at_once() {
    let world = World::new("park");
    let old = world.host("a").mount(&["--park-after", "1s", "--lease-ttl", "60s"]);
    write_closed(&old.path("f"), b"x").expect("write");
    old.publish();
    old.wait_status("it parks", Duration::from_secs(15), |s| s["lease"]["state"] == "parked");
    let start = Instant::now();
    let new = world.host("b").mount(&[]);
    assert!(start.elapsed() < Duration::from_secs(10), "it took {:?}", start.elapsed());
    assert_eq!(fs::read(new.path("f")).expect("read"), b"x");
    write_closed(&new.path("f"), b"y").expect("write");
    let error = write_closed(&old.path("f"), b"z").expect_err("the parked one was succeeded");
    assert!(is_stale(&error), "{error}");
    new.unmount();
}

#[test]
fn a_parked_writer_takes_the_lease_again_by_itself() {
    let world = World::new("unpark");
    let mount = world.host("a").mount(&["--park-after", "1s"]);
    mount.publish();
    mount.wait_status("it parks", Duration::from_secs(15), |s| s["lease"]["state"] == "parked");
    write_closed(&mount.path("f"), b"x").expect("a parked writer writes on");
    assert_eq!(mount.status()["lease"]["state"], "held");
    mount.unmount();
}

#[test]
fn a_holder_that_was_killed_is_succeeded_when_its_ttl_is_over() {
    let world = World::new("expiry");
    let old = world.host("a").mount(&["--lease-ttl", "4s", "--park-after", "never"]);
    write_closed(&old.path("f"), b"x").expect("write");
    old.kill();
    let start = Instant::now();
    let new = world.host("b").mount(&[]);
    let took = start.elapsed();
    assert!((2.0..20.0).contains(&took.as_secs_f64()), "the ttl was 4 s, the mount took {took:?}");
    assert_eq!(fs::read(new.path("f")).expect("read"), b"x");
    new.unmount();
}

#[test]
fn a_paused_holder_that_wakes_up_acknowledges_nothing_more() {
    let world = World::new("paused");
    let old = world.host("a").mount(&["--lease-ttl", "3s", "--park-after", "never"]);
    write_closed(&old.path("f"), b"before").expect("write");
    old.signal(Signal::STOP);
    let new = world.host("b").mount(&[]);
    write_closed(&new.path("f"), b"successor").expect("write");
    old.signal(Signal::CONT);
    let error = write_closed(&old.path("f"), b"woken").expect_err("it was succeeded");
    assert!(is_stale(&error), "{error}");
    new.publish();
    assert_eq!(fs::read(new.path("f")).expect("read"), b"successor");
    assert_eq!(world.witness.text("f"), "successor");
    new.unmount();
}

#[test]
fn what_a_fenced_writer_had_not_committed_is_kept_and_shown() {
    let world = World::with_relay("salvage");
    let host = world.host("a");
    let old = host.mount(&["--durability", "fsync", "--park-after", "never"]);
    write_closed(&old.path("f"), b"committed").expect("write");
    old.flush();
    world.relay().black_hole();
    write_closed(&old.path("lonely"), b"only here").expect("level fsync does not wait");
    std::thread::sleep(Duration::from_secs(2));
    old.kill();
    world.relay().drop_held();
    world.relay().heal();
    let new = world.host("b").mount(&["--takeover"]);
    write_closed(&new.path("other"), b"x").expect("write");
    new.unmount();
    let back = host.mount(&[]);
    assert!(back.path("other").exists() && !back.path("lonely").exists(), "the store's tree is the truth");
    let kept = back.status()["salvage"].as_array().map_or(0, Vec::len);
    assert!(kept > 0, "status says nothing of what was kept aside: {:#}", back.status());
    assert!(back.log().contains("salvage"), "nor does the log");
    back.unmount();
}

#[test]
fn a_session_deleted_under_a_live_mount_is_not_made_again() {
    let world = World::new("deleted");
    let mount = world.host("a").mount(&["--publish-delay", "100ms"]);
    for n in 0..5 {
        write_closed(&mount.path(format!("f{n}")), b"x").expect("write");
    }
    mount.publish();
    assert!(world.witness.delete_all("") > 5);
    // Whatever a writer does next tells it.
    eventually("writes are refused", Duration::from_secs(30), || {
        write_closed(&mount.path("new"), b"y").is_err_and(|e| is_stale(&e))
    });
    let status = mount.status();
    assert_eq!(status["state"], "deleted", "status says why: {status:#}");
    // What was published before it learnt of it goes once more; now nothing may come back.
    world.witness.delete_all("");
    let error = write_closed(&mount.path("newer"), b"z").expect_err("it stays refused");
    assert!(is_stale(&error), "{error}");
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(world.witness.plain_keys(), [""; 0], "keys of a deleted session were made again");
}
