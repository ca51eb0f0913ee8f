//! A look at a directory that is under way while the directory changes: what it saw of before must not stay.

use crate::support::World;
use rustix::fs::{AtFlags, CWD, Statx, StatxFlags, statx};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Barrier, Mutex};
use std::time::Duration;

/// What stat shows: of what the kernel has kept, or of what the daemon says now.
fn stat(path: &Path, how: AtFlags) -> Statx {
    statx(CWD, path, how, StatxFlags::BASIC_STATS).unwrap_or_else(|e| panic!("stat of {path:?}: {e}"))
}

/// Whether the kernel shows a directory as it is no longer.
fn is_stale(dir: &Path) -> bool {
    let shown = |how| {
        let now = stat(dir, how);
        (now.stx_nlink, now.stx_mtime.tv_sec, now.stx_mtime.tv_nsec, now.stx_ctime.tv_nsec)
    };
    let kept = shown(AtFlags::empty());
    kept != shown(AtFlags::STATX_FORCE_SYNC)
}

/// Changes one new directory after the other while another thread looks at it again and again.
fn changed_while_looked_at(name: &str, look: fn(&Path)) {
    let world = World::new(name);
    let mount = world.host("a").mount(&["--durability", "fsync", "--no-publish"]);
    let (begin, end, over) = (Barrier::new(2), Barrier::new(2), AtomicBool::new(false));
    let at = Mutex::new(mount.path("d"));
    let changing = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            begin.wait();
            while !over.load(Ordering::Acquire) {
                let dir = at.lock().expect("no panic").clone();
                while changing.load(Ordering::Acquire) {
                    look(&dir);
                }
                // The last look is answered.
                end.wait();
                begin.wait();
            }
        });
        let mut stale = Vec::new();
        for round in 0..1000 {
            let dir = mount.path(format!("d{round}"));
            dir.clone_into(&mut at.lock().expect("no panic"));
            changing.store(true, Ordering::Release);
            begin.wait();
            fs::create_dir(&dir).expect("make a directory");
            fs::create_dir(dir.join("below")).expect("change it");
            changing.store(false, Ordering::Release);
            end.wait();
            if is_stale(&dir) {
                stale.push(round);
            }
            fs::remove_dir(dir.join("below")).expect("change it back");
            fs::remove_dir(&dir).expect("remove it");
        }
        over.store(true, Ordering::Release);
        begin.wait();
        assert!(stale.is_empty(), "{} of 1000 directories stayed as they had been: {stale:?}", stale.len());
    });
    mount.unmount();
}

#[test]
fn a_stat_that_a_change_overtakes_does_not_stay() {
    changed_while_looked_at("overtaken-stat", |dir| {
        // It is made and removed meanwhile.
        let _ = statx(CWD, dir, AtFlags::STATX_FORCE_SYNC, StatxFlags::BASIC_STATS);
    });
}

#[test]
fn a_listing_that_a_change_overtakes_does_not_stay() {
    changed_while_looked_at("overtaken-list", |dir| {
        let parent = dir.parent().expect("it has one");
        for entry in fs::read_dir(parent).expect("list") {
            let _ = entry.expect("an entry").file_name();
        }
    });
}

#[test]
fn a_directory_that_changes_all_the_time_is_shown_as_it_is_in_the_end() {
    let world = World::new("overtaken-often");
    let mount = world.host("a").mount(&["--durability", "fsync", "--no-publish"]);
    let over = AtomicBool::new(false);
    let dir = mount.path("busy");
    fs::create_dir(&dir).expect("make a directory");
    std::thread::scope(|threads| {
        for _ in 0..2 {
            threads.spawn(|| {
                while !over.load(Ordering::Acquire) {
                    stat(&dir, AtFlags::STATX_FORCE_SYNC);
                }
            });
        }
        for n in 0..1000 {
            fs::create_dir(dir.join(n.to_string())).expect("change it");
        }
        over.store(true, Ordering::Release);
    });
    // Told of at a pace: the last change a moment after it.
    std::thread::sleep(Duration::from_millis(100));
    assert!(!is_stale(&dir));
    assert_eq!(stat(&dir, AtFlags::empty()).stx_nlink, 1002);
    mount.unmount();
}
