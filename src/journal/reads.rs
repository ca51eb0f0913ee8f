//! Reading rows: changes in memory, then the cache, then the database.
//!
//! Invariant: nothing older than the newest committed value is ever put into the cache. A value read from
//! the database goes in only if, still, no change of the row is in memory and no commit came in between.

use super::overlay::Overlay;
use super::{Entry, Journal, Result, Shared};
use crate::journal::base;
use crate::log::ids::Ino;
use crate::log::row::{Cookie, DentryRow, ExtentRow, InodeRow, Key, KeyBytes, Record, Row, meta, prefix_end};
use crate::log::source::{LocalError, LocalKind};
use bytes::Bytes;
use std::collections::HashSet;
use std::ops::{Bound, Range};

impl Shared {
    pub(super) fn get_raw(&self, key: &[u8]) -> Result<Option<Bytes>> {
        let generation = {
            let overlay = self.overlay.read();
            if let Some(newest) = overlay.get(key) {
                return Ok(newest);
            }
            overlay.generation
        };
        if let Some(cached) = self.rows.get(key) {
            return Ok(cached);
        }
        if let Some(ino) = Key::xattr_of(key) {
            return self.committed_xattr(ino, key, generation);
        }
        let value = self.readers.with(|conn| base::get(conn, key))?.map(Bytes::from);
        if cacheable(key) {
            let overlay = self.overlay.read();
            if overlay.generation == generation && overlay.get(key).is_none() {
                self.rows.insert(key.to_vec(), value.clone());
            }
        }
        Ok(value)
    }

    /// An attribute in the committed rows. Most inodes have none, and are asked for several again and again:
    /// that there are none is in the cache, under the key that all of them start with.
    fn committed_xattr(&self, ino: Ino, key: &[u8], generation: u64) -> Result<Option<Bytes>> {
        let all = Key::xattrs_of(ino);
        if self.rows.contains_key(&all) {
            return Ok(None);
        }
        let end = prefix_end(&all);
        let (any, value) = self.readers.with(|conn| {
            let any = !base::scan(conn, &all, end.as_deref(), 1)?.is_empty();
            Ok((any, if any { base::get(conn, key)? } else { None }))
        })?;
        if !any {
            let overlay = self.overlay.read();
            if overlay.generation == generation {
                self.rows.insert(all, None);
            }
        }
        Ok(value.map(Bytes::from))
    }

    /// Rows that are committed now, to be called under the write lock of what is changed: the cache follows.
    pub(super) fn cache_committed(&self, record: &Record) {
        match Key::xattr_of(&record.key) {
            Some(ino) => self.rows.invalidate(&Key::xattrs_of(ino)),
            None if cacheable(&record.key) => {
                self.rows.insert(record.key.clone(), record.value.clone().map(Bytes::from));
            }
            None => {}
        }
    }

