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
