//! Directories with very many entries: a listing costs what it lists, and is right while they change.

use crate::support::mount::Mount;
use crate::support::way::{Way, comes_back};
use crate::support::{World, full};
use std::collections::HashSet;
use std::fs::{self, File};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Makes files `0` to `count` in a directory, with as many threads as there are processors here.
fn fill(dir: &Path, count: usize) {
    fs::create_dir(dir).expect("mkdir");
    std::thread::scope(|scope| {
        for part in 0..2 {
            scope.spawn(move || {
                (part..count)
                    .step_by(2)
                    .for_each(|n| drop(File::create_new(dir.join(n.to_string())).expect("create")));
            });
        }
    });
}

/// What the daemon has spent of a processor, in its ticks.
fn spent(mount: &Mount<'_>) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{}/stat", mount.pid().as_raw_nonzero())).expect("stat");
    let (_, behind_name) = stat.rsplit_once(')').expect("a name");
    let words: Vec<&str> = behind_name.split_ascii_whitespace().collect();
    // Of its own and of the kernel's on its behalf: the 14th and 15th of all.
    words[11].parse::<u64>().expect("ticks") + words[12].parse::<u64>().expect("ticks")
}

/// What the daemon spends on listing a directory so many times, each from the start and past the kernel's cache.
fn cost(mount: &Mount<'_>, dir: &Path, count: usize, times: usize) -> u64 {
    let before = spent(mount);
    for n in 0..times {
        // Any change of the directory makes the kernel forget its listing.
        let probe = dir.join(format!("probe{n}"));
        File::create_new(&probe).expect("create");
        fs::remove_file(&probe).expect("unlink");
        assert_eq!(fs::read_dir(dir).expect("list").count(), count);
    }
    spent(mount) - before
}

/// Measured in the daemon's own processor time, which other work beside the test does not change much: ten times the
/// entries, listed a tenth as often, must cost about the same.
#[test]
fn a_listing_costs_what_it_lists() {
    let (small, large, rounds) = if full() { (1000, 100_000, 1000) } else { (500, 10_000, 200) };
    let world = World::with_relay("readdir-cost");
    let options = ["--no-publish", "--durability", "fsync"];
    let mount = world.host("a").mount(&options);
    fill(&mount.path("small"), small);
    fill(&mount.path("large"), large);
    mount.flush();
    let times = rounds * small / large;
    let few = cost(&mount, &mount.path("small"), small, rounds);
    let many = cost(&mount, &mount.path("large"), large, times.max(1));
    println!("{rounds} x {small} entries: {few} ticks; {times} x {large}: {many}");
    assert!(many <= few * 3 + 20, "{many} ticks for large listings, {few} for as many entries in small ones");
    let options = [&options[..], &["--passthrough", "auto"]].concat();
    let mount = comes_back(&world, mount, "b", &options);
    // Resumed, nothing is cached: the same again.
    let few = cost(&mount, &mount.path("small"), small, rounds);
    let many = cost(&mount, &mount.path("large"), large, times.max(1));
    println!("resumed: {few} and {many} ticks");
    assert!(many <= few * 3 + 20, "{many} ticks for large listings, {few} for as many entries in small ones");
    fs::remove_dir_all(mount.path("large")).expect("rm -r");
    mount.unmount();
}

/// A listing shows every name that was there from its begin to its end exactly once, whatever else comes and goes.
#[test]
fn a_listing_is_right_while_the_directory_changes() {
    let count = if full() { 100_000 } else { 6000 };
    let way = Way::drawn("readdir-changes")[0];
    let world = World::new("readdir-changes");
    let options = way.options(&["--no-publish"]);
    let options: Vec<&str> =
        options.iter().map(|word| if *word == "close" { "fsync" } else { word }).collect();
    let mount = world.host("a").mount(&options);
    let dir = mount.path("d");
    fill(&dir, count);
    let (dir, stop) = (dir.as_path(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        for part in 0..2 {
            let stop = &stop;
            scope.spawn(move || {
                let at = |name: String| dir.join(name);
                let mut n = 0;
                while !stop.load(Ordering::SeqCst) {
                    n += 1;
                    File::create_new(at(format!("new-{part}-{n}"))).expect("create");
                    fs::rename(at(format!("new-{part}-{n}")), at(format!("renamed-{part}-{n}")))
                        .expect("rename");
                    if n % 3 == 0 {
                        fs::remove_file(at(format!("renamed-{part}-{n}"))).expect("unlink");
                    }
                }
            });
        }
        for _ in 0..if full() { 10 } else { 5 } {
            let mut seen = HashSet::new();
            for entry in fs::read_dir(dir).expect("list") {
                let name = entry.expect("entry").file_name().into_string().expect("UTF-8");
                assert!(seen.insert(name.clone()), "{name} was listed twice");
            }
            let missing = (0..count).find(|n| !seen.contains(&n.to_string()));
            assert_eq!(missing, None, "a name that stays was not listed");
        }
        stop.store(true, Ordering::SeqCst);
    });
    mount.unmount();
}
