//! What a succeeded writer had not stored: `cwdfs salvage` lists it by path and copies it out, byte for byte.

use crate::support::mount::Mount;
use crate::support::relay::Request;
use crate::support::tree::Entry;
use crate::support::world::Host;
use crate::support::{Ran, Tree, World, eventually};
use crate::work::write_closed;
use serde_json::Value;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

const OPTIONS: [&str; 6] = ["--durability", "fsync", "--park-after", "never", "--commit-interval", "200ms"];

fn bytes(seed: u32, len: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// What both machines have in common.
fn committed(mount: &Mount) {
    fs::create_dir(mount.path("dir")).expect("mkdir");
    for name in ["renamed", "deleted", "dir/appended", "moded"] {
        write_closed(&mount.path(name), name.as_bytes()).expect("write");
    }
    write_closed(&mount.path("grown"), &bytes(1, 5 << 20)).expect("write");
    mount.flush();
}

/// One change of each kind, none of which gets to the store.
fn uncommitted(world: &World, mount: &Mount) -> Tree {
    world.relay().black_hole();
    world.relay().reset();
    write_closed(&mount.path("small"), b"only here").expect("level fsync does not wait");
    rustix::fs::setxattr(mount.path("small"), c"user.note", b"kept", rustix::fs::XattrFlags::empty())
        .expect("xattr");
    fs::hard_link(mount.path("small"), mount.path("dir/further")).expect("link");
    fs::rename(mount.path("renamed"), mount.path("dir/new name")).expect("rename");
    fs::remove_file(mount.path("deleted")).expect("rm");
    fs::set_permissions(mount.path("moded"), fs::Permissions::from_mode(0o751)).expect("chmod");
    for (name, more) in [("dir/appended", &b" and more"[..]), ("grown", &bytes(2, 100_000))] {
        let mut file = OpenOptions::new().append(true).open(mount.path(name)).expect("open");
        file.write_all(more).expect("append");
    }
    fs::create_dir_all(mount.path("made/deep")).expect("mkdir");
    fs::set_permissions(mount.path("made"), fs::Permissions::from_mode(0o2750)).expect("chmod");
    write_closed(&mount.path("made/deep/file"), &bytes(3, 300_000)).expect("write");
    symlink("../small", mount.path("made/link")).expect("symlink");
    let odd = mount.root().join(std::ffi::OsStr::from_bytes(b"no\xff utf8"));
    write_closed(&odd, b"odd").expect("write");
    write_closed(&mount.path("large"), &bytes(4, 6 << 20)).expect("write");
    let data = |r: &Request| r.key.contains("/.cwdfs/data/");
    assert!(world.relay().wait_until_seen(Duration::from_secs(60), data), "the large file is on its way");
    eventually("all is captured", Duration::from_secs(60), || {
        mount.status()["uncommitted"]["files"].as_u64() >= Some(9)
    });
    // The batch of rows that the journal is just writing.
    std::thread::sleep(Duration::from_secs(2));
    Tree::of(mount.root())
}

/// The changes by path.
fn entries(report: &Value) -> Vec<(String, String)> {
    let list = report["entries"].as_array().expect("entries");
    let what = |e: &Value| {
        let words =
            e["what"].as_array().expect("what").iter().map(|w| w.as_str().unwrap_or_default().to_owned());
        words.collect::<Vec<_>>().join(",")
    };
    let mut all: Vec<_> =
        list.iter().map(|e| (e["path"].as_str().unwrap_or_default().to_owned(), what(e))).collect();
    all.sort();
    all
}

fn salvage(host: &Host, cache: &Path, args: &[&str]) -> Ran {
    Ran::of(host.command("salvage").args(args).arg(cache))
}

fn reports(ran: &Ran) -> Vec<Value> {
    let all: Value = serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("no JSON: {e}\n{ran}"));
    all.as_array().expect("an array").clone()
}

/// What has to be listed.
fn check_list(report: &Value) {
    let said = entries(report);
    let is = |path: &str, what: &str| {
        let found = said.iter().find(|(p, _)| p == path);
        assert_eq!(found.map(|(_, w)| w.as_str()), Some(what), "{path} in {said:?}");
    };
    for created in ["small", "made", "made/deep", "made/deep/file", "made/link", "no\u{fffd} utf8", "large"] {
        is(created, "created");
    }
    for (path, what) in [
        ("dir/new name", "renamed"),
        ("deleted", "deleted"),
        ("dir/appended", "changed"),
        ("grown", "changed"),
    ] {
        is(path, what);
    }
    is("moded", "attributes");
    assert_eq!(said.len(), 12, "nothing else has changed: {said:?}");
    let all = report["entries"].as_array().expect("entries");
    assert!(all.iter().all(|e| e["whole"] == true), "{report:#}");
    let further = all.iter().find(|e| e["path"] == "small" || e["path"] == "dir/further").expect("small");
    assert_eq!(further["links"].as_array().map(Vec::len), Some(1), "{further}");
    assert_eq!(said.iter().filter(|(path, _)| path == "dir").count(), 0, "only its entries changed");
}

