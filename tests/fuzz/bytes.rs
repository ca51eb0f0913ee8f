//! Objects of a real session, changed, given to what decodes them.

use crate::config;
use crate::mutate::{Edit, apply, edits};
use cwdfs::log::checkpoint::{Name, Reader};
use cwdfs::log::ids::keys;
use cwdfs::log::lease::Lease;
use cwdfs::log::segment;
use cwdfs::store::DirStore;
use cwdfs::view::headers;
use cwdfs::view::names::place_of;
use proptest::collection::btree_map;
use proptest::prelude::*;
use std::fs;
use std::path::Path;

/// Bytes of the BLAKE3 that ends segments and checkpoints.
const DIGEST: usize = 32;

/// An object of the corpus.
#[derive(Debug, Clone)]
struct Object {
    key: String,
    bytes: Vec<u8>,
}

/// Every object of the corpus, in the order of their keys.
fn corpus() -> Vec<Object> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus");
    let mut found = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the corpus can be listed") {
            let path = entry.expect("the corpus can be listed").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let key = path.strip_prefix(&root).expect("it lies in the corpus");
            let key = key.to_str().expect("keys are text").to_owned();
            found.push(Object { key, bytes: fs::read(&path).expect("it can be read") });
        }
    }
    found.sort_by(|a, b| a.key.cmp(&b.key));
    found
}

/// Reads an object as what its key says it is; how many rows it had, or why it cannot be read.
fn read(key: &str, bytes: &[u8]) -> Result<u64, String> {
    if key == keys::LEASE {
        return lease(bytes);
    }
    if let Some((epoch, slot)) = keys::parse_segment(key) {
        // One that can be read whole tells its header alone, too.
        let segment = segment::decode(epoch, slot, bytes).map_err(|e| e.to_string());
        let header = segment::decode_header(epoch, slot, bytes).map_err(|e| e.to_string());
        let segment = segment?;
        assert_eq!(header, Ok(segment.header.clone()), "the header alone tells something else");
        for (extent, piece) in segment::pieces(&segment, &bytes.to_vec().into()) {
            assert_eq!(extent.piece_len as usize, piece.len());
        }
        return Ok(segment.records.len() as u64);
    }
    assert!(Name::parse(key).is_some(), "nothing reads {key}");
    checkpoint(key, bytes)
}

fn lease(bytes: &[u8]) -> Result<u64, String> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join(keys::LEASE);
    fs::create_dir_all(path.parent().expect("it has a folder")).expect("a folder");
    fs::write(path, bytes).expect("a lease");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let store = DirStore::new(dir.path());
    match runtime.block_on(Lease::peek(&store)) {
        Ok(Some(body)) => {
            assert!(!body.holder.contains(char::is_control), "{:?} goes to a terminal", body.holder);
            Ok(1)
        }
        Ok(None) => panic!("a lease that is there is not seen"),
        Err(error) => Err(error.to_string()),
    }
}

fn checkpoint(key: &str, bytes: &[u8]) -> Result<u64, String> {
    let mut reader = Reader::new(key);
    let mut rows = 0;
    // As it arrives: in parts.
    for part in bytes.chunks(1000) {
        reader.feed(part);
        while let Some(block) = reader.next_rows().map_err(|e| e.to_string())? {
            rows += block.len() as u64;
        }
    }
    let told = reader.finish().map_err(|e| e.to_string())?;
    assert_eq!(told, rows, "{key}");
    Ok(rows)
}

/// The same with the checksum that a writer would have put there.
fn sealed_again(mut bytes: Vec<u8>) -> Vec<u8> {
    if let Some(body) = bytes.len().checked_sub(DIGEST) {
        let digest = *blake3::hash(&bytes[..body]).as_bytes();
        bytes[body..].copy_from_slice(&digest);
    }
    bytes
}

fn changed() -> impl Strategy<Value = (Object, Vec<Edit>, bool)> {
    (proptest::sample::select(corpus()), edits(), any::<bool>())
}

#[test]
fn what_an_earlier_cwdfs_wrote_is_read() {
    let mut kinds = [0, 0, 0];
    for object in corpus() {
        let rows = read(&object.key, &object.bytes).unwrap_or_else(|why| panic!("{}: {why}", object.key));
        let kind =
            [keys::LEASE, keys::LOG, keys::CHECKPOINT].iter().position(|of| object.key.starts_with(of));
        kinds[kind.expect("an object of a known kind")] += 1;
        assert!(rows > 0 || object.key.starts_with(keys::LOG), "{} holds nothing", object.key);
    }
    assert!(
        kinds[0] == 1 && kinds[1] > 3 && kinds[2] > 0,
        "the corpus has one lease, segments and a checkpoint"
    );
}

proptest! {
    #![proptest_config(config(4000, "tests/fuzz/regressions/objects.txt"))]
    #[test]
    fn changed_objects_are_read_or_refused((object, edits, seal) in changed()) {
        let mut bytes = apply(object.bytes.clone(), &edits);
        if seal {
            bytes = sealed_again(bytes);
        }
        let read = read(&object.key, &bytes);
        // Nothing but the lease may be changed unseen, unless somebody sealed it.
        if !seal && object.key != keys::LEASE && bytes != object.bytes {
            prop_assert!(read.is_err(), "{} was changed, and is read", object.key);
        }
        if let Err(why) = read {
            prop_assert!(!why.is_empty());
        }
    }
}

proptest! {
    #![proptest_config(config(2000, "tests/fuzz/regressions/headers.txt"))]
    #[test]
    fn headers_tell_something_or_nothing(
        known in btree_map(
            prop_oneof!["mode", "uid", "gid", "rdev", "mtime", "atime", "--symlink-target", "user\\.[a-z]{1,3}", "cwdfs"],
            prop_oneof!["-?[0-9]{1,25}", "0[0-7]{3,8}", "[0-9]{1,12}\\.[0-9]{0,12}", "\\PC{0,40}", "%[0-9a-fA-Z]{0,3}"],
            0..6,
        ),
    ) {
        let told = headers::read(&known);
        prop_assert!(told == headers::read(&known));
    }

    #[test]
    fn a_key_is_a_path_inside_or_none(key in "(\\.{1,3}|[a-c/\\x00]|/|\\PC){0,12}") {
        if let Ok(place) = place_of(&key) {
            for name in place.names() {
                prop_assert!(!name.is_empty() && name != "." && name != ".." && !name.contains(['/', '\0']));
                prop_assert!(name.len() <= 255);
            }
        }
    }
}
