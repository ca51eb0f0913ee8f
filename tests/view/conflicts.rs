//! Both sides change things: nothing that either side wrote is lost.

use crate::rig::{Host, Rig};
use crate::tree::assert_published;
use cwdfs::session::api::*;

/// The names that keep outside edits of `name`, in its directory.
pub fn beside(host: &Host, path: &str) -> Vec<String> {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    let start = format!("{name}.outside-");
    let slash = if folder.is_empty() { "" } else { "/" };
    let names = host.names(folder).into_iter().filter(|other| other.starts_with(&start));
    names.map(|name| format!("{folder}{slash}{name}")).collect()
}

#[test]
fn a_file_that_both_sides_changed_keeps_ours_and_theirs_beside_it() {
    let mut rig = Rig::new();
    let host = rig.mount();
    host.mkdir("d").unwrap();
    host.write("d/f.txt", b"base");
    host.publish();
    let etag = rig.client.put("d/f.txt", b"theirs");
    host.write("d/f.txt", b"ours");
    let done = host.refresh();
    assert_eq!((done.conflicts, done.imported), (1, 0));
    let name = format!("d/f.txt.outside-{}", etag.0.trim_matches('"'));
    assert_eq!(beside(&host, "d/f.txt"), [name.as_str()]);
    assert_eq!((host.text("d/f.txt"), host.text(&name)), ("ours".into(), "theirs".into()));
    host.publish();
    assert_published(&host, &rig.client);
    assert_eq!(host.refresh().conflicts, 0, "it is settled");
    host.crash();
    rig.wipe();
    let host = rig.mount();
    assert_eq!((host.text("d/f.txt"), host.text(&name)), ("ours".into(), "theirs".into()));
    host.unmount();
}

#[test]
fn the_publisher_finds_a_conflict_by_itself() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("f", b"base");
    host.publish();
    rig.client.put("f", b"theirs");
    host.write("f", b"ours");
    host.publish();
    assert_eq!(rig.client.text("f"), "ours");
    assert_eq!(beside(&host, "f").len(), 1);
    assert_eq!(host.text(&beside(&host, "f")[0]), "theirs");
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn a_file_that_both_sides_made_is_a_conflict() {
    let rig = Rig::new();
    let host = rig.mount();
    rig.client.put("new", b"theirs");
    host.write("new", b"ours");
    host.publish();
    assert_eq!(host.text("new"), "ours");
    assert_eq!(host.text(&beside(&host, "new")[0]), "theirs");
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn content_that_is_written_but_not_closed_is_a_change_too() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("f", b"base");
    host.publish();
    let file = host.open("f", OpenFlags { write: true, ..OpenFlags::default() }).unwrap();
    host.put_bytes(file, 0, b"OURS").unwrap();
    rig.client.put("f", b"theirs");
    host.refresh();
    host.close(file).unwrap();
    assert_eq!(host.text("f"), "OURS");
    assert_eq!(host.text(&beside(&host, "f")[0]), "theirs");
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn an_outside_edit_outlives_a_delete_or_a_move_here() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("deleted", b"base");
    host.write("moved", b"base");
    host.publish();
    rig.client.put("deleted", b"theirs");
    rig.client.put("moved", b"theirs too");
    host.unlink("deleted").unwrap();
    host.rename("moved", "there").unwrap();
    host.publish();
    host.publish();
    assert_eq!(host.text("deleted"), "theirs");
    assert_eq!((host.text("moved"), host.text("there")), ("theirs too".into(), "base".into()));
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn an_outside_delete_of_what_changed_here_publishes_it_again() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("f", b"base");
    host.publish();
    rig.client.delete("f");
    host.write("f", b"ours");
    host.refresh();
    host.publish();
    assert_eq!(rig.client.text("f"), "ours");
    host.unmount();
}

#[test]
fn an_outside_delete_unlinks_what_did_not_change_and_a_whole_directory() {
    let rig = Rig::new();
    let host = rig.mount();
    host.mkdir("d").unwrap();
    host.mkdir("d/e").unwrap();
    for name in ["f", "d/1", "d/e/2"] {
        host.write(name, b"x");
    }
    host.publish();
    rig.client.delete("f");
    rig.client.delete_all("d/");
    let done = host.refresh();
    assert_eq!(done.deleted, 5);
    assert!(!host.has("f") && !host.has("d"));
    host.publish();
    assert!(rig.client.keys().is_empty());
    host.unmount();
}

#[test]
fn a_marker_deleted_outside_comes_back_while_its_directory_has_entries() {
    let rig = Rig::new();
    let host = rig.mount();
    host.mkdir("d").unwrap();
    host.write("d/f", b"x");
    host.publish();
    rig.client.delete("d/");
    host.refresh();
    host.publish();
    assert_published(&host, &rig.client);
    assert_eq!(rig.client.keys(), ["d/", "d/f"]);
    host.unmount();
}

#[test]
fn an_outside_edit_of_one_name_of_a_file_breaks_that_link_only() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("one", b"both");
    host.link("one", "two").unwrap();
    host.publish();
    rig.client.put("two", b"theirs");
    host.refresh();
    assert_eq!((host.text("one"), host.text("two")), ("both".into(), "theirs".into()));
    let one = host.find("one").unwrap();
    assert_eq!(host.session.getattr(one).unwrap().nlink, 1);
    let told = host.session.invalidations().expect("nobody else listens").all_now();
    assert!(told.contains(&Invalidation::Inode(one)), "its link count is cached: {told:?}");
    assert!(
        told.contains(&Invalidation::Entry { parent: cwdfs::log::ids::Ino::ROOT, name: b"two".to_vec() })
    );
    host.unmount();
}

#[test]
fn a_file_here_and_a_directory_there_of_one_name_are_both_kept() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("ours", b"a file");
    host.mkdir("dir").unwrap();
    host.write("dir/f", b"x");
    host.publish();
    rig.client.delete("dir/");
    rig.client.put("ours/below", b"theirs");
    rig.client.put("dir", b"a file");
    host.refresh();
    assert_eq!(host.text("ours"), "a file");
    assert_eq!(host.text("dir/f"), "x", "the directory keeps the name");
    assert_eq!(rig.client.text("ours/below"), "theirs", "what cannot be shown is left alone");
    assert_eq!(rig.client.text("dir"), "a file");
    assert_eq!(host.status().shadowed, 2, "{:#?}", host.status());
    host.publish();
    // With the name free again, it comes in.
    host.unlink("ours").unwrap();
    host.unlink("dir/f").unwrap();
    host.rmdir("dir").unwrap();
    host.publish();
    host.refresh();
    assert_eq!((host.text("ours/below"), host.text("dir")), ("theirs".into(), "a file".into()));
    assert_eq!(host.status().shadowed, 0);
    host.unmount();
}
