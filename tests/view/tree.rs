//! What a session's tree shows, and what the objects of its view say: both in the same words.

use crate::outside::Client;
use crate::rig::Host;
use cwdfs::log::ids::Ino;
use cwdfs::session::api::DirEntry;
use std::collections::BTreeMap;

/// A file, directory or symlink.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shown {
    /// `st_mode`.
    pub mode: u32,
    /// Content, or a symlink's target.
    pub data: Vec<u8>,
}

impl Shown {
    fn brief(&self) -> String {
        let head = &self.data[..self.data.len().min(60)];
        format!("mode {:o}, {} bytes: {}", self.mode, self.data.len(), String::from_utf8_lossy(head))
    }
}

/// All of a tree by key: directories end in `/`.
pub type Shows = BTreeMap<String, Shown>;

/// The tree of a mounted session.
pub fn of_session(host: &Host) -> Shows {
    let mut shows = Shows::new();
    walk(host, Ino::ROOT, "", &mut shows);
    shows
}

fn walk(host: &Host, ino: Ino, path: &str, shows: &mut Shows) {
    let mut entries = Vec::new();
    let mut emit = |entry: &DirEntry| {
        entries.push((String::from_utf8_lossy(&entry.name).into_owned(), entry.ino));
        true
    };
    host.session.readdir(ino, 0, false, &mut emit).expect("readdir");
    for (name, ino) in entries.into_iter().filter(|(name, _)| name != "." && name != "..") {
        let mode = host.session.getattr(ino).expect("getattr").mode;
        let key = format!("{path}{name}");
        let data = match mode & libc::S_IFMT {
            libc::S_IFREG => host.read_ino(ino).unwrap_or_else(|error| panic!("read {key}: {error}")),
            libc::S_IFLNK => host.session.readlink(ino).expect("readlink"),
            _ => Vec::new(),
        };
        if mode & libc::S_IFMT == libc::S_IFDIR {
            let key = format!("{key}/");
            walk(host, ino, &key, shows);
            shows.insert(key, Shown { mode, data });
        } else {
            shows.insert(key, Shown { mode, data });
        }
    }
}

/// The tree that the objects tell of, as geesefs would read them.
pub fn of_objects(client: &Client) -> Shows {
    let shown = |(key, object): (String, cwdfs::store::Object)| {
        let told = |name: &str| object.meta.metadata.get(name).cloned();
        let mode = told("mode").and_then(|mode| mode.parse().ok()).unwrap_or(0);
        let data = match told("--symlink-target") {
            Some(target) => target.into_bytes(),
            None => object.body.to_vec(),
        };
        (key, Shown { mode, data })
    };
    client.objects().into_iter().map(shown).collect()
}

/// The objects show the tree, no more and no less.
#[track_caller]
pub fn assert_published(host: &Host, client: &Client) {
    let (tree, objects) = (of_session(host), of_objects(client));
    let keys = |shows: &Shows| shows.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&objects), keys(&tree), "the keys of the view, and the tree's");
    for (key, shown) in &tree {
        let mut told = objects[key].clone();
        if told.mode == 0 {
            // An outside client's object, which says nothing of that.
            told.mode = shown.mode;
        }
        assert!(told == *shown, "{key}: the object says {}, the tree {}", told.brief(), shown.brief());
    }
}
