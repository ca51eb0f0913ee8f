//! A session with very many files: made, listed, and resumed elsewhere.

use crate::support::mount::Mount;
use crate::support::{World, full};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Files of one directory.
const EACH: usize = 1000;

/// The daemon's resident memory, in MiB.
fn resident(mount: &Mount<'_>) -> u64 {
    let status =
        fs::read_to_string(format!("/proc/{}/status", mount.pid().as_raw_nonzero())).expect("its status");
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") / 1024
}

fn path(root: &Path, n: usize) -> PathBuf {
    root.join(format!("d{}/f{}", n / EACH, n % EACH))
}

/// Makes files, each with its number in it.
fn make(root: &Path, count: usize) {
    std::thread::scope(|scope| {
        for part in 0..4 {
            scope.spawn(move || {
                for d in (part..count / EACH).step_by(4) {
                    fs::create_dir(root.join(format!("d{d}"))).expect("mkdir");
                    for n in d * EACH..(d + 1) * EACH {
                        fs::write(path(root, n), n.to_string()).expect("write");
                    }
                }
            });
        }
    });
}

/// Looks at every file; returns their bytes in all.
fn walk(root: &Path, count: usize) -> u64 {
    let (mut seen, mut bytes) = (0, 0);
    for dir in fs::read_dir(root).expect("list") {
        for file in fs::read_dir(dir.expect("entry").path()).expect("list") {
            let meta = file.expect("entry").metadata().expect("stat");
            assert!(meta.is_file() && meta.nlink() == 1);
            seen += 1;
            bytes += meta.len();
        }
    }
    assert_eq!(seen, count);
    bytes
}

#[test]
fn a_session_has_a_million_files() {
    let count = if full() { 1_000_000 } else { 20_000 };
    let world = World::with_relay("million");
    let options = ["--no-publish", "--durability", "fsync"];
    let mount = world.host("a").mount(&options);
    let empty = resident(&mount);
    let timed = |what: &str, mount: &Mount<'_>, work: &mut dyn FnMut()| {
        let start = Instant::now();
        work();
        println!("{count} files: {what} in {:.1?}, {} MiB resident", start.elapsed(), resident(mount));
    };
    println!("empty: {empty} MiB resident");
    let expected: u64 = (0..count).map(|n| n.to_string().len() as u64).sum();
    timed("made", &mount, &mut || make(mount.root(), count));
    timed("flushed", &mount, &mut || mount.flush());
    timed("walked", &mount, &mut || assert_eq!(walk(mount.root(), count), expected));
    let writer = resident(&mount);
    crate::support::way::no_error_logged(&mount);
    mount.lose_machine();
    world.relay().reset();

    let mount = world.host("b").mount(&[&options[..], &["--takeover"]].concat());
    println!("mounted elsewhere in {:.1?}, {} requests", mount.ready_after, world.relay().seen().len());
    timed("walked", &mount, &mut || assert_eq!(walk(mount.root(), count), expected));
    timed("some were read", &mount, &mut || {
        for n in (0..count).step_by(count / 1000) {
            assert_eq!(fs::read_to_string(path(mount.root(), n)).expect("read"), n.to_string());
        }
    });
    // 1 KiB for a file, and what a daemon needs anyway.
    let bound = empty + 300 + count as u64 / 1024;
    assert!(writer <= bound, "{writer} MiB resident, the bound is {bound}");
    assert!(resident(&mount) <= bound, "{} MiB resident, the bound is {bound}", resident(&mount));
    timed("one directory removed", &mount, &mut || fs::remove_dir_all(mount.path("d7")).expect("rm -r"));
    mount.unmount();
}
