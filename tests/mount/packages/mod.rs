//! What people install: the packages, the tarball and the image are made of the program under test by the scripts
//! that make the real ones, installed into a clean root, and mounted there. `packaging/build` makes the real ones,
//! which `tests/run --full` runs.

mod image;
mod install;
mod pages;
mod root;
mod scripts;

use crate::support::Ran;
use crate::support::world::binary;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A script of `packaging/`, run where it lies.
fn packaging(script: &str) -> Command {
    let mut command = Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(script));
    // A fixed clock: the same program, the same bytes.
    command.env("SOURCE_DATE_EPOCH", "1763000000");
    if let Some(tools) = std::env::var_os("CWDFS_TEST_TOOLS") {
        command.env("CWDFS_TOOLS", tools);
    }
    command
}

/// A directory of the packages' tests.
fn scratch(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("packages").join(name);
    std::fs::create_dir_all(&dir).expect("a directory");
    dir
}

/// The program under test without symbols, as programs are handed out.
fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let program = scratch("program").join("cwdfs");
        Ran::of(Command::new("strip").arg("-s").arg("-o").arg(&program).arg(binary())).ok();
        program
    })
}

/// The packages of the program under test: made once.
fn packages() -> &'static Path {
    static PACKAGES: OnceLock<PathBuf> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let out = scratch("out");
        std::fs::remove_dir_all(&out).expect("what was there");
        let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
        Ran::of(packaging("pack").args(["--fast", &target]).arg(program()).arg(binary()).arg(&out)).ok();
        out
    })
}

/// The one file of [`packages`] with this ending.
fn package(ending: &str) -> PathBuf {
    let files = std::fs::read_dir(packages()).expect("the packages");
    let mut found: Vec<PathBuf> = files
        .map(|file| file.expect("a file").path())
        .filter(|path| path.to_string_lossy().ends_with(ending))
        .collect();
    assert_eq!(found.len(), 1, "*{ending}: {found:?}");
    found.remove(0)
}
