//! A session without FUSE against a simple model, under random operations, with crashes among them.

mod check;
mod history;
mod ops;
mod reference;
mod subject;

use cwdfs::session::Durability;
use history::History;
use ops::{Crash, Op, op};
use proptest::prelude::*;
use reference::Model;
use subject::Subject;

/// The session and the model of it.
struct Pair {
    model: Model,
    subject: Subject,
    history: History,
    durability: Durability,
}

impl Pair {
    fn new(durability: Durability) -> Pair {
        let subject = Subject::new(durability);
        let mut model = Model::new();
        let root = &subject.tree()[""];
        let node = model.node(reference::ROOT);
        (node.uid, node.gid) = (root.uid, root.gid);
        let history = History::new(&model);
        Pair { model, subject, history, durability }
    }

    fn compare(&self) {
        let wrong = check::differences(&self.model, &self.subject.tree());
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    /// One operation on both; their answers have to be the same.
    fn step(&mut self, op: &Op) {
        let (model, subject) = (&mut self.model, &mut self.subject);
        let mut content = Vec::new();
        let mut moved = Vec::new();
        let answers = match op {
            Op::Make { at, kind, mode } => {
                (model.make(at, *kind, *mode).map(drop), subject.make(at, *kind, *mode))
            }
            Op::Symlink { at, target } => {
                let target = vec![b't'; 1 + usize::from(*target)];
                (model.symlink(at, &target).map(drop), subject.symlink(at, &target))
            }
            Op::Unlink(at) => (model.unlink(at), subject.unlink(at)),
            Op::Rmdir(at) => (model.rmdir(at), subject.rmdir(at)),
            Op::Rename { from, to, how } => {
                let ids = model.rename(from, to, *how);
                moved.extend(ids.iter().flatten());
                (ids.map(drop), subject.rename(from, to, *how))
            }
            Op::Link { from, to } => {
                let id = model.link(from, to);
                moved.extend(id.iter());
                (id.map(drop), subject.link(from, to))
            }
            Op::Chmod(at, mode) => (model.chmod(at, *mode), subject.chmod(at, *mode)),
            Op::Chown(at, uid, gid) => (model.chown(at, *uid, *gid), subject.chown(at, *uid, *gid)),
            Op::Utimens(at, time) => (model.utimens(at, *time), subject.utimens(at, *time)),
            Op::SetXattr { at, name, len } => {
                let (name, value) = (xattr(*name), vec![b'v'; usize::from(*len)]);
                (model.set_xattr(at, &name, &value), subject.set_xattr(at, &name, &value))
            }
            Op::RemoveXattr { at, name } => {
                let name = xattr(*name);
                (model.remove_xattr(at, &name), subject.remove_xattr(at, &name))
            }
            Op::Truncate(at, size) => {
                let id = model.truncate(at, *size);
                content.extend(id.iter());
                (id.map(drop), subject.truncate(at, *size))
            }
            Op::Open { slot, at, create, truncate } => {
                if model.open[*slot].is_some() {
                    self.close(*slot);
                }
                let opened = self.model.open(*slot, at, *create, *truncate);
                content.extend(opened.iter().filter(|(_, made)| *made || *truncate).map(|(id, _)| *id));
                (opened.map(drop), self.subject.open(*slot, at, *create, *truncate))
            }
            Op::Close(slot) => {
                self.close(*slot);
                return;
            }
            whole => return self.step_open_or_whole(whole),
        };
        assert_eq!(answers.0, answers.1, "{op:?}: the model, the session");
        self.history.push(&self.model);
        content.into_iter().for_each(|id| self.history.changed(id));
        moved.into_iter().for_each(|id| self.history.moved(id));
        if self.durability == Durability::Sync && answers.0.is_ok() && !matches!(op, Op::Open { .. }) {
            self.history.acked();
        }
    }

    /// Operations on open files, and on everything.
    fn step_open_or_whole(&mut self, op: &Op) {
        match op {
            Op::Write { slot, offset, len, fill } => {
                let Some(id) = self.model.open[*slot] else { return };
                let data: Vec<u8> = (0..*len).map(|i| fill.wrapping_add((i / 7) as u8)).collect();
                self.model.write(id, *offset, &data);
                assert_eq!(self.subject.write(*slot, *offset, &data), Ok(*len as u32), "{op:?}");
                self.changed(id);
            }
            Op::Reserve { slot, offset, len, how } => {
                let Some(id) = self.model.open[*slot] else { return };
                self.model.reserve(id, *offset, *len, *how);
                assert_eq!(self.subject.reserve(*slot, *offset, *len, *how), Ok(()), "{op:?}");
                self.changed(id);
            }
            Op::Copy { from, from_at, to, to_at, len } => self.copy(op, *from, *from_at, *to, *to_at, *len),
            Op::Read { slot, offset, len } => {
                let Some(id) = self.model.open[*slot] else { return };
                let expected = self.model.read(id, *offset, *len as usize);
                assert!(self.subject.read(*slot, *offset, *len) == Ok(expected), "{op:?}");
            }
            Op::Flush(slot) | Op::Fsync(slot) => {
                let Some(id) = self.model.open[*slot] else { return };
                let is_fsync = matches!(op, Op::Fsync(_));
                let done = if is_fsync { self.subject.fsync(*slot) } else { self.subject.flush(*slot) };
                assert_eq!(done, Ok(()), "{op:?}");
                self.barrier(id, is_fsync);
            }
            Op::FsyncDir(at) => {
                if self.subject.fsync_dir(at).is_ok() {
                    self.history.acked();
                }
            }
            Op::FlushAll => {
                self.subject.flush_all().expect("the store is well");
                self.history.all_safe(&self.model);
            }
            Op::Pause => std::thread::sleep(std::time::Duration::from_millis(60)),
            Op::Remount => {
                self.model.forget_open();
                self.subject.remount();
                self.start_anew(self.model.clone());
            }
            Op::Crash(how) => {
                self.subject.crash(*how == Crash::WipeCache);
                let found = self.subject.tree();
                let Some(recovered) = self.history.recovered(&found) else {
                    let wrong = check::differences(&self.model, &found);
                    panic!("{op:?}: no state that may be there: against the newest, {wrong:#?}");
                };
                self.model = recovered.model.clone();
                let before = std::mem::replace(&mut self.history, History::new(&self.model));
                if *how == Crash::KeepCache {
                    self.history = before.goes_on_from(&recovered);
                }
            }
            other => unreachable!("{other:?} is a change of names"),
        }
    }

    fn copy(&mut self, op: &Op, from: usize, from_at: u64, to: usize, to_at: u64, len: u64) {
        let (Some(source), Some(target)) = (self.model.open[from], self.model.open[to]) else { return };
        if source == target {
            return; // The kernel refuses ranges that overlap; the rest is no other than two files.
        }
        let copied = self.model.copy(source, from_at, target, to_at, len);
        assert_eq!(self.subject.copy(from, from_at, to, to_at, len), Ok(copied), "{op:?}");
        self.changed(target);
    }

    fn changed(&mut self, id: reference::Id) {
        self.history.push(&self.model);
        self.history.changed(id);
    }

    fn close(&mut self, slot: usize) {
        let Some(id) = self.model.open[slot] else { return };
        assert_eq!(self.subject.close(slot), Ok(()), "close");
        self.barrier(id, false);
        self.model.close(slot);
        self.history.push(&self.model);
    }

    /// A barrier on one file returned.
    fn barrier(&mut self, id: reference::Id, is_fsync: bool) {
        if self.model.nodes[&id].nlink == 0 {
            return; // What has no name is never stored.
        }
        if is_fsync || self.durability != Durability::Fsync {
            self.history.closed(id);
        }
        if is_fsync {
            self.history.acked();
        }
    }

    /// After a clean end: this is the state, and all of it is in the store.
    fn start_anew(&mut self, model: Model) {
        self.model = model;
        self.history = History::new(&self.model);
    }
}

fn xattr(n: u8) -> Vec<u8> {
    format!("user.{}", char::from(b'a' + n)).into_bytes()
}

fn run(durability: Durability, ops: &[Op]) {
    let mut pair = Pair::new(durability);
    for (i, op) in ops.iter().enumerate() {
        pair.step(op);
        if i % 5 == 0 || matches!(op, Op::Crash(_) | Op::Remount) {
            pair.compare();
        }
    }
    pair.compare();
    pair.step(&Op::FlushAll);
    pair.step(&Op::Crash(Crash::WipeCache));
    pair.compare();
}

fn level() -> impl Strategy<Value = Durability> {
    prop_oneof![2 => Just(Durability::Close), 1 => Just(Durability::Fsync), 1 => Just(Durability::Sync)]
}

/// How many sequences are tried: more where every size is run.
fn cases() -> u32 {
    if std::env::var_os("CWDFS_TEST_FULL").is_some() { 2_000 } else { 40 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_session_is_what_the_model_says(level in level(), ops in proptest::collection::vec(op(), 1..60)) {
        run(level, &ops);
    }
}
