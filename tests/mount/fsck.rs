//! `cwdfs fsck` on sessions of a real mount: sound ones are called sound, damage is named with its file, and what is
//! repaired is as it was.

use crate::keeper::settle;
use crate::support::{Ran, Tree, World};
use crate::work::{self, noise, write_closed};
use serde_json::Value;
use std::fs;
use std::time::Duration;

fn fsck(world: &World, args: &[&str]) -> Ran {
    world.run(["fsck"].iter().chain(args).copied().chain([world.store.as_str()]))
}

fn report(world: &World, args: &[&str], code: i32) -> Value {
    let ran = fsck(world, &[args, &["--json"]].concat()).exits(code);
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("no JSON: {e}\n{ran}"))
}

fn flip(world: &World, key: &str) {
    let mut bytes = world.witness.object(key).expect("the object").bytes;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    world.witness.put(key, bytes);
}

#[test]
fn a_sound_session_is_called_sound_mounted_and_not() {
    let world = World::with_relay("fsck-sound");
    world.witness.put("imported", noise(30_000, 5));
    let mount = world.host("a").mount(&["--keep-for-tests"]);
    work::one_of_everything(mount.root());
    for n in 0..120u64 {
        write_closed(&mount.path(format!("f{}", n % 30)), &noise(500 + n as usize, n)).expect("write");
    }
    write_closed(&mount.path("large"), &noise(9_000_000, 1)).expect("write");
    fs::rename(mount.path("f1"), mount.path("sub/f1")).expect("rename");
    fs::hard_link(mount.path("f2"), mount.path("sub/f2")).expect("link");
    fs::remove_file(mount.path("f3")).expect("rm");
    mount.publish();
    fsck(&world, &[]).ok().says(&["nothing is wrong"]);
    settle(&world);
    mount.unmount();
    let keys = world.witness.keys();
    let report = report(&world, &[], 0);
    assert_eq!(report["problems"], Value::Array(Vec::new()), "{report:#}");
    assert_eq!(report["state"], "free");
    assert!(report["counts"]["bytes_read"].as_u64() > Some(9_000_000), "{report:#}");
    let quick = self::report(&world, &["--quick"], 0);
    assert_eq!(quick["counts"]["bytes_read"], 0);
    fsck(&world, &["--repair"]).ok();
    assert_eq!(world.witness.keys(), keys, "nothing was written");
}

#[test]
fn damaged_content_is_named_with_its_file_and_not_made_up() {
    let world = World::new("fsck-content");
    let mount = world.host("a").mount(&["--no-publish"]);
    fs::create_dir(mount.path("dir")).expect("mkdir");
    write_closed(&mount.path("dir/large"), &noise(3_000_000, 1)).expect("write");
    write_closed(&mount.path("small"), b"x").expect("write");
    mount.unmount();
    let largest = world.witness.keys().into_iter().max_by_key(|(_, size)| *size).expect("a blob").0;
    flip(&world, &largest);
    let found = report(&world, &[], 8);
    let problem = &found["problems"][0];
    assert_eq!(
        (problem["kind"].as_str(), problem["object"].as_str()),
        (Some("damaged-content"), Some(&largest[..]))
    );
    assert_eq!(problem["paths"][0], "dir/large");
    fsck(&world, &["--quick"]).ok();
    fsck(&world, &["--repair"]).exits(8).says(&["dir/large"]);
    world.witness.delete(&largest);
    let found = report(&world, &["--quick"], 8);
    assert_eq!(found["problems"][0]["kind"], "missing-content", "{found:#}");
}

/// The blob of so many bytes.
fn blob(world: &World, size: u64) -> String {
    let of = |(key, bytes): &(String, u64)| key.starts_with(".cwdfs/data/") && *bytes == size;
    world.witness.keys().into_iter().find(of).unwrap_or_else(|| panic!("no blob of {size} bytes")).0
}

fn problems(report: &Value) -> Vec<&Value> {
    report["problems"].as_array().expect("problems").iter().collect()
}

