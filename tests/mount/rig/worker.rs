//! The processes that work in the mount: this test program runs itself. Each draws what it does from its seed, in
//! names of its own, one system call after another, until one fails.

use super::names::Names;
use super::ops::{FileId, LAZY, Notes, Op, What};
use crate::work::close;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

const TASK: &str = "CWDFS_TEST_RIG";

/// What one process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Task {
    /// What it draws from.
    pub seed: [u8; 32],
    /// The round's directory, in the mount.
    pub dir: PathBuf,
    /// Where it notes what it does, outside of it.
    pub notes: PathBuf,
    /// Which of the round's processes it is.
    pub worker: u64,
    /// The first number of its files.
    pub first: u64,
}

impl Task {
    /// Starts the process, as the last words of `runner`.
    pub fn start(&self, mut runner: Command) -> Child {
        let itself = std::env::current_exe().expect("this program has a path");
        runner.arg(itself).args([
            "--exact",
            "rig::worker::act",
            "--ignored",
            "--nocapture",
            "--test-threads=1",
        ]);
        runner.env(TASK, serde_json::to_string(self).expect("a task has a form"));
        runner.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        runner.spawn().unwrap_or_else(|e| panic!("cannot run {runner:?}: {e}"))
    }
}

/// What each of the processes does.
#[test]
#[ignore = "run by the rig's tests, as processes of their own"]
fn act() {
    let task: Task = serde_json::from_str(&std::env::var(TASK).expect("the rig starts it")).expect("a task");
    let mut worker = Worker::new(task).expect("a place for the notes");
    while worker.step().expect("notes") {}
}

struct Worker {
    task: Task,
    random: StdRng,
    notes: Notes,
    /// How many operations were begun.
    n: u64,
    /// How many names and files were made.
    made: u64,
    names: Names,
    open: BTreeMap<FileId, File>,
    /// The blocks of each file.
    blocks: BTreeMap<FileId, u32>,
}

impl Worker {
    fn new(task: Task) -> io::Result<Worker> {
        Ok(Worker {
            random: StdRng::from_seed(task.seed),
            notes: Notes::at(&task.notes)?,
            n: 0,
            made: 0,
            names: Names::default(),
            open: BTreeMap::new(),
            blocks: BTreeMap::new(),
            task,
        })
    }

    /// One operation, noted; false when it failed.
    fn step(&mut self) -> io::Result<bool> {
        let op = self.draw();
        let n = self.n;
        self.n += 1;
        self.notes.note(n, What::Begun(op.clone()))?;
        match self.call(n, &op) {
            Ok(()) => self.notes.note(n, What::Done)?,
            Err(error) => {
                self.notes.note(n, What::Failed(error.raw_os_error().unwrap_or(-1)))?;
                return Ok(false);
            }
        }
        self.names.apply(&op);
        if self.random.random_ratio(1, 3) {
            std::thread::sleep(Duration::from_millis(self.random.random_range(0..8)));
        }
        Ok(true)
    }

    fn call(&mut self, version: u64, op: &Op) -> io::Result<()> {
        let at = |path: &String| self.task.dir.join(path);
        match op {
            Op::Mkdir(path) => fs::create_dir(at(path)),
            Op::Rmdir(path) => fs::remove_dir(at(path)),
            Op::Create(path, file) => {
                let opened = File::options().write(true).create_new(true).open(at(path))?;
                self.blocks.insert(*file, 0);
                self.open.insert(*file, opened);
                Ok(())
            }
            Op::Open(path, file) => {
                let opened = File::options().write(true).open(at(path))?;
                self.open.insert(*file, opened);
                Ok(())
            }
            Op::Write(file, from, count) => {
                let bytes: Vec<u8> = (*from..from + count).flat_map(|i| file.bytes(i, version)).collect();
                let written = self.open[file].write_at(&bytes, u64::from(*from) * file.block() as u64)?;
                assert_eq!(written, bytes.len(), "a write that was cut short");
                self.blocks.entry(*file).and_modify(|blocks| *blocks = (*blocks).max(from + count));
                Ok(())
            }
            Op::Truncate(file, blocks) => {
                self.open[file].set_len(u64::from(*blocks) * file.block() as u64)?;
                self.blocks.insert(*file, *blocks);
                Ok(())
            }
            Op::Fsync(file) => self.open[file].sync_all(),
            Op::Close(file) => self.open.remove(file).map_or(Ok(()), close),
            Op::Rename(from, to) => fs::rename(at(from), at(to)),
            Op::Link(from, to) => fs::hard_link(at(from), at(to)),
            Op::Unlink(path) => fs::remove_file(at(path)),
            Op::SyncDir(path) => File::open(at(path))?.sync_all(),
        }
    }

