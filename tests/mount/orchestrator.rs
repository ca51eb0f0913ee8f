//! What an orchestrator relies on: readiness, calls that can be repeated, checks that never hang, and that a
//! mistyped name is an error.

use crate::support::mount::is_mounted;
use crate::support::relay::Act;
use crate::support::{Ran, World, eventually, run_by, sh};
use rustix::process::Signal;
use serde_json::Value;
use std::fs::{self, File};
use std::io::Read;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The same command, whose descriptor 7 is what `redirect` says (`7>file`).
fn with_descriptor(command: &Command, redirect: &str) -> Command {
    let mut shell = Command::new("bash");
    shell.args(["-c", &format!("exec \"$@\" {redirect}"), "bash"]);
    run_by(shell, command)
}

fn fifo(world: &World) -> String {
    let path = world.local("fifo").join("ready");
    let path = path.to_str().expect("utf-8").to_owned();
    sh(Path::new("/"), &format!("mkfifo '{path}'"));
    path
}

/// Everything that is written into a pipe until its writers have closed it.
fn read_in_background(path: &str) -> std::thread::JoinHandle<String> {
    let path = path.to_owned();
    std::thread::spawn(move || {
        let mut said = String::new();
        File::open(path).expect("open").read_to_string(&mut said).expect("read");
        said
    })
}

#[test]
fn ready_fd_gets_one_line_when_the_mount_answers_and_is_closed() {
    let world = World::new("ready-fd");
    let host = world.host("a");
    let path = fifo(&world);
    let mountpoint = host.mountpoint.to_str().expect("utf-8");
    let reader = read_in_background(&path);
    let command = host.mount_command(&["--ready-fd", "7"]);
    let mount = host.start(with_descriptor(&command, &format!("7>'{path}'"))).expect("mounts");
    // Returns while the daemon lives: the descriptor is closed.
    let line = reader.join().expect("no panic");
    assert_eq!(line.lines().count(), 1, "{line}");
    let said: Value = serde_json::from_str(&line).expect("JSON");
    let pid = mount.pid().as_raw_nonzero().get();
    let wanted = serde_json::json!({
        "ready": true, "store": world.store, "mountpoint": mountpoint, "pid": pid, "already_mounted": false,
    });
    assert_eq!(said, wanted);
    fs::write(mount.path("f"), "x").expect("it answers");

    // Once more: it is there already, served by the same daemon.
    let reader = read_in_background(&path);
    let command = host.mount_command(&["--ready-fd", "7"]);
    Ran::of(&mut with_descriptor(&command, &format!("7>'{path}'"))).ok().says(&["already mounted"]);
    let said: Value = serde_json::from_str(&reader.join().expect("no panic")).expect("JSON");
    assert_eq!((&said["ready"], &said["already_mounted"]), (&true.into(), &true.into()));
    assert_eq!(said["pid"], pid);
    mount.unmount();
}

#[test]
fn ready_fd_gets_the_failure_and_whether_to_retry() {
    let world = World::new("ready-fd-failure");
    let host = world.host("a");
    let path = fifo(&world);
    for (endpoint, bucket, exit) in [(Some("http://127.0.0.1:9"), "", 6), (None, "no-such-bucket-here:x", 5)]
    {
        let reader = read_in_background(&path);
        let mut command = world.command(["mount", "-f", "--timeout", "3s", "--ready-fd", "7"]);
        if let Some(endpoint) = endpoint {
            command.env("CWDFS_ENDPOINT", endpoint);
        }
        command.arg(if bucket.is_empty() { &world.store } else { bucket }).arg(&host.mountpoint);
        Ran::of(&mut with_descriptor(&command, &format!("7>'{path}'"))).exits(exit).plainly();
        let line = reader.join().expect("no panic");
        let said: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("no JSON: {e}: {line:?}"));
        assert_eq!((&said["ready"], &said["exit"]), (&false.into(), &exit.into()), "{line}");
        assert_eq!(said["retry"], exit == 6, "{line}");
        assert!(said["error"].as_str().is_some_and(|why| why.contains("cannot mount")), "{line}");
    }
    // Neither is a failure before there is a daemon kept from it.
    for words in [&["-f"][..], &[]] {
        let reader = read_in_background(&path);
        let mut command = world.command(["mount", "--ready-fd=7", "--environment-file=/no/such/file"]);
        command.args(words).arg(&world.store).arg(&host.mountpoint);
        Ran::of(&mut with_descriptor(&command, &format!("7>'{path}'"))).exits(5).says(&["/no/such/file"]);
        let line = reader.join().expect("no panic");
        assert!(line.contains("\"ready\":false,\"exit\":5"), "{line:?}");
    }
    for wrong in ["1", "x", "77"] {
        let ran = host.run_mount(&["-f", "--ready-fd", wrong]);
        ran.exits(2).says(&["ready-fd", wrong]).plainly();
    }
    assert!(!is_mounted(&host.mountpoint));
}

