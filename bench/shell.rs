//! Running commands.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command to its end, and tells how long that took. Panics when it fails.
pub fn timed(command: &mut Command) -> Duration {
    let said = tempfile::tempfile().expect("a temporary file");
    let shown = said.try_clone().expect("a second handle");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(shown);
    let start = Instant::now();
    let status = command.status().unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"));
    let took = start.elapsed();
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
