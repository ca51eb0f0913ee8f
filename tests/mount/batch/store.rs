//! What waits for the store, what does not, and what is in it afterwards.

use super::*;
use crate::support::relay::Kind;
use crate::support::sh;
use crate::work::noise;
use std::fs;

#[test]
fn closes_go_on_beside_strict_ones_and_the_end_waits_for_all() {
    let world = World::with_relay("batch-waits");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    mount.flush();
    world.relay().black_hole();
    let script = "mkdir d; for n in 1 2 3 4 5 6 7 8 9; do echo $n > d/$n; done
                  mv d/9 d/nine; (echo below > below); mark closed; until_told seen; exit 7";
    let mut batched = start(batch(&mount, &marks, &[], script));
    marks.wait("closed");
    assert_eq!(mount.status()["batches"], serde_json::json!({ "running": 1, "begun": 1 }));
    marks.give("seen");
    let mut beside = start(strict(&mount, &marks, "echo strict > strict; mark strict"));
    goes_on_waiting(&mut batched);
    goes_on_waiting(&mut beside);
    assert!(!marks.has("strict"));
    world.relay().heal();
    end(batched).exits(7);
    end(beside).ok();
    assert_eq!(mount.status()["batches"], serde_json::json!({ "running": 0, "begun": 1 }));
    let mount = elsewhere(&world, mount);
    for n in 1..9 {
        holds(mount.root(), &format!("d/{n}"), &format!("{n}\n"));
    }
    holds(mount.root(), "d/nine", "9\n");
    holds(mount.root(), "below", "below\n");
    holds(mount.root(), "strict", "strict\n");
}

/// On a build that does not wait at a batch's end, this has to fail: see tests/run.
#[test]
fn what_a_batch_closed_is_there_when_the_machine_is_lost_at_once() {
    for level in ["close", "fsync", "sync"] {
        let world = World::with_relay(&format!("batch-lost-{level}"));
        let marks = Marks::of(&world);
        fs::write(world.local("from").join("large"), noise(3 << 20, 5)).expect("a large file");
        let mount = world.host("a").mount(&["--durability", level]);
        mount.flush();
        world.relay().set_delay(Duration::from_millis(400));
        let script = format!(
            "for n in $(seq 60); do echo $n > f$n; done; mkdir d; mv f60 d/moved; ln f1 linked; ln -s f2 symlink
             cp {0} large; cp {0} d/copy; truncate -s 1234567 d/copy; chmod 600 f3; rm f4; mark done",
            world.local("from").join("large").display()
        );
        end(start(batch(&mount, &marks, &[], &script))).ok();
        let mount = elsewhere(&world, mount);
        for n in (1..60).filter(|n| *n != 4) {
            holds(mount.root(), &format!("f{n}"), &format!("{n}\n"));
        }
        holds(mount.root(), "d/moved", "60\n");
        holds(mount.root(), "linked", "1\n");
        assert_eq!(fs::read_link(mount.path("symlink")).expect("the symlink"), Path::new("f2"));
        assert!(!mount.path("f4").exists());
        let large = noise(3 << 20, 5);
        assert!(
            fs::read(mount.path("large")).expect("closed in a batch, but not in the store") == large,
            "{level}: large"
        );
        assert!(fs::read(mount.path("d/copy")).expect("the copy") == large[..1_234_567], "{level}: the copy");
        mount.unmount();
    }
}

#[test]
fn fsync_waits_in_a_batch_unless_told_otherwise() {
    let world = World::with_relay("batch-fsync");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&[]);
    mount.flush();
    world.relay().black_hole();
    let script =
        |name: &str| format!("echo {name} > {name}; mark closed-{name}; sync {name}; mark synced-{name}");
    let mut waits = start(batch(&mount, &marks, &[], &script("waits")));
    let mut goes_on = start(batch(&mount, &marks, &["--fsync"], &script("on")));
    let direct = "echo direct | dd of=direct oflag=sync status=none; sync .; mark direct";
    let mut direct = start(batch(&mount, &marks, &["--fsync"], direct));
    marks.wait("closed-waits");
    marks.wait("synced-on");
    marks.wait("direct");
    goes_on_waiting(&mut waits);
    goes_on_waiting(&mut goes_on);
    goes_on_waiting(&mut direct);
    assert!(!marks.has("synced-waits"));
    world.relay().heal();
    end(waits).ok();
    end(goes_on).ok();
    end(direct).ok();
    let mount = elsewhere(&world, mount);
    for name in ["waits", "on", "direct"] {
        holds(mount.root(), name, &format!("{name}\n"));
    }
}

