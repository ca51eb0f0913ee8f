//! Whether a tree that was found is the model's.

use crate::history::paths;
use crate::reference::{Id, Model, What};
use crate::subject::Found;
use std::collections::BTreeMap;

/// What differs, in words; nothing when the trees are equal.
pub fn differences(model: &Model, found: &BTreeMap<String, Found>) -> Vec<String> {
    let expected = paths(model);
    let mut wrong = Vec::new();
    for path in expected.keys().filter(|path| !found.contains_key(*path)) {
        wrong.push(format!("{path:?} is missing"));
    }
    let mut numbers: BTreeMap<Id, u64> = BTreeMap::new();
    for (path, there) in found {
        let Some(id) = expected.get(path) else {
            wrong.push(format!("{path:?} should not be there"));
            continue;
        };
        if *numbers.entry(*id).or_insert(there.ino) != there.ino {
            wrong.push(format!("{path:?} is no hard link any more"));
        }
        wrong.extend(node(model, *id, there).into_iter().map(|what| format!("{path:?}: {what}")));
    }
    wrong
}

fn node(model: &Model, id: Id, there: &Found) -> Vec<String> {
    let node = &model.nodes[&id];
    let (kind, data, nlink) = match &node.what {
        What::Dir(entries) => {
            let is_dir = |id: &&Id| matches!(model.nodes[*id].what, What::Dir(_));
            (libc::S_IFDIR, &[][..], 2 + entries.values().filter(is_dir).count() as u32)
        }
        What::File(data) => (libc::S_IFREG, data.as_slice(), node.nlink),
        What::Symlink(target) => (libc::S_IFLNK, target.as_slice(), node.nlink),
        What::Fifo => (libc::S_IFIFO, &[][..], node.nlink),
    };
    let mut wrong = Vec::new();
    let mut expect = |what: &str, model: String, found: String| {
        if model != found {
            wrong.push(format!("{what} is {found}, not {model}"));
        }
    };
    expect("mode", format!("{:o}", kind | node.mode), format!("{:o}", there.mode));
    expect("owner", format!("{}:{}", node.uid, node.gid), format!("{}:{}", there.uid, there.gid));
    expect("nlink", nlink.to_string(), there.nlink.to_string());
    expect("size", data.len().to_string(), there.data.len().to_string());
    if let Some(at) = data.iter().zip(&there.data).position(|(a, b)| a != b) {
        expect("first wrong byte", format!("{} at {at}", data[at]), format!("{} at {at}", there.data[at]));
    }
    expect("xattrs", format!("{:?}", node.xattrs.keys()), format!("{:?}", there.xattrs.keys()));
    expect("xattr values", String::new(), if node.xattrs == there.xattrs { "" } else { "others" }.into());
    if let Some(mtime) = node.mtime {
        expect("mtime", mtime.to_string(), there.mtime.to_string());
    }
    wrong
}
