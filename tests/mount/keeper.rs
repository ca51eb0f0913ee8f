//! The session keeps its log short while it is mounted, and nothing is lost by that. `--keep-for-tests` makes
//! a round due after a few commits instead of hundreds.

use crate::support::mount::Mount;
use crate::support::relay::{Kind, Request};
use crate::support::{Tree, World, eventually, full};
use crate::work::{self, noise};
use std::collections::BTreeMap;
use std::fs;
use std::sync::Mutex;
use std::time::{Duration, Instant};

const KEEP: &str = "--keep-for-tests";

/// Objects below `.cwdfs/` by folder: how many, and their bytes.
fn kept(world: &World) -> BTreeMap<String, (u64, u64)> {
    let mut kept = BTreeMap::new();
    for (key, size) in world.witness.keys() {
        let Some(rest) = key.strip_prefix(".cwdfs/") else { continue };
        let folder = rest.split('/').next().unwrap_or_default().to_owned();
        let all: &mut (u64, u64) = kept.entry(folder).or_default();
        *all = (all.0 + 1, all.1 + size);
    }
    kept
}

/// Waits until nothing is deleted or written below `.cwdfs/` any more.
pub fn settle(world: &World) -> BTreeMap<String, (u64, u64)> {
    let start = Instant::now();
    let mut last = world.witness.keys();
    loop {
        std::thread::sleep(Duration::from_millis(2500));
        let now = world.witness.keys();
        if now == last || start.elapsed() > Duration::from_secs(40) {
            return kept(world);
        }
        last = now;
    }
}

#[test]
fn what_is_kept_stays_small_however_much_is_overwritten() {
    let world = World::with_relay("bounded");
    let mount = world.host("a").mount(&[KEEP, "--no-publish"]);
    for n in 0..40 {
        fs::write(mount.path(format!("stays{n}")), noise(3000, n)).expect("write");
    }
    let mut sizes = Vec::new();
    for n in 0..900u64 {
        fs::write(mount.path(format!("f{}", n % 10)), noise(20_000, n)).expect("write");
        if n % 300 == 299 {
            sizes.push(settle(&world));
        }
    }
    for size in &sizes {
        assert!(size["log"].0 < 120, "objects of the log: {sizes:?}");
        assert!(size["checkpoint"].0 <= 4, "checkpoints: {sizes:?}");
        let bytes: u64 = size.values().map(|(_, bytes)| bytes).sum();
        // 320 KB are alive; 18 MB were written.
        assert!(bytes < 5 << 20, "bytes: {sizes:?}");
    }
    let before = Tree::of(mount.root());
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    before.assert_same(&Tree::of(mount.root()), "another machine, after all that was packed and deleted");
    mount.unmount();
}

#[test]
fn one_of_everything_survives_packing_a_kill_and_a_wiped_cache() {
    let world = World::with_relay("packed");
    let mount = world.host("a").mount(&[KEEP]);
    work::one_of_everything(mount.root());
    for n in 0..150u64 {
        fs::write(mount.path(format!("turn{}", n % 7)), noise(500, n)).expect("write");
    }
    mount.flush();
    let kept = settle(&world);
    assert!(kept["checkpoint"].0 >= 1 && kept["data"].0 >= 1, "{kept:?}");
    let before = Tree::of(mount.root());
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    before.assert_same(&Tree::of(mount.root()), "another machine");
    mount.unmount();
}

#[test]
fn a_mount_after_a_checkpoint_replays_little_and_a_cold_read_is_a_few_requests() {
    let world = World::with_relay("replays-little");
    let mount = world.host("a").mount(&["--no-publish"]);
    for n in 0..400u64 {
        fs::write(mount.path(format!("f{n}")), noise(1000, n)).expect("write");
    }
    mount.unmount();
    world.relay().reset();
    let mount = world.host("b").mount(&["--no-publish"]);
    let gets = |world: &World| world.relay().counts().get(&Kind::Get).copied().unwrap_or(0);
    let to_mount = gets(&world);
    assert!(to_mount < 25, "mounting took {to_mount} GETs, though everything was checkpointed at unmount");
    for n in 0..400u64 {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(1000, n), "f{n} differs");
    }
    let to_read = gets(&world) - to_mount;
    assert!(to_read < 20, "reading 400 files that were closed one by one took {to_read} GETs");
    mount.unmount();
}

#[test]
fn an_idle_session_asks_nothing_of_the_store() {
    let world = World::with_relay("idle");
    let mount = world.host("a").mount(&[KEEP, "--park-after", "2s", "--lease-ttl", "3s", "--no-publish"]);
    for n in 0..60u64 {
        fs::write(mount.path(format!("f{n}")), noise(1000, n)).expect("write");
    }
    settle(&world);
    mount.wait_status("parked", Duration::from_secs(20), |s| s["lease"]["state"] == "parked");
    world.relay().reset();
    std::thread::sleep(Duration::from_secs(6));
    let seen = world.relay().seen();
    // The view is listed for outside changes now and then, less and less often.
    let import = |query: &str| query.contains("cwdfs%2Flease") || !query.contains("cwdfs%2F");
    let ours = |request: &&Request| request.kind != Kind::List || !import(&request.query);
    let seen: Vec<&Request> = seen.iter().map(|seen| &seen.request).filter(ours).collect();
    assert!(seen.is_empty(), "requests of an idle, parked session: {seen:?}");
    mount.unmount();
}