#[test]
fn the_end_waits_for_a_large_file_that_is_still_on_its_way() {
    let world = World::with_relay("batch-large");
    let marks = Marks::of(&world);
    for (passthrough, size) in [("on", 12 << 20), ("off", 5 << 20)] {
        let large = world.local("from").join(passthrough);
        fs::write(&large, noise(size, 3)).expect("a large file");
        let mount = world.host(passthrough).mount(&["--passthrough", passthrough, "--takeover"]);
        mount.flush();
        world.relay().black_hole();
        let script = format!("cp {} {passthrough}; mark {passthrough}", large.display());
        let mut batched = start(batch(&mount, &marks, &[], &script));
        marks.wait(passthrough);
        goes_on_waiting(&mut batched);
        world.relay().heal();
        end(batched).ok();
        let mount = elsewhere(&world, mount);
        let found = fs::read(mount.path(passthrough)).expect("closed in a batch, but not in the store");
        assert!(found == noise(size, 3), "passthrough {passthrough}: the content differs");
        mount.unmount();
    }
}

/// In order: what was lost in the middle of a batch is its end, never something in between.
#[test]
fn a_machine_lost_within_a_batch_leaves_a_prefix_of_what_happened() {
    let world = World::with_relay("batch-prefix");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&["--commit-interval", "200ms"]);
    world.relay().set_delay(Duration::from_millis(60));
    let script =
        "n=0; while :; do echo $n > f$n; mv f$n g$n; n=$((n + 1)); [ $n = 400 ] && mark enough; done";
    let batched = start(batch(&mount, &marks, &["--fsync"], script));
    marks.wait("enough");
    mount.kill_now();
    let ran = end(batched).exits(113).says(&["cannot be told"]);
    assert!(!ran.err.contains("panicked"), "{ran}");
    let mount = elsewhere(&world, mount);
    let names: Vec<String> = fs::read_dir(mount.root())
        .expect("list")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    let mut moved: Vec<usize> =
        names.iter().filter_map(|name| name.strip_prefix('g')?.parse().ok()).collect();
    moved.sort_unstable();
    eprintln!("a prefix of {} files", moved.len());
    assert!(moved.len() > 20, "something was committed within the batch: {names:?}");
    assert!(moved.iter().copied().eq(0..moved.len()), "not a prefix: {moved:?}");
    for n in &moved {
        holds(mount.root(), &format!("g{n}"), &format!("{n}\n"));
    }
    let open: Vec<&String> = names.iter().filter(|name| name.starts_with('f')).collect();
    assert!(
        open.is_empty() || open == [&format!("f{}", moved.len())],
        "only the next may be in between: {open:?}"
    );
}

#[test]
fn an_untar_of_2000_files_is_a_few_requests() {
    let world = World::with_relay("batch-untar");
    let marks = Marks::of(&world);
    let from = world.local("from");
    sh(
        &from,
        "mkdir -p tree && cd tree && for d in $(seq 40); do mkdir $d; for f in $(seq 50); do head -c 5000 /dev/urandom > $d/$f; done; done; tar cf ../tree.tar .",
    );
    let mount = world.host("a").mount(&["--no-publish"]);
    mount.flush();
    world.relay().set_delay(Duration::from_millis(20));
    world.relay().reset();
    end(start(batch(&mount, &marks, &[], &format!("tar xf {}", from.join("tree.tar").display())))).ok();
    let requests = world.relay().counts();
    let sum: usize = requests.values().sum();
    eprintln!("an untar of 2,000 files in a batch: {sum} requests until it is durable: {requests:?}");
    assert!(requests.get(&Kind::Put).is_some_and(|puts| *puts > 0), "it was stored: {requests:?}");
    assert!(sum <= 60, "{requests:?}");
    let mount = elsewhere(&world, mount);
    sh(&from, &format!("diff -r tree '{}'", mount.root().display()));
}

#[test]
fn a_store_that_is_away_is_told_with_a_status_of_its_own_and_nothing_is_lost() {
    let world = World::with_relay("batch-away");
    let marks = Marks::of(&world);
    let mount = world.host("a").mount(&["--timeout", "2s"]);
    mount.flush();
    world.relay().black_hole();
    let ran = end(start(batch(&mount, &marks, &[], "echo kept > kept; exit 3")));
    let ran =
        ran.exits(114).says(&["not everything is in the store", "kept", "ended with status 3"]).plainly();
    assert!(ran.err.contains(&mount.root().display().to_string()), "{ran}");
    world.relay().heal();
    mount.wait_status("it is stored later", LIMIT, |status| status["uncommitted"]["files"] == 0);
    let mount = elsewhere(&world, mount);
    holds(mount.root(), "kept", "kept\n");
}
