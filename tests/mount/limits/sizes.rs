//! Large files: mostly holes, and up to the last byte that an offset can name.

use crate::support::way::{Way, no_error_logged};
use crate::support::{World, same_as_ext4, sh};
use rustix::fs::{FallocateFlags, SeekFrom, fallocate, seek};
use rustix::io::Errno;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

const GIB: u64 = 1 << 30;

fn read_write(path: &Path) -> File {
    File::options().read(true).write(true).create(true).truncate(false).open(path).expect("open")
}

/// Where a file has data, from and to.
fn data(file: &File) -> Vec<(u64, u64)> {
    let (mut found, mut at) = (Vec::new(), 0);
    loop {
        match seek(file, SeekFrom::Data(at)) {
            Ok(from) => {
                at = seek(file, SeekFrom::Hole(from)).expect("a hole behind data");
                found.push((from, at));
            }
            Err(Errno::NXIO) => return found,
            Err(error) => panic!("look for data: {error}"),
        }
    }
}

/// Where the sparse file has four bytes of its own.
const MARKS: [u64; 6] = [0, 3 * GIB, 40 * GIB + 1234, 70 * GIB, 99 * GIB, 100 * GIB - 4];

fn check_sparse(path: &Path, marks: &[u64]) {
    let file = File::open(path).expect("open");
    assert_eq!(file.metadata().expect("stat").len(), 100 * GIB);
    for mark in MARKS {
        let mut bytes = [1; 4];
        file.read_exact_at(&mut bytes, mark).expect("read");
        let expected = if marks.contains(&mark) { *b"mark" } else { [0; 4] };
        assert_eq!(bytes, expected, "at {mark}");
    }
    // Data lies about the marks, and nowhere else.
    let found = data(&file);
    assert_eq!(found.len(), marks.len(), "{found:?}");
    for ((from, to), mark) in found.iter().zip(marks) {
        assert!(from <= mark && mark + 4 <= *to && to - from <= 8192, "{found:?}");
    }
    let blocks = file.metadata().expect("stat").blocks();
    assert!(blocks * 512 < 1 << 20, "{blocks} blocks for a few bytes");
}

#[test]
fn a_file_of_100_gib_costs_what_is_in_it() {
    for way in Way::drawn("sparse") {
        let world = World::with_relay(&format!("sparse-{way}"));
        let options = way.options(&["--no-publish"]);
        let host = world.host("a");
        let mount = host.mount(&options);
        let path = mount.path("sparse");
        let file = read_write(&path);
        file.set_len(100 * GIB).expect("grow");
        for mark in MARKS {
            file.write_all_at(b"mark", mark).expect("write");
        }
        check_sparse(&path, &MARKS);
        let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&file, punch, 2 * GIB, 2 * GIB).expect("punch");
        fallocate(&file, punch, 98 * GIB, 10 * GIB).expect("punch beyond the end");
        let left = [0, 40 * GIB + 1234, 70 * GIB];
        check_sparse(&path, &left);
        drop(file);
        mount.flush();
        no_error_logged(&mount);
        let stored: u64 = world.witness.keys().values().sum();
        assert!(stored < 1 << 20, "{stored} bytes in the store");
        mount.lose_machine();

        let mount = world.host("b").mount(&[&options[..], &["--takeover"]].concat());
        check_sparse(&mount.path("sparse"), &left);
        let file = read_write(&mount.path("sparse"));
        file.write_all_at(b"mark", 99 * GIB).expect("write");
        drop(file);
        check_sparse(&mount.path("sparse"), &[&left[..], &[99 * GIB]].concat());
        assert_eq!(
            sh(mount.root(), "du --apparent-size -B1 sparse | cut -f1").trim(),
            (100 * GIB).to_string()
        );
        mount.unmount();
    }
}

#[test]
fn beyond_the_last_byte_is_efbig_as_on_ext4() {
    let way = Way::drawn("efbig")[0];
    let world = World::new("efbig");
    let mount = same_as_ext4(&world, &way.options(&["--no-publish"]), |dir, story| {
        let file = read_write(&dir.join("f"));
        file.write_all_at(b"x", 0).expect("write");
        let last = i64::MAX as u64;
        story.note("write at the last offset", file.write_at(b"xyz", last));
        story.call("allocate beyond it", fallocate(&file, FallocateFlags::empty(), last - 1, 5));
        story.call("a length that is none", rustix::fs::ftruncate(&file, 1 << 63));
        story.call("an empty range", fallocate(&file, FallocateFlags::empty(), 5, 0));
        story.note("its size", file.metadata().map(|meta| meta.len()));
        // A limit of the process's own, with the signal ignored.
        let limited = "trap '' XFSZ; ulimit -f 8; head -c 20000 /dev/zero > limited; stat -c %s limited
             truncate -s 20000 limited; stat -c %s limited";
        story.note("a limit of the process", Ok(sh(dir, &format!("({limited}) 2>/dev/null || true"))));
    });
    // ext4 ends at 16 TiB; here a file reaches as far as an offset does.
    let file = read_write(&mount.path("huge"));
    let end = i64::MAX as u64;
    file.set_len(end).expect("grow");
    file.write_all_at(b"end", end - 3).expect("the last three bytes");
    let mut bytes = [0; 3];
    file.read_exact_at(&mut bytes, end - 3).expect("read");
    assert_eq!(&bytes, b"end");
    for (bytes, at) in [(&b"xy"[..], end - 1), (b"x", end)] {
        // The kernel's word for what no offset reaches.
        let beyond = file.write_at(bytes, at).expect_err("there is no such offset");
        assert_eq!(beyond.raw_os_error(), Some(Errno::INVAL.raw_os_error()));
    }
    let reserve = fallocate(&file, FallocateFlags::empty(), end - 1, 2);
    assert_eq!(reserve, Err(Errno::FBIG));
    let found = data(&file);
    assert_eq!(found.len(), 1, "{found:?}");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&file, punch, end - 4096, 4096).expect("punch");
    assert_eq!(data(&file), []);
    drop(file);
    mount.flush();
    no_error_logged(&mount);
    mount.unmount();
    // No object can be as long: it is durable, but not in the view, and the daemon does not try for ever.
    let mount = world.host("b").mount(&[]);
    mount.publish();
    assert_eq!(mount.status()["view"]["unpublishable_names"], 1);
    let meta = fs::metadata(mount.path("huge")).expect("stat");
    assert_eq!((meta.len(), meta.blocks()), (end, 0));
    mount.unmount();
}

/// Where the kernel reads the local file past the daemon, its holes are still told.
#[test]
fn holes_of_a_file_that_is_read_past_the_daemon_are_holes() {
    let world = World::with_relay("passed-holes");
    let options = ["--passthrough", "on", "--no-publish"];
    let mount = world.host("a").mount(&options);
    crate::work::write_closed(&mount.path("f"), &crate::work::noise(9 << 20, 1)).expect("write");
    sh(mount.root(), "fallocate -p -o 1M -l 3M f");
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&[&options[..], &["--takeover"]].concat());
    // Once all of it is here, the next open goes past the daemon.
    fs::read(mount.path("f")).expect("read");
    let file = File::open(mount.path("f")).expect("open");
    assert_eq!(data(&file), [(0, 1 << 20), (4 << 20, 9 << 20)]);
    drop(file);
    mount.unmount();
}
