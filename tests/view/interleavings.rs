//! Orders of events that break simpler designs: each a scenario of its own.

use crate::conflicts::beside;
use crate::rig::{Host, Rig, by_hand};
use crate::tree::assert_published;
use cwdfs::session::api::*;
use cwdfs::store::Kind;
use cwdfs::store::faulty::{Fault, Point, Rule};
use cwdfs::view::ViewOptions;
use std::time::Duration;

fn pause(ms: u64) {
    std::thread::sleep(Duration::from_millis(ms));
}

/// The published object is never the only copy: not of a file, not of one that is open and deleted.
#[test]
fn what_happens_to_objects_never_happens_to_content_that_was_closed_here() {
    let mut rig = Rig::new();
    let host = rig.mount();
    let big = crate::published::noise(20 << 20, 9);
    host.write("big", &big);
    host.write("kept", b"kept");
    host.publish();
    let file = host.open("big", OpenFlags { read: true, ..OpenFlags::default() }).unwrap();
    host.append("big", b"!").unwrap();
    host.write("kept", b"kept, newer");
    host.flush();
    host.unlink("big").unwrap();
    rig.client.put("big", b"theirs");
    rig.client.delete("kept");
    host.refresh();
    let content = host.read_open(file.0, file.1).unwrap();
    assert!(content[..big.len()] == big && content[big.len()..] == *b"!");
    host.close(file).unwrap();
    host.flush();
    host.crash();
    rig.wipe();
    let host = rig.mount();
    assert_eq!(host.text("kept"), "kept, newer");
    assert!(host.read("big").unwrap() == b"theirs");
    host.unmount();
}

/// A version is published, its ETag is not recorded, the next one is committed: it is not an outside edit.
#[test]
fn a_published_version_whose_etag_was_lost_is_known_by_its_tag() {
    for lost_answer in [true, false] {
        let mut rig = Rig::new();
        let host = rig.mount();
        host.write("f", b"one");
        host.symlink("l", "one").unwrap();
        host.publish();
        host.write("f", b"two");
        host.unlink("l").unwrap();
        host.symlink("l", "two").unwrap();
        host.flush();
        // The row is never committed: after the PUT, nothing of ours is written any more.
        if lost_answer {
            for key in ["f", "l"] {
                host.faulty.add_rule(Rule::new(Fault::After(Kind::Unavailable)).on("put").key(key));
            }
        }
        let rows = host.faulty.hold(".cwdfs/log/");
        let waiting = host.view.clone();
        let publishing = host.spawn(async move {
            waiting.wait_published(tokio::time::Instant::now() + Duration::from_secs(5)).await
        });
        let begun = std::time::Instant::now();
        while rig.client.text("f") != "two" || rig.client.get("l").is_none_or(|l| !tells(&l, "two")) {
            assert!(begun.elapsed() < Duration::from_secs(10));
            pause(20);
        }
        publishing.abort();
        host.faulty.set_down(true);
        rows.lose();
        host.crash();
        rig.wipe();
        let host = rig.mount();
        host.write("f", b"three");
        host.refresh();
        host.publish();
        assert_eq!((host.status().imported, host.status().conflicts), (0, 0), "{:#?}", host.status());
        assert_published(&host, &rig.client);
        assert_eq!(rig.client.text("f"), "three");
        assert_eq!(host.names(""), ["f", "l"]);
        host.unmount();
    }
}

fn tells(object: &cwdfs::store::Object, target: &str) -> bool {
    object.meta.metadata.get("--symlink-target").is_some_and(|t| t == target)
}

/// A key is published while the listing is under way: it is not taken for deleted.
#[test]
fn a_listing_that_publishing_overtakes_deletes_nothing() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("a", b"a");
    host.publish();
    let held = host.faulty.hold_on("list", "", Point::After);
    let view = host.view.clone();
    let refreshing = host.spawn(async move { view.refresh().await });
    host.wait(held.reached(1));
    // The listing of the lease first, then the one of everything.
    host.write("b", b"b");
    host.rename("a", "c").unwrap();
    host.publish();
    held.release();
    let done = host.wait(refreshing).unwrap().unwrap();
    assert_eq!((done.deleted, done.conflicts), (0, 0));
    assert_eq!(host.names(""), ["b", "c"]);
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

/// A DELETE whose answer was lost hits the file that was made again: it is no outside delete.
#[test]
fn a_late_delete_of_ours_does_not_unlink_what_was_made_again() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("f", b"same");
    host.publish();
    host.faulty.add_rule(Rule::new(Fault::Before(Kind::Timeout)).on("delete").key("f").times(1));
    host.unlink("f").unwrap();
    host.publish();
    host.write("f", b"same");
    host.publish();
    // This is the first DELETE, at last.
    rig.client.delete("f");
    host.refresh();
    host.publish();
    assert_eq!((host.text("f"), rig.client.text("f")), ("same".into(), "same".into()));
    // One that was answered at once is not in doubt: the next delete is an outside client's.
    host.write("g", b"same");
    host.publish();
    host.unlink("g").unwrap();
    host.publish();
    host.write("g", b"same");
    host.publish();
    rig.client.delete("g");
    host.refresh();
    assert!(!host.has("g"));
    host.unmount();
}

