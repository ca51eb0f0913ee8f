//! What waits for the store at each durability level, what does not, and what a wait that cannot succeed
//! tells the caller.

use crate::support::descriptors::apart;
use crate::support::mount::Mount;
use crate::support::relay::Kind;
use crate::support::{World, eventually};
use crate::work::{close, noise, write_closed};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How long the relay holds each request back before the store gets it.
const HOLD: Duration = Duration::from_millis(2000);
/// What did not wait for the store is well below this, however busy the machine; what did is above it.
const WAITED: Duration = Duration::from_millis(1900);

fn took<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}

/// A file written and closed. Measured in a thread that has no files of other tests left to close: a copy of one whose
/// store is held back would be waited for.
fn written(path: &Path, bytes: &[u8]) -> (std::io::Result<()>, Duration) {
    apart(|| took(|| write_closed(path, bytes)))
}

#[track_caller]
fn waits(what: &str, work: impl FnOnce() -> std::io::Result<()>) {
    waited(what, took(work));
}

#[track_caller]
fn waited(what: &str, (result, time): (std::io::Result<()>, Duration)) {
    result.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(time >= WAITED, "{what} did not wait for the store: {time:?}");
}

#[track_caller]
fn does_not_wait(what: &str, work: impl FnOnce() -> std::io::Result<()>) {
    did_not_wait(what, took(work));
}

#[track_caller]
fn did_not_wait(what: &str, (result, time): (std::io::Result<()>, Duration)) {
    result.unwrap_or_else(|e| panic!("{what}: {e}"));
    assert!(time < WAITED, "{what} waited for the store: {time:?}");
}

/// A mount whose every request to the store is held back.
fn slow<'w>(world: &'w World, options: &[&str]) -> Mount<'w> {
    let mount = world.host("a").mount(options);
    mount.flush();
    world.relay().set_delay(HOLD);
    mount
}

#[track_caller]
fn lost_and_found(world: &World, mount: Mount<'_>, look: impl FnOnce(&Path)) {
    mount.lose_machine();
    world.relay().set_delay(Duration::ZERO);
    let mount = world.host("b").mount(&["--takeover"]);
    look(mount.root());
    mount.unmount();
}

#[test]
fn at_level_close_a_close_of_a_changed_file_waits_and_names_do_not() {
    let world = World::with_relay("level-close");
    let mount = slow(&world, &[]);
    let at = |name: &str| mount.path(name);
    does_not_wait("mkdir", || fs::create_dir(at("d")));
    waited("close after a write", written(&at("d/f"), b"one"));
    does_not_wait("rename", || fs::rename(at("d/f"), at("d/g")));
    does_not_wait("link", || fs::hard_link(at("d/g"), at("d/h")));
    does_not_wait("close of an unchanged file", || close(File::options().write(true).open(at("d/g"))?));
    waits("fsync of a directory", || File::open(at("d"))?.sync_all());
    does_not_wait("fsync with nothing changed", || File::open(at("d/g"))?.sync_all());
    let mut file = File::create(at("d/open")).expect("create");
    file.write_all(b"not closed").expect("write");
    waits("fdatasync", || file.sync_data());
    lost_and_found(&world, mount, |root| {
        assert_eq!(fs::read(root.join("d/h")).expect("the link"), b"one");
        assert_eq!(fs::read(root.join("d/open")).expect("the open file"), b"not closed");
        assert!(!root.join("d/f").exists(), "the rename was acknowledged by the fsync");
    });
}

#[test]
fn at_level_fsync_a_close_does_not_wait_and_is_in_the_store_soon() {
    let world = World::with_relay("level-fsync");
    let mount = slow(&world, &["--durability", "fsync", "--commit-interval", "500ms"]);
    let at = |name: &str| mount.path(name);
    did_not_wait("close after a write", written(&at("closed"), b"closed"));
    waits("fsync", || {
        let mut file = File::create(at("synced"))?;
        file.write_all(b"synced")?;
        file.sync_all()
    });
    did_not_wait("a later close", written(&at("later"), b"later"));
    // The interval, a capture, and a few held requests.
    std::thread::sleep(Duration::from_millis(500) + HOLD * 5);
    lost_and_found(&world, mount, |root| {
        for name in ["closed", "synced", "later"] {
            assert_eq!(fs::read_to_string(root.join(name)).unwrap_or_default(), name, "{name}");
        }
    });
}

