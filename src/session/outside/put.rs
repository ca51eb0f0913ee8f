//! An outside client made or edited an object.

use super::super::change::Change;
use super::super::remove::drop_directory;
use super::{NOTHING_OF_OURS, Outside, UNREAD, bad_path, last_name};
use crate::log::ids::Ino;
use crate::log::row::{ExtentRow, InodeRow, Key, Record, ViewRow};
use crate::log::source::Seq;
use crate::session::Session;
use crate::session::api::Result;
use crate::session::path::check_new_name;

/// What became of an outside object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Placed {
    /// It is in the tree; the change's number.
    New(Seq),
    /// It replaced what was there; the change's number.
    Replaced(Seq),
    /// It only told us more of what is there, or of a directory that we show already.
    Noted(Seq),
    /// Both sides changed: nothing is done; [`Session::outside_keep`] keeps both.
    Conflict,
    /// A directory (or a file of ours, where a directory would have to be) has the name.
    Shadowed,
    /// The row of the view has changed since: look again.
    Raced,
}

/// What became of an outside edit that is kept beside ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is in the tree under the other name; the change's number.
    Beside(Seq),
    /// The other name is taken.
    Taken,
    /// The row of the view, or the tree, has changed since: look again.
    Raced,
}

/// Where a path leads, with the directories that had to be made.
struct Parent {
    ino: Ino,
    /// It was made by this change, so nothing is in it.
    new: bool,
    /// Entries that changed on the way.
    changed: Vec<(Ino, Vec<u8>)>,
}

impl Session {
    /// Puts an object that an outside client made or edited into the tree, if the row of the view is still
    /// `expect` and the tree has there what that row tells of, or nothing, or nothing but what the object had before.
    pub fn outside_put(&self, object: &Outside, expect: Option<&ViewRow>) -> Result<Placed> {
        object.check()?;
        let mut change = self.change()?;
        if !self.row_is(&object.key, expect)? {
            return Ok(Placed::Raced);
        }
        let Some(parent) = self.make_parents(&mut change, &object.path)? else { return Ok(Placed::Shadowed) };
        let name = last_name(&object.path).as_bytes();
        check_new_name(parent.ino, name)?;
        let there = if parent.new { None } else { change.entry(parent.ino, name)? };
        let Some(entry) = there else {
            return self.place(change, object, parent, None).map(Placed::New);
        };
        let ino = entry.row.ino;
        let row = change.inode(ino)?;
        match (object.directory, row.is_dir()) {
            (true, true) => self.note_directory(change, object, expect, ino, row),
            (false, true) => Ok(Placed::Shadowed),
            (true, false) if !self.gives_way(&object.path, ino, &row)? => Ok(Placed::Shadowed),
            (false, false)
                if !self.is_as_published(ino, &row, expect) && !self.hangs_on(&object.key, ino)? =>
            {
                Ok(Placed::Conflict)
            }
            (true, false) => {
                change.record(Record::delete(&Key::View { key: object.path.clone() }));
                self.place(change, object, parent, Some((ino, row))).map(Placed::Replaced)
            }
            (false, false) => self.place(change, object, parent, Some((ino, row))).map(Placed::Replaced),
        }
    }

    /// Keeps an outside edit as `name` beside the file of ours that has its name; `content` is where its
    /// bytes are now. From then on the row of the view tells that the object shows nothing of ours, so that
    /// ours is published over it.
    pub fn outside_keep(
        &self,
        object: &Outside,
        name: &str,
        content: Vec<(u64, ExtentRow)>,
        expect: Option<&ViewRow>,
    ) -> Result<Kept> {
        let mut change = self.change()?;
        if !self.row_is(&object.key, expect)? {
            return Ok(Kept::Raced);
        }
        let Some((parent, ino, old)) = self.at_path(&object.path)? else { return Ok(Kept::Raced) };
        if old.is_dir() {
            return Ok(Kept::Raced);
        }
        check_new_name(parent, name.as_bytes())?;
        if change.entry(parent, name.as_bytes())?.is_some() {
            return Ok(Kept::Taken);
        }
        let beside = change.new_ino();
        let row = object.inode(Some(&old), self.options.untold(), change.now());
        put_inode(&mut change, object, beside, parent, name.as_bytes(), row, content);
        change.touch_directory(parent, 0)?;
        change.record(Record::put(&object.view_key(), &object.row(ino, NOTHING_OF_OURS)));
        let seq = change.apply_named()?;
        self.forget_names([(parent, name.as_bytes().to_vec())]);
        Ok(Kept::Beside(seq))
    }

