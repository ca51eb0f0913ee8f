//! Random changes on both sides, crashes and a bad store: the view always comes to show the tree, and
//! nothing that either side wrote is lost.

use crate::conflicts::beside;
use crate::rig::{Host, Rig, by_hand};
use crate::tree::{assert_published, of_session};
use cwdfs::store::faulty::Chances;
use cwdfs::view::ViewOptions;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::time::Duration;

/// `CWDFS_TEST_FULL=1` tries many more, `CWDFS_TEST_SEED` one.
fn seeds() -> std::ops::Range<u64> {
    if let Ok(Ok(seed)) = std::env::var("CWDFS_TEST_SEED").map(|seed| seed.parse()) {
        return seed..seed + 1;
    }
    let full = std::env::var_os("CWDFS_TEST_FULL").is_some_and(|v| v == "1");
    0..if full { 200 } else { 12 }
}

/// Few names, so that they meet.
fn any_path(random: &mut StdRng) -> String {
    let depth = random.random_range(1..=3);
    let names: Vec<_> = (0..depth).map(|_| ["a", "b", "c"][random.random_range(0..3)]).collect();
    names.join("/")
}

/// One change; that it is impossible is no matter.
fn change(host: &Host, random: &mut StdRng, n: u32) {
    let (path, other) = (any_path(random), any_path(random));
    let done = match random.random_range(0..12) {
        0..=3 => host.try_write(&path, format!("content {n}").as_bytes()),
        4 => host.append(&path, b" and more"),
        5 => host.mkdir(&path),
        6 => host.unlink(&path),
        7 => host.rmdir(&path),
        8 | 9 => host.rename(&path, &other),
        10 => host.symlink(&path, &format!("target{n}")),
        _ => host.link(&path, &other),
    };
    if let Err(error) = done {
        assert!(![libc::EIO, libc::ESTALE].contains(&error.errno()), "{path}, {other}: {error}");
    }
    if random.random_range(0..8) == 0 {
        // Nothing may be there, or a symlink.
        let _ = host.chmod(&path, 0o700 + random.random_range(0..64));
    }
}

#[test]
fn the_view_comes_to_show_the_tree_whatever_happens() {
    for seed in seeds() {
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        let mut rig = Rig::new();
        let delay = Duration::from_millis(random.random_range(0..30));
        let options = ViewOptions { delay, concurrency: 4, ..by_hand() };
        let mut host = rig.mount_with(options.clone());
        for round in 0..4 {
            let max_delay = Duration::from_millis(10);
            let rough =
                Chances { error_before: 30, error_after: 30, delay: 100, max_delay, partial_delete: 0 };
            if random.random_bool(0.6) {
                host.faulty.set_chances(rough);
            }
            for n in 0..random.random_range(5..25) {
                change(&host, &mut random, round * 100 + n);
                if random.random_range(0..6) == 0 {
                    std::thread::sleep(Duration::from_millis(random.random_range(0..40)));
                }
            }
            if random.random_bool(0.5) {
                // At any point of any publishing; flushed, so that the tree is the one that was left.
                host.faulty.calm();
                host.flush();
                let left = of_session(&host);
                host.crash();
                if random.random_bool(0.5) {
                    rig.wipe();
                }
                host = rig.mount_with(options.clone());
                assert_eq!(of_session(&host), left, "seed {seed}");
            }
            host.faulty.calm();
            host.publish();
            let done = host.refresh();
            assert_eq!(
                (done.imported, done.deleted, done.conflicts),
                (0, 0, 0),
                "seed {seed}, round {round}"
            );
            host.publish();
            assert_published(&host, &rig.client);
        }
        host.unmount();
    }
}

/// What a side did to a file.
#[derive(Debug, Clone, PartialEq)]
enum Did {
    Nothing,
    Wrote(String),
    Deleted,
}

fn any_deed(random: &mut StdRng, content: String) -> Did {
    match random.random_range(0..4) {
        0 | 1 => Did::Wrote(content),
        2 => Did::Deleted,
        _ => Did::Nothing,
    }
}

/// What a name has to hold, and what has to be kept beside it.
fn expected(before: Option<&String>, here: &Did, there: &Did) -> (Option<String>, Option<String>) {
    match (here, there) {
        (Did::Wrote(ours), Did::Wrote(theirs)) => (Some(ours.clone()), Some(theirs.clone())),
        (Did::Wrote(ours), _) => (Some(ours.clone()), None),
        (_, Did::Wrote(theirs)) => (Some(theirs.clone()), None),
        (Did::Deleted, _) | (_, Did::Deleted) => (None, None),
        (Did::Nothing, Did::Nothing) => (before.cloned(), None),
    }
}

fn act_here(host: &Host, name: &str, did: &Did) {
    match did {
        Did::Nothing => (),
        Did::Wrote(content) => host.write(name, content.as_bytes()),
        Did::Deleted if host.has(name) => host.unlink(name).unwrap(),
        Did::Deleted => (),
    }
}

fn act_there(rig: &Rig, name: &str, did: &Did) {
    match did {
        Did::Nothing => (),
        Did::Wrote(content) => drop(rig.client.put(name, content.as_bytes())),
        Did::Deleted => rig.client.delete(name),
    }
}

#[test]
fn whatever_both_sides_do_to_a_file_nothing_written_is_lost() {
    for seed in seeds() {
        let mut random = StdRng::seed_from_u64(1000 + seed);
        let mut rig = Rig::new();
        rig.client.put("d/imported", b"before");
        let mut host = rig.mount();
        let names: Vec<String> = (0..6).map(|n| format!("d/f{n}")).chain(["d/imported".into()]).collect();
        let mut known = BTreeMap::from([("d/imported".to_owned(), "before".to_owned())]);
        for round in 0..4 {
            let mut want = BTreeMap::new();
            for name in &names {
                let here = any_deed(&mut random, format!("ours {round} {name}"));
                let there = any_deed(&mut random, format!("theirs, {round}, {name}"));
                if random.random() {
                    act_here(&host, name, &here);
                    act_there(&rig, name, &there);
                } else {
                    act_there(&rig, name, &there);
                    act_here(&host, name, &here);
                }
                want.insert(name.clone(), (expected(known.get(name), &here, &there), here, there));
            }
            if random.random_bool(0.3) {
                host.flush();
                host.crash();
                if random.random() {
                    rig.wipe();
                }
                host = rig.mount();
            }
            if random.random() {
                host.refresh();
            }
            host.publish();
            host.refresh();
            host.publish();
            for (name, ((at, next_to), here, there)) in want {
                let why = format!(
                    "seed {seed}, round {round}, {name}: {here:?} here, {there:?} there; {:#?}",
                    host.status()
                );
                let found = host.has(&name).then(|| host.text(&name));
                assert_eq!(found, at, "{why}");
                let kept: Vec<_> = beside(&host, &name).iter().map(|name| host.text(name)).collect();
                assert!(next_to.is_none_or(|theirs| kept.contains(&theirs)), "{why}: kept are {kept:?}");
                match at {
                    Some(content) => drop(known.insert(name, content)),
                    None => drop(known.remove(&name)),
                }
            }
            assert_published(&host, &rig.client);
        }
        host.unmount();
    }
}