#[test]
fn at_level_sync_every_change_waits() {
    let world = World::with_relay("level-sync");
    let mount = slow(&world, &["--durability", "sync"]);
    let at = |name: &str| mount.path(name);
    waits("mkdir", || fs::create_dir(at("d")));
    waits("symlink", || std::os::unix::fs::symlink("x", at("d/l")));
    waits("rename", || fs::rename(at("d/l"), at("d/m")));
    waits("chmod", || fs::set_permissions(at("d"), std::os::unix::fs::PermissionsExt::from_mode(0o711)));
    lost_and_found(&world, mount, |root| {
        assert_eq!(fs::read_link(root.join("d/m")).expect("the symlink"), Path::new("x"));
        let mode = std::os::unix::fs::MetadataExt::mode(&fs::metadata(root.join("d")).expect("stat"));
        assert_eq!(mode & 0o7777, 0o711);
    });
}

#[test]
fn lazy_paths_behave_as_at_level_fsync() {
    let world = World::with_relay("lazy");
    let mount = slow(&world, &["--lazy", "*.log", "--lazy", "/tmp/**", "--commit-interval", "30s"]);
    fs::create_dir(mount.path("tmp")).expect("mkdir");
    did_not_wait("a lazy name", written(&mount.path("build.log"), b"x"));
    did_not_wait("below a lazy directory", written(&mount.path("tmp/scratch"), b"x"));
    waited("any other name", written(&mount.path("result"), b"x"));
    waits("fsync of a lazy file", || {
        let mut file = File::options().append(true).open(mount.path("build.log"))?;
        file.write_all(b"y")?;
        file.sync_all()
    });
}

#[test]
fn a_file_that_is_never_closed_is_committed_within_the_interval() {
    let world = World::with_relay("never-closed");
    let mount = world.host("a").mount(&[]);
    let mut transcript = File::create(mount.path("transcript")).expect("create");
    for line in 0..5 {
        writeln!(transcript, "line {line}").expect("write");
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_millis(2500));
    lost_and_found(&world, mount, |root| {
        let text = fs::read_to_string(root.join("transcript")).expect("the transcript");
        assert_eq!(text.lines().count(), 5, "{text:?}");
    });
}

#[test]
fn a_burst_of_renames_is_one_commit_that_nobody_waits_for() {
    let world = World::with_relay("burst");
    let mount = world.host("a").mount(&["--no-publish"]);
    for n in 0..200 {
        fs::create_dir(mount.path(format!("d{n}"))).expect("mkdir");
    }
    mount.flush();
    world.relay().reset();
    let begun = Instant::now();
    for n in 0..200 {
        fs::rename(mount.path(format!("d{n}")), mount.path(format!("e{n}"))).expect("rename");
    }
    // A commit starts 50 ms after a change that found none waiting.
    let most = 3 + begun.elapsed().as_millis() as usize / 50;
    assert!(most < 200, "the renames took {:?}: that says nothing of bursts", begun.elapsed());
    let segments = || {
        let seen = world.relay().seen();
        seen.iter().filter(|s| s.request.kind == Kind::Put && s.request.key.contains("/log/")).count()
    };
    eventually("the burst is committed", Duration::from_secs(3), || segments() > 0);
    std::thread::sleep(Duration::from_secs(1));
    assert!(segments() <= most, "200 renames took {} segments, and not at most {most}", segments());
    lost_and_found(&world, mount, |root| {
        assert!(
            (0..200).all(|n| root.join(format!("e{n}")).is_dir() && !root.join(format!("d{n}")).exists())
        );
    });
}

#[test]
fn a_wait_that_runs_out_is_an_error_and_nothing_is_dropped() {
    let world = World::with_relay("runs-out");
    let mount = world.host("a").mount(&["--timeout", "5s"]);
    write_closed(&mount.path("before"), b"before").expect("with the store there");
    world.relay().black_hole();
    let (result, time) = written(&mount.path("f"), b"kept");
    let error = result.expect_err("the store answered nothing");
    assert_eq!(error.raw_os_error(), Some(rustix::io::Errno::IO.raw_os_error()), "{error}");
    assert!((4.5..20.0).contains(&time.as_secs_f64()), "waited {time:?} with --timeout 5s");
    let (result, time) = written(&mount.path("g"), b"kept too");
    assert!(result.is_err() && time < Duration::from_secs(3), "further closes fail at once: {time:?}");
    assert_eq!(fs::read(mount.path("f")).expect("reads go on"), b"kept");
    world.relay().heal();
    let file = File::open(mount.path("f")).expect("open");
    eventually("a later fsync succeeds", Duration::from_secs(30), || file.sync_all().is_ok());
    lost_and_found(&world, mount, |root| {
        assert_eq!(fs::read(root.join("f")).expect("f"), b"kept");
        assert_eq!(fs::read(root.join("g")).expect("g"), b"kept too");
    });
}

