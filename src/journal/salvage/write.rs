//! Writing a set.

use super::tree::Tree;
use super::{FOLDER, INFO, Image, Info, Salvaged, failed, images};
use crate::content::keep;
use crate::journal::base::{self, Base};
use crate::journal::db::{self, During, get_meta, meta, put_meta};
use crate::journal::lock::fresh_folder;
use crate::journal::overlay::Change;
use crate::journal::restart::changes;
use crate::journal::{Result, clean};
use crate::log::ids::{Blob, Ino, LocalId, SessionId};
use crate::log::row::Key;
use rusqlite::{Connection, OptionalExtension};
use std::collections::BTreeMap;
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

const README: &str = "\
These changes were made on this machine and are not in the session, because another writer had gone on without
them (info.json says more). List them, and copy them out as files, with

    cwdfs salvage --list CACHE
    cwdfs salvage --to DIRECTORY CACHE

where CACHE is the cache directory, or the folder two above this one. Nothing else needs this folder: delete it when
you have what you want.
";

/// Writes a folder with all that is not committed, and makes sure that it is on disk. `None`: there is nothing.
pub(super) fn write(conn: &Connection, dir: &Path, why: &str, same_boot: bool) -> Result<Option<Salvaged>> {
    let changes: Vec<Change> = changes(conn)?.into_iter().map(|(_, change)| change).collect();
    let all_images = images(conn)?;
    let unstored: Vec<Ino> = all_images.iter().filter(|(_, i)| i.changed).map(|(ino, _)| *ino).collect();
    if changes.is_empty() && unstored.is_empty() {
        return Ok(None);
    }
    let tree = Tree::of(conn, &changes, &unstored)?;
    let images: BTreeMap<Ino, Image> =
        all_images.into_iter().filter(|(ino, image)| tree.has_use_for(*ino, image)).collect();
    let sets = dir.join(FOLDER);
    DirBuilder::new().recursive(true).mode(0o700).create(&sets).map_err(|e| failed(&sets, e))?;
    let folder = fresh_folder(&sets, "changes")?;
    write_info(&folder, &info(conn, why, same_boot)?)?;
    write_rows(conn, &folder, &tree, &changes, &images)?;
    write_file(&folder.join("README"), README.as_bytes())?;
    move_images(dir, &folder, &images)?;
    for made in [&folder, &sets] {
        File::open(made).and_then(|d| d.sync_all()).map_err(|e| failed(made, e))?;
    }
    forget_images(conn, images.keys())?;
    let changes = changes.iter().filter(|change| !is_bookkeeping(&change.key)).count() as u64;
    Ok(Some(Salvaged { folder, changes, images: unstored.len() as u64 }))
}

/// Whether a row says nothing that a person has changed.
pub(super) fn is_bookkeeping(key: &[u8]) -> bool {
    matches!(Key::decode(key), Some(Key::Meta { .. } | Key::View { .. }) | None)
}

fn info(conn: &Connection, why: &str, same_boot: bool) -> Result<Info> {
    let when = OffsetDateTime::now_utc().format(&Rfc3339);
    Ok(Info {
        when: when.map_err(|e| failed(Path::new(INFO), e))?,
        why: why.to_owned(),
        by: None,
        session: get_meta::<SessionId>(conn, meta::SESSION)?,
        same_boot,
    })
}

/// The database of a set: the tables of a journal, with what this set needs of it.
fn write_rows(
    conn: &Connection,
    folder: &Path,
    tree: &Tree,
    changes: &[Change],
    images: &BTreeMap<Ino, Image>,
) -> Result<()> {
    let set = Connection::open(folder.join(db::FILE)).during("making a set of changes")?;
    set.execute_batch("PRAGMA synchronous = FULL;").during("making a set of changes")?;
    db::create(&set)?;
    set.execute_batch("BEGIN").during("making a set of changes")?;
    copy_meta(conn, &set)?;
    base::put_rows(&set, &tree.before().iter().collect::<Vec<_>>())?;
    for change in changes {
        set.prepare_cached("INSERT INTO change VALUES (?, ?, ?, ?)")
            .and_then(|mut s| {
                let seq = change.seq as i64;
                s.execute((seq, seq, &change.key, change.value.as_deref()))
            })
            .during("writing changes")?;
    }
    for (ino, image) in images {
        set.prepare_cached("INSERT INTO local VALUES (?, ?, ?)")
            .and_then(|mut s| s.execute((keep::TABLE, ino.0.to_be_bytes(), db::pack(image))))
            .during("writing what is kept of local content")?;
    }
    copy_pieces(conn, &set, tree)?;
    set.execute_batch("COMMIT").during("making a set of changes")?;
    set.close().map_err(|(_, e)| e).during("making a set of changes")
}