    /// Draws the next operation, of those that must succeed.
    fn draw(&mut self) -> Op {
        if self.n == 0 {
            return Op::Mkdir(self.own());
        }
        loop {
            if let Some(op) = self.try_draw() {
                return op;
            }
        }
    }

    fn try_draw(&mut self) -> Option<Op> {
        let draw = self.random.random_range(0..100);
        match draw {
            0..14 if self.open.len() < 3 => {
                let file = self.new_file();
                Some(Op::Create(self.new_name(file), file))
            }
            14..20 if self.open.len() < 3 => {
                let (path, file) = self.any_file()?;
                (!self.open.contains_key(&file)).then_some(Op::Open(path, file))
            }
            20..50 => self.write(),
            50..54 => {
                let file = self.any_open()?;
                let blocks = self.random.random_range(0..=self.blocks[&file]);
                Some(Op::Truncate(file, blocks))
            }
            54..58 => self.any_open().map(Op::Fsync),
            58..72 => self.any_open().map(Op::Close),
            72..80 => self.rename(),
            80..85 => {
                let (path, file) = self.any_file()?;
                Some(Op::Link(path, self.new_name(file)))
            }
            85..91 => self.any_file().map(|(path, _)| Op::Unlink(path)),
            91..94 => Some(Op::Mkdir(self.new_dir())),
            94..96 => {
                let dir = self.any_dir()?;
                (dir != self.own() && self.names.is_empty(&dir)).then_some(Op::Rmdir(dir))
            }
            96..98 => {
                let dir = self.any_dir()?;
                (dir != self.own()).then(|| Op::Rename(dir, self.new_dir()))
            }
            98 => self.any_dir().map(Op::SyncDir),
            _ => None,
        }
    }

    fn write(&mut self) -> Option<Op> {
        let file = self.any_open()?;
        let blocks = self.blocks[&file];
        // Rather at the end, as most programs do.
        let from = if self.random.random_ratio(2, 3) { blocks } else { self.random.random_range(0..=blocks) };
        let count = self.random.random_range(1..=file.at_once());
        (from + count <= file.longest()).then_some(Op::Write(file, from, count))
    }

    /// To a new name, or over another file.
    fn rename(&mut self) -> Option<Op> {
        let (from, file) = self.any_file()?;
        if self.random.random() {
            return Some(Op::Rename(from, self.new_name(file)));
        }
        let (to, other) = self.any_file()?;
        (file.is_lazy() == other.is_lazy() && from != to).then_some(Op::Rename(from, to))
    }

    fn own(&self) -> String {
        format!("w{}", self.task.worker)
    }

    fn new_file(&mut self) -> FileId {
        self.made += 1;
        FileId(self.task.first + self.made)
    }

    /// In a directory of its own, or in the one that all processes share.
    fn new_name(&mut self, file: FileId) -> String {
        self.made += 1;
        let end = if file.is_lazy() { format!(".{LAZY}") } else { String::new() };
        match self.random.random_ratio(1, 3) {
            true => format!("shared/w{}-{}{end}", self.task.worker, self.made),
            false => format!("{}/f{}{end}", self.any_dir().unwrap_or_else(|| self.own()), self.made),
        }
    }

    fn new_dir(&mut self) -> String {
        self.made += 1;
        format!("{}/d{}", self.own(), self.made)
    }

    fn any_dir(&mut self) -> Option<String> {
        let dirs: Vec<&String> = self.names.dirs().collect();
        dirs.choose(&mut self.random).map(|dir| (*dir).clone())
    }

    fn any_file(&mut self) -> Option<(String, FileId)> {
        let files: Vec<_> = self.names.files().collect();
        files.choose(&mut self.random).map(|(path, file)| ((*path).clone(), *file))
    }

    fn any_open(&mut self) -> Option<FileId> {
        let open: Vec<FileId> = self.open.keys().copied().collect();
        open.choose(&mut self.random).copied()
    }
}
