//! What does the same work elsewhere, as its users mount it, and where its program is found.

use super::System;
use super::peer::Peer;
use crate::args::Asked;
use std::path::{Path, PathBuf};

/// A peer's command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// geesefs, and TigrisFS, which comes from it.
    Geesefs,
    /// `rclone mount`.
    Rclone,
    /// `juicefs mount`.
    Juicefs,
    /// s3fs.
    S3fs,
}

/// Those that are known: name, command line, what it promises so.
const KNOWN: [(&str, Style, &str); 5] = [
    (
        "geesefs",
        Style::Geesefs,
        "--fsync-on-close: close does not wait (upload starts with it); fsync of a file waits",
    ),
    (
        "tigrisfs",
        Style::Geesefs,
        "--fsync-on-close: close does not wait (upload starts with it); fsync of a file waits",
    ),
    (
        "rclone",
        Style::Rclone,
        "--vfs-cache-mode full: neither close nor fsync waits; uploads start 5 s after the close",
    ),
    (
        "juicefs",
        Style::Juicefs,
        "close and fsync wait for the content; names are in a local SQLite file, not in the store",
    ),
    ("s3fs", Style::S3fs, "close and fsync wait until the store has it"),
];

/// Every peer, present or not.
pub fn all(asked: &Asked) -> Vec<Box<dyn System>> {
    let peer = |(name, style, promise): (&'static str, Style, &'static str)| {
        Box::new(Peer { name, style, promise, program: program(asked, name) }) as Box<dyn System>
    };
    KNOWN.into_iter().map(peer).collect()
}

/// Why a peer named by the caller cannot be measured, if it cannot.
pub fn refuse_unknown(asked: &Asked) -> Result<(), String> {
    let known = |name: &String| KNOWN.iter().any(|(known, _, _)| known == name);
    match asked.peers.keys().find(|name| !known(name)) {
        Some(name) => Err(format!(
            "--peer {name}: its command line is not known; known are {}",
            KNOWN.map(|(name, _, _)| name).join(", ")
        )),
        None => Ok(()),
    }
}

/// The program that the caller names, or that bench/run has installed, or one on the path.
fn program(asked: &Asked, name: &str) -> Result<PathBuf, String> {
    if let Some(named) = asked.peers.get(name) {
        return match named.is_file() {
            true => Ok(named.clone()),
            false => Err(format!("{} is not there", named.display())),
        };
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin").join(name);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|dir| dir.join(name));
    let found = std::iter::once(installed).chain(on_path).find(|path| path.is_file());
    found.ok_or_else(|| format!("not installed; name one with --peer {name}=PROGRAM"))
}
