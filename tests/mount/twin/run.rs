//! One mounted session and one local directory, and cases that are run on both, each in a directory of its own.

use super::answers::Answers;
use super::compare;
use super::ops::{End, On, Op, Step, at, by, p};
use super::strategy::WORKERS;
use super::worker::Worker;
use crate::support::Tree;
use crate::support::mount::Mount;
use crate::support::way::{Way, no_error_logged};
use crate::support::world::World;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Steps between two comparisons of the trees.
const STRIDE: usize = 7;
/// Of so many cases one stays to the end, and comes back then.
const KEPT: usize = 8;
/// ext4's statfs type.
const EXT4: i64 = 0xef53;

/// The options besides the way's: other users come in, and device nodes and set-id bits do what they do on the
/// local disk.
const OPTIONS: [&str; 6] = ["--allow-other", "-o", "suid,dev", "--no-publish", "--cache-size", "64MiB"];

/// What cases are run on. Its world outlives it.
pub struct Rig<'w> {
    world: &'w World,
    way: Way,
    /// `None` only while it is mounted anew.
    mount: Option<Mount<'w>>,
    hosts: usize,
    local: PathBuf,
    cases: usize,
    kept: Vec<String>,
    ours: Vec<Worker>,
    theirs: Vec<Worker>,
    /// Steps done so far.
    pub steps: usize,
    /// Ends of the mount so far.
    pub ends: usize,
    /// How each operation was answered so far.
    pub answers: Answers,
}

