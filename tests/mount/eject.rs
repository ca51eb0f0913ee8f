//! `eject`: plain objects are left, all of them, and nothing of cwdfs; whatever happens on the way.

use crate::support::relay::{Act, Kind, Request};
use crate::support::{Ran, Tree, World};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

const SOON: Duration = Duration::from_secs(60);

fn eject(world: &World, cache: &Path, more: &[&str]) -> Ran {
    let mut command = world.command(["eject", "--cache-dir"]);
    Ran::of(command.arg(cache).args(more).arg(&world.store))
}

/// Files, an empty directory, a symlink, modes, times, a file larger than a part.
fn fill(root: &Path) {
    fs::create_dir_all(root.join("dir/empty")).expect("mkdir");
    fs::write(root.join("dir/a file"), "some text").expect("write");
    fs::write(root.join("run"), "#!/bin/sh\n").expect("write");
    fs::set_permissions(root.join("run"), fs::Permissions::from_mode(0o750)).expect("chmod");
    symlink("dir/a file", root.join("link")).expect("symlink");
    let mut large = File::create(root.join("large")).expect("create");
    (0..200_u32).for_each(|n| large.write_all(&n.to_le_bytes().repeat(16 << 10)).expect("write"));
    drop(large);
    fs::create_dir(root.join("kept-out")).expect("mkdir");
    fs::write(root.join("kept-out/x"), "published by eject").expect("write");
}

#[test]
fn only_plain_objects_are_left_and_a_mount_imports_them() {
    let world = World::new("eject");
    let host = world.host("a");
    // What this mount keeps out of the view, and all of another's, is published too.
    let mount = host.mount(&["--publish-exclude", "kept-out/"]);
    fill(mount.root());
    mount.unmount();
    let mount = host.mount(&["--no-publish"]);
    fs::write(mount.path("dir/later"), "too").expect("write");
    let before = Tree::of(mount.root());
    mount.unmount();
    eject(&world, &host.cache, &[]).ok().says(&["only plain objects are left"]);
    let keys: Vec<String> = world.witness.keys().into_keys().collect();
    let all =
        ["dir/", "dir/a file", "dir/empty/", "dir/later", "kept-out/", "kept-out/x", "large", "link", "run"];
    assert_eq!(keys, all);
    assert_eq!(world.witness.text("kept-out/x"), "published by eject");

    // From the same cache, and from another machine's.
    for name in ["a", "b"] {
        let mount = world.host(name).mount(&[]);
        let after = Tree::of(mount.root());
        for (path, old) in &before.0 {
            let new = after.0.get(path).unwrap_or_else(|| panic!("{} is gone", path.display()));
            assert_eq!(
                (old.kind, old.mode, old.uid, old.gid, old.size, &old.target, &old.content),
                (new.kind, new.mode, new.uid, new.gid, new.size, &new.target, &new.content),
                "{}",
                path.display()
            );
            if old.kind == "file" {
                assert_eq!(old.mtime, new.mtime, "{}", path.display());
            }
        }
        assert_eq!(before.0.len(), after.0.len());
        mount.unmount();
        eject(&world, &world.host(name).cache, &[]).ok();
    }
    eject(&world, &host.cache, &[]).ok().says(&["no session here"]);
    assert_eq!(world.witness.keys().len(), all.len());
}

#[test]
fn what_an_earlier_mount_could_not_store_is_ejected_too() {
    let world = World::with_relay("eject-unstored");
    let host = world.host("a");
    let mount = host.mount(&["--durability", "fsync", "--commit-interval", "1h", "--no-publish"]);
    fs::write(mount.path("only-here"), "not in the store yet").expect("write");
    world.relay().cut();
    mount.run("unmount", &["--timeout", "2s"]).exits(4);
    world.relay().heal();
    drop(mount);
    eject(&world, &host.cache, &[]).ok();
    assert_eq!(world.witness.text("only-here"), "not in the store yet");
    assert_eq!(world.witness.keys().len(), 1);
}

#[test]
fn names_without_an_object_are_refused_unless_forced() {
    let world = World::new("eject-names");
    let host = world.host("a");
    let mount = host.mount(&[]);
    fs::write(mount.path(std::ffi::OsStr::from_bytes(b"not-utf-8-\xff")), "x").expect("write");
    fs::write(mount.path("back\\slash"), "x").expect("write");
    fs::write(mount.path("fine"), "x").expect("write");
    fs::hard_link(mount.path("fine"), mount.path("fine-too")).expect("link");
    rustix::fs::setxattr(mount.path("fine"), "trusted.t", b"v", rustix::fs::XattrFlags::empty())
        .expect("setxattr");
    let before = Tree::of(mount.root());
    mount.unmount();
    let refused = eject(&world, &host.cache, &[]).exits(8);
    let refused = refused.says(&["not-utf-8-\\xff", "back\\\\slash", "2 files cannot be objects", "--force"]);
    refused.says(&["1 further names of hard-linked files", "1 files lose extended attributes"]);
    // Nothing is lost, and the session is free.
    let mount = host.mount(&[]);
    before.assert_same(&Tree::of(mount.root()), "after an eject that was refused");
    mount.unmount();
    eject(&world, &host.cache, &["--force"]).ok();
    assert_eq!(world.witness.keys().into_keys().collect::<Vec<_>>(), ["fine", "fine-too"]);
}

