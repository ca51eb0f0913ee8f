//! `--read-only`: a mount that follows the writer.

use crate::support::{Tree, World, eventually};
use crate::work::{self, write_closed};
use std::fs;
use std::time::Duration;

/// The stated bound, and some room for a busy machine.
const BOUND: Duration = Duration::from_secs(8);

#[test]
fn a_follower_shows_what_the_writer_commits_within_its_bound() {
    let world = World::new("follows");
    let writer = world.host("a").mount(&[]);
    write_closed(&writer.path("first"), b"one").expect("write");
    let follower = world.host("b").mount(&["--read-only"]);
    assert_eq!(fs::read(follower.path("first")).expect("read"), b"one");
    fs::create_dir(writer.path("d")).expect("mkdir");
    write_closed(&writer.path("d/second"), b"two").expect("write");
    eventually("a new file", BOUND, || fs::read(follower.path("d/second")).is_ok_and(|b| b == b"two"));
    write_closed(&writer.path("first"), b"one and more").expect("write");
    eventually("a change", BOUND, || fs::read(follower.path("first")).is_ok_and(|b| b == b"one and more"));
    fs::remove_file(writer.path("first")).expect("unlink");
    eventually("a removal", BOUND, || !follower.path("first").exists());
    work::one_of_everything(writer.root());
    writer.flush();
    let tree = Tree::of(writer.root());
    eventually("everything", BOUND, || Tree::of(follower.root()) == tree);
    for refused in [
        fs::write(follower.path("x"), "x"),
        fs::remove_file(follower.path("plain")),
        fs::rename(follower.path("plain"), follower.path("y")),
    ] {
        let error = refused.expect_err("it is read-only");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::ROFS.raw_os_error()));
    }
    follower.unmount();
    write_closed(&writer.path("after"), b"x").expect("the writer never noticed");
    writer.unmount();
}

#[test]
fn followers_share_the_writers_machine_and_leave_its_changes_alone() {
    let world = World::with_relay("follows-here");
    let host = world.host("a");
    let writer = host.mount(&["--durability", "fsync", "--commit-interval", "1h"]);
    write_closed(&writer.path("committed"), b"one").expect("write");
    writer.flush();
    let mut beside = [world.host("b"), world.host("c")];
    beside.iter_mut().for_each(|other| other.cache = host.cache.clone());
    let followers = beside.each_ref().map(|other| other.mount(&["--read-only"]));
    fs::create_dir(writer.path("local-only")).expect("mkdir");
    // The journal is written behind, within milliseconds.
    std::thread::sleep(Duration::from_millis(500));
    writer.kill();
    for follower in followers {
        assert_eq!(fs::read(follower.path("committed")).expect("read"), b"one");
        follower.unmount();
    }
    let follower = beside[0].mount(&["--read-only"]);
    follower.unmount();
    let writer = host.mount(&[]);
    assert!(writer.path("local-only").is_dir(), "it is replayed");
    writer.unmount();
}

#[test]
fn a_follower_shows_only_whole_commits() {
    let world = World::new("whole");
    let writer = world.host("a").mount(&[]);
    let swap = |n: u32| {
        write_closed(&writer.path("new"), n.to_string().repeat(2000).as_bytes()).expect("write");
        fs::rename(writer.path("new"), writer.path("current")).expect("rename");
    };
    swap(1);
    writer.flush();
    let follower = world.host("b").mount(&["--read-only"]);
    let mut versions = std::collections::BTreeSet::new();
    for n in 2..80 {
        swap(n);
        let text = fs::read_to_string(follower.path("current")).expect("the name is always there");
        let start = text[..text.len() / 2000].to_owned();
        assert_eq!(text, start.repeat(2000), "a torn version");
        versions.insert(start);
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(versions.len() >= 2, "the follower stood still: {versions:?}");
}

#[test]
fn a_follower_goes_on_with_the_successor_of_its_writer() {
    let world = World::new("follows-on");
    let first = world.host("a").mount(&[]);
    write_closed(&first.path("f"), b"1").expect("write");
    let follower = world.host("c").mount(&["--read-only"]);
    first.unmount();
    let second = world.host("b").mount(&[]);
    write_closed(&second.path("f"), b"2").expect("write");
    eventually("the successor's change", BOUND * 2, || fs::read(follower.path("f")).is_ok_and(|b| b == b"2"));
}

#[test]
fn a_follower_needs_no_right_to_write() {
    let world = World::with_relay("reader");
    let writer = world.host("a").mount(&[]);
    write_closed(&writer.path("f"), b"x").expect("write");
    writer.unmount();
    world.relay().reset();
    let follower = world.host("b").mount(&["--read-only"]);
    assert_eq!(fs::read(follower.path("f")).expect("read"), b"x");
    follower.unmount();
    let wrote: Vec<_> =
        world.relay().seen().into_iter().filter(|s| s.request.kind.changes_the_store()).collect();
    assert!(wrote.is_empty(), "a read-only mount changed the store: {wrote:?}");
}