#[test]
fn ready_fd_works_with_a_daemon_too_and_with_an_environment_file() {
    let world = World::new("ready-fd-daemon");
    let host = world.host("a");
    let path = fifo(&world);
    let env = world.local("env").join("file");
    fs::write(&env, "AWS_SECRET_ACCESS_KEY=testsecret\nCWDFS_DURABILITY=fsync\n").expect("write");
    sh(Path::new("/"), &format!("chmod 600 '{}'", env.display()));
    let option = format!("--environment-file={}", env.display());
    for foreground in [false, true] {
        let reader = read_in_background(&path);
        let mut command = match foreground {
            true => host.mount_command(&["--ready-fd=7", &option]),
            false => {
                let mut command = world.command(["mount", "--ready-fd=7", &option, "--cache-dir"]);
                command.arg(&host.cache).arg(&world.store).arg(&host.mountpoint);
                command
            }
        };
        command.env("AWS_SECRET_ACCESS_KEY", "the file's wins");
        let command = with_descriptor(&command, &format!("7>'{path}'"));
        let mount = match foreground {
            true => Some(host.start(command).expect("mounts")),
            false => {
                let mut command = command;
                Ran::of(&mut command).ok();
                None
            }
        };
        let line = reader.join().expect("no panic");
        assert!(line.contains("\"ready\":true"), "{line}");
        host.run("status", &[]).ok().says(&["fsync"]);
        match mount {
            Some(mount) => mount.unmount(),
            None => drop(host.run("unmount", &[]).ok()),
        }
    }
}

/// What systemd is told, as the datagrams come.
fn told(socket: &UnixDatagram) -> String {
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let mut space = [0; 4096];
    let length = socket.recv(&mut space).expect("a datagram");
    String::from_utf8_lossy(&space[..length]).into_owned()
}

#[test]
fn systemd_is_told_when_the_mount_answers_and_when_it_ends() {
    let world = World::new("sd-notify");
    let host = world.host("a");
    let path = world.local("notify").join("socket");
    let by_path = UnixDatagram::bind(&path).expect("a socket");
    let name = format!("cwdfs-notify-{}", std::process::id());
    let address = SocketAddr::from_abstract_name(&name).expect("a name");
    let abstract_one = UnixDatagram::bind_addr(&address).expect("a socket");
    for (socket, name) in [(&by_path, path.to_str().expect("utf-8")), (&abstract_one, &format!("@{name}"))] {
        let mut command = host.mount_command(&[]);
        let mut mount = host
            .start({
                command.env("NOTIFY_SOCKET", name);
                command
            })
            .expect("mounts");
        let ready = told(socket);
        let pid = format!("MAINPID={}", mount.pid().as_raw_nonzero());
        for line in ["READY=1", &pid, &format!("STATUS=serving {} at", world.store)] {
            assert!(ready.contains(line), "{line} is not in {ready}");
        }
        fs::write(mount.path("f"), "x").expect("it answers");
        mount.signal(Signal::TERM);
        assert!(told(socket).contains("STOPPING=1"));
        assert!(told(socket).contains("EXTEND_TIMEOUT_USEC="));
        assert_eq!(mount.wait_end(Duration::from_secs(60)).code(), Some(0), "{}", mount.log());
    }
    let mut command = world.command(["mount", "-f", "--timeout", "2s", "no-such-bucket-here:x"]);
    command.env("NOTIFY_SOCKET", &path).arg(&host.mountpoint);
    Ran::of(&mut command).exits(5);
    let status = told(&by_path);
    assert!(status.starts_with("STATUS=cannot mount") && !status.contains("READY"), "{status}");
}

