//! Everything that a mount may be asked, asked of a session; what is refused is fine.

use cwdfs::log::ids::Ino;
use cwdfs::session::Session;
use cwdfs::session::api::*;
use cwdfs::view::{View, ViewOptions};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const ROOT: Caller = Caller { uid: 0, gid: 0, pid: 0 };
/// Names that are looked at: rows may form a loop.
const MOST: usize = 200;

/// Reads all there is, changes what can be changed, publishes, ends.
pub async fn visit(session: Arc<Session>) {
    let view =
        View::start(session.clone(), ViewOptions { delay: Duration::ZERO, ..ViewOptions::default() }).await;
    let names = list(&session);
    for (parent, name) in &names {
        if let Ok(Some(attr)) = session.lookup(*parent, name) {
            look(&session, &attr).await;
        }
    }
    let _ = session.statfs();
    for (parent, name) in &names {
        change(&session, *parent, name).await;
    }
    let _ = session.flush_all(Duration::from_secs(3)).await;
    let _ = list(&session);
    if let Ok(view) = view {
        let _ = view.refresh_within(Duration::from_secs(3)).await;
        view.wait_published(Instant::now() + Duration::from_millis(300)).await;
        let _ = view.status();
        view.stop().await;
    }
    let _ = session.status();
    session.close(Duration::from_secs(3)).await;
}

/// Every name below the root, each directory once.
fn list(session: &Arc<Session>) -> Vec<(Ino, Vec<u8>)> {
    let (mut found, mut seen, mut next) = (Vec::new(), HashSet::new(), vec![Ino::ROOT]);
    while let Some(directory) = next.pop() {
        if found.len() > MOST || !seen.insert(directory) {
            continue;
        }
        let mut rest = MOST;
        let listed = session.readdir(directory, 0, true, &mut |entry| {
            if entry.name != b"." && entry.name != b".." {
                let sound = !entry.name.is_empty() && entry.name.len() <= 255;
                assert!(
                    sound && !entry.name.iter().any(|b| matches!(b, b'/' | 0)),
                    "{:?} is listed",
                    entry.name
                );
                if entry.kind == libc::S_IFDIR {
                    next.push(entry.ino);
                }
                found.push((directory, entry.name.clone()));
            }
            rest -= 1;
            rest > 0
        });
        // A row that cannot be read is an error.
        drop(listed);
    }
    found
}

/// Reads an inode in every way.
async fn look(session: &Arc<Session>, attr: &Attr) {
    let ino = attr.ino;
    let _ = session.getattr(ino);
    if let Ok(target) = session.readlink(ino) {
        assert!(target.len() < 4096 && !target.contains(&0), "a target that no symlink can have");
    }
    if let Ok(names) = session.listxattr(ROOT, ino) {
        for name in names {
            let _ = session.getxattr(ino, &name);
        }
    }
    let _ = (session.seek(ino, 0, true), session.seek(ino, 0, false), session.seek(ino, u64::MAX, true));
    let flags = OpenFlags { read: true, ..OpenFlags::default() };
    let Ok(opened) = session.open(ROOT, ino, flags).get().await else { return };
    for offset in [0, 1, attr.size.saturating_sub(1), attr.size, 1 << 40, i64::MAX as u64 - (1 << 20)] {
        let _ = session.read(opened.fh, ino, offset, 128 << 10).get().await;
    }
    session.release(opened.fh);
}

/// Changes what a name stands for, moves it, and at last removes it.
async fn change(session: &Arc<Session>, parent: Ino, name: &[u8]) {
    let Ok(Some(attr)) = session.lookup(parent, name) else { return };
    let ino = attr.ino;
    let flags = OpenFlags { read: true, write: true, ..OpenFlags::default() };
    if let Ok(opened) = session.open(ROOT, ino, flags).get().await {
        let fh = opened.fh;
        for offset in [0, attr.size.min(1 << 40), 5000] {
            let _ = session.write(ROOT, fh, ino, offset, b"written", WriteHow::default()).get().await;
        }
        let _ = session.fallocate(ROOT, fh, ino, 3, 100, Allocate::PunchHole).get().await;
        let _ = session.copy_range(ROOT, (fh, ino, 0), (fh, ino, 1 << 20), 200 << 10).get().await;
        let _ = session.flush(ROOT, fh, ino).get().await;
        let _ = session
            .setattr(ROOT, ino, Some(fh), SetAttr { size: Some(10), ..SetAttr::default() })
            .get()
            .await;
        let _ = session.fsync(ROOT, fh, ino).get().await;
        session.release(fh);
    }
    let _ = session.setattr(ROOT, ino, None, SetAttr { mode: Some(0o600), ..SetAttr::default() }).get().await;
    let _ = session.setxattr(ROOT, ino, b"user.y", b"value", XattrMode::Either).get().await;
    let _ = session.removexattr(ROOT, ino, b"user.x").get().await;
    let _ = session.link(ROOT, ino, Ino::ROOT, b"linked").get().await;
    let new = NewNode { mode: libc::S_IFDIR | 0o755, umask: 0, rdev: 0, target: Vec::new() };
    let _ = session.make(ROOT, ino, b"made", new).get().await;
    let _ = session.rename(ROOT, (parent, name), (Ino::ROOT, b"moved"), RenameMode::Replace).get().await;
    let _ = session.rename(ROOT, (Ino::ROOT, b"moved"), (ino, b"below"), RenameMode::Exchange).get().await;
    let _ = session.unlink(ROOT, Ino::ROOT, b"moved").get().await;
    let _ = session.rmdir(ROOT, Ino::ROOT, b"moved").get().await;
    session.forget(ino, 1);
}
