//! What the tree of a mounted session has, and what the plain objects show.

use super::ledger::{Token, tokens};
use super::site::{At, Site};
use crate::log::ids::{Blob, Ino, keys};
use crate::log::row::ExtentRow;
use crate::session::SessionError;
use crate::simulation::oracle;
use crate::simulation::world::World;
use crate::view::headers::TARGET;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// What a path has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    Directory,
    File(Vec<u8>),
    Symlink(Vec<u8>),
    /// A file whose content cannot be read.
    Broken(String),
}

/// Everything by key.
pub type Tree = BTreeMap<String, Node>;

/// The bytes of an extent's piece, wherever they are at this moment.
fn piece(site: &Site, row: &ExtentRow) -> Result<Bytes, String> {
    let journal = &site.session.journal;
    let row = journal.resolve(row);
    match journal.piece(&row) {
        Ok(Some(bytes)) => return Ok(bytes),
        Ok(None) => {}
        Err(error) => return Err(error.to_string()),
    }
    let bucket = site.world.bucket.lock();
    if let Blob::Object { key, etag } = &row.blob
        && bucket.object(key).is_none_or(|object| object.etag.0 != *etag)
    {
        return Err(format!("{key} is not what was imported"));
    }
    oracle::piece(&bucket, &row)
}

/// What a file has, by its rows.
fn content(site: &Site, ino: Ino, size: u64) -> Result<Vec<u8>, String> {
    let extents = site.session.journal.extents(ino, 0..u64::MAX).map_err(|e| e.to_string())?;
    let mut content = vec![0; size as usize];
    for (offset, row) in extents {
        let bytes = piece(site, &row)?;
        let from = row.skip as usize;
        let len = (row.len as usize).min(bytes.len() - from).min(content.len() - offset as usize);
        content[offset as usize..offset as usize + len].copy_from_slice(&bytes[from..from + len]);
    }
    Ok(content)
}

/// What an inode has, by its rows.
pub fn node(site: &Site, ino: Ino) -> Result<Node, SessionError> {
    let Some(row) = site.session.journal.inode(ino)? else { return Ok(Node::Broken("no row".into())) };
    Ok(match row.kind() {
        libc::S_IFDIR => Node::Directory,
        libc::S_IFLNK => Node::Symlink(row.target),
        _ => content(site, ino, row.size).map_or_else(Node::Broken, Node::File),
    })
}

/// The tokens of what is at a path, by its rows.
pub fn tokens_at(site: &Site, at: At) -> Result<Vec<Token>, SessionError> {
    Ok(match site.find(at)? {
        Some(ino) => [tokens_of(&node(site, ino)?), site.waiting_in(ino)].concat(),
        None => Vec::new(),
    })
}

fn tokens_of(node: &Node) -> Vec<Token> {
    match node {
        Node::File(bytes) | Node::Symlink(bytes) => tokens(bytes),
        Node::Directory | Node::Broken(_) => Vec::new(),
    }
}

/// The whole tree.
pub fn of_session(site: &Site) -> Result<Tree, SessionError> {
    let mut tree = Tree::new();
    let mut open = vec![(Ino::ROOT, String::new())];
    while let Some((dir, path)) = open.pop() {
        for entry in site.session.journal.entries(dir, 0, usize::MAX >> 2)? {
            let path = format!("{path}{}", String::from_utf8_lossy(&entry.name));
            match node(site, entry.row.ino)? {
                Node::Directory => {
                    tree.insert(format!("{path}/"), Node::Directory);
                    open.push((entry.row.ino, format!("{path}/")));
                }
                node => drop(tree.insert(path, node)),
            }
        }
    }
    Ok(tree)
}

/// The plain objects, as a person would take them.
pub fn of_objects(world: &World) -> Tree {
    let bucket = world.bucket.lock();
    let plain = bucket.below("").filter(|(key, _)| !key.starts_with(keys::ROOT));
    plain
        .map(|(key, stored)| {
            let node = match stored.metadata.get(TARGET) {
                _ if key.ends_with('/') => Node::Directory,
                Some(target) if stored.body.is_empty() => Node::Symlink(target.clone().into_bytes()),
                _ => Node::File(stored.body.to_vec()),
            };
            (key.clone(), node)
        })
        .collect()
}

/// All tokens of a tree.
pub fn all_tokens(tree: &Tree) -> BTreeSet<Token> {
    tree.values().flat_map(tokens_of).collect()
}

/// The tokens of the object at `key`.
pub fn tokens_of_object(world: &World, key: &str) -> Vec<Token> {
    let bucket = world.bucket.lock();
    let Some(stored) = bucket.object(key) else { return Vec::new() };
    let target = stored.metadata.get(TARGET).map(|target| tokens(target.as_bytes()));
    [tokens(&stored.body), target.unwrap_or_default()].concat()
}

/// The first difference. What hung on an object that somebody took away, while a directory above it had another name
/// already, has nothing to show.
pub fn compare(tree: &Tree, objects: &Tree) -> Result<(), String> {
    for key in tree.keys().chain(objects.keys()) {
        let (there, shown) = (tree.get(key), objects.get(key));
        let lost = matches!(there, Some(Node::Broken(_)));
        if there != shown && !lost {
            return Err(format!("{key} has {there:?}, and its object shows {shown:?}"));
        }
    }
    Ok(())
}
