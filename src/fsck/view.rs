//! The view: what rows say of plain objects against what is there. Most differences are other clients' edits, which
//! the next mount imports, or changes that it is still to publish.

use super::Objects;
use super::report::{Kind, Report};
use super::state::State;
use crate::log::ids::keys;
use crate::log::row::{Key, Row, ViewRow};
use std::collections::HashSet;

/// Compares the two.
pub(super) fn check(state: &State, objects: &Objects, report: &mut Report) {
    let mut known = HashSet::new();
    for (key, value) in state.below(&Key::views("")) {
        let (Some(Key::View { key }), Ok(row)) = (Key::decode(key), ViewRow::decode(value)) else { continue };
        let there = objects.get(&key);
        match there {
            // A marker that was about to be written: there or not, it is ours.
            _ if row.is_about_to_be() => {}
            // A file that is no more: the object is to be deleted, or is deleted already.
            None if state.inode(row.ino).is_none() => {}
            None => {
                let paths = state.paths(row.ino);
                // It has other names now: this object is to be deleted, or was deleted a moment ago.
                if !paths.iter().any(|path| path == key.trim_end_matches('/')) {
                    continue;
                }
                report.add(Kind::MissingObject, |p| {
                    (p.object, p.inode, p.paths) = (Some(key.clone()), Some(row.ino.0), paths);
                    p.what =
                        "it was published and is not there: the next mount takes that for another client's \
                              deletion, and deletes the file; to have it published again, repair"
                            .into();
                });
            }
            Some(object) if object.etag.0 != row.etag => report.counts.changed_objects += 1,
            Some(_) => {}
        }
        known.insert(key);
    }
    let plain = objects.below("").filter(|object| !object.key.starts_with(keys::ROOT));
    report.counts.new_objects = plain.filter(|object| !known.contains(&object.key)).count() as u64;
    let (changed, new) = (report.counts.changed_objects, report.counts.new_objects);
    if changed + new > 0 {
        report.notes.push(format!(
            "{changed} plain objects are not as they were published, and {new} are new: the next mount imports them"
        ));
    }
    if report.counts.unnamed_objects > 0 {
        let (objects, bytes) = (report.counts.unnamed_objects, report.counts.unnamed_bytes);
        report.notes.push(format!("{objects} data objects of {bytes} bytes are to be collected"));
    }
}