    /// The object whose headers were not read when it was put into the tree has these. They do not replace
    /// what was set here since.
    pub fn outside_headers(&self, object: &Outside, expect: &ViewRow) -> Result<Placed> {
        let mut change = self.change()?;
        if expect.version != UNREAD || !self.row_is(&object.key, Some(expect))? {
            return Ok(Placed::Raced);
        }
        let ino = expect.ino;
        let Some(old) = self.journal.inode(ino)?.filter(|row| row.is_file()) else {
            return Ok(Placed::Raced);
        };
        let unchanged = old.version == UNREAD;
        let untold = self.options.untold();
        let (guess, told) = (object.guessed(&old, untold), object.inode(Some(&old), untold, change.now()));
        let mut row = InodeRow { version: old.version + 1, ..old.clone() };
        // The mount that guessed may have had other modes.
        if unchanged || old.mode == guess.mode {
            row.mode = old.mode & libc::S_IFMT | told.mode & 0o7777;
        }
        // The mount that guessed may have been another user's.
        if unchanged || (old.uid, old.gid) == (guess.uid, guess.gid) {
            (row.uid, row.gid) = (told.uid, told.gid);
        }
        if unchanged {
            row.mtime = told.mtime;
        }
        let set = self.journal.xattrs(ino)?;
        for (name, value) in object.headers.iter().flat_map(|headers| &headers.xattrs) {
            if !set.iter().any(|(there, _)| there == name) {
                change.put_xattr(ino, name, Some(value.clone()));
            }
        }
        let shows = if unchanged { row.version } else { NOTHING_OF_OURS };
        change.put_inode(ino, row);
        change.record(Record::put(&object.view_key(), &object.row(ino, shows)));
        let seq = change.apply_named()?;
        self.forget_inode(ino);
        Ok(Placed::Noted(seq))
    }

    /// Makes the directories above `path` that are not there. `None`: something else has such a name and
    /// does not give way.
    fn make_parents(&self, change: &mut Change<'_>, path: &str) -> Result<Option<Parent>> {
        let mut parent = Parent { ino: Ino::ROOT, new: false, changed: Vec::new() };
        let Some((above, _)) = path.rsplit_once('/') else { return Ok(Some(parent)) };
        let mut end = 0;
        for name in above.split('/') {
            end += name.len() + usize::from(end > 0);
            let there = if parent.new { None } else { change.entry(parent.ino, name.as_bytes())? };
            let old = match there {
                None => None,
                Some(entry) => {
                    let row = change.inode(entry.row.ino)?;
                    if row.is_dir() {
                        parent.ino = entry.row.ino;
                        continue;
                    }
                    if !self.gives_way(&path[..end], entry.row.ino, &row)? {
                        return Ok(None);
                    }
                    change.record(Record::delete(&Key::View { key: path[..end].to_owned() }));
                    Some((entry.row.ino, row))
                }
            };
            check_new_name(parent.ino, name.as_bytes())?;
            parent.changed.push((parent.ino, name.as_bytes().to_vec()));
            parent.ino = self.implied_directory(change, parent.ino, name.as_bytes(), old)?;
            parent.new = true;
        }
        Ok(Some(parent))
    }

    /// A directory that only keys below it tell of.
    fn implied_directory(
        &self,
        change: &mut Change<'_>,
        parent: Ino,
        name: &[u8],
        old: Option<(Ino, InodeRow)>,
    ) -> Result<Ino> {
        let implied = Outside {
            key: String::new(),
            path: String::new(),
            directory: true,
            etag: String::new(),
            size: 0,
            modified_ms: 0,
            headers: Some(Default::default()),
        };
        let now = change.now();
        let ino = change.new_ino();
        let row = InodeRow { mtime: now, atime: now, ..implied.inode(None, self.options.untold(), now) };
        put_inode(change, &implied, ino, parent, name, row, Vec::new());
        if let Some((old, row)) = old {
            self.drop_name(change, old, row, parent, name)?;
        }
        change.touch_directory(parent, 1)?;
        Ok(ino)
    }

