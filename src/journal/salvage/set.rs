//! Reading a set, or the changes that wait in a folder of the cache.

use super::tree::Tree;
use super::{FOLDER, INFO, Image, Info, Item, failed, images};
use crate::journal::db::{self, FILE, get_meta, meta};
use crate::journal::lock::Lock;
use crate::journal::overlay::Change;
use crate::journal::restart::{changes, this_boot};
use crate::journal::{Result, clean};
use crate::log::ids::{Blob, Ino, SessionId};
use crate::log::row::{ExtentRow, InodeRow};
use crate::log::source::{LocalError, LocalKind};
use bytes::Bytes;
use rusqlite::{Connection, OpenFlags};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where changes lie that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ground {
    /// Set aside: no mount will ever send them.
    SetAside,
    /// In the journal of a session that is not mounted: its next mount from this cache sends them, or sets them
    /// aside.
    Waiting,
}

/// Uncommitted changes as they lie on the disk.
pub struct Set {
    /// The folder.
    pub folder: PathBuf,
    /// Which kind.
    pub ground: Ground,
    /// Why it is here.
    pub info: Info,
    conn: Connection,
    tree: Tree,
    images: BTreeMap<Ino, Image>,
    /// No mount comes meanwhile.
    _lock: Option<Lock>,
}

/// The folders of the sets that a session's folder holds, and of databases that were found damaged.
pub fn sets_in(session: &Path) -> Result<Vec<PathBuf>> {
    let mut found = folders(&session.join(FOLDER))?;
    let damaged = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"damaged-"))
    };
    found.extend(folders(session)?.into_iter().filter(damaged));
    found.sort();
    Ok(found)
}

fn folders(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(failed(dir, e)),
    };
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let paths = paths.collect::<std::io::Result<Vec<_>>>().map_err(|e| failed(dir, e))?;
    Ok(paths.into_iter().filter(|path| path.is_dir()).collect())
}

pub(super) fn read_info(folder: &Path) -> Result<Info> {
    let path = folder.join(INFO);
    let bytes = std::fs::read(&path).map_err(|e| failed(&path, e))?;
    serde_json::from_slice(&bytes).map_err(|e| failed(&path, e))
}

impl Set {
    /// A folder that [`sets_in`] has named.
    pub fn open(folder: &Path) -> Result<Set> {
        let info = read_info(folder)?;
        Set::read(folder, Ground::SetAside, info, connect(folder)?, None)
    }

    /// What waits in a session's folder; `None` when nothing does. [`LocalKind::Busy`] while it is mounted.
    pub fn waiting(session: &Path) -> Result<Option<Set>> {
        if !session.join(FILE).exists() {
            return Ok(None);
        }
        let lock = Lock::take_existing(session)?;
        let conn = connect(session)?;
        let same_boot = get_meta::<String>(&conn, meta::BOOT)? == Some(this_boot()?);
        if !same_boot {
            db::check(&conn)?;
        }
        let info = Info {
            when: String::new(),
            why: "nobody has mounted the session from this cache since".into(),
            by: None,
            session: get_meta::<SessionId>(&conn, meta::SESSION)?,
            same_boot,
        };
        let set = Set::read(session, Ground::Waiting, info, conn, lock)?;
        Ok((!set.items()?.is_empty()).then_some(set))
    }

    fn read(folder: &Path, ground: Ground, info: Info, conn: Connection, lock: Option<Lock>) -> Result<Set> {
        let changes: Vec<Change> = changes(&conn)?.into_iter().map(|(_, change)| change).collect();
        let images = images(&conn)?;
        let unstored: Vec<Ino> = images.iter().filter(|(_, i)| i.changed).map(|(ino, _)| *ino).collect();
        let tree = Tree::of(&conn, &changes, &unstored)?;
        let images = images.into_iter().filter(|(ino, image)| tree.has_use_for(*ino, image)).collect();
        Ok(Set { folder: folder.to_owned(), ground, info, conn, tree, images, _lock: lock })
    }

    /// What happened to which inode.
    pub fn items(&self) -> Result<Vec<Item>> {
        self.tree.items(&self.images)
    }

    /// The directories on the way to the items, by path.
    pub fn directories(&self) -> Vec<(Vec<Vec<u8>>, InodeRow)> {
        self.tree.directories()
    }

    /// What an image has of an inode's content, and the file with it.
    pub fn image(&self, ino: Ino) -> Option<(&Image, PathBuf)> {
        let image = self.images.get(&ino)?;
        Some((image, self.folder.join("data").join(image.file.to_string())))
    }

    /// Whether an image's bytes can be believed: written in this boot of the machine, or synced before its end.
    pub fn believes(&self, image: &Image) -> bool {
        self.info.same_boot || image.synced
    }

    /// The piece that an extent names, if it is here; whether it is right is for the caller to see.
    pub fn piece(&self, extent: &ExtentRow) -> Result<Option<Bytes>> {
        match &extent.blob {
            Blob::Local(id) => clean::read(&self.conn, *id),
            blob => clean::read_at(&self.conn, blob, extent.piece_off),
        }
    }
}

/// Opens a database that is not written: nothing is made where none is.
fn connect(folder: &Path) -> Result<Connection> {
    // No symlink but in the way to the folder: SQLite would keep files of its own beside what it leads to.
    let folder = folder.canonicalize().map_err(|e| failed(folder, e))?;
    let path = folder.join(FILE);
    let open = |immutable: bool| {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let flags = flags | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NOFOLLOW;
        let encoded = percent_encoding::percent_encode(path.as_os_str().as_encoded_bytes(), URI);
        let how = if immutable { "?immutable=1" } else { "" };
        let conn = Connection::open_with_flags(format!("file:{encoded}{how}"), flags)?;
        conn.busy_timeout(Duration::from_secs(10))?;
        conn.query_row("SELECT count(*) FROM sqlite_schema", [], |r| r.get::<_, i64>(0))?;
        Ok::<_, rusqlite::Error>(conn)
    };
    // On a read-only disk there is no place for what SQLite keeps beside a database that has a log; without a log
    // it needs none.
    let ahead = folder.join(db::AHEAD);
    let plain = || std::fs::metadata(&ahead).map_or(true, |log| log.len() == 0);
    let conn = open(false).or_else(|e| if plain() { open(true) } else { Err(e) });
    let conn = conn.map_err(|e| failed(&path, e))?;
    match get_meta::<u32>(&conn, meta::FORMAT)
        .map_err(|e| LocalError::new(e.kind, format!("{}: {}", path.display(), e.message)))?
    {
        Some(format) if format <= db::FORMAT => Ok(conn),
        Some(newer) => {
            let what = format!("{}: it has format {newer}: use a newer cwdfs", path.display());
            Err(LocalError::new(LocalKind::Newer, what))
        }
        None => Err(LocalError::new(LocalKind::Damaged, format!("{}: it has no format", path.display()))),
    }
}

/// What a file URI has to escape.
const URI: &percent_encoding::AsciiSet =
    &percent_encoding::CONTROLS.add(b'%').add(b'?').add(b'#').add(b' ').add(b'"');