/// A listing that does not show our own lease proves nothing.
#[test]
fn a_listing_without_our_lease_deletes_nothing() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("f", b"content");
    host.publish();
    rig.client.delete_all(".cwdfs/");
    rig.client.delete("f");
    assert!(host.wait(host.view.refresh()).is_err());
    assert_eq!(host.view.status().unwrap().outside_deletes, 0);
    host.crash();
}

/// A fenced writer's PUT lands late: it is a version of ours, and mended.
#[test]
fn a_fenced_writers_late_publish_is_known_and_mended() {
    for first in ["old", "new"] {
        let mut rig = Rig::new();
        let host = rig.mount();
        host.write("f", b"one");
        host.publish();
        host.write("f", b"two");
        let held = host.faulty.hold_on("put", "f", Point::Before);
        assert!(!host.publishes_within(Duration::from_millis(200)));
        assert_eq!(held.waiting(), 1);
        rig.wipe();
        let next = rig.mount();
        next.write("f", b"three");
        next.flush();
        let mut held = Some(held);
        if first == "old" {
            drop(held.take());
            let begun = std::time::Instant::now();
            while rig.client.text("f") != "two" {
                assert!(begun.elapsed() < Duration::from_secs(10));
                pause(20);
            }
        }
        next.publish();
        drop(held);
        pause(300);
        next.refresh();
        next.publish();
        assert_eq!(rig.client.text("f"), "three", "{first} first");
        assert_eq!((next.text("f"), beside(&next, "f").len()), ("three".into(), 0));
        assert_eq!(next.status().conflicts, 0);
        host.crash();
        next.unmount();
    }
}

/// ETags do not see metadata, and all objects without bytes share one.
#[test]
fn a_change_of_headers_that_keeps_the_etag_is_seen() {
    let rig = Rig::new();
    let host = rig.mount();
    host.symlink("link", "here").unwrap();
    host.mkdir("d").unwrap();
    host.symlink("ours", "one").unwrap();
    host.publish();
    host.refresh();
    pause(1100);
    rig.client.put_with("link", b"", &[("--symlink-target", "there")]);
    rig.client.put_with("d/", b"", &[("mode", &(libc::S_IFDIR | 0o700).to_string())]);
    host.refresh();
    assert_eq!(host.session.readlink(host.find("link").unwrap()).unwrap(), b"there");
    assert_eq!(host.session.getattr(host.find("d").unwrap()).unwrap().mode, libc::S_IFDIR | 0o700);
    // Both sides at once: neither target is lost.
    rig.client.put_with("ours", b"", &[("--symlink-target", "theirs")]);
    host.unlink("ours").unwrap();
    host.symlink("ours", "two").unwrap();
    host.publish();
    let other = beside(&host, "ours");
    assert_eq!(other.len(), 1, "{:?}", host.names(""));
    assert_eq!(host.session.readlink(host.find(&other[0]).unwrap()).unwrap(), b"theirs");
    assert_eq!(host.session.readlink(host.find("ours").unwrap()).unwrap(), b"two");
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

/// The session is deleted under a live mount: nothing of it is made again.
#[test]
fn a_session_deleted_under_a_live_mount_is_not_made_again() {
    let rig = Rig::new();
    let host = rig.mount_with(ViewOptions { delay: Duration::from_millis(10), ..by_hand() });
    host.mkdir("d").unwrap();
    host.write("d/f", b"content");
    host.publish();
    rig.client.delete_all("");
    let refused = host.wait(host.view.refresh());
    let refused = refused.expect_err("nothing is imported from what is gone").to_string();
    assert!(refused.contains("lease") || refused.contains("deleted"), "{refused}");
    let begun = std::time::Instant::now();
    while host.status().stopped.is_none() {
        // A change that has to be published finds it at the latest.
        let _ = host.try_write("d/f", b"newer");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:#?}", host.status());
        pause(50);
    }
    let error = host.find("d").expect_err("the session is gone");
    assert_eq!(error.errno(), libc::ESTALE);
    assert!(rig.client.keys().is_empty(), "objects were made again: {:?}", rig.client.keys());
    assert!(!host.publishes_at_all());
    host.crash();
}

impl Host {
    fn publishes_at_all(&self) -> bool {
        let until = tokio::time::Instant::now() + Duration::from_secs(20);
        let begun = std::time::Instant::now();
        let done = self.wait(self.view.wait_published(until));
        assert!(begun.elapsed() < Duration::from_secs(5), "nobody waits for what never comes");
        done
    }
}
