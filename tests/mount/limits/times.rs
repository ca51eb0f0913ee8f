//! Times far from today.

use crate::support::way::{Way, comes_back};
use crate::support::{World, same_as_ext4};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn set(path: &Path, sec: i64, nsec: i64) -> std::io::Result<(i64, i64)> {
    let time = Timespec { tv_sec: sec, tv_nsec: nsec };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::empty())?;
    fs::metadata(path).map(|meta| (meta.mtime(), meta.mtime_nsec()))
}

/// The last second that ext4 can keep, in May 2446.
const LAST_OF_EXT4: i64 = 0x3_7fff_ffff;

#[test]
fn times_are_kept_from_1901_to_2446_as_on_ext4_and_further_where_it_cuts_them() {
    let way = Way::drawn("times")[0];
    let world = World::with_relay("far-times");
    let options = way.options(&["--no-publish"]);
    let i32_min = i64::from(i32::MIN);
    let mount = same_as_ext4(&world, &options, |dir, story| {
        let cases = [
            ("1901", i32_min, 0),
            ("a second and a nanosecond later", i32_min + 1, 1),
            ("before 1970", -1, 999_999_999),
            ("long before", -1_000_000_000, 1),
            ("1970", 0, 0),
            ("2038", i64::from(i32::MAX), 999_999_999),
            ("after 2038", 1 << 31, 5),
            ("2106", 1 << 32, 7),
            ("2446", LAST_OF_EXT4, 0),
        ];
        for (name, sec, nsec) in cases {
            fs::write(dir.join(name), name).expect("write");
            story.note(name, set(&dir.join(name), sec, nsec));
        }
        fs::create_dir(dir.join("d")).expect("mkdir");
        story.note("a directory", set(&dir.join("d"), -5, 6));
        story.note("too many nanoseconds", set(&dir.join("d"), 5, 1_000_000_000));
    });
    // Here ext4 takes the nearest time that it can keep.
    for (name, sec) in [("far", LAST_OF_EXT4 + 1), ("y10k", 253_402_300_800), ("1800", i32_min - 1)] {
        fs::write(mount.path(name), name).expect("write");
        assert_eq!(set(&mount.path(name), sec, 42).expect("set"), (sec, 42), "{name}");
    }
    comes_back(&world, mount, "b", &options).unmount();
}
