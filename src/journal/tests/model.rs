//! The journal under random operations, with crashes, against maps.

use super::helper::*;
use crate::journal::Journal;
use crate::log::ids::{Ino, Slot};
use crate::log::row::{Key, KeyBytes, Record, prefix_end};
use crate::log::source::CommitSource;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

#[derive(Debug, Clone)]
enum Op {
    /// Writes an inode with an xattr.
    Put { ino: u64, version: u64 },
    /// Removes an inode; its xattr goes with it.
    Remove { ino: u64 },
    /// Seals at most so much.
    Seal { max: usize },
    /// The oldest slot under way is in the store.
    Commit,
    /// The process dies, with everything written or not; the slots under way landed or did not.
    Crash { settled: bool, landed: usize },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        6 => (0u64..6, 1u64..1000).prop_map(|(ino, version)| Op::Put { ino, version }),
        2 => (0u64..6).prop_map(|ino| Op::Remove { ino }),
        2 => (1usize..400).prop_map(|max| Op::Seal { max }),
        2 => Just(Op::Commit),
        1 => (any::<bool>(), 0usize..3).prop_map(|(settled, landed)| Op::Crash { settled, landed }),
    ];
    proptest::collection::vec(op, 1..50)
}

type Rows = BTreeMap<KeyBytes, Vec<u8>>;

fn apply(rows: &mut Rows, record: &Record) {
    match &record.value {
        Some(value) => drop(rows.insert(record.key.clone(), value.clone())),
        None => {
            rows.remove(&record.key);
            if let Some(ino) = Key::own_row_of(&record.key) {
                rows.retain(|key, _| Key::child_of(key) != Some(ino));
            }
        }
    }
}

fn xattr(ino: u64) -> Key {
    Key::Xattr { ino: Ino(ino), name: b"user.x".to_vec() }
}

struct Run {
    journal: Arc<Journal>,
    dir: tempfile::TempDir,
    /// The state after each step since the base, the base first.
    states: Vec<Rows>,
    /// The number of each state's last change.
    seqs: Vec<u64>,
    /// Committed rows by commits only.
    base: Rows,
    under_way: Vec<(u64, Vec<Record>)>,
    next_slot: u64,
    generation: u64,
}

impl Run {
    fn check(&self) -> Result<(), TestCaseError> {
        let expected = self.states.last().unwrap();
        let scanned: Rows = self
            .journal
            .scan(&[], None, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|(k, v)| (k, v.to_vec()))
            .collect();
        prop_assert_eq!(&scanned, expected);
        for limit in [1, 3] {
            let first = self.journal.scan(&[], None, limit).unwrap();
            let keys: Vec<_> = first.iter().map(|(k, _)| k).collect();
            prop_assert_eq!(keys, expected.keys().take(limit).collect::<Vec<_>>());
        }
        for ino in 0..6 {
            for key in
                [Key::Inode { ino: Ino(ino + self.generation * 10) }, xattr(ino + self.generation * 10)]
            {
                let key = key.encode();
                let value = self.journal.get_raw(&key).unwrap();
                prop_assert_eq!(value.as_deref(), expected.get(&key).map(|v| &v[..]));
            }
            let prefix = Key::xattrs_of(Ino(ino));
            let some = self.journal.scan(&prefix, prefix_end(&prefix).as_deref(), 9).unwrap().len();
            prop_assert_eq!(some, expected.keys().filter(|k| k.starts_with(&prefix)).count());
        }
        Ok(())
    }

    fn step(&mut self, records: Vec<Record>) {
        let mut state = self.states.last().unwrap().clone();
        records.iter().for_each(|r| apply(&mut state, r));
        self.seqs.push(self.journal.apply(records).unwrap());
        self.states.push(state);
    }

    fn commit(&mut self) {
        if self.under_way.is_empty() {
            return;
        }
        let (slot, records) = self.under_way.remove(0);
        self.journal.committed(Slot(slot)).unwrap();
        records.iter().for_each(|r| apply(&mut self.base, r));
    }

