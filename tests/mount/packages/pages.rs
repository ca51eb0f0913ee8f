//! Manual pages, completions and --version, as people meet them: man, groff and mandoc without a warning, a real
//! bash at a terminal, fish and zsh.

use super::scratch;
use crate::support::world::binary;
use crate::support::{Ran, World, sh};
use std::path::Path;
use std::process::Command;

fn cwdfs(args: &[&str]) -> Ran {
    Ran::of(Command::new(binary()).args(args))
}

#[test]
fn manual_pages_are_read_without_a_warning() {
    let dir = scratch("man");
    cwdfs(&["man", "--date", "2026-11-21", dir.to_str().expect("utf-8")]).ok();
    let said = sh(
        &dir,
        "for page in man?/*; do
           groff -k -man -ww -z -Tutf8 $page; mandoc -T lint -W warning $page
         done 2>&1 | tee warnings; test ! -s warnings; rm warnings
         man -l man8/mount.cwdfs.8 | col -b; man -l man1/cwdfs-mount.1 | col -b; ls man1 man8",
    );
    for part in ["commit-interval", "/etc/fstab", "cwdfs-eject.1", "umount.cwdfs.8", "another writer holds"] {
        assert!(said.to_lowercase().contains(part), "{part} is not in:\n{said}");
    }
}

#[test]
fn manual_pages_that_cannot_be_written_are_one_line() {
    cwdfs(&["man", "/proc/no/such"]).exits(5).plainly().says(&["/proc/no/such/man1"]);
    cwdfs(&["man", "--date", "yesterday", "."]).exits(2).says(&["not a date"]);
    cwdfs(&["completions", "csh"]).exits(2).says(&["csh", "bash"]);
}

/// Types into a shell at a terminal; what is there before the line ends is completed, echo shows it.
fn typed(dir: &Path, shell: &str, setup: &str, keys: &str) -> String {
    let script = format!("{setup}{keys}\u{1}echo got: \nexit\n");
    std::fs::write(dir.join("keys"), script).expect("the keys");
    // Keys come one after another, as from a person; readline takes tabs only once it reads a line.
    let typing =
        "sleep 1; while IFS= read -r -n1 -d '' key; do printf '%s' \"$key\"; sleep 0.02; done < keys";
    let line = format!("({typing}) | script -qec '{shell}' /dev/null");
    let out = Ran::of(Command::new("bash").args(["-c", &line]).current_dir(dir).env("TERM", "dumb")).ok().out;
    out.lines().filter(|line| line.starts_with("got: ")).collect::<Vec<_>>().join("\n").replace('\r', "")
}

#[test]
fn bash_completes_commands_options_values_and_paths() {
    let dir = scratch("bash");
    std::fs::write(dir.join("script"), cwdfs(&["completions", "bash"]).ok().out).expect("the script");
    std::fs::create_dir_all(dir.join("some-mountpoint")).expect("a directory");
    let bash = |keys| typed(&dir, "bash --norc --noprofile -i", "source ./script\n", keys);
    assert_eq!(bash("cwdfs moun\t--durab\tfs\t").trim(), "got: cwdfs mount --durability fsync");
    assert_eq!(bash("cwdfs unm\tsome-m\t").trim(), "got: cwdfs unmount some-mountpoint/");
    assert_eq!(bash("cwdfs gees\t--fsync-o\t").trim(), "got: cwdfs geesefs --fsync-on-close");
}

#[test]
fn fish_and_zsh_take_their_scripts() {
    let dir = scratch("shells");
    for shell in ["fish", "zsh"] {
        std::fs::write(dir.join(shell), cwdfs(&["completions", shell]).ok().out).expect("the script");
    }
    let said = sh(
        &dir,
        "zsh -n zsh; fish --no-execute fish
         HOME=$PWD fish --no-config -c 'source fish; complete -C \"cwdfs mount --durab\"; complete -C \"cwdfs sess\"'",
    );
    assert!(said.contains("--durability") && said.contains("sessions"), "{said}");
}

#[test]
fn the_version_tells_the_formats_that_are_in_the_store() {
    let world = World::new("version");
    let told = cwdfs(&["--version"]).ok().out;
    assert!(told.starts_with(&format!("cwdfs {}\n", env!("CARGO_PKG_VERSION"))), "{told}");
    assert_eq!(cwdfs(&["-V"]).ok().out.trim(), format!("cwdfs {}", env!("CARGO_PKG_VERSION")));
    let host = world.host("a");
    let mount = host.mount(&[]);
    std::fs::write(mount.path("f"), "x").expect("a file");
    drop(mount);
    let lease: serde_json::Value =
        serde_json::from_str(&world.witness.text(".cwdfs/lease")).expect("a lease is JSON");
    let written = format!("writes: lease format {}, segment format ", lease["format"]);
    assert!(told.contains(&written), "{told} but the lease says {lease}");
}