fn copy_meta(conn: &Connection, set: &Connection) -> Result<()> {
    if let Some(session) = get_meta::<SessionId>(conn, meta::SESSION)? {
        put_meta(set, meta::SESSION, &session)?;
    }
    if let Some(boot) = get_meta::<String>(conn, meta::BOOT)? {
        put_meta(set, meta::BOOT, &boot)?;
    }
    if let Some(base) = Base::read(conn)? {
        base.write(set)?;
    }
    Ok(())
}

/// The small contents that are here of what the files of a set consist of.
fn copy_pieces(conn: &Connection, set: &Connection, tree: &Tree) -> Result<()> {
    for extent in tree.extents_after()? {
        let id = match &extent.blob {
            Blob::Local(id) => Some(*id),
            blob => clean_at(conn, blob, extent.piece_off)?,
        };
        let Some((id, bytes)) =
            id.map(|id| clean::read(conn, id).map(|b| b.map(|b| (id, b)))).transpose()?.flatten()
        else {
            continue;
        };
        set.prepare_cached("INSERT OR IGNORE INTO piece VALUES (?, ?)")
            .and_then(|mut s| s.execute((id.0 as i64, &bytes[..])))
            .during("keeping content")?;
        if !matches!(extent.blob, Blob::Local(_)) {
            clean::place(set, &extent.blob, &[(id, extent.piece_off)])?;
        }
    }
    Ok(())
}

fn clean_at(conn: &Connection, blob: &Blob, off: u64) -> Result<Option<LocalId>> {
    conn.prepare_cached("SELECT id FROM place WHERE blob = ? AND off = ?")
        .and_then(|mut s| {
            s.query_row((db::pack(blob), off as i64), |r| r.get(0).map(|id: i64| LocalId(id as u64)))
                .optional()
        })
        .during("looking for content")
}

/// Makes a folder for a damaged database one that can be listed, as far as it can be read, with the local files whose
/// content may not be stored.
pub(in crate::journal) fn note_damage(dir: &Path, aside: &Path, why: &str) -> Result<()> {
    let when = OffsetDateTime::now_utc().format(&Rfc3339).map_err(|e| failed(Path::new(INFO), e))?;
    // Which boot wrote what is as good as unknown.
    let info = Info { when, why: why.to_owned(), by: None, session: None, same_boot: false };
    write_info(aside, &info)?;
    let known = Connection::open_with_flags(dir.join(db::FILE), rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY)
        .during("opening a damaged journal")
        .and_then(|conn| images(&conn));
    match known {
        Ok(images) => {
            move_images(dir, aside, &images.into_iter().filter(|(_, image)| image.changed).collect())
        }
        Err(_) => match std::fs::rename(dir.join("data"), aside.join("data")) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(failed(&dir.join("data"), e)),
            _ => Ok(()),
        },
    }
}

/// Moves the local files of a set into it. One that is not there any more is missed when the set is read.
fn move_images(dir: &Path, folder: &Path, images: &BTreeMap<Ino, Image>) -> Result<()> {
    let (from, to) = (dir.join("data"), folder.join("data"));
    std::fs::create_dir(&to).map_err(|e| failed(&to, e))?;
    for image in images.values() {
        let name = image.file.to_string();
        match std::fs::rename(from.join(&name), to.join(&name)) {
            Ok(()) => File::open(to.join(&name)).and_then(|f| f.sync_all()).map_err(|e| failed(&to, e))?,
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            Err(e) => return Err(failed(&from.join(&name), e)),
        }
    }
    File::open(&to).and_then(|d| d.sync_all()).map_err(|e| failed(&to, e))
}

/// Empties the journal of what is not committed.
pub(super) fn forget(conn: &Connection) -> Result<()> {
    conn.execute_batch(
        "DELETE FROM change; DELETE FROM slot; DELETE FROM piece WHERE id NOT IN (SELECT id FROM place);",
    )
    .during("dropping salvaged changes")?;
    crate::journal::restart::forget_settled(conn)
}

fn forget_images<'a>(conn: &Connection, inos: impl Iterator<Item = &'a Ino>) -> Result<()> {
    for ino in inos {
        conn.prepare_cached("DELETE FROM local WHERE tbl = ? AND key = ?")
            .and_then(|mut s| s.execute((keep::TABLE, ino.0.to_be_bytes())))
            .during("dropping salvaged content")?;
    }
    Ok(())
}

/// Puts in what was found out about a set after it was made.
pub(super) fn explain(folder: &Path, why: &str, by: Option<&str>) -> Result<()> {
    let mut info = super::set::read_info(folder)?;
    (info.why, info.by) = (why.to_owned(), by.map(str::to_owned));
    write_info(folder, &info)
}

fn write_info(folder: &Path, info: &Info) -> Result<()> {
    let path = folder.join(INFO);
    let json = serde_json::to_vec_pretty(info).map_err(|e| failed(&path, e))?;
    let new = folder.join("info.new");
    write_file(&new, &json)?;
    std::fs::rename(&new, &path).map_err(|e| failed(&path, e))
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let written = File::create(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    written.map_err(|e| failed(path, e))
}
