//! The scripts of packaging/ and what cargo packs: what they refuse, and that the check of symbols finds something.

use super::{packaging, program, scratch};
use crate::support::Ran;
use std::process::Command;

#[test]
fn a_program_that_needs_a_newer_glibc_is_refused() {
    // Built by this machine's linker, it needs this machine's glibc.
    let ran = Ran::of(packaging("check").arg(program())).exits(1);
    ran.says(&["needs a newer glibc than 2.17", "bytes, glibc 2."]);
    Ran::of(packaging("check").arg("/etc/passwd")).exits(1);
}

#[test]
fn scripts_refuse_what_makes_no_sense() {
    let nowhere = scratch("nowhere");
    for (script, words) in [
        ("check", &[][..]),
        ("pack", &["x86_64-unknown-linux-gnu"][..]),
        ("pack", &["sparc-sun-solaris", "/bin/true", "/bin/true", "."][..]),
        ("pack", &["x86_64-unknown-linux-gnu", "/no/such/program", "/bin/true", "."][..]),
        ("stage", &["/bin/true"][..]),
        ("image/build", &["/no/such/program", "."][..]),
        ("build", &["sparc"][..]),
    ] {
        let ran = Ran::of(packaging(script).args(words).current_dir(&nowhere)).exits(2);
        assert_eq!(ran.err.lines().count(), 1, "{ran}");
    }
}

#[test]
fn a_crate_has_what_it_takes_to_build_and_no_more() {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["package", "--list", "--allow-dirty", "--offline"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let listed = Ran::of(&mut cargo).ok().out;
    let files: Vec<&str> = listed.lines().collect();
    for needed in
        ["Cargo.toml", "Cargo.lock", "src/main.rs", "src/journal/schema.sql", "README.md", "LICENSE-MIT"]
    {
        assert!(files.contains(&needed), "{needed} is not in {files:?}");
    }
    for other in files {
        let known =
            ["src/", "Cargo", "README.md", "SECURITY.md", "CHANGELOG.md", "LICENSE-", "packaging/geesefs.md"];
        let ours = known.iter().any(|start| other.starts_with(start)) || other == ".cargo_vcs_info.json";
        assert!(ours, "{other} is in the crate");
    }
}
