//! `inspect`: how a person looks inside a session, and what is said of damage.

use crate::support::World;
use std::fs;

#[test]
fn inspect_shows_lease_checkpoints_and_a_segments_records() {
    let world = World::new("inspect");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("a-name-to-find"), "x").expect("write");
    mount.flush();
    let slot = mount.status()["last_slot"].as_u64().expect("a slot").to_string();
    world.run(["inspect", &world.store]).ok().says(&["lease", "epoch", "segment"]);
    let all: serde_json::Value =
        serde_json::from_str(&world.run(["inspect", "--json", &world.store]).ok().out).expect("JSON");
    assert!(all.get("lease").is_some(), "{all:#}");
    mount.unmount();
    world.run(["inspect", &world.store, &slot]).ok().says(&["a-name-to-find"]);
    world.run(["inspect", &world.store, "987654"]).says(&["987654"]).plainly();
    world.run(["inspect", &format!("{}-nothing", world.store)]).says(&["no session"]).plainly();
}

#[test]
fn a_damaged_segment_is_8_and_named() {
    let world = World::new("damaged");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.flush();
    let slot = mount.status()["last_slot"].as_u64().expect("a slot");
    mount.kill();
    let logged = |key: &String| key.starts_with(".cwdfs/log/");
    let keys: Vec<_> = world.witness.keys().into_keys().filter(logged).collect();
    let key = keys
        .iter()
        .find(|k| k.rsplit('/').next().is_some_and(|s| s.trim_start_matches('0') == slot.to_string()));
    let key = key.unwrap_or_else(|| panic!("no segment {slot} in {keys:?}"));
    let mut bytes = world.witness.object(key).expect("the segment").bytes;
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    world.witness.put(key, bytes);
    world.run(["inspect", &world.store, &slot.to_string()]).exits(8).says(&[key]).plainly();
    let ran = world.host("b").run_mount(&["--takeover"]).says(&[key]).plainly();
    assert!(matches!(ran.code, Some(5 | 8)), "{ran}");
}