    /// Goes on from a copy of the files, as after a kill.
    fn crash(&mut self, settled: bool, landed: usize) -> Result<(), TestCaseError> {
        if settled {
            self.journal.settle().unwrap();
        }
        let copy = tempfile::tempdir().unwrap();
        copy_files(self.dir.path(), copy.path());
        let (journal, found) = open(copy.path());
        self.journal = journal;
        self.dir = copy;
        let chosen = found.base.as_ref().map(|b| b.chosen.clone());
        let landed = landed.min(self.under_way.len());
        let mut committed = None;
        for (slot, records) in std::mem::take(&mut self.under_way).into_iter().take(landed) {
            let mut sink = self.journal.sink();
            crate::log::source::RecoverySink::segment(
                &mut sink,
                EPOCH,
                Slot(slot),
                &[slot as u8; 32],
                records.clone(),
            )
            .unwrap();
            records.iter().for_each(|r| apply(&mut self.base, r));
            committed =
                chosen.as_ref().and_then(|c| c.iter().find(|c| c.1.0 == slot)).map(|c| c.3).or(committed);
            self.next_slot = self.next_slot.max(slot + 1);
        }
        // A base with no slot yet names no chosen ones: recovery then does without these.
        if committed.is_none() && landed > 0 {
            self.journal.salvage_changes("the base does not say", None).unwrap();
            self.states = vec![self.base.clone()];
            self.seqs = vec![0];
            return Ok(());
        }
        self.journal.keep_changes_after(committed).unwrap();
        let now: Rows = self
            .journal
            .scan(&[], None, usize::MAX)
            .unwrap()
            .into_iter()
            .map(|(k, v)| (k, v.to_vec()))
            .collect();
        let at = self.states.iter().rposition(|s| *s == now);
        prop_assert!(at.is_some(), "not a state that there was: {:?}", now);
        if settled {
            prop_assert_eq!(&now, self.states.last().unwrap(), "settled changes are lost");
        }
        self.states = vec![now];
        self.seqs = vec![0];
        Ok(())
    }
}

fn copy_files(from: &Path, to: &Path) {
    // The write-ahead log last would miss what a checkpoint moves meanwhile; the writer is idle or not, so
    // take the log first and the database after it, as often as it takes to see neither change.
    loop {
        let stamp = || {
            ["journal.db", "journal.db-wal"].map(|f| {
                let meta = std::fs::metadata(from.join(f)).unwrap();
                (meta.len(), meta.modified().unwrap())
            })
        };
        let before = stamp();
        for file in ["journal.db", "journal.db-wal"] {
            std::fs::copy(from.join(file), to.join(file)).unwrap();
        }
        if stamp() == before {
            return;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_journal_equals_its_model(ops in ops()) {
        let dir = tempfile::tempdir().unwrap();
        let (journal, _) = open(dir.path());
        journal.bind(crate::log::lease::SessionId(1)).unwrap();
        let mut run = Run {
            journal, dir, states: vec![Rows::new()], seqs: vec![0], base: Rows::new(),
            under_way: Vec::new(), next_slot: 1, generation: 0,
        };
        for op in ops {
            match op {
                Op::Put { ino, version } => {
                    let ino = ino + run.generation * 10;
                    let value = Record::put_raw(&xattr(ino), version.to_le_bytes().to_vec());
                    run.step(vec![inode(ino, version), value]);
                }
                Op::Remove { ino } => {
                    let ino = ino + run.generation * 10;
                    run.step(vec![Record::delete(&Key::Inode { ino: Ino(ino) })]);
                    // Numbers are never given out twice.
                    run.generation += 1;
                }
                Op::Seal { max } => {
                    if let Some(records) = seal_and_record(&run.journal, run.next_slot, max) {
                        run.under_way.push((run.next_slot, records));
                        run.next_slot += 1;
                    }
                }
                Op::Commit => run.commit(),
                Op::Crash { settled, landed } => run.crash(settled, landed)?,
            }
            run.check()?;
        }
        while let Some(records) = seal_and_record(&run.journal, run.next_slot, usize::MAX) {
            run.under_way.push((run.next_slot, records));
            run.next_slot += 1;
        }
        while !run.under_way.is_empty() {
            run.commit();
        }
        prop_assert_eq!(&run.base, run.states.last().unwrap());
        run.check()?;
    }
}