#[test]
fn a_session_that_somebody_holds_is_refused() {
    let world = World::new("eject-held");
    let (a, b) = (world.host("a"), world.host("b"));
    let mount = a.mount(&["--park-after", "1s"]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.publish();
    // From its own machine, and from another; held, and parked.
    eject(&world, &a.cache, &[]).exits(7).plainly();
    mount.wait_status("it parks", SOON, |status| status["lease"]["state"] == "parked");
    eject(&world, &b.cache, &[]).exits(7).says(&["parked", "--takeover"]).plainly();
    fs::write(mount.path("g"), "still mine").expect("write");
    assert!(world.witness.keys().keys().any(|key| key.starts_with(".cwdfs/")));
    mount.unmount();
    eject(&world, &b.cache, &[]).ok();
    assert_eq!(world.witness.keys().into_keys().collect::<Vec<_>>(), ["f", "g"]);
}

/// The command dies at each request that removes something; what is left is never mounted, and the next run
/// goes on. At the end there are plain objects and nothing else.
#[test]
fn an_eject_that_dies_is_gone_on_with() {
    let world = World::with_relay("eject-dies");
    let (host, other) = (world.host("a"), world.host("b"));
    let mount = host.mount(&["--no-publish", "--keep-for-tests"]);
    for n in 0..40 {
        fs::write(mount.path(format!("f{n:02}")), format!("text {n}")).expect("write");
    }
    mount.unmount();
    let all: Vec<String> = (0..40).map(|n| format!("f{n:02}")).collect();
    let ejecting = || {
        let mut command = world.command(["eject", "--takeover", "--cache-dir"]);
        command.arg(&host.cache).arg(&world.store);
        command
    };
    // Before the objects of ours are deleted, and before the lease is.
    for kind in [Kind::DeleteMany, Kind::Delete] {
        let hold = Act::Delay(Duration::from_secs(3600));
        world.relay().rule(1, 1, hold, move |r| r.kind == kind && !r.key.contains(".cwdfs/probe-"));
        let mut child = ejecting().spawn().expect("it starts");
        assert!(world.relay().wait_until_held(1, SOON), "{kind:?} never came");
        child.kill().expect("kill");
        child.wait().expect("reap");
        world.relay().drop_held();
        world.relay().clear_rules();
        assert_eq!(world.witness.plain_keys(), all, "all is published before anything is removed");
        other.run_mount(&["--takeover"]).exits(5).says(&["`cwdfs eject`", "run it again"]).plainly();
        // As if the store had done a part of it.
        let log = world.witness.keys().into_keys().find(|key| key.starts_with(".cwdfs/log/"));
        log.iter().for_each(|key| world.witness.delete(key));
        other.run_mount(&["--takeover"]).exits(5).says(&["`cwdfs eject`"]);
    }
    Ran::of(&mut ejecting()).ok();
    assert_eq!(world.witness.keys().into_keys().collect::<Vec<_>>(), all);
    for (n, key) in all.iter().enumerate() {
        assert_eq!(world.witness.text(key), format!("text {n}"));
    }
}

/// Another machine mounts and writes after everything was published: its work is not removed.
#[test]
fn a_writer_in_between_keeps_its_session() {
    let world = World::with_relay("eject-between");
    let (host, other) = (world.host("a"), world.host("b"));
    let mount = host.mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.unmount();
    // The third write of the lease: taken, given back, and taken again for the removal.
    let lease = |r: &Request| r.kind == Kind::Put && r.key.ends_with("/.cwdfs/lease");
    world.relay().rule(3, 1, Act::Delay(Duration::from_secs(10)), lease);
    let mut command = world.command(["eject", "--cache-dir"]);
    let child = command.arg(&host.cache).arg(&world.store).stderr(Stdio::piped()).spawn().expect("it starts");
    assert!(world.relay().wait_until_held(1, SOON), "the lease is not taken again");
    let mount = other.mount(&[]);
    fs::write(mount.path("g"), "in between").expect("write");
    mount.unmount();
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(7), "{}", String::from_utf8_lossy(&ended.stderr));
    assert!(String::from_utf8_lossy(&ended.stderr).contains("run it again"));
    let mount = other.mount(&["--takeover"]);
    assert_eq!(fs::read_to_string(mount.path("g")).expect("read"), "in between");
    mount.unmount();
}
