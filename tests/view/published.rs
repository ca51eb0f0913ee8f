//! What is published, when, and at what price.

use crate::rig::{Rig, by_hand};
use crate::tree::assert_published;
use cwdfs::session::api::*;
use cwdfs::store::faulty::{Fault, FaultyStore, Point, Rule};
use cwdfs::view::ViewOptions;
use ignore::gitignore::GitignoreBuilder;
use std::sync::Arc;
use std::time::Duration;

/// Bytes that do not repeat.
pub fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(&mut next).flatten().take(len).collect()
}

/// Counts requests of an operation on keys that start so, from now on.
/// One at a time.
pub fn count(store: &Arc<FaultyStore>, operation: &'static str, key: &str) -> impl Fn() -> u64 + use<> {
    store.calm();
    store.add_rule(Rule::new(Fault::Delay(Duration::ZERO)).on(operation).key(key));
    let store = Arc::clone(store);
    let seen = move || store.injected().get("delay").copied().unwrap_or(0);
    let before = seen();
    move || seen() - before
}

#[test]
fn the_objects_show_the_tree_and_are_left_alone_after_a_remount() {
    let rig = Rig::new();
    let host = rig.mount();
    host.mkdir("d").unwrap();
    host.mkdir("d/empty").unwrap();
    host.write("d/file", b"content");
    host.write("empty", b"");
    host.symlink("link", "d/file").unwrap();
    host.link("d/file", "same").unwrap();
    host.make_named(cwdfs::log::ids::Ino::ROOT, b"fifo", libc::S_IFIFO | 0o600, b"").unwrap();
    host.chmod("d/file", 0o751).unwrap();
    host.publish();
    assert_published(&host, &rig.client);
    let objects = rig.client.objects();
    assert_eq!(objects["same"].meta.metadata["mode"], (libc::S_IFREG | 0o751).to_string());
    host.unmount();
    let before = rig.client.list("");
    let host = rig.mount();
    let puts = count(&host.faulty, "put", "");
    host.publish();
    host.refresh();
    host.publish();
    assert_eq!(host.status().published, 0);
    let own = |objects: &[cwdfs::store::Listed]| -> Vec<_> {
        objects.iter().filter(|o| !o.key.starts_with(".cwdfs/")).cloned().collect()
    };
    assert_eq!(own(&rig.client.list("")), own(&before), "after {} puts", puts());
    host.unmount();
}

#[test]
fn ten_changes_within_the_delay_are_one_put_and_a_temporary_file_none() {
    let rig = Rig::new();
    let host = rig.mount();
    host.publish();
    let often = count(&host.faulty, "put", "often");
    for n in 0..10 {
        host.write("often", format!("version {n}").as_bytes());
    }
    host.publish();
    assert_eq!((often(), rig.client.text("often")), (1, "version 9".into()));
    let temporary = count(&host.faulty, "put", "temporary");
    host.write("temporary", b"x");
    host.unlink("temporary").unwrap();
    host.publish();
    assert_eq!(temporary(), 0);
    host.unmount();
}

#[test]
fn a_change_is_published_by_itself_after_the_delay() {
    let rig = Rig::new();
    let host = rig.mount_with(ViewOptions { delay: Duration::from_millis(300), ..by_hand() });
    let begun = std::time::Instant::now();
    host.write("f", b"content");
    while rig.client.get("f").is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10), "{:#?}", host.status());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "it waited for more changes");
    host.unmount();
}

#[test]
fn waiting_for_the_view_tells_when_it_shows_everything() {
    let rig = Rig::new();
    let host = rig.mount();
    let held = host.faulty.hold_on("put", "f", Point::Before);
    host.write("f", b"content");
    assert!(!host.publishes_within(Duration::from_millis(300)));
    assert_eq!(host.status().pending_objects, 1);
    assert!(host.status().lag.is_some());
    held.release();
    host.publish();
    assert_eq!((host.status().pending_objects, host.status().lag), (0, None));
    assert_eq!(rig.client.text("f"), "content");
    host.unmount();
}

