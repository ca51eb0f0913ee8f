//! Which objects the committed changes concern.
//!
//! Invariant: whenever the committed tree at a path differs from the row of its key, and something about
//! that path changed since the two were last compared, the key is marked. A path changes when one of the
//! entries on it does: an entry that appears or goes marks all that lies below it, in the tree and in the
//! rows. What is being published has the row of before, and is compared again by its publisher.

use crate::log::ids::Ino;
use crate::log::row::{InodeRow, Key, KeyBytes, ViewRow, prefix_end};
use crate::view::error::Result;
use crate::view::names::key_of;
use crate::view::shared::Shared;
use crate::view::tree::{Tree, after, join, key_of_found};
use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

/// Rows read at a time.
const PAGE: usize = 1000;

/// Marks what has to be published, from one state of the committed tree.
pub(super) struct Marker<'a> {
    shared: &'a Shared,
    tree: Tree,
    delay: Duration,
    walked: HashSet<Ino>,
    looked_at: HashSet<String>,
}

impl<'a> Marker<'a> {
    /// For the newest committed tree.
    pub fn new(shared: &'a Shared, delay: Duration) -> Result<Marker<'a>> {
        let tree = shared.tree()?;
        Ok(Marker { shared, tree, delay, walked: HashSet::new(), looked_at: HashSet::new() })
    }

    /// Marks what changes of these rows concern.
    pub fn changed(&mut self, keys: &[KeyBytes]) -> Result<()> {
        if self.concerns_nothing()? {
            return Ok(());
        }
        let mut inodes = BTreeSet::new();
        for key in keys {
            match Key::decode(key) {
                Some(Key::Inode { ino } | Key::Xattr { ino, .. } | Key::Link { ino, .. }) => {
                    inodes.insert(ino);
                }
                Some(Key::Dentry { parent, name, .. }) => self.entry(parent, &name)?,
                // Content changes with its inode's row; moved content is the same.
                Some(Key::Extent { .. } | Key::Meta { .. } | Key::View { .. }) | None => (),
            }
        }
        for ino in inodes {
            self.inode(ino)?;
        }
        Ok(())
    }

    /// Compares the whole tree with all rows.
    pub fn everything(&mut self) -> Result<()> {
        self.shared.figures.lock().unpublishable.clear();
        // Where nothing is published, only what was published or imported before can differ.
        if self.shared.options.publish {
            self.below(Ino::ROOT, b"")?;
        }
        self.rows_below("")
    }

    /// Nothing is published, and there is no object of which we know: the usual session without a view.
    fn concerns_nothing(&self) -> Result<bool> {
        let rows = Key::views("");
        let any = || self.shared.journal.scan(&rows, prefix_end(&rows).as_deref(), 1);
        Ok(!self.shared.options.publish && any()?.is_empty())
    }

    fn inode(&mut self, ino: Ino) -> Result<()> {
        if ino == Ino::ROOT {
            return Ok(());
        }
        // A removed inode's names are changes of their own.
        let Some(row) = self.tree.inode(ino)? else { return Ok(()) };
        for path in self.tree.paths_of(ino, &row)? {
            self.path(&path, row.is_dir())?;
        }
        Ok(())
    }

    fn entry(&mut self, parent: Ino, name: &[u8]) -> Result<()> {
        // A directory that is not in the tree had an entry that went too.
        let Some(directory) = self.tree.path_of_directory(parent)? else { return Ok(()) };
        let path = join(&directory, name);
        self.shared.figures.lock().unpublishable.remove(&path);
        let entry = self.tree.entry(parent, name)?;
        match &entry {
            Some(entry) if entry.is_dir() => {
                self.path(&path, true)?;
                self.below(entry.ino, &path)?;
            }
            Some(_) => self.path(&path, false)?,
            None => (),
        }
        // What had the name before: a file, or a directory with all below it.
        if let Ok(key) = key_of(&path, false) {
            self.key(&key)?;
            self.rows_below(&format!("{key}/"))?;
        }
        Ok(())
    }

    fn below(&mut self, ino: Ino, path: &[u8]) -> Result<()> {
        if !self.walked.insert(ino) {
            return Ok(());
        }
        let mut found = Vec::new();
        let walked = &mut self.walked;
        self.tree.walk(ino, path, &mut |entry| {
            let enter = !entry.directory || walked.insert(entry.ino);
            found.push(entry);
            Ok(enter)
        })?;
        for entry in found {
            match key_of_found(&entry) {
                Ok(key) => self.key(&key)?,
                Err(_) => self.no_key(entry.path),
            }
        }
        Ok(())
    }

    /// Marks the rows of objects whose key starts with `prefix`, where they differ.
    fn rows_below(&mut self, prefix: &str) -> Result<()> {
        let mut from = Key::views(prefix);
        let end = prefix_end(&from);
        loop {
            let page = self.shared.journal.scan(&from, end.as_deref(), PAGE)?;
            let more = page.len() == PAGE;
            if let Some((last, _)) = page.last() {
                from = after(last);
            }
            for (key, _) in page {
                if let Some(Key::View { key }) = Key::decode(&key) {
                    self.key(&key)?;
                }
            }
            if !more {
                return Ok(());
            }
        }
    }

    fn path(&mut self, path: &[u8], directory: bool) -> Result<()> {
        match key_of(path, directory) {
            Ok(key) => self.key(&key),
            Err(_) => {
                self.no_key(path.to_vec());
                Ok(())
            }
        }
    }

    fn no_key(&mut self, path: Vec<u8>) {
        self.shared.figures.lock().unpublishable.insert(path);
    }

    /// Marks a key if its object does not show the tree.
    fn key(&mut self, key: &str) -> Result<()> {
        if !self.looked_at.insert(key.to_owned()) {
            return Ok(());
        }
        let (row, publishes) = (self.shared.row(key)?, self.shared.options.publishes(key));
        if !publishes && row.is_none() {
            return Ok(());
        }
        let there = self.tree.at(key)?;
        if shows(row.as_ref(), there.as_ref()) {
            return Ok(());
        }
        let opens = key.ends_with('/') && row.as_ref().is_none_or(ViewRow::is_about_to_be) && there.is_some();
        let bytes = there.filter(|_| publishes).map_or(0, |(_, row)| row.size);
        self.shared.mark(key, bytes, self.delay);
        if opens {
            self.shared.dirty.lock().opens(key);
        }
        Ok(())
    }
}

/// Whether an object of which we know `row` shows what the tree has there.
pub(super) fn shows(row: Option<&ViewRow>, there: Option<&(Ino, InodeRow)>) -> bool {
    match (row, there) {
        (None, None) => true,
        (Some(row), Some((ino, inode))) => row.ino == *ino && row.version == inode.version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::log::ids::Ino;
    use crate::session::Session;
    use crate::session::api::NewNode;
    use crate::session::testing::{ROOT, WRITE, options};
    use crate::store::DirStore;
    use crate::view::{View, ViewOptions};
    use std::sync::Arc;
    use std::time::Duration;

    /// Each mount of a session without a view walked all of its tree, and left the caches full of what nobody asks for.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_session_without_a_view_is_not_walked() {
        const FILES: u64 = 300;
        let (cache, dir) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let session =
            Session::start(Arc::new(DirStore::new(dir.path())), options(cache.path())).await.unwrap();
        for n in 0..FILES {
            let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
            let name = format!("f{n}").into_bytes();
            let made = session.create(ROOT, Ino::ROOT, &name, new, WRITE).get().await.unwrap();
            session.release(made.1.fh);
        }
        session.flush_all(Duration::from_secs(20)).await.unwrap();
        let before = session.journal.asked();
        let none = ViewOptions { publish: false, ..ViewOptions::default() };
        let view = View::start(session.clone(), none).await.unwrap();
        let shared = &view.active.as_ref().unwrap().shared;
        assert!(shared.all_marked().await);
        let asked = session.journal.asked() - before;
        assert!(asked < FILES / 3, "the database was asked {asked} times about {FILES} files");
        view.stop().await;
        assert!(session.close(Duration::from_secs(20)).await.is_clean());
    }
}