/// Every file of the copy is as it was in the mount, and nothing that changed is left out.
fn check_copy(to: &Path, was: &Tree) {
    let copy = Tree::of(&to.join("files"));
    let names: Vec<&PathBuf> = copy.0.iter().filter(|(_, e)| e.kind != "dir").map(|(name, _)| name).collect();
    assert_eq!(names.len(), 10, "{names:?}");
    for (name, entry) in copy.0.iter().filter(|(name, _)| !name.as_os_str().is_empty()) {
        let old = was.0.get(name).unwrap_or_else(|| panic!("{} was never there", name.display()));
        let of = |e: &Entry| {
            let set_id = if e.kind == "dir" { 0o777 } else { 0o7777 };
            (
                e.kind,
                e.mode & set_id,
                e.uid,
                e.gid,
                e.mtime,
                e.size,
                e.target.clone(),
                e.content.clone(),
                e.xattrs.clone(),
            )
        };
        assert!(of(entry) == of(old), "{}: {entry:?}, but it was {old:?}", name.display());
    }
    let same = |a: &str, b: &str| {
        use std::os::unix::fs::MetadataExt;
        let ino = |name: &str| fs::symlink_metadata(to.join("files").join(name)).expect("stat").ino();
        ino(a) == ino(b)
    };
    assert!(same("small", "dir/further"), "hard links stay hard links");
    assert!(fs::read_to_string(to.join("REPORT.txt")).expect("a report").contains("deleted"));
}

#[test]
fn what_a_succeeded_writer_had_not_stored_is_listed_by_path_and_copied_out() {
    let world = World::with_relay("salvage-copy");
    let host = world.host("a");
    let old = host.mount(&OPTIONS);
    committed(&old);
    let was = uncommitted(&world, &old);
    let busy = salvage(&host, &host.cache, &["--list"]).exits(7);
    assert!(busy.err.contains("unmount it first"), "{busy}");
    old.kill();
    world.relay().drop_held();
    world.relay().heal();
    let new = world.host("b").mount(&["--takeover"]);
    write_closed(&new.path("other"), b"theirs").expect("write");
    new.unmount();

    // Nobody has mounted from this cache since.
    let listed = salvage(&host, &host.cache, &["--list", "--json"]).ok();
    let waiting = &reports(&listed)[0];
    assert_eq!(waiting["state"], "waiting");
    check_list(waiting);
    let to = world.local("waiting").join("out");
    salvage(&host, &host.cache, &["--to", to.to_str().expect("utf8")]).ok();
    check_copy(&to, &was);

    // The next mount sets it aside, and says how to get at it.
    let back = host.mount(&[]);
    assert!(back.path("other").exists() && !back.path("small").exists(), "the store's tree is the truth");
    let status = back.status();
    let notice = status["warnings"].to_string();
    assert!(notice.contains("cwdfs salvage --list"), "{status:#}");
    let kept = status["salvage"].as_array().expect("a list").clone();
    assert_eq!(kept.len(), 1, "{status:#}");
    let listed = salvage(&host, &host.cache, &["--list", "--json"]).ok();
    let aside = &reports(&listed)[0];
    assert_eq!((aside["state"].as_str(), &aside["set"]), (Some("set aside"), &kept[0]));
    assert!(aside["why"].as_str().is_some_and(|why| why.contains("another writer")), "{aside:#}");
    assert!(aside["by"].as_str().is_some_and(|by| by.contains("/b/mnt")), "{aside:#}");
    assert!(aside["when"].is_string() && aside["session"].is_string(), "{aside:#}");
    assert_eq!(aside["store"], world.store);
    check_list(aside);
    let set = PathBuf::from(kept[0].as_str().expect("a path"));
    assert_eq!(reports(&salvage(&host, &set, &["--list", "--json"]).ok()).len(), 1, "as status names it");
    let to = world.local("aside").join("out");
    let text = salvage(&host, &host.cache, &["--to", to.to_str().expect("utf8")]).ok();
    assert!(text.out.contains("rm -r"), "it says how to be rid of it: {text}");
    check_copy(&to, &was);
    salvage(&host, &host.cache, &["--to", to.to_str().expect("utf8")]).exits(5);
    back.unmount();
    salvage(&host, &host.cache, &["--list"]).ok();
}

