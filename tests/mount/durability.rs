//! What has been acknowledged is in the store, whatever happens next.

use crate::support::mount::Mount;
use crate::support::relay::Fate;
use crate::support::{Tree, World, full};
use crate::work::{self, close, noise};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

/// How long the relay holds each request back before the store gets it.
const HOLD: Duration = Duration::from_millis(500);

#[test]
fn real_work_is_all_there_after_the_machine_was_lost() {
    let world = World::with_relay("lost-machine");
    let host = world.host("a");
    let mount = host.mount(&["--durability", "fsync"]);
    work::git(mount.root());
    work::npm(mount.root());
    work::sqlite(mount.root());
    fs::create_dir(mount.path("things")).expect("mkdir");
    work::one_of_everything(&mount.path("things"));
    mount.flush();
    let before = Tree::of(mount.root());
    mount.lose_machine();

    let mount = world.host("b").mount(&["--takeover"]);
    before.assert_same(&Tree::of(mount.root()), "after the machine was lost");
    work::check_git(mount.root());
    work::check_npm(mount.root());
    work::check_sqlite(mount.root());
    mount.unmount();
}

#[test]
fn work_waits_at_each_close_and_a_clean_unmount_keeps_it() {
    let world = World::new("clean-unmount");
    let mount = world.host("a").mount(&[]);
    work::one_of_everything(mount.root());
    work::sqlite(mount.root());
    let before = Tree::of(mount.root());
    mount.unmount();
    for name in ["a", "b"] {
        let mount = world.host(name).mount(&[]);
        before.assert_same(&Tree::of(mount.root()), &format!("mounted on {name}"));
        mount.unmount();
    }
}

#[test]
fn a_time_that_is_set_while_content_is_on_its_way_is_kept() {
    let world = World::with_relay("utimens");
    let mount = world.host("a").mount(&["--durability", "fsync", "--no-publish"]);
    mount.flush();
    world.relay().set_delay(HOLD);
    let mut file = File::create(mount.path("large")).expect("create");
    file.write_all(&noise(3 << 20, 1)).expect("write");
    let time = std::time::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_all());
        // The content is being uploaded by now, and for some while.
        std::thread::sleep(Duration::from_millis(150));
        file.set_modified(time).expect("utimens");
        sync.join().expect("the thread").expect("fsync");
    });
    assert_eq!(file.metadata().expect("stat").modified().expect("mtime"), time);
    mount.flush();
    mount.lose_machine();
    world.relay().set_delay(Duration::ZERO);
    let mount = world.host("b").mount(&["--takeover"]);
    let there = fs::metadata(mount.path("large")).expect("stat");
    assert_eq!((there.len(), there.modified().expect("mtime")), (3 << 20, time));
    mount.unmount();
}

/// The one that matters most. `tests/run` also runs it against a build whose close does not wait, and
/// there it has to fail.
#[test]
fn nothing_closed_is_missing_when_the_machine_is_lost_at_once() {
    let world = World::with_relay("closed");
    let rounds = if full() { 40 } else { 6 };
    let mut acknowledged = BTreeMap::new();
    for round in 0..rounds {
        let host = world.host(&format!("round-{round}"));
        let mount = host.mount(&["--takeover", "--timeout", "30s"]);
        check(&acknowledged, mount.root());
        world.relay().reset();
        world.relay().set_delay(HOLD);
        let closed = close_files_until_one_returns(&mount, round);
        mount.lose_machine();
        world.relay().set_delay(Duration::ZERO);
        assert!(!closed.is_empty(), "round {round}: no close returned, so the round says nothing");
        acknowledged.extend(closed);
        let fates: Vec<_> = world.relay().seen().into_iter().map(|s| s.fate).collect();
        eprintln!("round {round}: {} requests, {} dropped", fates.len(), dropped(&fates));
    }
    let mount = world.host("last").mount(&["--takeover"]);
    check(&acknowledged, mount.root());
}

/// Four writers each write and close file after file; as soon as the closes of a moment have returned all
/// of them are stopped. Returns what had been closed by then.
fn close_files_until_one_returns(mount: &Mount<'_>, round: u64) -> BTreeMap<PathBuf, Vec<u8>> {
    let closed = Mutex::new(BTreeMap::new());
    let enough = 1 + (round as usize % 3) * 2;
    std::thread::scope(|scope| {
        for writer in 0..4u64 {
            let closed = &closed;
            scope.spawn(move || {
                for n in 0.. {
                    let name = PathBuf::from(format!("r{round}/w{writer}-{n}"));
                    let Ok(bytes) = write_and_close(&mount.path(&name), writer, n) else { return };
                    let mut closed = closed.lock().expect("manifest");
                    // The first closes to return end the round, in this very moment.
                    if closed.len() >= enough {
                        return;
                    }
                    closed.insert(name, bytes);
                    if closed.len() == enough {
                        mount.kill_now();
                        return;
                    }
                }
            });
        }
    });
    closed.into_inner().expect("manifest")
}

/// Writes a file in one of the ways programs do, and closes it. The error is that of the close too.
fn write_and_close(path: &Path, writer: u64, n: u64) -> std::io::Result<Vec<u8>> {
    fs::create_dir_all(path.parent().expect("a parent"))?;
    let size = [100, 5_000, 300_000, 1_500_000][((writer + n) % 4) as usize];
    let bytes = noise(size, writer * 1000 + n);
    match n % 3 {
        // A write by a child process: the descriptor is closed by its exit.
        0 if size <= 5_000 => {
            fs::write(path.with_extension("src"), &bytes)?;
            let copied = Command::new("cp").arg(path.with_extension("src")).arg(path).status()?;
            if !copied.success() {
                return Err(std::io::ErrorKind::Other.into());
            }
        }
        // An overwrite after a close that was acknowledged.
        1 => {
            close(write_to(path, b"first version")?)?;
            close(write_to(path, &bytes)?)?;
        }
        _ => close(write_to(path, &bytes)?)?,
    }
    Ok(bytes)
}

fn write_to(path: &Path, bytes: &[u8]) -> std::io::Result<File> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    Ok(file)
}

fn check(acknowledged: &BTreeMap<PathBuf, Vec<u8>>, root: &Path) {
    for (name, bytes) in acknowledged {
        match fs::read(root.join(name)) {
            Ok(found) if &found == bytes => {}
            Ok(found) => panic!(
                "acknowledged by close, but not in the store: {} has {} bytes that are not the {} written",
                name.display(),
                found.len(),
                bytes.len()
            ),
            Err(e) => panic!("acknowledged by close, but not in the store: {}: {e}", name.display()),
        }
    }
}

fn dropped(fates: &[Fate]) -> usize {
    fates.iter().filter(|f| **f == Fate::Dropped).count()
}