#[test]
fn a_supervisor_that_is_gone_does_not_end_the_mount() {
    let world = World::new("no-supervisor");
    let host = world.host("a");
    let mut command = host.mount_command(&[]);
    let mount = host
        .start({
            command.env("NOTIFY_SOCKET", "/no/such/socket");
            command
        })
        .expect("mounts");
    fs::write(mount.path("f"), "x").expect("it answers");
    assert!(mount.log().contains("NOTIFY_SOCKET"), "{}", mount.log());
    mount.unmount();
}

#[test]
fn unmount_can_be_repeated_and_says_what_is_not_its_own() {
    let world = World::new("unmount-again");
    let host = world.host("a");
    host.run("unmount", &[]).ok().says(&["not mounted", "nothing to do"]).plainly();
    let mount = host.mount(&[]);
    fs::create_dir(mount.path("dir")).expect("mkdir");
    let below = mount.path("dir");
    world
        .run([Path::new("unmount"), &below])
        .exits(5)
        .says(&["below", host.mountpoint.to_str().expect("utf-8")]);
    mount.unmount();
    host.run("unmount", &[]).ok().says(&["not mounted"]);
    world.run([Path::new("unmount"), &host.mountpoint.join("missing")]).ok().says(&["not mounted"]);
    world.run(["unmount", "/proc"]).exits(5).says(&["/proc", "not mounted by cwdfs"]).plainly();
}

#[test]
fn two_unmounts_at_once_both_return_when_it_is_stored() {
    let world = World::with_relay("unmount-twice");
    let host = world.host("a");
    let mut mount = host.mount(&["--durability", "fsync", "--commit-interval", "60s"]);
    fs::write(mount.path("f"), "x").expect("write");
    world.relay().set_delay(Duration::from_millis(800));
    let first = world.command([Path::new("unmount"), &host.mountpoint]).spawn().expect("spawn");
    eventually("the first has taken the mount away", Duration::from_secs(30), || {
        !is_mounted(&host.mountpoint)
    });
    host.run("unmount", &[]).ok();
    let lease = world.witness.text(".cwdfs/lease");
    assert!(lease.contains("\"free\""), "it returned before the session was given back: {lease}");
    let mut first = first;
    assert!(first.wait().expect("reap").success());
    assert_eq!(mount.wait_end(Duration::from_secs(30)).code(), Some(0), "{}", mount.log());
    assert_eq!(world.witness.text("f"), "x");
}