impl<'w> Rig<'w> {
    /// Mounts a session of its own.
    pub fn new(world: &'w World, way: Way) -> Rig<'w> {
        let local = world.local("twin");
        let kind = rustix::fs::statfs(&local).expect("statfs").f_type;
        assert_eq!(kind, EXT4, "{} has to be on ext4, which the mount is compared with", local.display());
        let mount = world.host("h0").mount(&way.options(&OPTIONS));
        // Where processes are between two cases.
        for side in [mount.root(), &local] {
            fs::create_dir(side.join("w")).expect("mkdir");
        }
        let (ours, theirs) = (workers(false), workers(true));
        let (kept, mount) = (Vec::new(), Some(mount));
        Rig {
            world,
            way,
            mount,
            hosts: 0,
            local,
            cases: 0,
            kept,
            ours,
            theirs,
            steps: 0,
            ends: 0,
            answers: Answers::default(),
        }
    }

    /// Runs a case in a fresh directory of both sides; the error says what differs, and after which step.
    pub fn case(&mut self, steps: &[Step]) -> Result<(), String> {
        self.cases += 1;
        let name = format!("case-{}", self.cases);
        for side in [self.root(), self.local.clone()] {
            fresh(&side.join(&name));
        }
        self.reset(&name);
        for op in start() {
            self.step(&name, &by(0, op))?;
        }
        for (i, step) in steps.iter().enumerate() {
            self.step(&name, step).map_err(|wrong| format!("step {i} of {}: {wrong}", steps.len()))?;
            if i % STRIDE == STRIDE - 1 {
                self.compare(&name).map_err(|wrong| format!("after step {i} ({step:?}): {wrong}"))?;
            }
        }
        self.compare(&name).map_err(|wrong| format!("at the end: {wrong}"))?;
        self.leave(name);
        Ok(())
    }

    /// Ends it: what was kept comes back once more, and the mount has nothing to complain of.
    pub fn finish(mut self) -> Result<(), String> {
        self.end(None, End::Machine)?;
        for name in std::mem::take(&mut self.kept) {
            self.compare(&name).map_err(|wrong| format!("{name}, which was kept: {wrong}"))?;
        }
        (self.ours, self.theirs) = (Vec::new(), Vec::new());
        let mount = self.mount.take().expect("it is mounted");
        no_error_logged(&mount);
        mount.unmount();
        Ok(())
    }

    fn root(&self) -> PathBuf {
        self.mount.as_ref().expect("it is mounted").root().to_owned()
    }

    fn reset(&mut self, name: &str) {
        let root = self.root();
        self.ours.iter_mut().for_each(|worker| worker.reset(&root.join(name)));
        self.theirs.iter_mut().for_each(|worker| worker.reset(&self.local.join(name)));
    }

    fn step(&mut self, name: &str, step: &Step) -> Result<(), String> {
        self.steps += 1;
        match &step.op {
            Op::Pause => std::thread::sleep(Duration::from_millis(80)),
            Op::Flush => self.mount.as_ref().expect("it is mounted").flush(),
            Op::Lose { end } => return self.end(Some(name), *end),
            _ => {
                let by = usize::from(step.by);
                let (ours, theirs) = (&mut self.ours[by], &mut self.theirs[by]);
                ours.begin(step);
                theirs.begin(step);
                let (ours, theirs) = (ours.answer(), theirs.answer());
                self.answers.note(&step.op, &theirs);
                return compare::answers(step, &ours, &theirs);
            }
        }
        Ok(())
    }

    fn compare(&self, name: &str) -> Result<(), String> {
        compare::trees(&self.root().join(name), &self.local.join(name))
    }

    /// Commits everything and ends the mount, with all processes, and mounts it again. The tree of a case (or
    /// all) is what it was, on the mount to the last inode number and time. Commits while files are open.
    fn end(&mut self, name: Option<&str>, end: End) -> Result<(), String> {
        let mount = self.mount.take().expect("it is mounted");
        let below = |mount: &Mount<'_>| name.map_or(mount.root().to_owned(), |name| mount.path(name));
        mount.flush();
        let before = Tree::of(&below(&mount));
        no_error_logged(&mount);
        (self.ours, self.theirs) = (Vec::new(), Vec::new());
        match end {
            End::Machine => mount.lose_machine(),
            End::Daemon => mount.kill(),
            End::Unmount => mount.unmount(),
        }
        self.hosts += usize::from(end != End::Daemon);
        let options = [self.way.options(&OPTIONS), vec!["--takeover"]].concat();
        let mount = self.world.host(&format!("h{}", self.hosts)).mount(&options);
        let after = Tree::of(&below(&mount));
        self.mount = Some(mount);
        self.ends += 1;
        (self.ours, self.theirs) = (workers(false), workers(true));
        let lines = before.differences(&after);
        if !lines.is_empty() {
            return Err(format!("mount before -> mount after {end:?}:\n  {}", lines.join("\n  ")));
        }
        let Some(name) = name else { return Ok(()) };
        self.reset(name);
        self.compare(name)
    }

    /// A case is over: most leave nothing behind, some stay.
    fn leave(&mut self, name: String) {
        if self.cases.is_multiple_of(KEPT) {
            self.kept.push(name);
            return;
        }
        // Processes leave it first: a working directory that was removed is a step's affair.
        self.reset("");
        for side in [self.root(), self.local.clone()] {
            fs::remove_dir_all(side.join(&name)).unwrap_or_else(|e| panic!("remove {name}: {e}"));
        }
    }
}

fn workers(reference: bool) -> Vec<Worker> {
    (0..WORKERS).map(|n| Worker::start(n, reference)).collect()
}

/// What each case begins with, so that most steps find something: two directories, one in the other, a third,
/// files in all of them (one has two names, one is large, one is another user's), a symlink, a FIFO.
fn start() -> Vec<Op> {
    let dir = |path| Op::Mkdir { at: at(path), mode: 0o777 };
    let file = |path, mode| Op::Mknod { at: at(path), mode: libc::S_IFREG | mode, rdev: (0, 0) };
    vec![
        Op::Umask { mask: 0 },
        dir("a"),
        dir("a/a"),
        dir("a/d"),
        dir("b"),
        file("c", 0o666),
        file("a/b", 0o644),
        file("b/c", 0o666),
        file("a/a/a", 0o666),
        Op::Truncate { at: at("b/c"), size: 9 << 20 },
        Op::Chown { on: On::Path(at("a/b"), true), uid: 1001, gid: 1001 },
        Op::Link { from: at("c"), to: at("b/a"), follow: false },
        Op::Symlink { target: p("a/b"), at: at("d") },
        Op::Mknod { at: at("b/b"), mode: libc::S_IFIFO | 0o666, rdev: (0, 0) },
        Op::Umask { mask: 0o022 },
    ]
}

/// A directory in which everybody may work, in one that symlinks may reach.
fn fresh(base: &Path) {
    for dir in [base.to_owned(), base.join("w")] {
        fs::create_dir(&dir).unwrap_or_else(|e| panic!("mkdir {}: {e}", dir.display()));
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("chmod");
    }
}
