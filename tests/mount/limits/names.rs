//! Names, paths, targets of symlinks, and trees that are deeper than any path.

use crate::support::way::{Way, comes_back};
use crate::support::{Story, World, full, same_as_ext4};
use rustix::fs::{AtFlags, Mode, OFlags, Timestamps, openat};
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

/// Closed in programs that other tests start: what holds a mount there keeps it from being unmounted.
const DIR: OFlags = OFlags::DIRECTORY.union(OFlags::CLOEXEC);

fn open_dir(path: &Path) -> OwnedFd {
    rustix::fs::open(path, DIR, Mode::empty()).expect("open a directory")
}

/// Every call that makes or takes a name, with one of this many bytes.
fn name_of(dir: &Path, story: &mut Story, what: &str, name: &OsStr) {
    let at = dir.join(name);
    story.note(&format!("{what}: stat of nothing"), fs::metadata(&at).map(|_| ()));
    story.note(&format!("{what}: create"), File::create_new(&at).map(drop));
    story.note(&format!("{what}: read"), fs::read(&at));
    story.note(&format!("{what}: rename away"), fs::rename(&at, dir.join("short")));
    story.note(&format!("{what}: rename to"), fs::rename(dir.join("short"), &at));
    story.note(&format!("{what}: unlink"), fs::remove_file(&at));
    story.note(&format!("{what}: symlink"), symlink("target", &at));
    story.note(&format!("{what}: readlink"), fs::read_link(&at));
    story.note(&format!("{what}: unlink"), fs::remove_file(&at));
    story.note(&format!("{what}: mkdir"), fs::create_dir(&at));
    story.note(&format!("{what}: below"), fs::write(at.join("f"), "x"));
    story.note(&format!("{what}: link"), fs::hard_link(at.join("f"), dir.join("kept")));
    story.note(&format!("{what}: link to"), fs::hard_link(dir.join("kept"), at.join(name)));
    story.note(&format!("{what}: unlink"), fs::remove_file(dir.join("kept")));
}

#[test]
fn names_paths_and_targets_are_as_long_as_on_ext4() {
    let way = Way::drawn("names")[0];
    let world = World::with_relay("name-lengths");
    let mount = same_as_ext4(&world, &way.options(&["--no-publish"]), |dir, story| {
        for len in [1, 254, 255, 256, 4095, 4096] {
            name_of(dir, story, &format!("{len} bytes"), OsStr::new(&"n".repeat(len)));
        }
        // The bound is on bytes: 127 of these are 254.
        for count in [127, 128] {
            name_of(dir, story, &format!("{count} letters of two bytes"), OsStr::new(&"ü".repeat(count)));
        }
        for len in [1, 59, 60, 61, 255, 4094, 4095, 4096] {
            let target = "t".repeat(len);
            story.note(&format!("target of {len}"), symlink(&target, dir.join(format!("l{len}"))));
            let read = fs::read_link(dir.join(format!("l{len}")));
            story.note("comes back", read.map(|seen| seen == Path::new(&target)));
        }
        story.note("no target", symlink("", dir.join("none")));
        // A path is at most 4,095 bytes and its end; relative ones reach further.
        let steps = "d/".repeat(2000);
        fs::create_dir_all(dir.join(&steps)).expect("2,000 levels");
        let at = open_dir(dir);
        for len in [4095, 4096] {
            let path = format!("{steps}{}", "f".repeat(len - steps.len()));
            let made = openat(
                &at,
                &path,
                OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC,
                Mode::RUSR | Mode::WUSR,
            );
            story.call(&format!("path of {len}"), made.map(drop));
            // Trees are read by whole paths, of which the mount point is a part.
            story.call("unlink", rustix::fs::unlinkat(&at, &path, AtFlags::empty()));
        }
    });
    comes_back(&world, mount, "b", &way.options(&["--no-publish"])).unmount();
}

/// All names of one byte, and random ones, none of which is a path or ours.
fn strange_names() -> Vec<OsString> {
    let mut names: Vec<Vec<u8>> =
        (1..=255_u8).filter(|b| !b"/.".contains(b)).map(|byte| vec![byte]).collect();
    for n in 0..if full() { 2000 } else { 200 } {
        let len = 2 + n % 254;
        names.push(
            (0..len)
                .map(|_| {
                    loop {
                        let byte: u8 = rand::random();
                        if !b"/\0".contains(&byte) {
                            break byte;
                        }
                    }
                })
                .collect(),
        );
    }
    for known in
        ["...", "-rf", " ", "a b", "a\nb", "a\\b", "%2e%2e", "\u{feff}", "..\u{fe0e}", "nul", "a?b#c&d=e"]
    {
        names.push(known.as_bytes().to_vec());
    }
    names.sort();
    names.dedup();
    names.into_iter().map(OsString::from_vec).collect()
}

