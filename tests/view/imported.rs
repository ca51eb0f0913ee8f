//! Prefixes that other tools have filled, and what becomes of their content once it is changed here.

use crate::published::{count, noise};
use crate::rig::{Host, Rig, by_hand};
use crate::tree::assert_published;
use cwdfs::session::Owners;
use cwdfs::session::api::*;
use cwdfs::store::Kind;
use cwdfs::store::faulty::{Fault, Point, Rule};
use cwdfs::view::ViewOptions;
use std::time::Duration;

fn attr(host: &Host, path: &str) -> Attr {
    host.session.getattr(host.find(path).unwrap()).unwrap()
}

#[test]
fn what_geesefs_wrote_is_there_with_modes_owners_times_links_and_attributes() {
    let rig = Rig::new();
    let tool = [("mode", "33261"), ("uid", "1000"), ("gid", "1001"), ("mtime", "1600000000")];
    rig.client.put_with("bin/tool", b"#!/bin/sh\n", &tool);
    rig.client.put_with("bin/", b"", &[("mode", "16832"), ("uid", "7")]);
    rig.client.put_with("link", b"", &[("--symlink-target", "bin/tool")]);
    rig.client.put_with("pipe", b"", &[("mode", &(libc::S_IFIFO | 0o640).to_string())]);
    rig.client.put_with("noted", b"x", &[("note", "hello%20there")]);
    let host = rig.mount();
    let there = attr(&host, "bin/tool");
    assert_eq!((there.mode, there.uid, there.gid, there.mtime.sec), (0o100755, 1000, 1001, 1_600_000_000));
    assert_eq!(host.text("bin/tool"), "#!/bin/sh\n");
    assert_eq!((attr(&host, "bin").mode, attr(&host, "bin").uid), (0o040700, 7));
    assert_eq!(host.session.readlink(host.find("link").unwrap()).unwrap(), b"bin/tool");
    assert_eq!(attr(&host, "pipe").mode, libc::S_IFIFO | 0o640);
    let note = host.session.getxattr(host.find("noted").unwrap(), b"user.note").unwrap();
    assert_eq!(note, b"hello there");
    // Nothing of it is written again.
    let puts = count(&host.faulty, "put", "bin/tool");
    host.publish();
    assert_eq!(puts(), 0);
    host.unmount();
}

#[test]
fn plain_objects_without_markers_or_headers_become_files_in_directories() {
    let rig = Rig::new();
    rig.client.put("a/b/c.txt", b"deep");
    rig.client.put("top", b"top");
    rig.client.put("empty", b"");
    rig.client.put("big", &noise(9 << 20, 4));
    let host = rig.mount();
    assert_eq!(host.text("a/b/c.txt"), "deep");
    assert_eq!((attr(&host, "a").mode, attr(&host, "a").nlink), (0o040755, 3));
    assert_eq!((attr(&host, "top").mode, attr(&host, "empty").size), (0o100644, 0));
    assert!(host.read("big").unwrap() == noise(9 << 20, 4));
    host.publish();
    assert_eq!(rig.client.keys(), ["a/", "a/b/", "a/b/c.txt", "big", "empty", "top"]);
    host.unmount();
}

#[test]
fn a_first_mount_asks_for_listings_and_headers_and_for_no_content() {
    let mut rig = Rig::new();
    let files = 2500;
    for n in 0..files {
        rig.client.put(&format!("d{}/f{n}", n % 10), b"x");
    }
    let host = rig.mount();
    let requests = host.faulty.requests();
    let of = |operation: &str| requests.get(operation).copied().unwrap_or(0);
    // And one for each marker that was published meanwhile, whose time is not known yet.
    assert!((files..files + 15).contains(&of("head")), "{requests:?}");
    assert!(of("list") < 60 && of("get") < 20 && of("put") < 200, "{requests:?}");
    assert_eq!(host.names("d3").len(), files as usize / 10);
    host.unmount();
    rig.wipe();
    let host = rig.mount();
    host.refresh();
    let requests = host.faulty.requests();
    let heads = requests.get("head").copied().unwrap_or(0);
    assert!(heads < 50, "what is known is not asked for again: {requests:?}");
    host.unmount();
}

