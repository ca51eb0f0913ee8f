//! The recipes in `packaging/` for the places where sessions run: those that can be run here are run in real
//! containers, of the others it is checked that they parse and say that they were not run.

mod entrypoint;
mod recipes;
mod sidecar;

use std::path::{Path, PathBuf};

/// `packaging/NAME`.
fn packaging(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

/// The `--volume` that puts the entrypoint of the images into a container.
fn entrypoint_volume() -> String {
    format!("{}:/usr/local/bin/cwdfs-entrypoint:ro", packaging("docker/cwdfs-entrypoint").display())
}
