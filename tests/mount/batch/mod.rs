//! `cwdfs batch`: closes that wait together, at the end of a command.
//!
//! What goes on is shown by a command that gets to its next line though the store answers nothing; what waits, by one
//! that does not get there before the store answers again.

mod ends;
mod refused;
mod store;

use crate::support::mount::Mount;
use crate::support::ran::Ran;
use crate::support::world::binary;
use crate::support::{World, eventually};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

/// Generous: what should happen, happens long before.
const LIMIT: Duration = Duration::from_secs(60);
/// What should not happen has so long to happen all the same.
const WHILE: Duration = Duration::from_millis(700);

/// A command under `cwdfs batch OPTIONS --` in the root of a mount; `mark NAME` in its script leaves a mark.
fn batch(mount: &Mount<'_>, marks: &Marks, options: &[&str], script: &str) -> Command {
    let mut command = Command::new(binary());
    command.arg("batch").args(options).args(["--", "sh", "-ec"]);
    in_mount(command, mount, marks, script)
}

/// The same without the batch.
fn strict(mount: &Mount<'_>, marks: &Marks, script: &str) -> Command {
    let mut command = Command::new("sh");
    command.arg("-ec");
    in_mount(command, mount, marks, script)
}

fn in_mount(mut command: Command, mount: &Mount<'_>, marks: &Marks, script: &str) -> Command {
    command.arg(format!("mark() {{ : > \"$MARKS/$1\"; }}\nuntil_told() {{ while ! [ -e \"$MARKS/$1\" ]; do sleep 0.05; done; }}\n{script}"));
    command.current_dir(mount.root()).env("MARKS", &marks.0).env("CWDFS", binary());
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Files beside the mount by which a script and its test tell each other how far they are.
struct Marks(PathBuf);

impl Marks {
    fn of(world: &World) -> Marks {
        Marks(world.local("marks"))
    }

    fn has(&self, name: &str) -> bool {
        self.0.join(name).exists()
    }

    #[track_caller]
    fn wait(&self, name: &str) {
        eventually(name, LIMIT, || self.has(name));
    }

    fn give(&self, name: &str) {
        std::fs::write(self.0.join(name), "").expect("a mark");
    }
}

#[track_caller]
fn start(mut command: Command) -> Child {
    command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"))
}

/// How a started command ended.
fn end(child: Child) -> Ran {
    let Output { status, stdout, stderr } = child.wait_with_output().expect("its end");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let line = "a batch".into();
    Ran { line, code: status.code(), out: text(stdout), err: text(stderr), took: Duration::ZERO }
}

/// Panics if it ends though it has to wait.
#[track_caller]
fn goes_on_waiting(child: &mut Child) {
    std::thread::sleep(WHILE);
    assert!(child.try_wait().expect("look").is_none(), "it has ended though the store answers nothing");
}

/// The machine is lost, and the session mounted elsewhere.
fn elsewhere<'w>(world: &'w World, mount: Mount<'w>) -> Mount<'w> {
    mount.lose_machine();
    world.relay().heal();
    world.relay().set_delay(Duration::ZERO);
    world.host("elsewhere").mount(&["--takeover"])
}

#[track_caller]
fn holds(root: &Path, name: &str, text: &str) {
    let found = std::fs::read_to_string(root.join(name));
    let found = found.unwrap_or_else(|error| {
        panic!("closed in a batch that returned, but not in the store: {name}: {error}")
    });
    assert_eq!(found, text, "closed in a batch that returned, but not in the store: {name}");
}