#[test]
fn a_caller_that_is_killed_while_it_waits_is_let_go() {
    let world = World::with_relay("let-go");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("warm"), "up").expect("write");
    fs::write(mount.root().with_file_name("source"), "x\n").expect("write");
    world.relay().black_hole();
    let mut child = Command::new("cp")
        .args([mount.root().with_file_name("source"), mount.path("stuck")])
        .stdin(Stdio::null())
        .spawn()
        .expect("cp");
    std::thread::sleep(Duration::from_millis(500));
    assert!(child.try_wait().expect("look").is_none(), "the close waits for the store");
    child.kill().expect("kill");
    let (_, time) = took(|| child.wait().expect("reap"));
    assert!(time < Duration::from_secs(3), "the killed caller was held for {time:?}");
    world.relay().heal();
    lost_and_found(
        &world,
        {
            mount.flush();
            mount
        },
        |root| {
            assert_eq!(fs::read(root.join("stuck")).expect("its content commits all the same"), b"x\n");
        },
    );
}

/// An exec closes what is close-on-exec, and while its close waits, looking at the process can hang.
#[test]
fn programs_start_while_a_changed_file_is_open() {
    let world = World::with_relay("exec");
    let mount = slow(&world, &[]);
    let mut file = File::create(mount.path("open")).expect("create");
    for n in 0..3 {
        file.write_all(&noise(100_000, n)).expect("write");
        let (ran, time) = took(|| Command::new("true").stdin(Stdio::null()).status());
        assert!(ran.expect("true").success());
        assert!(time < Duration::from_secs(10), "round {n}: starting a program took {time:?}");
    }
    close(file).expect("close");
    lost_and_found(&world, mount, |root| {
        assert_eq!(fs::metadata(root.join("open")).expect("stat").len(), 300_000);
    });
}

#[test]
fn what_the_store_had_not_got_is_replayed_from_the_local_journal() {
    let world = World::with_relay("replay");
    let host = world.host("a");
    let mount = host.mount(&["--durability", "fsync"]);
    fs::write(mount.path("base"), "base").expect("write");
    mount.flush();
    world.relay().cut();
    fs::write(mount.path("small"), "small").expect("write");
    fs::write(mount.path("large"), noise(2 << 20, 3)).expect("write");
    fs::rename(mount.path("base"), mount.path("moved")).expect("rename");
    // Longer than the write-behind of the journal and the interval of captures.
    std::thread::sleep(Duration::from_secs(3));
    mount.kill();
    world.relay().heal();
    let mount = host.mount(&[]);
    let check = |root: &Path| {
        assert_eq!(fs::read(root.join("moved")).expect("moved"), b"base");
        assert_eq!(fs::read(root.join("small")).expect("small"), b"small");
        assert!(fs::read(root.join("large")).expect("large") == noise(2 << 20, 3), "large differs");
        let gone = fs::metadata(root.join("base")).expect_err("it was renamed");
        assert_eq!(gone.kind(), ErrorKind::NotFound);
    };
    check(mount.root());
    mount.flush();
    lost_and_found(&world, mount, check);
}

#[test]
fn after_a_kill_the_session_is_a_prefix_of_what_happened() {
    let world = World::with_relay("prefix");
    for round in 0..3 {
        let mount = world.host(&format!("r{round}")).mount(&["--takeover", "--durability", "fsync"]);
        world.relay().set_delay(Duration::from_millis(100));
        let dir = mount.path(format!("d{round}"));
        fs::create_dir(&dir).expect("mkdir");
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                (0..3000).take_while(|n| fs::write(dir.join(n.to_string()), n.to_string()).is_ok()).count()
            });
            std::thread::sleep(Duration::from_millis(1500));
            mount.kill_now();
            let written = writer.join().expect("the writer");
            assert!(written > 10, "only {written} files were written");
        });
        mount.lose_machine();
        world.relay().set_delay(Duration::ZERO);
        let mount = world.host(&format!("look{round}")).mount(&["--takeover"]);
        let mut found: Vec<u32> = match fs::read_dir(mount.path(format!("d{round}"))) {
            Ok(names) => names
                .map(|e| e.expect("entry").file_name().to_string_lossy().parse().expect("a number"))
                .collect(),
            Err(_) => Vec::new(),
        };
        found.sort_unstable();
        let last = found.len().saturating_sub(1) as u32;
        assert!(found.iter().copied().eq(0..found.len() as u32), "round {round}: not a prefix: {found:?}");
        // A close may be in the commit behind that of its create; only the last ones may lack content.
        for n in &found {
            let text = fs::read_to_string(mount.path(format!("d{round}/{n}"))).expect("read");
            assert!(text == n.to_string() || (text.is_empty() && *n + 1 >= last), "file {n} has {text:?}");
        }
        eprintln!("round {round}: a prefix of {} files", found.len());
        mount.unmount();
    }
}
