//! The view: a session as plain objects that any S3 client reads and writes.

use crate::support::relay::{Act, Kind};
use crate::support::{World, eventually, sh};
use crate::work::{noise, write_closed};
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(20);

#[test]
fn published_files_are_plain_objects_with_the_right_bytes_and_headers() {
    let world = World::new("publish");
    let mount = world.host("a").mount(&[]);
    fs::create_dir_all(mount.path("src/empty")).expect("mkdir");
    write_closed(&mount.path("src/main.rs"), b"fn main() {}").expect("write");
    write_closed(&mount.path("run me.sh"), b"#!/bin/sh\n").expect("write");
    fs::set_permissions(mount.path("run me.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
    write_closed(&mount.path("large"), &noise(12 << 20, 5)).expect("write");
    symlink("src/main.rs", mount.path("link")).expect("symlink");
    fs::hard_link(mount.path("src/main.rs"), mount.path("src/same.rs")).expect("link");
    mount.publish();
    let keys = world.witness.plain_keys();
    assert_eq!(keys, ["large", "link", "run me.sh", "src/", "src/empty/", "src/main.rs", "src/same.rs"]);
    assert_eq!(world.witness.text("src/main.rs"), "fn main() {}");
    assert_eq!(world.witness.text("src/same.rs"), "fn main() {}");
    assert!(world.witness.object("large").expect("large").bytes == noise(12 << 20, 5), "large differs");
    let script = world.witness.object("run me.sh").expect("script");
    assert_eq!(script.metadata["mode"], (0o100755).to_string());
    assert_eq!(
        script.metadata["uid"],
        fs::metadata(mount.path("run me.sh")).expect("stat").uid().to_string()
    );
    let link = world.witness.object("link").expect("link");
    assert_eq!((link.bytes.len(), link.metadata["--symlink-target"].as_str()), (0, "src/main.rs"));
    mount.unmount();
}

#[test]
fn a_directory_that_loses_its_last_file_stays() {
    let world = World::new("emptied");
    let mount = world.host("a").mount(&["--publish-delay", "100ms"]);
    fs::create_dir(mount.path("d")).expect("mkdir");
    write_closed(&mount.path("d/f"), b"x").expect("write");
    mount.publish();
    assert_eq!(world.witness.plain_keys(), ["d/", "d/f"]);
    mount.refresh();
    fs::remove_file(mount.path("d/f")).expect("unlink");
    mount.publish();
    mount.refresh();
    mount.publish();
    assert!(mount.path("d").is_dir(), "{:#}", mount.status());
    assert_eq!(world.witness.plain_keys(), ["d/"]);
    assert_eq!(mount.status()["view"]["imported"], 0, "nobody else did anything: {:#}", mount.status());
    fs::remove_dir(mount.path("d")).expect("rmdir");
    mount.publish();
    assert!(world.witness.plain_keys().is_empty());
    mount.unmount();
}

#[test]
fn changes_moves_and_deletes_reach_the_view() {
    let world = World::new("changes");
    let mount = world.host("a").mount(&["--publish-delay", "200ms"]);
    for name in ["keep", "change", "remove", "move"] {
        write_closed(&mount.path(name), name.as_bytes()).expect("write");
    }
    world.witness.wait_for("all four, without being asked", SOON, |keys| keys.len() == 4);
    write_closed(&mount.path("change"), b"changed").expect("write");
    fs::remove_file(mount.path("remove")).expect("unlink");
    fs::create_dir(mount.path("d")).expect("mkdir");
    fs::rename(mount.path("move"), mount.path("d/moved")).expect("rename");
    mount.publish();
    assert_eq!(world.witness.plain_keys(), ["change", "d/", "d/moved", "keep"]);
    assert_eq!(world.witness.text("change"), "changed");
    assert_eq!(world.witness.text("d/moved"), "move");
    mount.unmount();
}

#[test]
fn a_new_folder_is_published_before_what_is_below_it() {
    let world = World::with_relay("folders");
    let mount = world.host("a").mount(&["--publish-delay", "200ms"]);
    let key = |name: &str| format!("{}/{name}", world.prefix);
    // Some stores lose the marker of a folder that an object below it makes at the same moment.
    let (folder, file) = (key("d/"), key("d/e/f"));
    world.relay().rule(1, 1, Act::Delay(Duration::from_secs(2)), {
        let folder = folder.clone();
        move |request| request.kind == Kind::Put && request.key == folder
    });
    fs::create_dir_all(mount.path("d/e")).expect("mkdir");
    write_closed(&mount.path("d/e/f"), b"x").expect("write");
    let put = |wanted: &str, limit| {
        world.relay().wait_until_seen(limit, |request| request.kind == Kind::Put && request.key == wanted)
    };
    assert!(put(&folder, SOON), "the folder is published");
    assert!(!put(&file, Duration::from_secs(1)), "the file is published before its folder is there");
    mount.publish();
    assert_eq!(world.witness.plain_keys(), ["d/", "d/e/", "d/e/f"]);
    mount.unmount();
}

#[test]
fn a_folder_whose_marker_a_crash_left_behind_does_not_come_back() {
    let world = World::with_relay("left-marker");
    let mount = world.host("a").mount(&["--publish-delay", "100ms"]);
    write_closed(&mount.path("keep"), b"x").expect("write");
    mount.publish();
    // The store has the marker, and this daemon never learns of it. SeaweedFS keeps no tag on markers.
    let marker = format!("{}/d/", world.prefix);
    let wanted = marker.clone();
    world.relay().rule(1, usize::MAX, Act::LoseAnswer, move |r| r.kind == Kind::Put && r.key == wanted);
    fs::create_dir(mount.path("d")).expect("mkdir");
    assert!(world.relay().wait_until_seen(SOON, |r| r.kind == Kind::Put && r.key == marker));
    world.witness.wait_for("the marker", SOON, |keys| keys.iter().any(|key| key == "d/"));
    mount.lose_machine();
    world.relay().clear_rules();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    fs::remove_dir(mount.path("d")).expect("rmdir");
    mount.unmount();
    assert_eq!(world.witness.plain_keys(), ["d/", "keep"], "left behind");
    let mount = world.host("c").mount(&[]);
    mount.refresh();
    assert!(!mount.path("d").exists(), "{:#}", mount.status());
    mount.publish();
    assert_eq!(world.witness.plain_keys(), ["keep"]);
    mount.unmount();
}

#[test]
fn a_file_changed_ten_times_is_one_put_and_a_temporary_file_none() {
    let world = World::with_relay("coalesced");
    let mount = world.host("a").mount(&["--publish-delay", "3s"]);
    mount.publish();
    world.relay().reset();
    for n in 0..10 {
        write_closed(&mount.path("often"), format!("version {n}").as_bytes()).expect("write");
        write_closed(&mount.path("temporary"), b"x").expect("write");
        fs::remove_file(mount.path("temporary")).expect("unlink");
    }
    mount.publish();
    let puts = |name: &str| {
        let key = format!("{}/{name}", world.prefix);
        let seen = world.relay().seen();
        seen.iter().filter(|s| s.request.key == key && s.request.kind == Kind::Put).count()
    };
    assert_eq!((puts("often"), puts("temporary")), (1, 0));
    assert_eq!(world.witness.text("often"), "version 9");
    mount.unmount();
}

#[test]
fn paths_can_be_kept_out_of_the_view_and_are_as_durable() {
    let world = World::with_relay("excluded");
    let mount = world.host("a").mount(&["--publish-exclude", "node_modules/", "--publish-exclude", "*.o"]);
    fs::create_dir_all(mount.path("app/node_modules")).expect("mkdir");
    for name in ["app/node_modules/x.js", "app/x.o", "app/x.js"] {
        write_closed(&mount.path(name), b"x").expect("write");
    }
    mount.publish();
    assert_eq!(world.witness.plain_keys(), ["app/", "app/x.js"]);
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    assert!(mount.path("app/node_modules/x.js").exists() && mount.path("app/x.o").exists());
    write_closed(&mount.path("unpublished"), b"x").expect("write");
    mount.run("flush", &["--view"]).ok();
    mount.unmount();
    assert_eq!(world.witness.plain_keys(), ["app/", "app/x.js"]);
}

#[test]
fn what_another_client_writes_appears_and_replaces() {
    let world = World::new("import");
    let mount = world.host("a").mount(&[]);
    write_closed(&mount.path("shared"), b"ours").expect("write");
    write_closed(&mount.path("deleted"), b"ours").expect("write");
    fs::create_dir(mount.path("d")).expect("mkdir");
    mount.publish();
    let mut open = fs::File::open(mount.path("shared")).expect("open");
    world.witness.put("shared", "theirs, and longer");
    world.witness.put("new/in a/deep dir", "brand new");
    world.witness.delete("deleted");
    mount.refresh();
    assert_eq!(fs::read(mount.path("shared")).expect("read"), b"theirs, and longer");
    assert_eq!(fs::read(mount.path("new/in a/deep dir")).expect("read"), b"brand new");
    assert!(!mount.path("deleted").exists(), "an outside delete unlinks");
    let mut old = String::new();
    std::io::Read::read_to_string(&mut open, &mut old).expect("read");
    assert_eq!(old, "ours", "an open file keeps the content it was opened with");
    drop(open);
    let before = world.witness.object("shared").expect("it is there").etag;
    mount.publish();
    assert_eq!(
        world.witness.object("shared").expect("it is there").etag,
        before,
        "their object stays as it is"
    );
    mount.unmount();

    let mount = world.host("b").mount(&[]);
    assert_eq!(fs::read(mount.path("shared")).expect("read"), b"theirs, and longer");
    world.witness.delete("shared");
    eventually("an outside delete comes in by itself", Duration::from_secs(60), || {
        !mount.path("shared").exists()
    });
    mount.unmount();
}

#[test]
fn outside_edits_made_while_nobody_mounted_are_there_at_the_next_mount() {
    let world = World::new("between");
    let mount = world.host("a").mount(&[]);
    write_closed(&mount.path("f"), b"ours").expect("write");
    mount.unmount();
    world.witness.put("f", "theirs");
    world.witness.put("g", "theirs too");
    let mount = world.host("a").mount(&[]);
    mount.refresh();
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"theirs");
    assert_eq!(fs::read(mount.path("g")).expect("read"), b"theirs too");
    mount.unmount();
}

#[test]
fn when_both_sides_changed_a_file_both_contents_are_kept() {
    let world = World::with_relay("conflict");
    let mount = world.host("a").mount(&["--publish-delay", "30s"]);
    write_closed(&mount.path("f.txt"), b"base").expect("write");
    mount.publish();
    world.witness.put("f.txt", "theirs");
    let etag = world.witness.object("f.txt").expect("it is there").etag.replace('"', "");
    write_closed(&mount.path("f.txt"), b"ours").expect("write");
    mount.refresh();
    let names = || -> Vec<String> {
        let listing = fs::read_dir(mount.root()).expect("list");
        listing.map(|e| e.expect("entry").file_name().to_string_lossy().into_owned()).collect()
    };
    let other = names().into_iter().find(|n| n.starts_with("f.txt.outside-"));
    let other = other.unwrap_or_else(|| panic!("no f.txt.outside-ETAG in {:?}", names()));
    assert!(etag.starts_with(other.trim_start_matches("f.txt.outside-")), "{other} is named after {etag}");
    assert_eq!(fs::read(mount.path("f.txt")).expect("read"), b"ours", "the tree keeps the name");
    assert_eq!(fs::read(mount.path(&other)).expect("read"), b"theirs");
    mount.publish();
    assert_eq!(world.witness.text("f.txt"), "ours");
    assert_eq!(world.witness.text(&other), "theirs");
    assert_eq!(mount.status()["view"]["conflicts"], 1, "{:#}", mount.status());
    let before = names();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    assert_eq!(fs::read(mount.path(&other)).expect("read"), b"theirs", "{before:?}");
    mount.unmount();
}

#[test]
fn a_file_deleted_outside_but_changed_here_is_published_again() {
    let world = World::new("delete-conflict");
    let mount = world.host("a").mount(&["--publish-delay", "30s"]);
    write_closed(&mount.path("f"), b"base").expect("write");
    mount.publish();
    world.witness.delete("f");
    write_closed(&mount.path("f"), b"ours").expect("write");
    mount.refresh();
    mount.publish();
    assert_eq!(fs::read(mount.path("f")).expect("read"), b"ours");
    assert_eq!(world.witness.text("f"), "ours");
    mount.unmount();
}

#[test]
fn an_outside_edit_of_one_name_of_a_hard_link_breaks_that_link_only() {
    let world = World::new("hard-link");
    let mount = world.host("a").mount(&[]);
    write_closed(&mount.path("one"), b"both").expect("write");
    fs::hard_link(mount.path("one"), mount.path("two")).expect("link");
    mount.publish();
    world.witness.put("two", "theirs");
    mount.refresh();
    assert_eq!(fs::read(mount.path("one")).expect("read"), b"both");
    assert_eq!(fs::read(mount.path("two")).expect("read"), b"theirs");
    assert_eq!(fs::metadata(mount.path("one")).expect("stat").nlink(), 1);
    mount.unmount();
}

#[test]
fn a_prefix_that_geesefs_filled_is_imported_with_its_headers() {
    let world = World::new("geesefs");
    let witness = &world.witness;
    let exec = (0o100755).to_string();
    let owned = [("mode", exec.as_str()), ("uid", "1000"), ("gid", "1001"), ("mtime", "1600000000")];
    witness.put_with("bin/tool", "#!/bin/sh\n", &owned);
    witness.put_with("link", "", &[("--symlink-target", "bin/tool")]);
    witness.put_with("bin/", "", &[("mode", &(0o040700).to_string())]);
    witness.put_with("noted", "x", &[("note", "hello%20there")]);
    witness.put("copied.txt", "by aws s3 cp");
    witness.put("implied/dir/file", "x");
    witness.put("big", noise(9 << 20, 4));
    let mount = world.host("a").mount(&[]);
    mount.refresh();
    let stat = fs::metadata(mount.path("bin/tool")).expect("stat");
    let (mode, owner) = (stat.mode(), (stat.uid(), stat.gid()));
    assert_eq!((mode, owner, stat.mtime()), (0o100755, (1000, 1001), 1_600_000_000));
    assert_eq!(fs::read_link(mount.path("link")).expect("readlink"), Path::new("bin/tool"));
    // SeaweedFS keeps no metadata of markers.
    let told = world.witness.object("bin/").expect("the marker").metadata.contains_key("mode");
    let mode = if told { 0o040700 } else { 0o040755 };
    assert_eq!(fs::metadata(mount.path("bin")).expect("stat").mode(), mode);
    assert_eq!(crate::support::tree::xattrs(&mount.path("noted"))["user.note"], b"hello there");
    assert_eq!(fs::read(mount.path("copied.txt")).expect("read"), b"by aws s3 cp");
    assert_eq!(fs::read(mount.path("implied/dir/file")).expect("read"), b"x");
    assert!(fs::read(mount.path("big")).expect("read") == noise(9 << 20, 4), "big differs");
    // What was imported is the session's now: it outlives the objects once it was changed here.
    sh(mount.root(), "echo more >> big && mv copied.txt moved.txt");
    mount.flush();
    mount.unmount();
    let mount = world.host("b").mount(&[]);
    assert_eq!(fs::metadata(mount.path("big")).expect("stat").len(), (9 << 20) + 5);
    assert_eq!(fs::read(mount.path("moved.txt")).expect("read"), b"by aws s3 cp");
    assert_eq!(fs::read_link(mount.path("link")).expect("readlink"), Path::new("bin/tool"));
    mount.unmount();
}

#[test]
fn hostile_keys_are_skipped_and_counted() {
    let world = World::new("hostile");
    let long = "n".repeat(300);
    let hostile = ["a//b", "c/../../escaped", "./dot", "d/.", long.as_str()];
    // SeaweedFS refuses some, and tidies others up: what it lists counts.
    let taken: Vec<&str> = hostile.into_iter().filter(|key| world.witness.try_put(key, "x")).collect();
    let listed = world.witness.plain_keys();
    let taken: Vec<&str> = taken.into_iter().filter(|key| listed.iter().any(|k| k == key)).collect();
    world.witness.put("fine", "x");
    // `x` beside `x/y`: the directory keeps the name.
    world.witness.put("x", "file");
    world.witness.put("x/y", "below");
    let mount = world.host("a").mount(&[]);
    mount.refresh();
    assert_eq!(fs::read(mount.path("fine")).expect("read"), b"x");
    assert_eq!(fs::read(mount.path("x/y")).expect("read"), b"below");
    let above = mount.root().parent().expect("a parent");
    assert!(!above.join("escaped").exists() && !mount.path("escaped").exists());
    assert!(!mount.path(&long).exists());
    let skipped = mount.status()["view"]["skipped_keys"].as_u64();
    assert_eq!(skipped, Some(taken.len() as u64), "status counts what was skipped: {:#}", mount.status());
    mount.unmount();
    for key in taken {
        assert_eq!(world.witness.text(key), "x", "what cannot be shown is left alone");
    }
    assert_eq!(world.witness.text("x"), "file");
}

#[test]
fn names_that_cannot_be_keys_are_durable_and_counted() {
    use std::os::unix::ffi::OsStrExt;
    let world = World::new("no-keys");
    let mount = world.host("a").mount(&[]);
    let name = Path::new(std::ffi::OsStr::from_bytes(b"not \xff utf-8"));
    write_closed(&mount.path(name), b"x").expect("write");
    mount.publish();
    assert_eq!(mount.status()["view"]["unpublishable_names"], 1, "{:#}", mount.status());
    mount.unmount();
    let mount = world.host("b").mount(&[]);
    assert_eq!(fs::read(mount.path(name)).expect("read"), b"x");
    mount.unmount();
}

#[test]
fn the_sessions_own_objects_are_never_in_the_mount() {
    let world = World::new("hidden");
    let mount = world.host("a").mount(&[]);
    write_closed(&mount.path("f"), b"x").expect("write");
    mount.publish();
    assert_eq!(fs::read_dir(mount.root()).expect("list").count(), 1);
    let missing = fs::metadata(mount.path(".cwdfs")).expect_err("it is hidden");
    assert_eq!(missing.kind(), std::io::ErrorKind::NotFound);
    for made in [fs::create_dir(mount.path(".cwdfs")), fs::write(mount.path(".cwdfs"), "x")] {
        let error = made.expect_err("that name is taken");
        assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::PERM.raw_os_error()), "{error}");
    }
    fs::create_dir_all(mount.path("sub/.cwdfs")).expect("only the root's name is taken");
    mount.unmount();
}