#[test]
fn a_damaged_newest_checkpoint_falls_back_and_damage_without_fallback_names_the_object() {
    let world = World::with_relay("damaged-checkpoint");
    let mount = world.host("a").mount(&[KEEP, "--no-publish"]);
    for n in 0..200u64 {
        fs::write(mount.path(format!("f{}", n % 40)), noise(800, n)).expect("write");
    }
    settle(&world);
    let before = Tree::of(mount.root());
    mount.lose_machine();
    let checkpoints = |world: &World| -> Vec<String> {
        let keys = world.witness.keys().into_keys();
        keys.filter(|key| key.starts_with(".cwdfs/checkpoint/")).collect()
    };
    let damage = |key: &str| {
        let mut bytes = world.witness.object(key).expect("the object").bytes;
        let middle = bytes.len() / 2;
        bytes[middle] ^= 0x55;
        world.witness.put(key, bytes);
    };
    let all = checkpoints(&world);
    let newest = all.iter().rfind(|key| !key.contains('~')).expect("an image").clone();
    assert!(all.iter().filter(|key| !key.contains('~')).count() >= 2, "{all:?}");
    damage(&newest);
    let mount = world.host("b").mount(&["--takeover", "--no-publish"]);
    before.assert_same(&Tree::of(mount.root()), "with the newest image damaged");
    assert!(mount.log().contains(&newest), "the log names what is damaged:\n{}", mount.log());
    mount.lose_machine();
    checkpoints(&world).iter().filter(|key| **key != newest).for_each(|key| damage(key));
    let failed = world.host("c").run_mount(&["--takeover", "--foreground", "--no-publish"]);
    assert_ne!(failed.code, Some(0), "{failed}");
    assert!(failed.err.contains(".cwdfs/checkpoint/") && failed.err.contains("damaged"), "{failed}");
}

#[test]
fn a_follower_that_collection_overtakes_loads_anew() {
    let world = World::new("overtaken");
    let writer = world.host("a").mount(&[KEEP, "--no-publish"]);
    fs::write(writer.path("first"), "x").expect("write");
    let follower = world.host("f").mount(&["--read-only"]);
    assert_eq!(fs::read(follower.path("first")).expect("read"), b"x");
    for n in 0..200u64 {
        fs::write(writer.path(format!("f{}", n % 20)), noise(2000, n)).expect("write");
    }
    let before = Tree::of(writer.root());
    let same =
        || (0..20).all(|n| fs::read(follower.path(format!("f{n}"))).is_ok_and(|b| b == noise(2000, 180 + n)));
    eventually("the follower shows what the writer has", Duration::from_secs(90), same);
    before.assert_same(&Tree::of(follower.root()), "the follower");
    follower.unmount();
    writer.unmount();
}

/// Files that were closed and so must be there: by name, the number of the newest content acknowledged, and
/// the newest that was begun.
type Acknowledged = Mutex<BTreeMap<String, (u64, u64)>>;

fn content(name: &str, n: u64) -> Vec<u8> {
    let seed = name.bytes().fold(n, |seed, b| seed.wrapping_mul(31).wrapping_add(b.into()));
    let mut bytes = n.to_le_bytes().to_vec();
    bytes.extend(noise(200 + (seed % 3000) as usize, seed));
    bytes
}

/// Writes files over and over until the mount is gone.
fn write_on(mount: &Mount<'_>, acknowledged: &Acknowledged, first: u64) {
    for n in first.. {
        let name = format!("f{}", n % 23);
        acknowledged.lock().expect("not poisoned").entry(name.clone()).or_insert((0, 0)).1 = n;
        // write(2) and close(2), of which the close tells.
        if work::write_closed(&mount.path(&name), &content(&name, n)).is_err() {
            return;
        }
        acknowledged.lock().expect("not poisoned").entry(name).and_modify(|state| state.0 = n);
    }
}

#[test]
fn kills_at_random_moments_lose_nothing() {
    let world = World::with_relay("random-kills");
    let acknowledged = Acknowledged::default();
    let rounds = if full() { 25 } else { 8 };
    let mut first = 1;
    for round in 0..rounds {
        let host = world.host(&format!("h{round}"));
        let mount = host.mount(&[KEEP, "--takeover", "--no-publish"]);
        for (name, (closed, begun)) in acknowledged.lock().expect("not poisoned").iter() {
            let found = match fs::read(mount.path(name)) {
                Ok(found) => found,
                Err(e) => {
                    assert!(*closed == 0, "round {round}: {name} was closed as {closed}: {e}");
                    continue;
                }
            };
            // Made or cut to nothing, and not closed since.
            if found.is_empty() && closed < begun {
                continue;
            }
            let n = u64::from_le_bytes(found[..8].try_into().unwrap_or_default());
            assert!((*closed..=*begun).contains(&n), "round {round}: {name} is {n}, closed {closed}");
            assert!(found == content(name, n), "round {round}: {name} has bytes that were never written");
        }
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| write_on(&mount, &acknowledged, first));
            // Rounds come every few hundred milliseconds, so these moments fall before, in and after them.
            std::thread::sleep(Duration::from_millis(700 + 613 * round % 2900));
            mount.kill_now();
            writer.join().expect("the writer ends");
        });
        first = acknowledged
            .lock()
            .expect("not poisoned")
            .values()
            .map(|(_, begun)| begun + 1)
            .max()
            .unwrap_or(1);
        host.wipe();
        drop(mount);
    }
    let kept = kept(&world);
    assert!(kept["checkpoint"].0 >= 1, "{kept:?}");
    assert!(first > 100, "only {first} files were written");
}
