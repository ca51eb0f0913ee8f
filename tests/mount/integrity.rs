//! A bit that flips in the store: whatever object it is in, a reader gets the right bytes or an error that names the
//! object, never other bytes.

use crate::keeper::settle;
use crate::support::World;
use crate::support::mount::Mount;
use crate::work::{noise, write_closed};
use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// Paths and their right bytes.
type Right = BTreeMap<PathBuf, Vec<u8>>;

/// A session that has every kind of object; its writer's machine is gone.
fn session(world: &World) -> Right {
    for n in 0..3u64 {
        world.witness.put(&format!("imported{n}"), noise(40_000, 900 + n));
    }
    let mount = world.host("a").mount(&["--keep-for-tests", "--durability", "fsync"]);
    let mut right = Right::new();
    let mut write = |mount: &Mount, name: String, len: usize, seed: u64| {
        let bytes = noise(len, seed);
        let mut file = fs::File::create(mount.path(&name)).expect("create");
        file.write_all(&bytes).expect("write");
        if !name.starts_with("stays") {
            file.sync_all().expect("fsync");
        }
        right.insert(name.into(), bytes);
    };
    // So many rows that what changes afterwards is a delta.
    for n in 0..300u64 {
        write(&mount, format!("stays{n}"), 300, n);
    }
    write(&mount, "large".into(), 3_000_000, 1);
    mount.flush();
    settle(world);
    for n in 0..60u64 {
        write(&mount, format!("f{}", n % 10), 800, n);
    }
    settle(world);
    // The log behind the newest checkpoint.
    for n in 0..3u64 {
        write(&mount, format!("late{n}"), 5_000, 700 + n);
    }
    mount.publish();
    for n in 0..3u64 {
        right.insert(format!("imported{n}").into(), noise(40_000, 900 + n));
    }
    mount.kill();
    right
}

/// What a case flips: a key and a place in it.
struct Case {
    key: String,
    at: usize,
    /// Nothing reads that byte, or another object has it too.
    may_be_silent: bool,
}

/// The objects to flip bits in, by kind.
fn cases(world: &World) -> BTreeMap<&'static str, Vec<Case>> {
    let keys = world.witness.keys();
    let mut cases: BTreeMap<&'static str, Vec<Case>> = BTreeMap::new();
    let below =
        |prefix: &str| -> Vec<String> { keys.keys().filter(|k| k.starts_with(prefix)).cloned().collect() };
    let mut add = |kind, key: &String, places: &[f64], may_be_silent| {
        let size = keys[key] as usize;
        for place in places {
            let at = ((size as f64 * place) as usize).min(size - 1);
            cases.entry(kind).or_default().push(Case { key: key.clone(), at, may_be_silent });
        }
    };
    let checkpoints = below(".cwdfs/checkpoint/");
    let images: Vec<&String> = checkpoints.iter().filter(|key| !key.contains('~')).collect();
    for image in &images {
        add("image", image, &[0.0, 0.5, 1.0], true);
    }
    if let Some(delta) = checkpoints.iter().rfind(|key| key.contains('~')) {
        add("delta", delta, &[0.0, 0.5, 1.0], true);
    }
    // What was written last is not in a checkpoint: its content, its rows, its checksum.
    let log = below(".cwdfs/log/");
    let last = log.iter().max_by_key(|key| key.rsplit('/').next().map(str::to_owned)).expect("a segment");
    add("segment", last, &[0.0, 0.3, 0.9, 1.0], false);
    let data = below(".cwdfs/data/");
    let blob = data.iter().max_by_key(|key| keys[*key]).expect("a blob");
    add("data blob", blob, &[0.0, 0.5, 1.0], false);
    for pack in data.iter().filter(|key| *key != blob) {
        add("pack", pack, &[0.0, 0.5, 1.0], true);
    }
    add("lease", &".cwdfs/lease".to_owned(), &[0.0], false);
    add("imported object", &"imported1".to_owned(), &[0.5], false);
    add("published object", &"f7".to_owned(), &[0.5], true);
    cases
}

