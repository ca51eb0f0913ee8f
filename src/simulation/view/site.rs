//! A session mounted with its view, and what callers do to it.

use super::ledger::{Ledger, Token, text};
use super::tree::tokens_at;
use crate::log::ids::Ino;
use crate::log::source::{CommitSource, Seq};
use crate::session::api::{NewNode, OpenFlags, Outcome, RenameMode, WriteHow};
use crate::session::testing::{self, REWRITE, ROOT, WRITE};
use crate::session::{KeepOptions, Session, SessionError, SessionOptions};
use crate::simulation::life::Life;
use crate::simulation::link::Link;
use crate::simulation::world::World;
use crate::view::{View, ViewError, ViewOptions};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How long a caller waits for the store.
const PATIENCE: Duration = Duration::from_secs(60);

/// A path: a directory at the root, or none, and a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct At {
    pub directory: Option<&'static str>,
    pub name: &'static str,
}

impl At {
    /// Of an object.
    pub fn key(&self) -> String {
        match self.directory {
            Some(directory) => format!("{directory}/{}", self.name),
            None => self.name.to_owned(),
        }
    }
}

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Made, or made empty first.
    Whole,
    /// Behind what is there.
    Append,
    /// Under another name, which then takes its place.
    Beside,
}

/// One operation: its last change, what it wrote and what it took away.
struct Made {
    seq: Seq,
    wrote: Vec<Token>,
    took: Vec<Token>,
}

/// A mounted session.
pub struct Site {
    pub world: Arc<World>,
    pub ledger: Arc<Ledger>,
    pub life: Arc<Life>,
    pub session: Arc<Session>,
    pub view: Arc<View>,
    pub dir: PathBuf,
    made: Mutex<Vec<Made>>,
    /// Tokens that wait in their files until what they stand on is copied out of a plain object.
    waiting: Mutex<BTreeMap<Ino, Vec<Token>>>,
}

/// How a view behaves in a world where time is cheap.
pub fn view_options() -> ViewOptions {
    ViewOptions { import_interval: Duration::from_secs(5), concurrency: 4, ..ViewOptions::default() }
}

fn options(name: &str, dir: &Path) -> SessionOptions {
    SessionOptions {
        commit_interval: Duration::from_secs(1),
        timeout: PATIENCE,
        holder: name.to_owned(),
        keep: KeepOptions { busy: 4 << 20, quiet: 1 << 20, image: 1 << 20, ..KeepOptions::default() },
        passthrough: false,
        ..testing::options(dir)
    }
}

/// An answer that is there at once: nothing that others do can come between.
fn at_once<T>(outcome: Outcome<T>) -> Result<T, SessionError> {
    match outcome {
        Outcome::Ready(answer) => answer,
        Outcome::Later(_) => panic!("at this level it waits for nothing"),
    }
}

impl Site {
    /// Mounts the session on a disk.
    pub async fn mount(
        world: &Arc<World>,
        ledger: &Arc<Ledger>,
        life: &Arc<Life>,
        dir: &Path,
    ) -> Result<Arc<Site>, ViewError> {
        let store = Link::store(world, life);
        let session = Session::start(store, options(&life.host.name, dir)).await?;
        let view = View::start(session.clone(), view_options()).await?;
        world.note(format_args!("{} has mounted the session", life.host.name));
        Ok(Arc::new(Site {
            world: world.clone(),
            ledger: ledger.clone(),
            life: life.clone(),
            session,
            view,
            dir: dir.to_owned(),
            made: Mutex::default(),
            waiting: Mutex::default(),
        }))
    }

    /// What a path means.
    pub fn find(&self, at: At) -> Result<Option<Ino>, SessionError> {
        let journal = &self.session.journal;
        let Some(parent) = self.parent(at)? else { return Ok(None) };
        Ok(journal.dentry(parent, at.name.as_bytes())?.map(|entry| entry.row.ino))
    }

    fn parent(&self, at: At) -> Result<Option<Ino>, SessionError> {
        let Some(directory) = at.directory else { return Ok(Some(Ino::ROOT)) };
        let entry = self.session.journal.dentry(Ino::ROOT, directory.as_bytes())?;
        Ok(entry.map(|entry| entry.row.ino))
    }

