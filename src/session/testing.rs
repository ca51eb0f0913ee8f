//! What tests of this room share: options under which nothing happens by itself, callers, flags, a large file and its opens
//! in passthrough.

use super::api::{Caller, Fh, IoMode, NewNode, OpenFlags, WriteHow};
use super::file::open::LARGE;
use super::{Durability, Session, SessionOptions};
use crate::log::ids::Ino;
use crate::log::lease::Succession;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

pub const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };

pub const READ: OpenFlags = OpenFlags {
    read: true,
    write: false,
    append: false,
    truncate: false,
    sync: false,
    direct: false,
    exclusive: false,
};
pub const WRITE: OpenFlags = OpenFlags { read: false, write: true, ..READ };
pub const BOTH: OpenFlags = OpenFlags { write: true, ..READ };
pub const REWRITE: OpenFlags = OpenFlags { truncate: true, ..WRITE };

pub fn options(cache: &Path) -> SessionOptions {
    SessionOptions {
        cache_dir: cache.to_owned(),
        cache_size: 64 << 20,
        quota: None,
        durability: Durability::Fsync,
        lazy: ignore::gitignore::Gitignore::empty(),
        commit_interval: Duration::from_secs(60),
        timeout: Duration::from_secs(20),
        holder: "a test".into(),
        lease_ttl: Duration::from_secs(15),
        succession: Succession::AtOnce,
        park_after: None,
        owners: Default::default(),
        modes: Default::default(),
        read_only: false,
        follow_interval: Duration::from_secs(5),
        keep: Default::default(),
        passthrough: true,
    }
}

/// A stored file of sevens that is worth passthrough; the kernel looked it up once.
pub async fn large(session: &Arc<Session>) -> Ino {
    let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
    let made = session.create(ROOT, Ino::ROOT, b"large", new, WRITE).get().await.unwrap();
    let (ino, fh) = (made.0.ino, made.1.fh);
    let block = vec![7; 1 << 20];
    for n in 0..(LARGE >> 20) {
        session.write(ROOT, fh, ino, n << 20, &block, WriteHow::default()).get().await.unwrap();
    }
    session.release(fh);
    session.flush_all(Duration::from_secs(60)).await.unwrap();
    ino
}

/// An open in passthrough, and what the kernel does its I/O with.
pub async fn pass(session: &Arc<Session>, ino: Ino, flags: OpenFlags) -> (Fh, File) {
    let opened = session.open(ROOT, ino, flags).get().await.unwrap();
    assert_eq!(opened.mode, IoMode::Passthrough);
    (opened.fh, File::from(session.backing(opened.fh).unwrap()))
}
