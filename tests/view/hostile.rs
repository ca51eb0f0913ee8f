//! Keys that cannot be paths, and paths that cannot be keys.

use crate::rig::Rig;
use crate::tree::assert_published;
use cwdfs::log::ids::Ino;
use std::os::unix::ffi::OsStrExt;

#[test]
fn keys_that_cannot_be_paths_are_skipped_counted_and_left_alone() {
    let rig = Rig::new();
    let long = format!("long/{}", "n".repeat(300));
    let hostile =
        ["a//b", "c/../../escaped", "../x", "./dot", "d/.", ".", "..", "/lead", "nul\0l", "e//", &long];
    for key in hostile {
        rig.client.put(key, b"x");
    }
    for key in ["fine", "d/fine", ".cwdfsx", "d/.cwdfs/own", "\u{202e}rtl\n"] {
        rig.client.put(key, b"fine");
    }
    let host = rig.mount();
    host.publish();
    assert_eq!(host.names(""), [".cwdfsx", "d", "fine", "\u{202e}rtl\n"]);
    assert_eq!(host.text("d/.cwdfs/own"), "fine");
    assert_eq!(host.status().hostile_keys, hostile.len() as u64);
    host.refresh();
    host.publish();
    for key in hostile {
        assert_eq!(rig.client.text(key), "x", "{key:?}");
    }
    host.unmount();
}

#[test]
fn where_a_key_is_a_file_and_a_directory_the_directory_keeps_the_name() {
    let rig = Rig::new();
    rig.client.put("x", b"file");
    rig.client.put("x/y", b"below");
    rig.client.put("e", b"");
    rig.client.put("e/", b"");
    rig.client.put("e/f", b"f");
    let host = rig.mount();
    assert_eq!((host.text("x/y"), host.text("e/f")), ("below".into(), "f".into()));
    host.refresh();
    host.publish();
    assert_eq!(host.status().shadowed, 2, "{:#?}", host.status());
    assert_eq!((rig.client.text("x"), rig.client.text("x/y")), ("file".into(), "below".into()));
    // Later too: the file gives way while its bytes are in its object.
    rig.client.put("late", b"file");
    host.refresh();
    assert_eq!(host.text("late"), "file");
    rig.client.put("late/y", b"below");
    host.refresh();
    assert_eq!(host.text("late/y"), "below");
    assert_eq!(rig.client.text("late"), "file");
    host.publish();
    host.unmount();
}

#[test]
fn names_that_cannot_be_keys_are_counted_and_as_durable() {
    let mut rig = Rig::new();
    let host = rig.mount();
    let file = libc::S_IFREG | 0o644;
    host.make_named(Ino::ROOT, b"not \xff utf-8", file, b"").unwrap();
    host.make_named(Ino::ROOT, b"dir\xff", libc::S_IFDIR | 0o755, b"").unwrap();
    let below = host.look(Ino::ROOT, b"dir\xff").unwrap();
    host.make_named(below, b"below", file, b"").unwrap();
    let mut deep = String::from("deep");
    host.mkdir(&deep).unwrap();
    for _ in 0..5 {
        deep = format!("{deep}/{}", "n".repeat(240));
        host.mkdir(&deep).unwrap();
    }
    host.write("fine", b"x");
    host.symlink("far", &"t/".repeat(1500)).unwrap();
    host.publish();
    assert_eq!(host.status().unpublishable, 5, "{:#?}", host.status());
    assert_eq!(host.status().pending_objects, 0);
    assert!(rig.client.get("fine").is_some());
    host.crash();
    rig.wipe();
    let host = rig.mount();
    let below = host.look(Ino::ROOT, b"dir\xff").unwrap();
    host.look(below, b"below").unwrap();
    assert_eq!(host.names("").len(), 5);
    host.publish();
    assert_eq!(host.status().unpublishable, 5, "a new mount counts them again");
    // Renamed, they can be published.
    host.run(|s| {
        let (from, to) = ((Ino::ROOT, &b"dir\xff"[..]), (Ino::ROOT, &b"dir"[..]));
        s.rename(crate::rig::ROOT_USER, from, to, cwdfs::session::api::RenameMode::Replace)
    })
    .unwrap();
    host.publish();
    assert!(rig.client.get("dir/below").is_some());
    host.unmount();
}

#[test]
fn a_file_whose_name_is_no_key_in_the_stores_own_directory_is_no_matter() {
    let rig = Rig::new();
    rig.client.put("fine", b"x");
    let odd = std::ffi::OsStr::from_bytes(b"odd\xff");
    std::fs::write(rig.store_dir().join(odd), b"x").unwrap();
    let host = rig.mount();
    assert_eq!(host.text("fine"), "x");
    host.write("ours", b"ours");
    host.publish();
    assert_published(&host, &rig.client);
    host.unmount();
}