#[test]
fn a_check_says_healthy_or_not_by_exit_code() {
    let world = World::with_relay("check");
    let host = world.host("a");
    host.run("status", &["--check"]).exits(5).says(&["not mounted"]);
    let mut mount = host.mount(&["--durability", "fsync", "--lease-ttl", "3s", "--park-after", "never"]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.run("status", &["--check"]).ok().says(&["healthy"]);
    let ran = mount.run("status", &["--check", "--json"]).ok();
    let said: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!((&said["healthy"], &said["status"]["state"]), (&true.into(), &"mounted".into()));

    // A store that takes nothing.
    world.relay().rule(1, usize::MAX, Act::Status(403), |r| r.kind.changes_the_store());
    fs::write(mount.path("g"), "x").expect("a write at level fsync does not wait");
    eventually("what cannot be stored is found", Duration::from_secs(60), || {
        mount.run("status", &["--check"]).code == Some(8)
    });
    world.relay().clear_rules();
    mount.flush();
    mount.run("status", &["--check"]).ok();

    // Another writer.
    let other = world.host("b").mount(&["--takeover"]);
    fs::write(other.path("h"), "y").expect("write");
    eventually("being fenced is found", Duration::from_secs(60), || {
        mount.run("status", &["--check"]).code == Some(8)
    });
    mount.run("status", &["--check"]).exits(8).says(&["not healthy", "fenced"]);
    other.unmount();

    mount.kill_only();
    mount.run("status", &["--check"]).exits(8).says(&["not healthy", "dead"]);
    host.run("unmount", &[]);
}

#[test]
fn a_check_never_hangs_with_the_daemon_the_mount_or_the_store() {
    let world = World::with_relay("check-hangs");
    let host = world.host("a");
    let mount = host.mount(&["--durability", "fsync"]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.flush();
    // Its whole output is waited for, as a supervisor does.
    let check = || mount.run("status", &["--check", "--timeout", "2s"]);
    check().ok();

    world.relay().cut();
    let ran = check().exits(8).says(&["not healthy", "store"]);
    assert!(ran.took < Duration::from_secs(20), "it took {:?}", ran.took);
    world.relay().heal();
    eventually("the store is found again", Duration::from_secs(60), || check().code == Some(0));

    // Stopped, with a request of the kernel's unanswered.
    mount.signal(Signal::STOP);
    let mut touching = Command::new("stat")
        .arg(mount.path("missing"))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("stat");
    let start = Instant::now();
    check().exits(8).says(&["not healthy", "did not answer"]);
    host.run("status", &["--check", "--timeout", "1s", "--json"]).exits(8).says(&["\"status\": null"]);
    assert!(start.elapsed() < Duration::from_secs(40), "they took {:?}", start.elapsed());
    mount.signal(Signal::CONT);
    touching.wait().expect("reap");
    eventually("it is found again", Duration::from_secs(60), || check().code == Some(0));
    mount.unmount();
}

#[test]
fn a_mistyped_name_is_an_error_where_a_session_or_nothing_is_required() {
    let world = World::new("require");
    let host = world.host("a");
    host.run_mount(&["--require-session"]).exits(5).says(&["no session", &world.store]).plainly();
    assert!(world.witness.keys().is_empty(), "a refused mount wrote {:?}", world.witness.keys());
    assert!(!is_mounted(&host.mountpoint));
    host.mount(&["--require-empty"]).unmount();
    host.run_mount(&["--require-empty"]).exits(5).says(&["objects here already", &world.store]).plainly();
    host.mount(&["--require-session"]).unmount();
    host.mount(&["--require-session", "--read-only"]).unmount();

    let plain = World::new("require-plain");
    plain.witness.put("plain", "x");
    let host = plain.host("a");
    host.run_mount(&["--require-empty"]).exits(5).plainly();
    host.run_mount(&["--require-session"]).exits(5).plainly();
    let keys: Vec<String> = plain.witness.keys().into_keys().collect();
    assert_eq!(keys, ["plain"], "a refused mount wrote");
    host.mount(&[]).unmount();
}

#[test]
fn a_restart_leaves_a_parked_writer_alone() {
    let world = World::new("leave-parked");
    let old = world.host("a").mount(&["--park-after", "1s"]);
    fs::write(old.path("f"), "x").expect("write");
    old.publish();
    old.wait_status("it parks", Duration::from_secs(30), |s| s["lease"]["state"] == "parked");
    let other = world.host("b");
    let pid = old.pid().as_raw_nonzero().to_string();
    other.run_mount(&["--leave-parked"]).exits(7).says(&["parked", &pid, "--takeover"]).plainly();
    other.run_mount(&["--leave-parked", "--takeover"]).exits(2).plainly();
    fs::write(old.path("g"), "y").expect("the parked one writes on");
    old.kill();
    // On the same machine it is known to be dead.
    world.host("a").mount(&["--leave-parked"]).unmount();
    other.mount(&["--leave-parked"]).unmount();
}
