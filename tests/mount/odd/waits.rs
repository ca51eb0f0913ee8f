//! Callers that get signals while they wait for a store that does not answer.

use crate::support::World;
use crate::support::way::no_error_logged;
use crate::work::write_closed;
use rustix::process::{Pid, Signal};
use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A program that has changed a file and waits in its close, or its fsync.
fn waiting(script: &str, path: &std::path::Path) -> Child {
    let mut command = Command::new("python3");
    command.args(["-c", script]).arg(path).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().expect("python3");
    let began = Instant::now();
    while !fs::metadata(path).is_ok_and(|file| file.len() > 0) {
        assert!(began.elapsed() < Duration::from_secs(60), "it never began");
        std::thread::sleep(Duration::from_millis(20));
    }
    std::thread::sleep(Duration::from_millis(1000));
    assert!(child.try_wait().expect("look").is_none(), "it waits for the store");
    child
}

const CLOSE: &str =
    "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(f, b'kept'); os.close(f)";
const FSYNC: &str =
    "import os, sys; f = os.open(sys.argv[1], os.O_CREAT | os.O_WRONLY); os.write(f, b'kept'); os.fsync(f)";
const THREADS: &str = "
import os, sys, threading
def work(n):
    f = os.open(sys.argv[1] + ('' if n == 0 else str(n)), os.O_CREAT | os.O_WRONLY); os.write(f, b'kept'); os.close(f)
for n in range(8): threading.Thread(target=work, args=(n,)).start()";
/// Signals as a shell's child has them: Python's own handler of SIGINT would wait for the call to end, and what runs
/// the tests may have had some ignored.
const DEFAULTS: &str = "import signal
for s in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT): signal.signal(s, signal.SIG_DFL)
";

/// A killed caller is let go at once, whatever kills it; its content still commits.
#[test]
fn whatever_kills_a_caller_it_is_let_go() {
    let world = World::with_relay("odd-killed");
    let mount = world.host("a").mount(&["--timeout", "10m"]);
    write_closed(&mount.path("warm"), b"up").expect("write");
    world.relay().black_hole();
    let cases = [
        ("int", CLOSE, Signal::INT),
        ("int-fsync", FSYNC, Signal::INT),
        ("term", CLOSE, Signal::TERM),
        ("kill", FSYNC, Signal::KILL),
        ("hup", CLOSE, Signal::HUP),
        ("quit", CLOSE, Signal::QUIT),
        ("abort", FSYNC, Signal::ABORT),
        ("threads", THREADS, Signal::KILL),
        ("threads-int", THREADS, Signal::INT),
    ];
    for (name, script, signal) in cases {
        let script = format!("{DEFAULTS}{script}");
        let mut child = waiting(&script, &mount.path(name));
        rustix::process::kill_process(Pid::from_child(&child), signal).expect("signal");
        let began = Instant::now();
        while child.try_wait().expect("look").is_none() {
            assert!(began.elapsed() < Duration::from_secs(30), "{name}: held for {:?}", began.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    world.relay().heal();
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    for (name, ..) in cases {
        assert_eq!(fs::read_to_string(mount.path(name)).expect("its content commits"), "kept", "{name}");
    }
    mount.unmount();
}

/// A signal that does not kill does not end the wait: what returns has been stored.
#[test]
fn a_signal_that_is_handled_does_not_end_the_wait() {
    let world = World::with_relay("odd-handled");
    let mount = world.host("a").mount(&["--timeout", "10m"]);
    write_closed(&mount.path("warm"), b"up").expect("write");
    world.relay().black_hole();
    let caught = "import signal\nsignal.signal(signal.SIGALRM, lambda *a: None)\nsignal.signal(signal.SIGQUIT, signal.SIG_IGN)\n";
    let mut child = waiting(&format!("{caught}{CLOSE}"), &mount.path("f"));
    for signal in [Signal::ALARM, Signal::QUIT, Signal::WINCH, Signal::STOP, Signal::CONT] {
        rustix::process::kill_process(Pid::from_child(&child), signal).expect("signal");
        std::thread::sleep(Duration::from_millis(300));
        assert!(child.try_wait().expect("look").is_none(), "{signal:?} ended the wait");
    }
    assert_eq!(fs::read_to_string(mount.path("f")).expect("others go on"), "kept");
    world.relay().heal();
    assert!(child.wait().expect("it ends").success(), "the close has returned 0");
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    assert_eq!(fs::read_to_string(mount.path("f")).expect("read"), "kept");
    no_error_logged(&mount);
    mount.unmount();
}