/// Mounts and reads everything; what was noticed. Panics on a wrong byte.
fn read_all(world: &World, host: &str, case: &Case, right: &Right) -> bool {
    let host = world.host(host);
    let mount = match host.start(host.mount_command(&["--read-only"])) {
        Ok(mount) => mount,
        Err(ran) => {
            assert!(ran.err.contains(&case.key), "the failed mount does not name {}: {ran}", case.key);
            return true;
        }
    };
    let mut errors = 0;
    for (name, bytes) in right {
        match fs::read(mount.path(name)) {
            Ok(read) => assert!(read == *bytes, "{}: wrong bytes with {} flipped", name.display(), case.key),
            Err(e) => {
                let eio = rustix::io::Errno::IO.raw_os_error();
                assert_eq!(e.raw_os_error(), Some(eio), "{}: {e} with {} flipped", name.display(), case.key);
                errors += 1;
            }
        }
    }
    let named = mount.log().contains(&case.key);
    assert!(errors == 0 || named, "{errors} errors, and none names {}:\n{}", case.key, mount.log());
    mount.kill();
    errors > 0 || named
}

#[test]
fn a_flipped_bit_in_any_kind_of_object_is_an_error_that_names_it_or_does_no_harm() {
    let world = World::with_relay("integrity");
    let right = session(&world);
    let cases = cases(&world);
    let kinds: Vec<_> = cases.keys().copied().collect();
    for kind in ["image", "delta", "segment", "data blob", "pack", "lease", "imported object"] {
        assert!(kinds.contains(&kind), "the session has no {kind}: {:?}", world.witness.keys());
    }
    for (kind, cases) in cases {
        let mut noticed = 0;
        let count = cases.len();
        for (n, case) in cases.into_iter().enumerate() {
            let object = world.witness.object(&case.key).expect("the object");
            let mut bytes = object.bytes.clone();
            bytes[case.at] ^= 0x10;
            let metadata: Vec<(&str, &str)> =
                object.metadata.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            world.witness.put_with(&case.key, bytes, &metadata);
            let seen = read_all(&world, &format!("{}{n}", kind.replace(' ', "-")), &case, &right);
            assert!(seen || case.may_be_silent, "{kind} {}: byte {} was flipped unseen", case.key, case.at);
            noticed += usize::from(seen);
            world.witness.put_with(&case.key, object.bytes, &metadata);
        }
        assert!(noticed > 0 || kind == "published object", "{kind}: none of {count} flips was noticed");
    }
    // And once more, with nothing flipped.
    let case = Case { key: "nothing".into(), at: 0, may_be_silent: true };
    let imported = |name: &PathBuf| name.to_string_lossy().starts_with("imported");
    // One imported object has been written anew since, which is an edit: its content is another version.
    let others: Right = right.into_iter().filter(|(name, _)| !imported(name)).collect();
    assert!(!read_all(&world, "sound", &case, &others), "nothing is wrong any more");
}

/// A plain object has no checksum of ours: a flipped bit in it looks as an edit by another client does. What was
/// closed here does not depend on it.
#[test]
fn a_flipped_bit_in_a_published_object_is_an_edit_and_the_log_keeps_the_closed_bytes() {
    let world = World::new("integrity-view");
    let mount = world.host("a").mount(&["--publish-delay", "100ms"]);
    write_closed(&mount.path("f"), &noise(9_000, 1)).expect("write");
    mount.publish();
    let object = world.witness.object("f").expect("published");
    let mut bytes = object.bytes.clone();
    bytes[4_000] ^= 1;
    world.witness.put("f", bytes.clone());
    assert!(fs::read(mount.path("f")).expect("read") == noise(9_000, 1), "nothing has been imported");
    mount.refresh();
    assert!(fs::read(mount.path("f")).expect("read") == bytes, "as any edit from outside");
    let status = mount.wait_status("it is counted", Duration::from_secs(20), |s| s["view"]["imported"] != 0);
    assert!(status["view"]["conflicts"] == 0, "{status:#}");
    mount.unmount();
}