#[test]
fn a_pass_that_finds_nothing_is_one_listing() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("file", b"content");
    host.publish();
    host.refresh();
    let listings = || host.faulty.requests().get("list").copied().unwrap_or(0);
    let before = listings();
    host.refresh();
    assert_eq!(listings() - before, 1);
    host.unmount();
}

#[test]
fn a_first_mount_that_fails_midway_shows_nothing_and_goes_on_later() {
    let rig = Rig::new();
    for n in 0..40 {
        rig.client.put_with(&format!("link{n:02}"), b"", &[("--symlink-target", "there")]);
        rig.client.put(&format!("file{n:02}"), b"content");
    }
    let bad = |store: &cwdfs::store::faulty::FaultyStore| {
        store.add_rule(Rule::new(Fault::Before(Kind::Unavailable)).on("head").key("link2"));
    };
    let refused = rig.try_mount(by_hand(), bad);
    let refused = refused.err().expect("a mount that lacks files is refused").to_string();
    assert!(refused.contains("10 objects"), "{refused}");
    let host = rig.mount();
    assert_eq!(host.names("").len(), 80);
    host.publish();
    host.refresh();
    assert_eq!((host.status().conflicts, host.status().published), (0, 0));
    host.unmount();
}

#[test]
fn headers_that_come_late_do_not_undo_what_was_done_here() {
    let rig = Rig::new();
    for name in ["edited", "chmodded", "moved", "left"] {
        rig.client.put_with(name, b"theirs", &[("mode", "33261"), ("uid", "12"), ("note", "n")]);
    }
    let options = ViewOptions { headers_wait: Duration::from_millis(50), ..by_hand() };
    let mut held = None;
    let host = rig.try_mount(options, |store| held = Some(store.hold_on("head", "", Point::Before)));
    let host = host.unwrap();
    assert_eq!(attr(&host, "left").mode, 0o100644, "not known yet");
    host.write("edited", b"ours");
    host.chmod("chmodded", 0o600).unwrap();
    host.rename("moved", "there").unwrap();
    host.flush();
    held.take().unwrap().release();
    host.publish();
    host.refresh();
    host.publish();
    assert_eq!(attr(&host, "left").mode, 0o100755);
    assert_eq!((attr(&host, "edited").mode, attr(&host, "edited").uid), (0o100755, 12));
    assert_eq!((attr(&host, "chmodded").mode, attr(&host, "chmodded").uid), (0o100600, 12));
    assert_eq!((attr(&host, "there").mode, host.text("there")), (0o100755, "theirs".into()));
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn headers_that_a_later_mount_reads_tell_the_owner_whoever_mounts() {
    let mut rig = Rig::new();
    rig.client.put_with("f", b"theirs", &[("mode", "33261"), ("uid", "12"), ("gid", "13")]);
    let options = ViewOptions { headers_wait: Duration::from_millis(50), ..by_hand() };
    let mut held = None;
    let host = rig.try_mount(options, |store| held = Some(store.hold_on("head", "", Point::Before)));
    let host = host.unwrap();
    assert_eq!(attr(&host, "f").mode, 0o100644, "not known yet");
    host.flush();
    host.crash();
    // The owner that the first mount took for granted is not the one that this one would take.
    rig.owners = Owners { uid: Some(1001), gid: Some(1002) };
    let host = rig.mount();
    host.refresh();
    assert_eq!((attr(&host, "f").uid, attr(&host, "f").gid), (1001, 1002));
    host.unmount();
    rig.owners = Owners::default();
    let host = rig.mount();
    assert_eq!((attr(&host, "f").mode, attr(&host, "f").uid, attr(&host, "f").gid), (0o100755, 12, 13));
    host.unmount();
}

/// A prefix with one file, mounted, and what is done to that file here; then another client does its worst.
fn survives(change: impl Fn(&Host), path: &str, content: &[u8]) {
    for publish in [true, false] {
        for worst in ["delete", "replace"] {
            let mut rig = Rig::new();
            rig.client.put("d/theirs", b"their content");
            let host = rig.mount_with(ViewOptions { publish, ..by_hand() });
            change(&host);
            host.flush();
            match worst {
                "delete" => rig.client.delete("d/theirs"),
                _ => drop(rig.client.put("d/theirs", b"other bytes!!")),
            }
            host.crash();
            rig.wipe();
            let host = rig.mount_with(ViewOptions { publish, ..by_hand() });
            let found = host.read(path).unwrap_or_else(|e| panic!("{worst}, publishing {publish}: {e}"));
            assert!(found == content, "{worst}: {:?}", String::from_utf8_lossy(&found));
            host.refresh();
            assert_eq!(host.read(path).unwrap(), content);
            host.unmount();
        }
    }
}

#[test]
fn an_imported_file_that_was_appended_to_needs_its_object_no_more() {
    survives(|host| host.append("d/theirs", b", and ours").unwrap(), "d/theirs", b"their content, and ours");
}

#[test]
fn an_imported_file_that_was_renamed_needs_its_object_no_more() {
    survives(|host| host.rename("d/theirs", "ours").unwrap(), "ours", b"their content");
}

#[test]
fn an_imported_file_that_was_linked_needs_its_object_no_more() {
    survives(|host| host.link("d/theirs", "ours").unwrap(), "ours", b"their content");
}

#[test]
fn an_imported_file_that_was_changed_and_renamed_needs_its_object_no_more() {
    let change = |host: &Host| {
        let file = host.open("d/theirs", OpenFlags { write: true, ..OpenFlags::default() }).unwrap();
        host.put_bytes(file, 0, b"THEIR").unwrap();
        host.rename("d/theirs", "ours").unwrap();
        host.close(file).unwrap();
    };
    survives(change, "ours", b"THEIR content");
}

#[test]
fn an_imported_file_that_was_copied_into_needs_its_object_no_more() {
    let mut rig = Rig::new();
    let (theirs, ours) = (noise(1 << 20, 10), noise(200 << 10, 11));
    rig.client.put("theirs", &theirs);
    let host = rig.mount();
    host.write("ours", &ours);
    let from = host.open("ours", OpenFlags { read: true, ..OpenFlags::default() }).unwrap();
    let to = host.open("theirs", OpenFlags { write: true, ..OpenFlags::default() }).unwrap();
    let len = ours.len() as u64;
    let (source, target) = ((from.0, from.1, 0), (to.0, to.1, 4096));
    assert_eq!(
        host.run(|s| s.copy_range(
            cwdfs::session::api::Caller { uid: 0, gid: 0, pid: 0 },
            source,
            target,
            len
        ))
        .unwrap(),
        len
    );
    host.close(to).unwrap();
    host.close(from).unwrap();
    host.flush();
    rig.client.delete("theirs");
    host.crash();
    rig.wipe();
    let host = rig.mount();
    let mut want = theirs;
    want[4096..4096 + ours.len()].copy_from_slice(&ours);
    assert!(host.read("theirs").unwrap() == want);
    host.unmount();
}

#[test]
fn files_of_a_directory_that_was_renamed_need_their_objects_no_more() {
    for publish in [true, false] {
        let mut rig = Rig::new();
        for n in 0..30 {
            rig.client.put(&format!("d/{n}"), format!("{n}").as_bytes());
        }
        let delay = Duration::from_millis(10);
        let host = rig.mount_with(ViewOptions { publish, delay, ..by_hand() });
        host.rename("d", "e").unwrap();
        host.flush();
        let begun = std::time::Instant::now();
        while host.status().pending_objects > 0 || begun.elapsed() < Duration::from_millis(300) {
            assert!(begun.elapsed() < Duration::from_secs(20), "{:#?}", host.status());
            std::thread::sleep(Duration::from_millis(50));
        }
        host.flush();
        rig.client.delete_all("d/");
        host.crash();
        rig.wipe();
        let host = rig.mount_with(ViewOptions { publish, ..by_hand() });
        for n in 0..30 {
            assert_eq!(host.text(&format!("e/{n}")), format!("{n}"));
        }
        host.unmount();
    }
}

#[test]
fn a_rewrite_of_an_imported_file_needs_nothing_of_its_object() {
    let rig = Rig::new();
    rig.client.put("f", b"theirs");
    let host = rig.mount();
    rig.client.put("f", b"theirs, newer");
    let gets = count(&host.faulty, "get", "f");
    host.write("f", b"ours");
    assert_eq!(gets(), 0, "its old content is not read");
    host.refresh();
    host.publish();
    assert_eq!(rig.client.text("f"), "ours");
    let beside = host.names("").into_iter().find(|name| name.starts_with("f.outside-"));
    assert_eq!(host.text(&beside.expect("their edit is kept")), "theirs, newer");
    host.unmount();
}

#[test]
fn an_append_to_content_that_was_replaced_meanwhile_fails_and_both_are_kept_where_they_can() {
    let rig = Rig::new();
    rig.client.put("f", b"theirs");
    let host = rig.mount();
    rig.client.put("f", b"theirs, newer");
    let error = host.append("f", b", and ours").expect_err("the old content is nowhere");
    assert_eq!(error.errno(), libc::EIO, "{error}");
    host.refresh();
    let beside = host.names("").into_iter().find(|name| name.starts_with("f.outside-"));
    assert_eq!(host.text(&beside.expect("their edit is kept")), "theirs, newer");
    // A rewrite ends it.
    host.write("f", b"ours");
    host.publish();
    assert_eq!(rig.client.text("f"), "ours");
    host.unmount();
}

#[test]
fn what_only_changed_its_mode_goes_with_the_object_that_has_its_content() {
    let rig = Rig::new();
    for name in ["deleted", "replaced"] {
        rig.client.put(name, b"theirs");
    }
    let host = rig.mount();
    host.chmod("deleted", 0o755).unwrap();
    host.chmod("replaced", 0o755).unwrap();
    rig.client.delete("deleted");
    rig.client.put("replaced", b"theirs, newer");
    host.refresh();
    assert!(!host.has("deleted"), "there is no content to publish again");
    assert_eq!((host.text("replaced"), attr(&host, "replaced").mode), ("theirs, newer".into(), 0o100755));
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn reading_imported_content_that_was_replaced_fails_and_never_mixes() {
    let rig = Rig::new();
    let (old, new) = (noise(20 << 20, 5), noise(20 << 20, 6));
    rig.client.put("big", &old);
    let host = rig.mount();
    let file = host.open("big", OpenFlags { read: true, ..OpenFlags::default() }).unwrap();
    let head = host.run(|s| s.read(file.0, file.1, 0, 4096)).unwrap();
    assert!(head == old[..4096]);
    rig.client.put("big", &new);
    let tail = host.run(|s| s.read(file.0, file.1, 19 << 20, 4096));
    assert!(tail.is_err() || tail.is_ok_and(|bytes| bytes == old[19 << 20..(19 << 20) + 4096]), "a mix");
    let done = host.refresh();
    let now = host.read("big").unwrap();
    let same = |with: &[u8]| now.chunks(4096).zip(with.chunks(4096)).filter(|(a, b)| a == b).count();
    assert!(now == new, "{done:?}: {} bytes, {} pages old, {} new", now.len(), same(&old), same(&new));
    host.close(file).unwrap();
    host.unmount();
}

#[test]
fn a_file_read_before_an_outside_edit_is_read_anew_after_it() {
    let rig = Rig::new();
    let host = rig.mount();
    for size in [10, 300 << 10, 9 << 20] {
        let (old, new) = (noise(size, 7), noise(size, 8));
        host.write("f", &old);
        host.publish();
        assert!(host.read("f").unwrap() == old);
        rig.client.put("f", &new);
        host.refresh();
        assert!(host.read("f").unwrap() == new, "{size} bytes: the old content, or a mix");
    }
    host.unmount();
}