#[test]
fn every_byte_may_be_in_a_name() {
    let way = Way::drawn("bytes")[0];
    let world = World::with_relay("name-bytes");
    let options = way.options(&[]);
    let fast = way.options(&["--commit-interval", "100ms"]);
    let fast: Vec<&str> = fast.iter().map(|word| if *word == "close" { "fsync" } else { word }).collect();
    let mount = world.host("a").mount(&fast);
    let names = strange_names();
    fs::create_dir(mount.path("d")).expect("mkdir");
    for (n, name) in names.iter().enumerate() {
        let path = mount.path("d").join(name);
        match n % 3 {
            0 => fs::write(&path, name.as_bytes()).expect("write"),
            1 => {
                fs::create_dir(&path).expect("mkdir");
                fs::write(path.join("inner"), name.as_bytes()).expect("write");
            }
            _ => symlink(name, &path).expect("symlink"),
        }
    }
    let listed: std::collections::BTreeSet<OsString> =
        fs::read_dir(mount.path("d")).expect("list").map(|e| e.expect("entry").file_name()).collect();
    assert!(listed.iter().eq(names.iter()), "the listing has other names than were made");

    // In the view is what can be a key: UTF-8 without a backslash; the rest is counted.
    mount.publish();
    let is_key = |name: &OsStr| name.to_str().is_some_and(|name| !name.contains('\\'));
    let hidden: u64 = names
        .iter()
        .enumerate()
        .filter(|(_, name)| !is_key(name))
        .map(|(n, _)| {
            // A directory hides what is in it too.
            if n % 3 == 1 { 2 } else { 1 }
        })
        .sum();
    assert_eq!(mount.status()["view"]["unpublishable_names"], hidden, "{:#}", mount.status());
    let in_view = world.witness.object("d/a b").or_else(|| world.witness.object("d/a b/inner"));
    assert!(in_view.is_some(), "a name that can be a key is in the view");

    let mount = comes_back(&world, mount, "b", &options);
    for (n, name) in names.iter().enumerate() {
        let path = mount.path("d").join(name);
        match n % 3 {
            0 => assert_eq!(fs::read(&path).expect("read"), name.as_bytes(), "{name:?}"),
            1 => assert_eq!(fs::read(path.join("inner")).expect("read"), name.as_bytes(), "{name:?}"),
            _ => assert_eq!(fs::read_link(&path).expect("readlink"), PathBuf::from(name), "{name:?}"),
        }
    }
    mount.unmount();
}

/// Names of 100 bytes, so that the whole path is 30 times what a system call takes.
#[test]
fn a_tree_is_deeper_than_any_path() {
    let levels = if full() { 5000 } else { 1200 };
    let way = Way::drawn("deep")[0];
    let world = World::with_relay("deep");
    let options = way.options(&[]);
    let mount = world.host("a").mount(&options);
    let name = |level: usize| format!("{level:0>100}");
    let mut at = open_dir(mount.root());
    for level in 0..levels {
        rustix::fs::mkdirat(&at, name(level), Mode::RWXU).expect("mkdir");
        at = openat(&at, name(level), DIR, Mode::empty()).expect("go down");
    }
    let mut file = File::from(
        openat(&at, "bottom", OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR)
            .expect("create"),
    );
    std::io::Write::write_all(&mut file, b"deep down").expect("write");
    file.sync_all().expect("fsync");
    // The way up, and a move of the whole depth.
    let up = openat(&at, "..", DIR, Mode::empty()).expect("go up");
    let parent = rustix::fs::fstat(&up).expect("stat").st_ino;
    let below = rustix::fs::statat(&at, "..", AtFlags::empty()).expect("stat").st_ino;
    assert_eq!(parent, below);
    fs::rename(mount.path(name(0)), mount.path("moved")).expect("rename");
    let loops = fs::rename(mount.path("moved"), mount.path("moved").join(name(1)).join("below"));
    assert_eq!(
        loops.expect_err("below itself").raw_os_error(),
        Some(rustix::io::Errno::INVAL.raw_os_error())
    );
    drop((file, at, up));
    mount.flush();
    crate::support::way::no_error_logged(&mount);
    mount.lose_machine();

    let mount = world.host("b").mount(&[&options[..], &["--takeover"]].concat());
    let mut at = openat(open_dir(mount.root()), "moved", DIR, Mode::empty()).expect("go down");
    for level in 1..levels {
        at = openat(&at, name(level), DIR, Mode::empty()).expect("go down");
    }
    let bottom = openat(&at, "bottom", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).expect("open");
    assert_eq!(std::io::read_to_string(File::from(bottom)).expect("read"), "deep down");
    // Only the upper directories have keys that are short enough.
    mount.publish();
    assert!(mount.status()["view"]["unpublishable_names"].as_u64() > Some(levels as u64 - 20));
    let now = Timestamps {
        last_access: rustix::fs::Timespec { tv_sec: 1, tv_nsec: 2 },
        last_modification: rustix::fs::Timespec { tv_sec: 3, tv_nsec: 4 },
    };
    rustix::fs::utimensat(&at, "bottom", &now, AtFlags::empty()).expect("utimens");
    drop(at);
    crate::support::sh(mount.root(), "rm -r moved");
    mount.unmount();
}
