//! The same work with the daemon doing all I/O and with passthrough, and the mixtures in which modes meet.

use crate::support::mount::Mount;
use crate::support::way::comes_back;
use crate::support::{Tree, World, sh};
use crate::work::{self, noise, write_closed};
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::time::Duration;

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
fn what_is_written_in_passthrough_is_durable_at_its_close() {
    let world = World::with_relay("passthrough-close");
    let mount = world.host("a").mount(&["--passthrough", "on"]);
    for n in 0..3u64 {
        let path = mount.path(format!("f{n}"));
        write_closed(&path, &noise(16 << 20, n + 100)).expect("write");
        // It holds the file in passthrough, so the writer gets that, too.
        let reader = File::open(&path).expect("open");
        let mut writer = File::options().read(true).write(true).open(&path).expect("open");
        writer.write_all(&noise(16 << 20, n)).expect("write");
        nix::unistd::close(writer).expect("close");
        drop(reader);
    }
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    for n in 0..3u64 {
        assert!(fs::read(mount.path(format!("f{n}"))).expect("read") == noise(16 << 20, n), "f{n} differs");
    }
    mount.unmount();
}

/// A close that comes while its file is looked through for another one waits until what it wrote itself is found, too.
#[test]
fn a_close_in_passthrough_waits_for_its_own_bytes_while_another_closes() {
    let world = World::with_relay("passthrough-closers");
    let mount = world.host("a").mount(&["--passthrough", "on"]);
    let path = mount.path("shared");
    write_closed(&path, &noise(64 << 20, 1)).expect("write");
    let reader = File::open(&path).expect("open");
    let both = || File::options().read(true).write(true).open(&path).expect("open");
    let (other, own) = (both(), both());
    other.write_all_at(b"other", 32 << 20).expect("write");
    std::thread::scope(|scope| {
        // The machine is lost within it, or after it.
        scope.spawn(|| drop(other));
        // It has looked at the start by then.
        std::thread::sleep(Duration::from_millis(15));
        own.write_all_at(b"own", 0).expect("write");
        nix::unistd::close(own).expect("close");
        mount.lose_machine();
    });
    drop(reader);
    let mount = world.host("b").mount(&["--takeover"]);
    let mut seen = [0; 3];
    File::open(mount.path("shared")).expect("open").read_exact_at(&mut seen, 0).expect("read");
    assert_eq!(&seen, b"own", "what its close acknowledged");
    mount.unmount();
}

#[test]
fn sendfile_sends_what_was_stored_through_a_mapping() {
    let world = World::with_relay("sendfile-mapped");
    let mount = world.host("a").mount(&["--passthrough", "on"]);
    write_closed(&mount.path("large"), &noise(16 << 20, 1)).expect("write");
    // It holds the file in passthrough.
    let reader = File::open(mount.path("large")).expect("open");
    sh(
        mount.root(),
        "python3 - <<'end'
import mmap, os, tempfile
f = os.open('large', os.O_RDWR)
mapping = mmap.mmap(f, 0)
def sent():
    with tempfile.TemporaryFile() as out:
        assert os.sendfile(out.fileno(), f, 3000000, 7) == 7
        return os.pread(out.fileno(), 7, 0)
sent()
for text in [b'stored1', b'stored2']:
    mapping[3000000:3000007] = text
    assert sent() == text, sent()
os.pwrite(f, b'written', 3000000)
assert sent() == b'written' and mapping[3000000:3000007] == b'written', sent()
end",
    );
    drop(reader);
    comes_back(&world, mount, "b", &["--passthrough", "on"]).unmount();
}

#[test]
fn a_synced_write_waits_where_passthrough_would_be() {
    let world = World::with_relay("passthrough-synced");
    let mount = world.host("a").mount(&["--passthrough", "on", "--commit-interval", "1h"]);
    write_closed(&mount.path("large"), &noise(16 << 20, 1)).expect("write");
    let mut options = File::options();
    options.write(true).truncate(true).custom_flags(libc::O_SYNC);
    let mut file = options.open(mount.path("large")).expect("open");
    file.write_all(&noise(1 << 20, 2)).expect("write");
    mount.lose_machine();
    drop(file);
    let mount = world.host("b").mount(&["--takeover"]);
    assert!(fs::read(mount.path("large")).expect("read") == noise(1 << 20, 2), "what was written is missing");
    mount.unmount();
}