#[test]
fn what_could_not_be_published_in_time_is_published_by_the_next_mount() {
    let world = World::with_relay("publish-later");
    let host = world.host("a");
    let mount = host.mount(&["--drain-timeout", "2s"]);
    let own = format!("{}/.cwdfs/", world.prefix);
    world
        .relay()
        .rule(1, usize::MAX, Act::Status(503), move |r| r.kind == Kind::Put && !r.key.starts_with(&own));
    write_closed(&mount.path("f"), b"x").expect("a close needs no publishing");
    mount.run("flush", &["--view", "--timeout", "2s"]).ok().says(&["not", "published"]);
    mount.unmount();
    assert!(world.witness.object("f").is_none());
    world.relay().clear_rules();
    let mount = world.host("b").mount(&[]);
    world.witness.wait_for("the rest, by another machine", SOON, |keys| keys == ["f"]);
    assert_eq!(world.witness.text("f"), "x");
    mount.unmount();
}

#[test]
fn a_session_that_comes_back_has_imported_nothing() {
    let world = World::with_relay("nothing-imported");
    // What was published is noted in the next commit, which does not come.
    let mount = world.host("a").mount(&["--commit-interval", "1h"]);
    sh(
        mount.root(),
        "mkdir -p deep/er/most empty; echo x > deep/er/most/f; echo y > deep/g; mkdir -m 700 own",
    );
    mount.publish();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    mount.refresh();
    assert_eq!(mount.status()["view"]["imported"], 0, "nobody else was there:\n{}", mount.log());
    mount.unmount();
}
