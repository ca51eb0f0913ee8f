//! The same work with the daemon doing all I/O and with passthrough, and the mixtures in which modes meet.

use crate::support::mount::Mount;
use crate::support::{Tree, World, sh};
use crate::work::{self, noise, write_closed};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;

/// Runs work under one mode, loses the machine, and compares everything on another one.
fn in_mode(mode: &str, expect_passthrough: bool) {
    let world = World::with_relay(&format!("mode-{mode}"));
    let mount = world.host("a").mount(&["--passthrough", mode, "--durability", "fsync"]);
    assert_eq!(mount.status()["passthrough"], expect_passthrough, "{:#}", mount.status());
    work::sqlite(mount.root());
    work::git(mount.root());
    work::one_of_everything(&{
        let d = mount.path("all");
        fs::create_dir(&d).expect("mkdir");
        d
    });
    large_files(&mount);
    mount.flush();
    let before = Tree::of(mount.root());
    mount.lose_machine();
    let mount = world.host("b").mount(&["--passthrough", mode, "--takeover"]);
    before.assert_same(&Tree::of(mount.root()), mode);
    work::check_sqlite(mount.root());
    work::check_git(mount.root());
    let large = fs::read(mount.path("large")).expect("read");
    assert!(large == expected_large(), "the large file differs");
    mount.unmount();
}

fn expected_large() -> Vec<u8> {
    let mut bytes = noise(24 << 20, 6);
    bytes[10_000_000..10_000_007].copy_from_slice(b"written");
    bytes[3_000_000..3_000_006].copy_from_slice(b"mapped");
    bytes.truncate(20 << 20);
    bytes.extend_from_slice(b"the end");
    bytes
}

/// A large file that is written whole, read while it is open elsewhere, changed in place, mapped, cut and
/// appended to: each of these opens it in another mode.
fn large_files(mount: &Mount<'_>) {
    let path = mount.path("large");
    write_closed(&path, &noise(24 << 20, 6)).expect("write");
    let reader = File::open(&path).expect("open");
    let writer = File::options().write(true).open(&path).expect("open");
    writer.write_all_at(b"written", 10_000_000).expect("write");
    let mut seen = [0; 7];
    reader.read_exact_at(&mut seen, 10_000_000).expect("read");
    assert_eq!(&seen, b"written", "a reader that was open before sees the change");
    let map = "import mmap, os; f = os.open('large', os.O_RDWR); m = mmap.mmap(f, 0);
os.close(f); m[3000000:3000006] = b'mapped'; m.flush(); m.close()";
    sh(mount.root(), &format!("python3 -c \"{map}\""));
    drop((reader, writer));
    sh(mount.root(), "truncate -s 20M large && printf 'the end' >> large && cat large > /dev/null");
    assert!(fs::read(&path).expect("read") == expected_large(), "before the machine is lost");
}

#[test]
fn with_the_daemon_doing_all_io() {
    in_mode("off", false);
}

#[test]
fn with_passthrough() {
    in_mode("on", true);
}

#[test]
fn a_file_written_in_passthrough_is_durable_at_its_close() {
    let world = World::with_relay("passthrough-close");
    let mount = world.host("a").mount(&["--passthrough", "on"]);
    for n in 0..3u64 {
        write_closed(&mount.path(format!("f{n}")), &noise(16 << 20, n)).expect("write");
    }
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    for n in 0..3u64 {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(16 << 20, n), "f{n} differs");
    }
    mount.unmount();
}