#[test]
fn what_the_store_does_not_give_is_named_and_never_made_up() {
    let world = World::with_relay("salvage-gaps");
    let host = world.host("a");
    let old = host.mount(&OPTIONS);
    committed(&old);
    let was = uncommitted(&world, &old);
    old.kill();
    world.relay().drop_held();
    world.relay().heal();
    // What the grown file has in common with the session is in the store alone.
    for key in world.witness.keys().into_keys().filter(|key| key.starts_with(".cwdfs/data/")) {
        world.witness.delete(&key);
    }
    let listed = salvage(&host, &host.cache, &["--list", "--json"]).exits(8);
    let report = &reports(&listed)[0];
    let all = report["entries"].as_array().expect("entries");
    let broken: Vec<_> = all.iter().filter(|e| e["whole"] == false).map(|e| &e["path"]).collect();
    assert_eq!(broken, ["grown"], "{report:#}");
    let to = world.local("gaps").join("out");
    let ran = salvage(&host, &host.cache, &["--to", to.to_str().expect("utf8"), "--json"]).exits(8);
    let report = &reports(&ran)[0];
    let grown = report["entries"]
        .as_array()
        .and_then(|all| all.iter().find(|e| e["path"] == "grown"))
        .expect("grown");
    let missing = grown["missing"].as_array().expect("ranges");
    assert!(missing[0]["why"].as_str().is_some_and(|why| why.contains(".cwdfs/data/")), "{grown:#}");
    let copied = fs::read(to.join("files/grown")).expect("read");
    let right = [bytes(1, 5 << 20), bytes(2, 100_000)].concat();
    assert_eq!(copied.len(), right.len());
    for (at, (got, want)) in copied.iter().zip(&right).enumerate() {
        let named = missing
            .iter()
            .any(|m| (m["from"].as_u64() <= Some(at as u64)) && (m["to"].as_u64() > Some(at as u64)));
        assert!(if named { *got == 0 } else { got == want }, "byte {at}");
    }
    assert!(fs::read_to_string(to.join("REPORT.txt")).expect("a report").contains("not whole: bytes 0 to"));
    drop(was);
    // Without the store everything that lies only there is missing.
    let offline = salvage(&host, &host.cache, &["--list", "--json", "--offline"]).exits(8);
    assert!(offline.out.contains("--offline"), "{offline}");
}

#[test]
fn a_live_writer_that_was_fenced_leaves_its_changes_in_its_cache() {
    let world = World::with_relay("salvage-live");
    let host = world.host("a");
    let mut old = host.mount(&OPTIONS);
    committed(&old);
    let was = uncommitted(&world, &old);
    // Only this machine is cut off.
    let other = world.host("b");
    let direct = world.direct_endpoint();
    let mut command = other.mount_command(&["--takeover"]);
    command.env("CWDFS_ENDPOINT", &direct);
    let new = other.start(command).unwrap_or_else(|ran| panic!("{ran}"));
    world.relay().drop_held();
    world.relay().heal();
    old.wait_status("it learns of it", Duration::from_secs(60), |s| s["state"] == "fenced");
    let ran = old.run("unmount", &["--force"]).exits(7);
    assert!(ran.err.contains("cwdfs salvage"), "{ran}");
    old.wait_end(Duration::from_secs(60));
    let to = world.local("live").join("out");
    salvage(&host, &host.cache, &["--list", "--json"]).ok();
    salvage(&host, &host.cache, &["--to", to.to_str().expect("utf8")]).ok();
    check_copy(&to, &was);
    drop(File::open(new.path("grown")).expect("the successor has its own"));
    new.kill();
}

#[test]
fn a_cache_with_nothing_kept_says_so() {
    let world = World::new("salvage-none");
    let host = world.host("a");
    let mount = host.mount(&[]);
    write_closed(&mount.path("f"), b"x").expect("write");
    mount.unmount();
    let ran = salvage(&host, &host.cache, &["--list"]).ok();
    assert!(ran.err.contains("nothing is kept"), "{ran}");
    salvage(&host, &host.cache.join("missing"), &["--list"]).exits(5);
    salvage(&host, &host.cache, &[]).exits(2);
}