#[test]
fn a_large_file_is_copied_inside_the_store() {
    let rig = Rig::new();
    let host = rig.mount();
    let mut content = noise(40 << 20, 1);
    host.write("big", &content);
    host.publish();
    assert!(rig.client.get("big").unwrap().body == content, "the first version differs");
    host.append("big", b"and a line").unwrap();
    content.extend_from_slice(b"and a line");
    host.flush();
    let sent = count(&host.faulty, "upload_part", "big");
    host.publish();
    assert!(rig.client.get("big").unwrap().body == content, "the second version differs");
    assert!(sent() <= 1, "at most the last part is sent, the others are copied");
    host.unmount();
}

#[test]
fn a_file_that_changes_while_it_is_published_is_never_a_mix() {
    let rig = Rig::new();
    let host = rig.mount();
    let (old, new) = (noise(24 << 20, 2), noise(24 << 20, 3));
    host.write("big", &old);
    host.flush();
    let held = host.faulty.hold_on("complete_multipart", "big", Point::Before);
    assert!(!host.publishes_within(Duration::from_secs(2)));
    assert_eq!(held.waiting(), 1);
    host.write("big", &new);
    host.flush();
    held.release();
    host.wait(async { tokio::time::sleep(Duration::from_millis(300)).await });
    let seen = rig.client.get("big").unwrap().body;
    assert!(seen == old || seen == new, "a mix");
    host.publish();
    assert!(rig.client.get("big").unwrap().body == new, "not the newest");
    host.unmount();
}

#[test]
fn a_directory_that_moves_takes_its_objects_along() {
    let rig = Rig::new();
    let host = rig.mount();
    host.mkdir("a").unwrap();
    host.mkdir("a/b").unwrap();
    for n in 0..20 {
        host.write(&format!("a/b/{n}"), format!("{n}").as_bytes());
    }
    host.publish();
    host.rename("a", "z").unwrap();
    host.write("a", b"a file now");
    host.publish();
    assert_published(&host, &rig.client);
    host.unlink("a").unwrap();
    host.rename("z/b", "a").unwrap();
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}

#[test]
fn what_is_kept_out_of_the_view_is_not_published_and_what_is_there_left_alone() {
    let rig = Rig::new();
    rig.client.put("node_modules/theirs", b"theirs");
    let mut exclude = GitignoreBuilder::new("");
    exclude.add_line(None, "node_modules/").unwrap();
    let exclude = exclude.build().unwrap();
    let host = rig.mount_with(ViewOptions { exclude, ..by_hand() });
    assert_eq!(host.text("node_modules/theirs"), "theirs");
    host.write("node_modules/ours", b"ours");
    host.write("app", b"app");
    host.unlink("node_modules/theirs").unwrap();
    host.publish();
    assert_eq!(rig.client.keys(), ["app", "node_modules/theirs"]);
    host.refresh();
    assert!(!host.has("node_modules/theirs"), "what was deleted here stays deleted");
    host.unmount();
}

#[test]
fn a_store_whose_delete_takes_no_condition_loses_no_outside_edit_and_no_file() {
    let rig = Rig::new();
    let host = rig.mount_with(ViewOptions { delete_conditions: false, ..by_hand() });
    for name in ["edited", "deleted", "gone"] {
        host.write(name, b"ours");
    }
    host.publish();
    rig.client.put("edited", b"theirs");
    host.unlink("edited").unwrap();
    host.unlink("gone").unwrap();
    rig.client.delete("deleted");
    host.publish();
    host.refresh();
    host.publish();
    assert_eq!(host.text("edited"), "theirs", "an edit that our delete would have hit");
    assert_eq!(rig.client.text("edited"), "theirs");
    assert_eq!(rig.client.text("deleted"), "ours", "published again: the delete may have been our own");
    assert!(rig.client.get("gone").is_none());
    host.unmount();
}

#[test]
fn a_deleted_file_that_is_open_keeps_its_content_and_none_of_it_is_published() {
    let rig = Rig::new();
    let host = rig.mount();
    host.write("f", b"content");
    host.publish();
    let file = host.open("f", OpenFlags { read: true, ..OpenFlags::default() }).unwrap();
    host.unlink("f").unwrap();
    host.publish();
    assert!(rig.client.get("f").is_none());
    assert_eq!(host.read_open(file.0, file.1).unwrap(), b"content");
    host.close(file).unwrap();
    host.unmount();
}