#[test]
fn lost_content_is_brought_back_from_the_objects_that_show_it_and_from_no_other() {
    let world = World::new("fsck-rescue");
    let mount = world.host("a").mount(&[]);
    let files = [("gone", 9_000_000), ("flipped", 5_000_000), ("edited", 4_000_000), ("cut", 3_000_000)];
    for (name, size) in files {
        write_closed(&mount.path(name), &noise(size, 1)).expect("write");
    }
    fs::hard_link(mount.path("gone"), mount.path("linked")).expect("link");
    mount.publish();
    // Of its last piece no object has all bytes any more.
    let cut = fs::OpenOptions::new().write(true).open(mount.path("cut")).expect("open");
    cut.set_len(2_500_000).expect("cut");
    drop(cut);
    mount.publish();
    mount.unmount();
    let [gone, flipped, edited, cut] = files.map(|(_, size)| blob(&world, size as u64));
    [&gone, &cut].iter().for_each(|key| world.witness.delete(key));
    [&flipped, &edited].iter().for_each(|key| flip(&world, key));
    world.witness.put("edited", noise(4_000_000, 2));
    let found = report(&world, &[], 8);
    for (name, _) in files {
        assert!(problems(&found).iter().any(|p| p["paths"][0] == name), "{name}: {found:#}");
    }
    let keys = world.witness.keys();
    let done = report(&world, &["--repair"], 8);
    for problem in problems(&done) {
        let (path, from) = (problem["paths"][0].as_str(), problem["range"][0].as_u64());
        let lost = path == Some("edited") || path == Some("cut") && from >= Some(2 << 20);
        assert_eq!(problem["repaired"].is_null(), lost, "{problem:#}");
    }
    assert!(keys.keys().all(|key| world.witness.keys().contains_key(key)), "something was deleted");
    let left = report(&world, &[], 8);
    assert_eq!(problems(&left).len(), 2, "{left:#}");
    // Without the objects, so that the content of the session is read.
    [&"gone", &"linked", &"flipped"].iter().for_each(|key| world.witness.delete(key));
    let mount = world.host("b").mount(&["--read-only"]);
    for (name, size) in [("gone", 9_000_000), ("linked", 9_000_000), ("flipped", 5_000_000)] {
        assert!(fs::read(mount.path(name)).expect("read") == noise(size, 1), "{name} differs");
    }
    for lost in ["edited", "cut"] {
        assert!(fs::read(mount.path(lost)).is_err(), "{lost} was made up");
    }
    mount.unmount();
}

#[test]
fn a_repair_brings_back_what_the_log_has() {
    let world = World::new("fsck-repair");
    let mount = world.host("a").mount(&["--keep-for-tests"]);
    for n in 0..120u64 {
        write_closed(&mount.path(format!("f{}", n % 30)), &noise(700, n)).expect("write");
    }
    mount.publish();
    settle(&world);
    let before = Tree::of(mount.root());
    mount.kill();
    let newest = world.witness.keys().into_keys().rfind(|key| key.starts_with(".cwdfs/checkpoint/"));
    let newest = newest.expect("a checkpoint");
    flip(&world, &newest);
    world.witness.delete("f7");
    let found = report(&world, &[], 8);
    let kinds: Vec<_> = found["problems"].as_array().expect("problems").iter().map(|p| &p["kind"]).collect();
    assert_eq!(kinds, ["checkpoint", "missing-object"], "{found:#}");
    let done = report(&world, &["--repair", "--takeover"], 0);
    assert!(
        done["problems"].as_array().expect("problems").iter().all(|p| p["repaired"].is_string()),
        "{done:#}"
    );
    fsck(&world, &[]).ok();
    let mount = world.host("b").mount(&[]);
    before.assert_same(&Tree::of(mount.root()), "after the repair");
    mount.publish();
    let there = |keys: &[String]| keys.iter().any(|key| key == "f7");
    world.witness.wait_for("f7 is published again", Duration::from_secs(60), there);
    mount.unmount();
    fsck(&world, &[]).ok();
}

#[test]
fn a_mounted_session_is_not_repaired_and_none_is_5_and_no_store_6() {
    let world = World::with_relay("fsck-held");
    let mount = world.host("a").mount(&["--lease-ttl", "3s", "--park-after", "never"]);
    write_closed(&mount.path("f"), &noise(400_000, 1)).expect("write");
    mount.publish();
    // What was published is told by the next commit.
    write_closed(&mount.path("g"), b"x").expect("write");
    mount.flush();
    world.witness.delete("f");
    fsck(&world, &["--repair"]).exits(7).plainly();
    mount.unmount();
    world.run(["fsck", &format!("{}-nothing", world.store)]).exits(5).says(&["no session"]).plainly();
    world.relay().cut();
    fsck(&world, &["--timeout", "2s"]).exits(6).plainly();
}