    /// The directory of a path, made where it is missing.
    fn directory(&self, at: At) -> Result<Ino, SessionError> {
        if let Some(parent) = self.parent(at)? {
            return Ok(parent);
        }
        let new = NewNode { mode: libc::S_IFDIR | 0o755, umask: 0, rdev: 0, target: Vec::new() };
        let name = at.directory.unwrap_or_default().as_bytes();
        Ok(at_once(self.session.make(ROOT, Ino::ROOT, name, new))?.ino)
    }

    fn done(&self, what: std::fmt::Arguments<'_>, wrote: Vec<Token>, took: Vec<Token>) {
        self.ledger.take(&took);
        self.world.note(format_args!("{} {what}: {wrote:?} instead of {took:?}", self.life.host.name));
        let seq = self.session.journal.last_seq();
        self.made.lock().push(Made { seq, wrote, took });
    }

    /// Writes a token into a file, with some bytes around it.
    pub async fn write(self: &Arc<Self>, at: At, manner: Manner) -> Result<(), SessionError> {
        let token = self.ledger.token(&self.life.host.name);
        let padding = self.world.draw(0..=200) as usize;
        let bytes = [text(token).into_bytes(), vec![b'.'; padding]].concat();
        self.write_bytes(at, manner, token, &bytes).await
    }

    /// Writes the bytes of a token that was removed once more.
    pub async fn write_again(self: &Arc<Self>, at: At, token: Token) -> Result<(), SessionError> {
        self.ledger.again(token);
        self.write_bytes(at, Manner::Whole, token, text(token).as_bytes()).await
    }

    async fn write_bytes(
        self: &Arc<Self>,
        at: At,
        manner: Manner,
        token: Token,
        bytes: &[u8],
    ) -> Result<(), SessionError> {
        let parent = self.directory(at)?;
        let name = match manner {
            Manner::Beside => b".new".as_slice(),
            Manner::Whole | Manner::Append => at.name.as_bytes(),
        };
        let flags = match manner {
            Manner::Append => OpenFlags { append: true, ..WRITE },
            Manner::Whole | Manner::Beside => REWRITE,
        };
        let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let (attr, opened) = self.session.create(ROOT, parent, name, new, flags).get().await?;
        // What was truncated is still in the rows.
        let mut took = match manner {
            Manner::Whole => tokens_at(self, at)?,
            Manner::Append | Manner::Beside => Vec::new(),
        };
        let written = self.put(opened.fh, attr.ino, attr.size, bytes, manner).await;
        let barrier = self.session.fsync(ROOT, opened.fh, attr.ino);
        self.session.release(opened.fh);
        let captured = written?;
        if !captured {
            self.world.note(format_args!("{} changes {}: {token}", self.life.host.name, at.key()));
            self.waiting.lock().entry(attr.ino).or_default().push(token);
            self.ledger.take(&took);
            self.spawn_barrier(barrier, token);
        }
        if manner == Manner::Beside {
            took = tokens_at(self, at)?;
            let to = (parent, at.name.as_bytes());
            at_once(self.session.rename(ROOT, (parent, name), to, RenameMode::Replace))?;
        }
        if captured {
            self.done(format_args!("writes {} {manner:?}", at.key()), vec![token], took);
        }
        Ok(())
    }

    /// What an inode has that its rows do not show yet.
    pub fn waiting_in(&self, ino: Ino) -> Vec<Token> {
        self.waiting.lock().get(&ino).cloned().unwrap_or_default()
    }

    /// Somebody waits for one file.
    fn spawn_barrier(&self, barrier: Outcome<()>, token: Token) {
        let (life, ledger) = (self.life.clone(), self.ledger.clone());
        tokio::spawn(async move {
            if barrier.get().await.is_ok() && !life.is_dead() {
                ledger.acknowledge(&[token]);
            }
        });
    }

    /// Whether the content is in the rows now.
    async fn put(
        self: &Arc<Self>,
        fh: crate::session::api::Fh,
        ino: Ino,
        size: u64,
        bytes: &[u8],
        manner: Manner,
    ) -> Result<bool, SessionError> {
        let offset = if manner == Manner::Append { size } else { 0 };
        self.session.write(ROOT, fh, ino, offset, bytes, WriteHow::default()).get().await?;
        let before = self.session.journal.last_seq();
        self.session.flush(ROOT, fh, ino).get().await?;
        Ok(self.session.journal.last_seq() > before)
    }

