//! Running commands, with a cap on how long they may take.

use rustix::process::{Pid, Signal};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// A step that ran into its cap; the runner reports it as one.
#[derive(Debug, Clone, Copy)]
pub struct Capped(pub Duration);

/// Runs a command to its end, and tells how long that took. Panics when it fails; gives up with [`Capped`].
pub fn timed(command: &mut Command, cap: Duration) -> Duration {
    let said = tempfile::tempfile().expect("a temporary file");
    let shown = said.try_clone().expect("a second handle");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(shown).process_group(0);
    let start = Instant::now();
    let mut child = command.spawn().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let pid = Pid::from_child(&child);
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let watch = std::thread::spawn(move || {
        // The sender is dropped when the command has ended.
        if ended.recv_timeout(cap) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            // It may have ended just now.
            let _ = rustix::process::kill_process_group(pid, Signal::KILL);
        }
    });
    let status = child.wait().expect("wait for a command");
    let took = start.elapsed();
    drop(done);
    watch.join().expect("the watch does not panic");
    if took >= cap {
        std::panic::resume_unwind(Box::new(Capped(cap)));
    }
    assert!(status.success(), "{command:?}: {status}: {}", tail(said));
    took
}

fn tail(mut said: std::fs::File) -> String {
    use std::io::{Read, Seek};
    let mut text = Vec::new();
    // Only what is shown of a failure is lost.
    let _ = said.rewind().and_then(|()| said.read_to_end(&mut text));
    let text = String::from_utf8_lossy(&text);
    text[text.ceil_char_boundary(text.len().saturating_sub(2000))..].to_owned()
}

/// Does a step; kills these processes when it takes longer than its cap, so that it ends with errors.
pub fn within<T>(cap: Duration, pids: &[u32], step: impl FnOnce() -> T) -> T {
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let pids = pids.to_vec();
    let watch = std::thread::spawn(move || {
        let late = ended.recv_timeout(cap) == Err(std::sync::mpsc::RecvTimeoutError::Timeout);
        for pid in pids.into_iter().filter(|_| late).filter_map(|pid| Pid::from_raw(pid as i32)) {
            // It may have ended just now.
            let _ = rustix::process::kill_process(pid, Signal::KILL);
        }
        late
    });
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(step));
    drop(done);
    match (watch.join().expect("the watch does not panic"), result) {
        (true, _) => std::panic::resume_unwind(Box::new(Capped(cap))),
        (false, Ok(value)) => value,
        (false, Err(why)) => std::panic::resume_unwind(why),
    }
}

/// Runs a command that is not measured.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Forgets what the kernel has cached of files, of every file system.
pub fn drop_caches() {
    if let Err(error) = std::fs::write("/proc/sys/vm/drop_caches", "3") {
        panic!("/proc/sys/vm/drop_caches: {error}: cold reads of the local disk cannot be measured");
    }
}
