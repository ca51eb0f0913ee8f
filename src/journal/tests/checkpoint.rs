//! The rows of one journal, by way of checkpoints in a store, into another.

use super::helper::*;
use crate::journal::Journal;
use crate::log::checkpoint::{choose, list, list_sized, load, run};
use crate::log::ids::{Blob, Ino, Slot};
use crate::log::lease::SessionId;
use crate::log::row::{Key, Record};
use crate::log::source::{Committed, Part, RecoverySink};
use crate::store::{DirStore, ObjectStore};
use std::sync::Arc;
use tempfile::TempDir;

fn all(journal: &Journal) -> Vec<(Vec<u8>, bytes::Bytes)> {
    journal.scan(&[], None, usize::MAX).unwrap()
}

/// What a round does: lists what there is, and writes the next.
async fn checkpoint(
    store: &Arc<dyn ObjectStore>,
    journal: &Arc<Journal>,
    image: bool,
) -> Option<crate::log::checkpoint::Made> {
    let committed: Arc<dyn Committed> = journal.clone();
    let listed = list_sized(store.as_ref()).await.unwrap();
    run(store, &committed, SessionId(3), &listed, image).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_and_a_delta_on_it_give_the_same_tree() {
    let (dir, other, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(third.path()));
    let (journal, _) = open(dir.path());
    journal.apply((1..5000).map(|i| inode(i, i)).collect()).unwrap();
    commit(&journal, 1);
    let image = checkpoint(&store, &journal, false).await.unwrap();
    assert!(image.name.base.is_none());
    assert_eq!(checkpoint(&store, &journal, true).await, None, "nothing new");
    journal.apply(vec![Record::delete(&Key::Inode { ino: Ino(7) }), inode(9, 1)]).unwrap();
    commit(&journal, 2);
    let delta = checkpoint(&store, &journal, false).await.unwrap();
    assert_eq!(delta.name.base, Some((Slot(1), EPOCH)));
    assert!(delta.bytes * 4 <= image.bytes);

    let plans = choose(&list(store.as_ref()).await.unwrap(), Slot(0));
    assert_eq!(plans.len(), 2);
    let (loaded, _) = open(other.path());
    assert_eq!(load(&store, &plans[0], &mut loaded.sink()).await.unwrap(), SessionId(3));
    assert!(all(&loaded) == all(&journal));
    assert_eq!(all(&loaded).len(), 4998);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_too_much_or_is_asked_to_be_is_an_image() {
    let (dir, third) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(third.path()));
    let (journal, _) = open(dir.path());
    journal.apply((1..5000).map(|i| inode(i, i)).collect()).unwrap();
    commit(&journal, 1);
    checkpoint(&store, &journal, false).await.unwrap();
    journal.apply((1..4000).map(|i| inode(i, i + 1)).collect()).unwrap();
    commit(&journal, 2);
    assert_eq!(checkpoint(&store, &journal, false).await.unwrap().name.base, None, "most rows changed");
    journal.apply(vec![inode(9, 1)]).unwrap();
    commit(&journal, 3);
    assert_eq!(checkpoint(&store, &journal, true).await.unwrap().name.base, None, "asked for");
    journal.apply(vec![inode(9, 2)]).unwrap();
    commit(&journal, 4);
    let delta = checkpoint(&store, &journal, false).await.unwrap();
    assert_eq!(delta.name.base, Some((Slot(3), EPOCH)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_of_many_parts_comes_back() {
    let (dir, other, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(third.path()));
    let (journal, _) = open(dir.path());
    let xattr = |i: u64| {
        let key = Key::Xattr { ino: Ino(i), name: b"user.noise".to_vec() };
        let mut noise = vec![0; 32 << 10];
        blake3::Hasher::new().update(&i.to_le_bytes()).finalize_xof().fill(&mut noise);
        Record::put_raw(&key, noise)
    };
    for from in (0..600).step_by(100) {
        journal.apply((from + 1..=from + 100).map(xattr).collect()).unwrap();
        commit(&journal, from / 100 + 1);
    }
    let image = checkpoint(&store, &journal, true).await.unwrap();
    assert!(image.bytes > 18 << 20, "{} bytes", image.bytes);
    let plans = choose(&list(store.as_ref()).await.unwrap(), Slot(0));
    let (loaded, _) = open(other.path());
    load(&store, &plans[0], &mut loaded.sink()).await.unwrap();
    assert!(all(&loaded) == all(&journal));
    assert_eq!(store.list_multipart("").await.unwrap().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changed_since_the_oldest_content_in_the_log_is_still_told_after_an_image() {
    let (dir, third) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(third.path()));
    let (journal, _) = open(dir.path());
    journal.apply(vec![inode(4, 1)]).unwrap();
    commit(&journal, 1);
    let bytes = bytes::Bytes::from_static(b"content");
    let id = journal.put_local(bytes.clone()).unwrap();
    journal.apply(vec![inode(5, 1), Record::put(&extent_key(5, 0), &local_extent(id, &bytes))]).unwrap();
    commit(&journal, 2);
    journal.apply(vec![inode(6, 1)]).unwrap();
    commit(&journal, 3);
    assert_eq!(journal.live_segments().unwrap(), [(EPOCH, Slot(2), 7)]);
    checkpoint(&store, &journal, true).await.unwrap();
    let snapshot = journal.snapshot().unwrap();
    assert_eq!(snapshot.changes_from(), Slot(1));
    assert_eq!(snapshot.rows(None, Some(Slot(1)), 10).unwrap().len(), 3);
    drop(snapshot);
    journal.apply(vec![Record::delete(&extent_key(5, 0))]).unwrap();
    commit(&journal, 4);
    assert_eq!(journal.live_segments().unwrap(), []);
    checkpoint(&store, &journal, true).await.unwrap();
    assert_eq!(journal.snapshot().unwrap().changes_from(), Slot(4));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_died_before_a_checkpoint_was_loaded_counts_as_dead_only_since_then() {
    let (dir, other, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(third.path()));
    let (journal, _) = open(dir.path());
    for slot in 1..=9 {
        journal.apply(vec![inode(slot, 1)]).unwrap();
        commit(&journal, slot);
    }
    checkpoint(&store, &journal, true).await.unwrap();
    let segments = |slots: &[u64]| -> Vec<Blob> {
        slots.iter().map(|s| Blob::Segment { epoch: EPOCH, slot: Slot(*s) }).collect()
    };
    let asked = segments(&[2, 5, 9]);
    assert_eq!(journal.dead_among(&asked, Slot(5)).unwrap(), segments(&[2, 5]));
    let plans = choose(&list(store.as_ref()).await.unwrap(), Slot(0));
    let (loaded, _) = open(other.path());
    load(&store, &plans[0], &mut loaded.sink()).await.unwrap();
    assert_eq!(loaded.dead_among(&asked, Slot(8)).unwrap(), []);
    assert_eq!(loaded.dead_among(&asked, Slot(9)).unwrap(), asked);
}

/// Callers read while a follower loads anew: what was not there yet is not missing for ever.
#[test]
fn what_was_missed_while_a_checkpoint_came_in_is_found_after_it() {
    let dir = TempDir::new().unwrap();
    let (journal, _) = open(dir.path());
    let (record, mut sink) = (inode(5, 1), journal.sink());
    sink.reset().unwrap();
    assert_eq!(journal.get_raw(&record.key).unwrap(), None);
    sink.rows(Part::Image, vec![record.clone()]).unwrap();
    sink.checkpoint_loaded(EPOCH, Slot(3), Slot(3)).unwrap();
    assert!(journal.get_raw(&record.key).unwrap().is_some());
}
