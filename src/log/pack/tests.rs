//! How packs are laid out, over a journal and a store in a folder.

use super::super::ids::{Epoch, Ino, LocalId, Slot};
use super::super::row::Row;
use super::super::source::{ChosenSlot, CommitSource};
use super::*;
use crate::journal::{Journal, JournalOptions};
use crate::store::DirStore;
use futures::FutureExt;
use std::sync::atomic::{AtomicUsize, Ordering};

const EPOCH: Epoch = Epoch { counter: 1, nonce: 9 };

struct Rig {
    journal: Arc<Journal>,
    store: Arc<dyn ObjectStore>,
    names: BlobNames,
    /// How often a pack's changes were waited for.
    settled: AtomicUsize,
    _dirs: [tempfile::TempDir; 2],
}

impl Rig {
    fn new() -> Rig {
        let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let sizes = JournalOptions { row_cache: 1 << 20, piece_cache: 1 << 20, piece_store: 1 << 20 };
        let (journal, _) = Journal::open(dirs[0].path(), sizes).unwrap();
        let store: Arc<dyn ObjectStore> = Arc::new(DirStore::new(dirs[1].path()));
        Rig { journal, store, names: BlobNames::new(EPOCH), settled: AtomicUsize::new(0), _dirs: dirs }
    }

    /// Puts a blob with these pieces into the store, and rows that name them; commits those as slot `slot`.
    async fn commit(&self, slot: u64, pieces: &[(u64, u64, &[u8])]) {
        let blob = Blob::Segment { epoch: EPOCH, slot: Slot(slot) };
        let (mut body, mut records) = (vec![0; 24], Vec::new());
        for (ino, offset, bytes) in pieces {
            let row = ExtentRow {
                len: bytes.len() as u64,
                blob: blob.clone(),
                piece_off: body.len() as u64,
                piece_len: bytes.len() as u32,
                skip: 0,
                crc: Some(crc32c::crc32c(bytes)),
            };
            body.extend_from_slice(bytes);
            records.push(Record::put(&Key::Extent { ino: Ino(*ino), offset: *offset }, &row));
        }
        self.store.put(&keys::segment(EPOCH, Slot(slot)), body.into(), &PutOptions::default()).await.unwrap();
        self.apply(slot, records);
    }

    fn apply(&self, slot: u64, records: Vec<Record>) {
        self.journal.apply(records).unwrap();
        self.settle(slot);
    }

    /// Commits what is uncommitted.
    fn settle(&self, slot: u64) {
        let sealed = self.journal.seal(usize::MAX).unwrap().expect("something changed");
        let (slot, last_seq) = (Slot(slot), sealed.last_seq);
        let placed: Vec<(LocalId, u64)> = Vec::new();
        let chosen = ChosenSlot { epoch: EPOCH, slot, checksum: [0; 32], last_seq, placed };
        self.journal.record(&chosen, sealed.records).unwrap();
        self.journal.committed(slot).unwrap();
    }

    async fn pack(&self, slots: &[u64], since: Option<u64>) -> Packed {
        self.pack_with(&|moves| self.journal.relocate(moves), slots, since).await
    }

