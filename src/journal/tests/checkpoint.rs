//! The rows of one journal, by way of checkpoints in a store, into another.

use super::helper::*;
use crate::journal::Journal;
use crate::log::checkpoint::{choose, list, load, run};
use crate::log::ids::{Ino, Slot};
use crate::log::lease::SessionId;
use crate::log::row::{Key, Record};
use crate::log::source::Committed;
use crate::store::{DirStore, ObjectStore};
use std::sync::Arc;

fn all(journal: &Journal) -> Vec<(Vec<u8>, bytes::Bytes)> {
    journal.scan(&[], None, usize::MAX).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_image_and_a_delta_on_it_give_the_same_tree() {
    let (dir, other, third) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(third.path()));
    let (journal, _) = open(dir.path());
    let committed: Arc<dyn Committed> = journal.clone();
    journal.apply((1..5000).map(|i| inode(i, i)).collect()).unwrap();
    commit(&journal, 1);
    let image = run(&store, &committed, SessionId(3)).await.unwrap().unwrap();
    assert!(image.base.is_none());
    assert_eq!(run(&store, &committed, SessionId(3)).await.unwrap(), None, "nothing new");
    journal.apply(vec![Record::delete(&Key::Inode { ino: Ino(7) }), inode(9, 1)]).unwrap();
    commit(&journal, 2);
    let delta = run(&store, &committed, SessionId(3)).await.unwrap().unwrap();
    assert_eq!(delta.base, Some((Slot(1), EPOCH)));

    let plans = choose(&list(store.as_ref()).await.unwrap(), Slot(0));
    assert_eq!(plans.len(), 2);
    let (loaded, _) = open(other.path());
    assert_eq!(load(&store, &plans[0], &mut loaded.sink()).await.unwrap(), SessionId(3));
    assert!(all(&loaded) == all(&journal));
    assert_eq!(all(&loaded).len(), 4998);
}