    /// Makes a symlink whose target is a token, in the place of whatever is there.
    pub fn symlink(self: &Arc<Self>, at: At) -> Result<(), SessionError> {
        self.remove(at)?;
        let token = self.ledger.token(&self.life.host.name);
        let parent = self.directory(at)?;
        let target = text(token).into_bytes();
        let new = NewNode { mode: libc::S_IFLNK | 0o777, umask: 0, rdev: 0, target };
        at_once(self.session.make(ROOT, parent, at.name.as_bytes(), new))?;
        self.done(format_args!("links {}", at.key()), vec![token], Vec::new());
        Ok(())
    }

    /// Removes a file, if there is one.
    pub fn remove(self: &Arc<Self>, at: At) -> Result<(), SessionError> {
        let took = tokens_at(self, at)?;
        let (Some(parent), Some(_)) = (self.parent(at)?, self.find(at)?) else { return Ok(()) };
        at_once(self.session.unlink(ROOT, parent, at.name.as_bytes()))?;
        self.done(format_args!("removes {}", at.key()), Vec::new(), took);
        Ok(())
    }

    /// Moves a file, over whatever is there.
    pub fn rename(self: &Arc<Self>, from: At, to: At) -> Result<(), SessionError> {
        let (Some(parent), Some(_)) = (self.parent(from)?, self.find(from)?) else { return Ok(()) };
        let target = self.directory(to)?;
        let took = if from == to { Vec::new() } else { tokens_at(self, to)? };
        let (from_name, to_name) = ((parent, from.name.as_bytes()), (target, to.name.as_bytes()));
        at_once(self.session.rename(ROOT, from_name, to_name, RenameMode::Replace))?;
        self.done(format_args!("moves {} to {}", from.key(), to.key()), Vec::new(), took);
        Ok(())
    }

    /// Moves a directory to a name that is free, or removes it if it is empty.
    pub fn change_directory(self: &Arc<Self>, from: &str, to: &str) -> Result<(), SessionError> {
        let (from_name, to_name) = ((Ino::ROOT, from.as_bytes()), (Ino::ROOT, to.as_bytes()));
        let moved = at_once(self.session.rename(ROOT, from_name, to_name, RenameMode::NoReplace));
        if moved.is_err() && at_once(self.session.rmdir(ROOT, Ino::ROOT, from.as_bytes())).is_err() {
            return Ok(());
        }
        self.done(format_args!("moves {from}/ to {to}/, or removes it"), Vec::new(), Vec::new());
        Ok(())
    }

    /// Waits until everything done so far is in the store, and says so. Whether it is.
    pub async fn wait(self: &Arc<Self>) -> bool {
        let Some(writer) = &self.session.writer else { return false };
        let seq = self.session.journal.last_seq();
        let waited = tokio::select! {
            biased;
            () = self.life.death() => return false,
            waited = writer.committer.wait_stored(seq, PATIENCE) => waited,
        };
        if waited.is_err() || self.life.is_dead() {
            return false;
        }
        self.world.note(format_args!("{} acknowledges all up to {seq}", self.life.host.name));
        self.world.count("acknowledged");
        self.made.lock().retain(|made| {
            let stored = made.seq <= seq;
            if stored {
                self.ledger.acknowledge(&made.wrote);
                self.ledger.surely(&made.took);
            }
            !stored
        });
        true
    }

    /// Ends the session properly. Whether all is stored and published.
    pub async fn close(self: &Arc<Self>) -> bool {
        let stored = self.wait().await;
        let published = self.view.wait_published(Instant::now() + PATIENCE).await;
        self.view.stop().await;
        let report = self.session.close(PATIENCE).await;
        stored && published && report.is_clean() && report.released
    }

    /// Whether it can still do anything.
    pub fn is_alive(&self) -> bool {
        !self.life.is_dead()
            && self.session.writer.as_ref().is_some_and(|writer| !writer.lease.hold().is_final())
    }
}
