//! What the directory store does beyond the conformance suite: what a person sees and does in the directory.

use super::*;
use crate::store::MOST_WHOLE;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use tempfile::TempDir;

fn fresh() -> (TempDir, DirStore) {
    let dir = TempDir::new().unwrap();
    let store = DirStore::new(dir.path().join("session"));
    (dir, store)
}

fn none() -> PutOptions {
    PutOptions::default()
}

fn absent() -> PutOptions {
    PutOptions { condition: Condition::Absent, ..none() }
}

fn matching(etag: &ETag) -> PutOptions {
    PutOptions { condition: Condition::Match(etag.clone()), ..none() }
}

async fn keys(store: &DirStore) -> Vec<String> {
    let page = store.list("", None, 1000).await.unwrap();
    page.objects.into_iter().map(|object| object.key).collect()
}

async fn text(store: &DirStore, key: &str) -> String {
    String::from_utf8(store.get(key, None, None).await.unwrap().body.to_vec()).unwrap()
}

/// Everything below a directory but the store's own folder.
fn tree(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if name == place::HIDDEN {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree(&entry.path()).into_iter().map(|inner| format!("{name}/{inner}")));
            found.push(format!("{name}/"));
        } else {
            found.push(name);
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn a_person_sees_plain_files() {
    let (dir, store) = fresh();
    store.put("src/main.rs", "fn main".into(), &none()).await.unwrap();
    store.put("empty/", Bytes::new(), &none()).await.unwrap();
    assert_eq!(tree(&dir.path().join("session")), ["empty/", "src/", "src/main.rs"]);
    assert_eq!(fs::read_to_string(dir.path().join("session/src/main.rs")).unwrap(), "fn main");
    assert_eq!(keys(&store).await, ["empty/", "src/main.rs"]);
}

#[tokio::test]
async fn reading_creates_nothing() {
    let (dir, store) = fresh();
    assert!(keys(&store).await.is_empty());
    assert!(store.head("x").await.unwrap_err().is_not_found());
    store.delete("x", &Condition::None).await.unwrap();
    store.abort_multipart("x", &UploadId("0".repeat(32))).await.unwrap();
    assert!(store.list_multipart("").await.unwrap().is_empty());
    assert!(!dir.path().join("session").exists());
}

#[tokio::test]
async fn a_missing_parent_is_said() {
    let (dir, _) = fresh();
    let store = DirStore::new(dir.path().join("no/session"));
    for error in [
        store.head("x").await.unwrap_err(),
        store.put("x", Bytes::new(), &none()).await.unwrap_err(),
        store.list("", None, 1).await.unwrap_err(),
    ] {
        assert_eq!(error.kind, Kind::NoSuchBucket);
        assert!(error.message.contains("no directory"), "{error}");
    }
    assert!(!dir.path().join("no").exists());
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_said() {
    let (dir, store) = fresh();
    fs::write(dir.path().join("session"), "").unwrap();
    let error = store.put("x", Bytes::new(), &none()).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("not a directory"), "{error}");
}

#[tokio::test]
async fn files_put_there_by_hand_are_objects() {
    let (dir, store) = fresh();
    let root = dir.path().join("session");
    fs::create_dir_all(root.join("docs/none")).unwrap();
    fs::write(root.join("docs/a.txt"), "by hand").unwrap();
    assert_eq!(keys(&store).await, ["docs/a.txt"]);
    let first = store.head("docs/a.txt").await.unwrap();
    assert_eq!(text(&store, "docs/a.txt").await, "by hand");
    // The same bytes put by us have the same ETag.
    assert_eq!(store.put("copy", "by hand".into(), &none()).await.unwrap(), first.etag);
    // Of the same size, so that only the content tells.
    fs::write(root.join("docs/a.txt"), "by Hand").unwrap();
    let second = store.head("docs/a.txt").await.unwrap();
    assert_ne!(first.etag, second.etag);
    assert!(store.put("docs/a.txt", "x".into(), &matching(&first.etag)).await.unwrap_err().is_precondition());
    store.put("docs/a.txt", "x".into(), &matching(&second.etag)).await.unwrap();
}

#[tokio::test]
async fn writing_over_an_object_by_hand_drops_its_metadata() {
    let (dir, store) = fresh();
    let options = PutOptions { metadata: [("mode".to_owned(), "33188".to_owned())].into(), ..none() };
    let etag = store.put("f", "ours".into(), &options).await.unwrap();
    fs::write(dir.path().join("session/f"), "theirs").unwrap();
    let meta = store.head("f").await.unwrap();
    assert_ne!(meta.etag, etag);
    assert!(meta.metadata.is_empty());
}

#[tokio::test]
async fn a_settled_file_is_hashed_once() {
    let (dir, store) = fresh();
    let path = dir.path().join("session/f");
    store.put("other", Bytes::new(), &none()).await.unwrap();
    fs::write(&path, "by hand").unwrap();
    let file = fs::File::open(&path).unwrap();
    store.head("f").await.unwrap();
    assert!(note::Note::read(&file).unwrap().is_none(), "the hash of a file just written is not kept");
    file.set_modified(std::time::SystemTime::now() - std::time::Duration::from_secs(10)).unwrap();
    let etag = store.head("f").await.unwrap().etag;
    assert_eq!(note::Note::read(&file).unwrap().unwrap().digest.etag(), etag);
    assert_eq!(store.head("f").await.unwrap().etag, etag);
}

#[tokio::test]
async fn hostile_keys_work_and_stay_inside() {
    let (dir, store) = fresh();
    let long = format!("long/{}", "é".repeat(200));
    let hostile = [
        "..",
        "../escape",
        "a/../../escape",
        "/",
        "//",
        "/etc",
        "a//b",
        "a\0b",
        ".cwdfs-store/lock/00",
        &long,
    ];
    for key in hostile {
        let etag = store.put(key, key.to_owned().into(), &absent()).await.unwrap();
        assert!(store.put(key, Bytes::new(), &absent()).await.unwrap_err().is_precondition(), "{key:?}");
        assert_eq!(text(&store, key).await, key);
        assert_eq!(store.head(key).await.unwrap().etag, etag);
    }
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the store's directory");
    assert!(tree(&dir.path().join("session")).is_empty());
    let mut expected = hostile.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(keys(&store).await, expected);
    for key in hostile {
        store.delete(key, &Condition::None).await.unwrap();
    }
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn keys_that_cannot_be_are_refused() {
    let (_dir, store) = fresh();
    for key in [String::new(), "x".repeat(1025)] {
        assert_eq!(store.put(&key, Bytes::new(), &none()).await.unwrap_err().kind, Kind::Invalid);
    }
}

#[tokio::test]
async fn a_key_may_be_the_folder_of_another() {
    let orders = [["a", "a/b", "a/"], ["a/b", "a", "a/"], ["a/", "a", "a/b"], ["a/", "a/b", "a"]];
    for order in orders {
        let (_dir, store) = fresh();
        for key in order {
            let body = if key.ends_with('/') { "" } else { key };
            store.put(key, body.to_owned().into(), &absent()).await.unwrap();
        }
        assert_eq!(keys(&store).await, ["a", "a/", "a/b"], "{order:?}");
        assert_eq!((text(&store, "a").await, text(&store, "a/b").await), ("a".into(), "a/b".into()));
        for key in order {
            store.put(key, "new".into(), &none()).await.unwrap();
            assert_eq!(text(&store, key).await, "new", "{key} of {order:?}");
        }
        assert_eq!(keys(&store).await, ["a", "a/", "a/b"], "{order:?}");
        for key in order {
            store.delete(key, &Condition::None).await.unwrap();
            assert!(store.head(key).await.unwrap_err().is_not_found(), "{key} of {order:?}");
        }
        assert!(keys(&store).await.is_empty());
    }
}

#[tokio::test]
async fn an_object_goes_to_its_path_when_the_path_is_free_again() {
    let (dir, store) = fresh();
    store.put("a/b", "1".into(), &none()).await.unwrap();
    store.put("a", "2".into(), &none()).await.unwrap();
    store.delete("a/b", &Condition::None).await.unwrap();
    assert_eq!(text(&store, "a").await, "2");
    store.put("a", "3".into(), &none()).await.unwrap();
    assert_eq!(tree(&dir.path().join("session")), ["a"]);
    assert_eq!(keys(&store).await, ["a"]);
    store.delete("a", &Condition::None).await.unwrap();
    assert!(keys(&store).await.is_empty());
}

#[tokio::test]
async fn links_and_pipes_are_neither_objects_nor_followed() {
    let (dir, store) = fresh();
    let root = dir.path().join("session");
    fs::create_dir_all(dir.path().join("outside")).unwrap();
    fs::write(dir.path().join("outside/secret"), "secret").unwrap();
    store.put("x", "x".into(), &none()).await.unwrap();
    symlink(dir.path().join("outside"), root.join("folder")).unwrap();
    symlink(dir.path().join("outside/secret"), root.join("file")).unwrap();
    rustix::fs::mkfifoat(rustix::fs::CWD, root.join("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    assert_eq!(keys(&store).await, ["x"]);
    for key in ["folder/secret", "file", "pipe"] {
        assert!(store.head(key).await.unwrap_err().is_not_found(), "{key}");
        store.put(key, "ours".into(), &none()).await.unwrap();
        assert_eq!(text(&store, key).await, "ours", "{key}");
    }
    assert_eq!(fs::read_to_string(dir.path().join("outside/secret")).unwrap(), "secret");
    assert!(fs::symlink_metadata(root.join("file")).unwrap().is_symlink());
}

#[tokio::test]
async fn empty_folders_go_and_markers_stay() {
    let (dir, store) = fresh();
    store.put("kept/", Bytes::new(), &none()).await.unwrap();
    store.put("kept/a/b/c", "".into(), &none()).await.unwrap();
    store.delete("kept/a/b/c", &Condition::None).await.unwrap();
    assert_eq!(tree(&dir.path().join("session")), ["kept/"]);
    store.delete("kept/", &Condition::None).await.unwrap();
    assert!(tree(&dir.path().join("session")).is_empty());
}

#[tokio::test]
async fn names_that_are_no_text_are_no_objects() {
    use std::os::unix::ffi::OsStrExt;
    let (dir, store) = fresh();
    store.put("a", "".into(), &none()).await.unwrap();
    fs::write(dir.path().join("session").join(std::ffi::OsStr::from_bytes(b"\xff")), "").unwrap();
    assert_eq!(keys(&store).await, ["a"]);
}

#[tokio::test]
async fn a_removed_directory_is_an_empty_store() {
    let (dir, store) = fresh();
    store.put("a", "1".into(), &none()).await.unwrap();
    fs::remove_dir_all(dir.path().join("session")).unwrap();
    assert!(keys(&store).await.is_empty(), "a removed directory is an empty store");
    store.put("b", "2".into(), &none()).await.unwrap();
    assert_eq!(keys(&store).await, ["b"], "and is made again by the next write");
}

#[tokio::test]
async fn unfinished_files_do_not_stay() {
    let (dir, store) = fresh();
    let tmp = dir.path().join("session/.cwdfs-store/tmp");
    store.put("a", "1".into(), &none()).await.unwrap();
    store.put("a", "1".into(), &absent()).await.unwrap_err();
    store.put("m/", Bytes::new(), &none()).await.unwrap();
    assert_eq!(fs::read_dir(&tmp).unwrap().count(), 0);
    // What a writer left that died is swept by the next one, once it is a day old.
    fs::write(tmp.join("young"), "").unwrap();
    fs::write(tmp.join("old"), "").unwrap();
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(25 * 3600);
    fs::File::open(tmp.join("old")).unwrap().set_modified(old).unwrap();
    DirStore::new(dir.path().join("session")).put("b", "1".into(), &none()).await.unwrap();
    let left: Vec<_> = fs::read_dir(&tmp).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["young"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn writers_and_removers_of_one_folder_do_not_lose_objects() {
    let (_dir, store) = fresh();
    let store = Arc::new(store);
    let tasks: Vec<_> = (0..16)
        .map(|n| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                for round in 0..20 {
                    let key = format!("d/e/{n}");
                    store.put(&key, format!("{round}").into(), &absent()).await.unwrap();
                    assert_eq!(text(&store, &key).await, format!("{round}"));
                    if n % 4 == 0 {
                        store.put("d/e/", Bytes::new(), &none()).await.unwrap();
                        store.delete("d/e/", &Condition::None).await.unwrap();
                    }
                    store.delete(&key, &Condition::None).await.unwrap();
                }
                store.put(&format!("d/e/{n}"), "end".into(), &absent()).await.unwrap();
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(keys(&store).await.len(), 16);
}

#[tokio::test]
async fn an_object_of_any_size_is_not_read_at_once() {
    let (dir, store) = fresh();
    fs::create_dir_all(dir.path().join("session/.cwdfs")).unwrap();
    fs::File::create(dir.path().join("session/.cwdfs/lease")).unwrap().set_len(MOST_WHOLE + 1).unwrap();
    let refused = store.get(".cwdfs/lease", None, None).await.unwrap_err();
    assert!(refused.kind == Kind::Invalid && refused.message.contains("read at once"), "{refused}");
    assert_eq!(store.get(".cwdfs/lease", Some(5..10), None).await.unwrap().body, vec![0; 5]);
}