    async fn pack_with(&self, relocate: Relocate<'_>, slots: &[u64], since: Option<u64>) -> Packed {
        let committed: Arc<dyn Committed> = self.journal.clone();
        let settled = || {
            self.settled.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(())).boxed()
        };
        let (store, names) = (&self.store, &self.names);
        let packer = Packer { store, committed: &committed, names, relocate, settled: &settled };
        let targets = slots.iter().map(|s| Blob::Segment { epoch: EPOCH, slot: Slot(*s) }).collect();
        packer.run(targets, since.map(Slot), u64::MAX).await.unwrap()
    }

    /// A file's extents, and its bytes as the store has them.
    async fn read(&self, ino: u64) -> (Vec<(u64, ExtentRow)>, Vec<u8>) {
        let extents = self.journal.extents(Ino(ino), 0..u64::MAX).unwrap();
        let mut bytes = Vec::new();
        for (offset, row) in &extents {
            bytes.resize(*offset as usize, 0);
            let key = match &row.blob {
                Blob::Segment { epoch, slot } => keys::segment(*epoch, *slot),
                Blob::Data { epoch, n } => keys::data(*epoch, *n),
                other => panic!("{other:?}"),
            };
            let end = row.piece_off + u64::from(row.piece_len);
            let piece = self.store.get(&key, Some(row.piece_off..end), None).await.unwrap().body;
            assert_eq!(Some(crc32c::crc32c(&piece)), row.crc);
            bytes.extend_from_slice(&piece[row.skip as usize..][..row.len as usize]);
        }
        (extents, bytes)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn contents_that_follow_on_each_other_become_one_piece_and_holes_stay() {
    let rig = Rig::new();
    rig.commit(1, &[(5, 0, b"hello "), (6, 0, b"other")]).await;
    rig.commit(2, &[(5, 6, b"world"), (5, 100, b"far")]).await;
    rig.commit(3, &[(7, 0, b"not asked for")]).await;
    let (_, before) = rig.read(5).await;
    let packed = rig.pack(&[1, 2], None).await;
    assert_eq!((packed.packs, packed.moved, packed.bytes), (1, 3, 6 + 5 + 3 + 5));
    let (extents, after) = rig.read(5).await;
    assert_eq!(after, before);
    assert_eq!(extents.iter().map(|(at, row)| (*at, row.len)).collect::<Vec<_>>(), [(0, 11), (100, 3)]);
    assert_eq!(rig.read(6).await.1, b"other");
    rig.settle(4);
    assert_eq!(rig.journal.live_segments().unwrap(), [(EPOCH, Slot(3), 13)]);
    assert_eq!(rig.pack(&[1, 2], None).await, Packed::default(), "there is nothing left to do");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_piece_that_was_cut_only_what_is_used_is_packed() {
    let rig = Rig::new();
    rig.commit(1, &[(5, 0, b"0123456789")]).await;
    let (extents, _) = rig.read(5).await;
    let cut = |len, skip| ExtentRow { len, skip, ..extents[0].1.clone() };
    let at = |offset| Key::Extent { ino: Ino(5), offset };
    rig.apply(2, vec![Record::put(&at(0), &cut(2, 0)), Record::put(&at(7), &cut(3, 7))]);
    let (_, before) = rig.read(5).await;
    assert_eq!(before, [b"01".as_slice(), &[0; 5], b"789"].concat());
    assert_eq!(rig.pack(&[1], None).await.bytes, 5);
    let (extents, after) = rig.read(5).await;
    assert_eq!(after, before);
    assert!(extents.iter().all(|(_, row)| row.skip == 0 && row.len == u64::from(row.piece_len)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_or_missing_stays_and_the_rest_is_packed() {
    let rig = Rig::new();
    rig.commit(1, &[(5, 0, b"right"), (6, 0, b"wrong")]).await;
    rig.commit(2, &[(7, 0, b"missing")]).await;
    let key = keys::segment(EPOCH, Slot(1));
    let mut body = rig.store.get(&key, None, None).await.unwrap().body.to_vec();
    let last = body.len() - 1;
    body[last] ^= 1;
    rig.store.put(&key, body.into(), &PutOptions::default()).await.unwrap();
    rig.store.delete(&keys::segment(EPOCH, Slot(2)), &Condition::None).await.unwrap();
    let packed = rig.pack(&[1, 2], None).await;
    assert_eq!((packed.moved, packed.unreadable), (1, 2));
    assert_eq!(rig.read(5).await.1, b"right");
    rig.settle(3);
    assert_eq!(rig.journal.live_segments().unwrap().len(), 2, "both segments are still needed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_changes_meanwhile_keeps_its_change_and_an_unused_pack_goes() {
    let rig = Rig::new();
    rig.commit(1, &[(5, 0, b"old")]).await;
    let relocate = |moves: &[Move]| {
        // Between the content's reading and the change of its row.
        rig.journal.apply(vec![Record::delete(&Key::Inode { ino: Ino(5) })]).unwrap();
        rig.journal.relocate(moves)
    };
    assert_eq!(rig.pack_with(&relocate, &[1], None).await, Packed::default());
    assert_eq!(rig.read(5).await.0, []);
    assert!(rig.store.list(keys::DATA, None, 10).await.unwrap().objects.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_contents_become_several_packs_and_only_recent_rows_are_looked_at_where_that_is_enough() {
    let rig = Rig::new();
    let noise = vec![7u8; 900 << 10];
    for slot in 1..=30 {
        rig.commit(slot, &[(slot, 0, noise.as_slice())]).await;
    }
    let packed = rig.pack(&(21..=30).collect::<Vec<_>>(), Some(20)).await;
    assert_eq!((packed.packs, packed.moved), (2, 10));
    rig.settle(31);
    // Slot 3 is older than what is looked at here.
    assert_eq!(rig.pack(&[3], Some(3)).await, Packed::default());
    let packed = rig.pack(&(1..=20).collect::<Vec<_>>(), Some(0)).await;
    assert_eq!((packed.packs, packed.moved), (4, 20));
    assert_eq!(rig.settled.load(Ordering::Relaxed), 2 + 4, "each is committed before the next");
    let listed = rig.store.list(keys::DATA, None, 10).await.unwrap().objects;
    assert!(listed.iter().all(|o| o.size <= (PACK + (1 << 20)) as u64), "{listed:?}");
    assert_eq!(rig.read(30).await.1, noise);
}

#[tokio::test]
async fn a_pack_that_is_there_already_has_to_be_ours() {
    let rig = Rig::new();
    let key = keys::data(EPOCH, 1);
    put(rig.store.as_ref(), &key, "same".into()).await.unwrap();
    put(rig.store.as_ref(), &key, "same".into()).await.unwrap();
    let clone = put(rig.store.as_ref(), &key, "else".into()).await;
    assert!(matches!(clone, Err(LogError::Damaged { .. })), "{clone:?}");
}

#[test]
fn an_extent_longer_than_any_piece_is_refused() {
    let found = Found {
        ino: Ino(1),
        offset: 0,
        row: ExtentRow {
            len: u64::from(MAX_PIECE) + 1,
            blob: Blob::Local(LocalId(1)),
            piece_off: 0,
            piece_len: 3,
            skip: 0,
            crc: None,
        },
        key: Vec::new(),
        value: Vec::new(),
    };
    // Hostile rows: the content is not as long as the row says, so it is not packed at all.
    let laid_out = lay_out(&Blob::Data { epoch: EPOCH, n: 1 }, vec![found], &Contents::default()).unwrap();
    assert_eq!((laid_out.moves.len(), laid_out.unreadable), (0, 1));
    assert!(ExtentRow::decode(b"").is_err());
}