    pub(super) fn scan(
        &self,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<(KeyBytes, Bytes)>> {
        if limit == 0 || end.is_some_and(|end| end <= from) {
            return Ok(Vec::new());
        }
        for _ in 0..4 {
            let generation = self.overlay.read().generation;
            if let Some(rows) = self.try_scan(generation, from, end, limit)? {
                return Ok(rows);
            }
        }
        // Commits come faster than we read: keep them out for once.
        let overlay = self.overlay.read();
        self.readers
            .with(|conn| {
                let base = |from: &[u8], n| base::scan(conn, from, end, n);
                merge(base, |from, end, n| Some(changed(&overlay, from, end, n)), from, end, limit)
            })?
            .ok_or_else(|| LocalError::failed("a scan was interrupted"))
    }

    /// `None` when a commit came in between.
    fn try_scan(
        &self,
        generation: u64,
        from: &[u8],
        end: Option<&[u8]>,
        limit: usize,
    ) -> Result<Option<Vec<(KeyBytes, Bytes)>>> {
        let overlaid = |from: &[u8], end: Option<&[u8]>, n: usize| {
            let overlay = self.overlay.read();
            (overlay.generation == generation).then(|| changed(&overlay, from, end, n))
        };
        self.readers.with(|conn| {
            let base = |from: &[u8], n| base::scan(conn, from, end, n);
            merge(base, overlaid, from, end, limit)
        })
    }
}

impl Shared {
    /// The last row with `from <= key < end`, both in one inode's rows of one kind.
    fn before(&self, from: &[u8], end: &[u8]) -> Result<Option<(KeyBytes, Bytes)>> {
        const CHUNK: usize = 8;
        let mut end = end.to_vec();
        loop {
            let generation = self.overlay.read().generation;
            let rows = self.readers.with(|conn| base::scan_down(conn, from, &end, CHUNK))?;
            let low = rows.last().filter(|_| rows.len() == CHUNK).map(|(key, _)| key.clone());
            let overlay = self.overlay.read();
            if overlay.generation != generation {
                continue;
            }
            let bounds = (Bound::Included(low.as_deref().unwrap_or(from)), Bound::Excluded(end.as_slice()));
            let mut rows = rows.into_iter().filter(|(key, _)| !overlay.is_dead(key)).peekable();
            for (key, (_, value)) in overlay.rows.range::<[u8], _>(bounds).rev() {
                if let Some((k, v)) = rows.next_if(|(k, _)| k > key) {
                    return Ok(Some((k, v.into())));
                }
                rows.next_if(|(k, _)| k == key);
                if let Some(value) = value {
                    return Ok(Some((key.clone(), value.clone())));
                }
            }
            match (rows.next(), low) {
                (Some((k, v)), _) => return Ok(Some((k, v.into()))),
                (None, Some(low)) => end = low,
                (None, None) => return Ok(None),
            }
        }
    }
}

/// What the overlay says of a range: changed rows, and inodes whose rows are gone.
struct Changed {
    rows: Vec<(KeyBytes, Option<Bytes>)>,
    /// Everything below this was looked at; `None`: to the range's end.
    upto: Option<KeyBytes>,
    dead: HashSet<Ino>,
}

fn changed(overlay: &Overlay, from: &[u8], end: Option<&[u8]>, live: usize) -> Changed {
    let upper = end.map_or(Bound::Unbounded, Bound::Excluded);
    let mut found = Changed { rows: Vec::new(), upto: None, dead: HashSet::new() };
    let mut left = live;
    for (key, (_, value)) in overlay.rows.range::<[u8], _>((Bound::Included(from), upper)) {
        if left == 0 {
            found.upto = Some(key.clone());
            break;
        }
        left -= usize::from(value.is_some());
        found.rows.push((key.clone(), value.clone()));
    }
    found.dead = overlay.dead_inodes(from, end);
    found
}

type BaseRows = Vec<(KeyBytes, Vec<u8>)>;

/// Rows that are read at once at the least; in tests few, so that there are several rounds.
const FEWEST: usize = if cfg!(test) { 1 } else { 64 };

/// Merges rows of the database with the changes over them, in key order, chunk by chunk.
fn merge(
    base: impl Fn(&[u8], usize) -> Result<BaseRows>,
    overlaid: impl Fn(&[u8], Option<&[u8]>, usize) -> Option<Changed>,
    from: &[u8],
    end: Option<&[u8]>,
    limit: usize,
) -> Result<Option<Vec<(KeyBytes, Bytes)>>> {
    let mut out: Vec<(KeyBytes, Bytes)> = Vec::new();
    let mut cursor = from.to_vec();
    loop {
        // Where one row is asked for, thousands before it may be gone by changes in memory.
        let want = (limit - out.len()).max(FEWEST);
        let rows = base(&cursor, want)?;
        // The database has nothing more below `seen`.
        let seen = match rows.last() {
            Some((last, _)) if rows.len() == want => Some(successor(last)),
            _ => end.map(<[u8]>::to_vec),
        };
        let Some(changed) = overlaid(&cursor, seen.as_deref(), want) else { return Ok(None) };
        let upto = changed.upto.clone().or_else(|| seen.clone());
        merge_chunk(&mut out, rows, changed, upto.as_deref());
        out.truncate(limit);
        match upto {
            Some(next) if out.len() < limit && end.is_none_or(|end| next.as_slice() < end) => cursor = next,
            _ => return Ok(Some(out)),
        }
    }
}

fn merge_chunk(out: &mut Vec<(KeyBytes, Bytes)>, rows: BaseRows, changed: Changed, upto: Option<&[u8]>) {
    let gone = |key: &[u8]| {
        !changed.dead.is_empty() && Key::child_of(key).is_some_and(|ino| changed.dead.contains(&ino))
    };
    let mut base = rows
        .into_iter()
        .take_while(|(key, _)| upto.is_none_or(|upto| key.as_slice() < upto))
        .filter(|(key, _)| !gone(key))
        .peekable();
    for (key, value) in changed.rows {
        while let Some((k, v)) = base.next_if(|(k, _)| *k < key) {
            out.push((k, v.into()));
        }
        base.next_if(|(k, _)| *k == key);
        if let Some(value) = value {
            out.push((key, value));
        }
    }
    out.extend(base.map(|(k, v)| (k, v.into())));
}

fn successor(key: &[u8]) -> KeyBytes {
    [key, &[0]].concat()
}

/// Extents and further names are read in ranges only, which go past the cache; a row of the view is read once for
/// each change that is published, and there is one for each path.
pub(super) fn cacheable(key: &[u8]) -> bool {
    Key::child_of(key).is_none() && !Key::is_view(key)
}

fn bad(e: crate::log::row::BadRow) -> LocalError {
    LocalError::new(LocalKind::Damaged, e.to_string())
}

/// Reading rows.
impl Journal {
    /// A row's value.
    pub fn get_raw(&self, key: &[u8]) -> Result<Option<Bytes>> {
        self.shared.get_raw(key)
    }

    /// A row, decoded.
    pub fn get<R: Row>(&self, key: &Key) -> Result<Option<R>> {
        let value = self.get_raw(&key.encode())?;
        value.map(|v| R::decode(&v).map_err(bad)).transpose()
    }

