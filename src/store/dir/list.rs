//! Listing: a walk in byte order of the keys, with the odd keys merged in.
//!
//! A folder sorts as its name with a slash, which is how its keys begin: so a walk that visits each
//! folder's entries in that order meets all keys in byte order.

use super::fail::Try;
use super::files::{entries, hidden_folder, names, open_file, open_folder};
use super::find::{At, Found, marker};
use super::place::{HIDDEN, MAX_KEY, Place, odd_name};
use crate::store::{ListPage, Listed};
use rustix::fd::{AsFd, BorrowedFd};

/// What is listed.
struct Query<'a> {
    prefix: &'a str,
    after: &'a str,
    /// Stop at this many objects.
    enough: usize,
}

impl Query<'_> {
    fn wants(&self, key: &str) -> bool {
        key.starts_with(self.prefix) && key > self.after && key.len() <= MAX_KEY
    }

    /// Whether a folder, whose keys begin with `path`, may hold a wanted key.
    fn enters(&self, path: &str) -> bool {
        let in_prefix = path.starts_with(self.prefix) || self.prefix.starts_with(path);
        in_prefix && (path > self.after || self.after.starts_with(path))
    }
}

/// Up to `limit` objects whose keys start with `prefix` and come after `after`.
pub(super) fn list(root: BorrowedFd<'_>, prefix: &str, after: &str, limit: usize) -> Try<ListPage> {
    let query = Query { prefix, after, enough: limit + 1 };
    let mut objects = Vec::new();
    walk(root, "", &query, &mut objects)?;
    list_odd(root, &query, &mut objects)?;
    objects.sort_by(|a, b| a.key.cmp(&b.key));
    // A key in both places is the one at its path, which came first.
    objects.dedup_by(|later, first| later.key == first.key);
    let more = objects.len() > limit;
    objects.truncate(limit);
    Ok(ListPage { objects, more })
}

/// The folders directly below the root.
pub(super) fn folders(root: BorrowedFd<'_>) -> Try<Vec<String>> {
    let folders = entries(root)?.into_iter().filter(|(name, is_folder)| *is_folder && name != HIDDEN);
    let mut names: Vec<String> = folders.map(|(name, _)| name).collect();
    names.sort_unstable();
    Ok(names)
}

fn walk(folder: BorrowedFd<'_>, path: &str, query: &Query<'_>, objects: &mut Vec<Listed>) -> Try<()> {
    let mut keys: Vec<String> = entries(folder)?
        .into_iter()
        .filter(|(name, _)| !(path.is_empty() && name == HIDDEN))
        .map(|(name, is_folder)| format!("{path}{name}{}", if is_folder { "/" } else { "" }))
        .filter(|key| if key.ends_with('/') { query.enters(key) } else { query.wants(key) })
        .collect();
    keys.sort_unstable();
    for key in keys {
        if objects.len() >= query.enough {
            return Ok(());
        }
        let name = key[path.len()..].trim_end_matches('/');
        if !key.ends_with('/') {
            if let Some((file, stat)) = open_file(folder, name)? {
                objects.push(listed(key.clone(), &Found::from_file(At::Path, file, &stat, name)?));
            }
        } else if let Ok(inner) = open_folder(folder, name) {
            if let (true, Some(found)) = (query.wants(&key), marker(&inner)?) {
                objects.push(listed(key.clone(), &found));
            }
            walk(inner.as_fd(), &key, query, objects)?;
        }
    }
    Ok(())
}

fn list_odd(root: BorrowedFd<'_>, query: &Query<'_>, objects: &mut Vec<Listed>) -> Try<()> {
    let Some(folder) = hidden_folder(root, "odd", false)? else {
        return Ok(());
    };
    for name in names(&folder)? {
        let Some((file, stat)) = open_file(&folder, &name)? else {
            continue;
        };
        let found = Found::from_file(At::Odd, file, &stat, &name)?;
        // A file that does not know its key, or claims another's, was not put there by us.
        if let Some(key) = found.key.clone().filter(|key| odd_name(key) == name && query.wants(key)) {
            objects.push(listed(key, &found));
        }
    }
    Ok(())
}

fn listed(key: String, found: &Found) -> Listed {
    debug_assert!(found.at == At::Odd || Place::of(&key) != Place::Odd);
    Listed { key, size: found.stamp.size, etag: found.etag(), modified: found.stamp.modified() }
}