    /// Whether the file at `path` leaves its name to a directory that the view has there too: it came from
    /// the view, nothing of it changed here, and its bytes stay in their object.
    fn gives_way(&self, path: &str, ino: Ino, row: &InodeRow) -> Result<bool> {
        let view: Option<ViewRow> = self.journal.get(&Key::View { key: path.to_owned() })?;
        if !row.is_file() || !self.is_as_published(ino, row, view.as_ref()) {
            return Ok(false);
        }
        let extents = self.journal.extents(ino, 0..u64::MAX)?;
        Ok(!extents.is_empty() && extents.iter().all(|(_, extent)| super::own::is_imported(&extent.blob)))
    }

    /// Puts the object's inode at its name, in place of `old`. Always a new inode: opens of the old one go
    /// on as after a rename over it, and a further name of it keeps it.
    fn place(
        &self,
        mut change: Change<'_>,
        object: &Outside,
        parent: Parent,
        old: Option<(Ino, InodeRow)>,
    ) -> Result<Seq> {
        let name = last_name(&object.path).as_bytes();
        let ino = change.new_ino();
        let row = object.inode(old.as_ref().map(|(_, row)| row), self.options.untold(), change.now());
        let (version, regular) = (row.version, row.is_file());
        let content = if regular { object.extents() } else { Vec::new() };
        let directory = row.is_dir();
        put_inode(&mut change, object, ino, parent.ino, name, row, content);
        let replaced = old.as_ref().map(|(ino, _)| *ino);
        if let Some((old, row)) = old {
            match row.is_dir() {
                true => drop_directory(&mut change, old, row),
                false => self.drop_name(&mut change, old, row, parent.ino, name)?,
            }
        }
        change.touch_directory(parent.ino, i64::from(directory))?;
        change.record(Record::put(&object.view_key(), &object.row(ino, version)));
        let seq = change.apply_named()?;
        let last = (parent.ino, name.to_vec());
        self.forget_names(parent.changed.into_iter().chain([last]));
        // Its further names show one link less.
        replaced.into_iter().for_each(|ino| self.forget_inode(ino));
        Ok(seq)
    }

    /// The view has a marker for a directory of ours.
    fn note_directory(
        &self,
        mut change: Change<'_>,
        object: &Outside,
        expect: Option<&ViewRow>,
        ino: Ino,
        old: InodeRow,
    ) -> Result<Placed> {
        let told =
            object.headers.as_ref().filter(|headers| headers.mode.is_some() || headers.mtime.is_some());
        let unchanged = match expect {
            Some(view) => view.ino == ino && view.version == old.version,
            // Made here or implied by a key, and left as it was made.
            None => old.version <= 1,
        };
        let version = match (unchanged, told.is_some()) {
            (true, true) => old.version + 1,
            (true, false) => old.version,
            (false, _) => NOTHING_OF_OURS,
        };
        if unchanged && told.is_some() {
            let new = object.inode(Some(&old), self.options.untold(), change.now());
            let row =
                InodeRow { mode: new.mode, uid: new.uid, gid: new.gid, mtime: new.mtime, version, ..old };
            put_xattrs(&mut change, object, ino);
            change.put_inode(ino, row);
        }
        change.record(Record::put(&object.view_key(), &object.row(ino, version)));
        let seq = change.apply_named()?;
        self.forget_inode(ino);
        Ok(Placed::Noted(seq))
    }
}

/// Adds an inode with its name, attributes and content to a change.
fn put_inode(
    change: &mut Change<'_>,
    object: &Outside,
    ino: Ino,
    parent: Ino,
    name: &[u8],
    row: InodeRow,
    content: Vec<(u64, ExtentRow)>,
) {
    let home = change.put_entry(parent, name, ino, row.mode);
    change.put_inode(ino, InodeRow { home: Some(home), ..row });
    put_xattrs(change, object, ino);
    for (offset, extent) in content {
        change.record(Record::put(&Key::Extent { ino, offset }, &extent));
    }
}

fn put_xattrs(change: &mut Change<'_>, object: &Outside, ino: Ino) {
    for (name, value) in object.headers.iter().flat_map(|headers| &headers.xattrs) {
        change.put_xattr(ino, name, Some(value.clone()));
    }
}

impl Outside {
    /// Checks what callers promise of the path.
    pub fn check(&self) -> Result<()> {
        let fine = |name: &str| !matches!(name, "" | "." | "..") && name.len() <= 255 && !name.contains('\0');
        match self.path.split('/').all(fine) {
            true => Ok(()),
            false => Err(bad_path()),
        }
    }
}