    /// Up to `limit` rows with `from <= key < end`, newest values, in key order.
    pub fn scan(&self, from: &[u8], end: Option<&[u8]>, limit: usize) -> Result<Vec<(KeyBytes, Bytes)>> {
        self.shared.scan(from, end, limit)
    }

    /// A row's committed value, without what is uncommitted over it.
    pub fn committed_raw(&self, key: &[u8]) -> Result<Option<Bytes>> {
        Ok(self.shared.readers.with(|conn| base::get(conn, key))?.map(Bytes::from))
    }

    /// The key behind this session's directory cookies; made with the session.
    pub fn cookie_key(&self) -> Result<[u8; 16]> {
        let key = Key::Meta { name: meta::COOKIE_KEY.to_vec() };
        let value = self.get_raw(&key.encode())?;
        let value = value.ok_or_else(|| LocalError::failed("the session has no cookie key yet"))?;
        value[..]
            .try_into()
            .map_err(|_| LocalError::new(LocalKind::Damaged, "the cookie key has a wrong size"))
    }

    /// An inode's row.
    pub fn inode(&self, ino: Ino) -> Result<Option<InodeRow>> {
        self.get(&Key::Inode { ino })
    }

    /// The entry `name` of `parent`.
    pub fn dentry(&self, parent: Ino, name: &[u8]) -> Result<Option<Entry>> {
        let cookie = Cookie::of(&self.cookie_key()?, name);
        let row = self.get(&Key::Dentry { parent, cookie, name: name.to_vec() })?;
        Ok(row.map(|row| Entry { cookie, name: name.to_vec(), row }))
    }

    /// Up to `limit` entries of `parent` whose cookie is at least `from`, in cookie order.
    pub fn entries(&self, parent: Ino, from: u64, limit: usize) -> Result<Vec<Entry>> {
        let end = prefix_end(&Key::dentries_of(parent));
        let rows = self.scan(&Key::dentries_from(parent, from), end.as_deref(), limit)?;
        let entry = |(key, value): (KeyBytes, Bytes)| match Key::decode(&key) {
            Some(Key::Dentry { cookie, name, .. }) => {
                Ok(Entry { cookie, name, row: DentryRow::decode(&value).map_err(bad)? })
            }
            _ => Err(bad_key("dentry")),
        };
        rows.into_iter().map(entry).collect()
    }

    /// The extents of `ino` that overlap `range`, each with its offset in the file.
    pub fn extents(&self, ino: Ino, range: Range<u64>) -> Result<Vec<(u64, ExtentRow)>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let from = Key::Extent { ino, offset: range.start }.encode();
        let mut rows = self.extent_rows(&from, &Key::Extent { ino, offset: range.end }.encode())?;
        // Extents do not overlap, so of those that start earlier only the last may reach into the range.
        if rows.first().is_none_or(|(offset, _)| *offset > range.start)
            && let Some(before) = self.shared.before(&Key::extents_of(ino), &from)?
        {
            rows.insert(0, extent(before)?);
        }
        rows.retain(|(offset, row)| *offset < range.end && offset.saturating_add(row.len) > range.start);
        Ok(rows)
    }

    fn extent_rows(&self, from: &[u8], end: &[u8]) -> Result<Vec<(u64, ExtentRow)>> {
        let rows = self.scan(from, Some(end), usize::MAX)?;
        rows.into_iter().map(extent).collect()
    }

    /// The names and values of an inode's extended attributes.
    pub fn xattrs(&self, ino: Ino) -> Result<Vec<(Vec<u8>, Bytes)>> {
        let from = Key::xattrs_of(ino);
        let rows = self.scan(&from, prefix_end(&from).as_deref(), usize::MAX)?;
        let xattr = |(key, value): (KeyBytes, Bytes)| match Key::decode(&key) {
            Some(Key::Xattr { name, .. }) => Ok((name, value)),
            _ => Err(bad_key("xattr")),
        };
        rows.into_iter().map(xattr).collect()
    }

    /// The last of an inode's further names: directory, cookie, name.
    pub fn last_link(&self, ino: Ino) -> Result<Option<(Ino, Cookie, Vec<u8>)>> {
        let from = Key::links_of(ino);
        // Ends with an inode number's bytes after a tag below 0xff, so there is an end.
        let Some(end) = prefix_end(&from) else { return Ok(None) };
        self.shared.before(&from, &end)?.map(link).transpose()
    }
}

fn link((key, _): (KeyBytes, Bytes)) -> Result<(Ino, Cookie, Vec<u8>)> {
    match Key::decode(&key) {
        Some(Key::Link { parent, cookie, name, .. }) => Ok((parent, cookie, name)),
        _ => Err(bad_key("link")),
    }
}

fn extent((key, value): (KeyBytes, Bytes)) -> Result<(u64, ExtentRow)> {
    match Key::decode(&key) {
        Some(Key::Extent { offset, .. }) => Ok((offset, ExtentRow::decode(&value).map_err(bad)?)),
        _ => Err(bad_key("extent")),
    }
}

fn bad_key(what: &str) -> LocalError {
    LocalError::new(LocalKind::Damaged, format!("the key of a {what} row cannot be read"))
}
