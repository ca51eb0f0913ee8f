//! Batches of real processes, on a session whose store can be held.

use super::super::testing::{ROOT, WRITE, options};
use super::super::{Durability, Session, SessionError, SessionOptions};
use crate::content::SMALL;
use crate::log::ids::Ino;
use crate::session::api::{Caller, Fh, NewNode, Outcome, WriteHow};
use crate::store::DirStore;
use crate::store::faulty::FaultyStore;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

struct Mounted {
    session: Arc<Session>,
    store: Arc<FaultyStore>,
    dirs: (TempDir, TempDir),
}

impl std::ops::Deref for Mounted {
    type Target = Arc<Session>;
    fn deref(&self) -> &Arc<Session> {
        &self.session
    }
}

async fn mount(durability: Durability) -> Mounted {
    let dirs = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let store = FaultyStore::new(Arc::new(DirStore::new(dirs.1.path())), 1);
    let options = SessionOptions { durability, ..options(dirs.0.path()) };
    let session = Session::start(store.clone(), options).await.unwrap();
    session.flush_all(Duration::from_secs(20)).await.unwrap();
    Mounted { session, store, dirs }
}

/// A process below us, ended when dropped.
struct Below(Child);

impl Below {
    fn us() -> Below {
        Below(Command::new("sleep").arg("600").spawn().expect("a child"))
    }

    fn caller(&self) -> Caller {
        caller(self.0.id())
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        // One that has ended already is what we want.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn caller(pid: u32) -> Caller {
    Caller { pid, ..ROOT }
}

/// The wrapper is this process: what it starts is in its batches.
fn us() -> Caller {
    caller(std::process::id())
}

/// Not below us.
const STRANGER: Caller = Caller { pid: 1, ..ROOT };

impl Mounted {
    /// A file that is written and open.
    async fn open(&self, by: Caller, name: &str, len: usize) -> (Ino, Fh) {
        let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let made = self.create(by, Ino::ROOT, name.as_bytes(), new, WRITE);
        let Outcome::Ready(Ok((attr, opened))) = made else { panic!("{name} is not made at once") };
        let written = self.write(by, opened.fh, attr.ino, 0, &vec![7; len], WriteHow::default());
        assert!(matches!(written, Outcome::Ready(Ok(_))), "{name} is not written at once");
        (attr.ino, opened.fh)
    }

    /// Whether its close returned without the store, which is held.
    async fn closes_at_once(&self, by: Caller, name: &str, len: usize) -> bool {
        let (ino, fh) = self.open(by, name, len).await;
        let done = match self.flush(by, fh, ino) {
            Outcome::Ready(done) => done.map(|()| true).unwrap(),
            Outcome::Later(_) => false,
        };
        self.release(fh);
        done
    }

    fn owes(&self) -> bool {
        !self.unstored().is_nothing()
    }
}

async fn waits(ended: Outcome<()>, mounted: &Mounted) -> tokio::task::JoinHandle<super::Result<()>> {
    let Outcome::Later(end) = ended else { panic!("it does not wait") };
    let end = tokio::spawn(end);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!end.is_finished() && mounted.owes(), "the end waits while the store is held");
    end
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn descendants_go_on_others_wait_and_the_end_waits_for_all() {
    for level in [Durability::Close, Durability::Fsync] {
        let mounted = mount(level).await;
        let inside = Below::us();
        let held = mounted.store.hold(".cwdfs/");
        let id = mounted.begin_batch(us(), false).unwrap();
        assert_eq!(mounted.measures().batches, (1, 1));
        assert!(mounted.closes_at_once(inside.caller(), "a", 10).await);
        assert!(mounted.closes_at_once(inside.caller(), "large", SMALL as usize * 4).await);
        let strict = level == Durability::Close;
        assert_eq!(mounted.closes_at_once(STRANGER, "b", 10).await, !strict, "beside it");
        assert_eq!(mounted.closes_at_once(ROOT, "c", 10).await, !strict, "one that cannot be seen");
        let end = waits(mounted.end_batch(us(), id), &mounted).await;
        assert_eq!(mounted.measures().batches, (0, 1));
        assert_eq!(mounted.closes_at_once(inside.caller(), "d", 10).await, !strict, "after it");
        held.release();
        end.await.unwrap().unwrap();
        let names = ["a", "large", "b", "c"].map(|name| mounted.lookup(Ino::ROOT, name.as_bytes()));
        assert!(names.into_iter().all(|found| found.unwrap().is_some()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fsync_waits_in_a_batch_unless_it_is_told_otherwise() {
    let mounted = mount(Durability::Sync).await;
    let inside = Below::us();
    let _held = mounted.store.hold(".cwdfs/");
    let id = mounted.begin_batch(us(), false).unwrap();
    let by = inside.caller();
    let (ino, fh) = mounted.open(by, "f", 10).await;
    assert!(matches!(mounted.fsync(by, fh, ino), Outcome::Later(_)));
    assert!(matches!(mounted.fsyncdir(by, Ino::ROOT), Outcome::Later(_)));
    let outer = mounted.begin_batch(us(), true).unwrap();
    assert!(matches!(mounted.fsync(by, fh, ino), Outcome::Ready(Ok(()))));
    assert!(matches!(mounted.fsyncdir(by, Ino::ROOT), Outcome::Ready(Ok(()))));
    assert!(matches!(mounted.fsync(STRANGER, fh, ino), Outcome::Later(_)));
    assert!(matches!(mounted.end_batch(us(), outer), Outcome::Later(_)));
    assert!(matches!(mounted.fsync(by, fh, ino), Outcome::Later(_)), "only the one without is left");
    assert!(matches!(mounted.flush(by, fh, ino), Outcome::Ready(Ok(()))));
    assert!(matches!(mounted.end_batch(us(), id), Outcome::Later(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_of_a_batch_start_no_commit_and_those_of_others_do() {
    let mounted = mount(Durability::Close).await;
    let inside = Below::us();
    let id = mounted.begin_batch(us(), false).unwrap();
    let log = mounted.dirs.1.path().join(".cwdfs/log");
    let segments = || -> usize {
        let epochs = std::fs::read_dir(&log).unwrap().map(|epoch| epoch.unwrap().path());
        epochs.map(|epoch| std::fs::read_dir(epoch).unwrap().count()).sum()
    };
    let before = segments();
    let folder = |name: &str| {
        let new = NewNode { mode: libc::S_IFDIR | 0o755, umask: 0, rdev: 0, target: Vec::new() };
        (name.as_bytes().to_vec(), new)
    };
    for n in 0..20 {
        let (name, new) = folder(&n.to_string());
        mounted.make(inside.caller(), Ino::ROOT, &name, new).get().await.unwrap();
        assert!(mounted.closes_at_once(inside.caller(), &format!("f{n}"), SMALL as usize + 1).await);
    }
    // Far longer than a burst; the interval of this session is a minute.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(segments(), before, "no segment was put");
    let (name, new) = folder("theirs");
    mounted.make(STRANGER, Ino::ROOT, &name, new).get().await.unwrap();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while segments() == before {
        assert!(std::time::Instant::now() < until, "a change beside the batch starts its commit");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    mounted.end_batch(us(), id).get().await.unwrap();
    assert!(!mounted.owes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrapper_that_is_gone_has_no_batch_and_what_was_closed_is_stored() {
    let mounted = mount(Durability::Close).await;
    let mut wrapper = Command::new("sh")
        .args(["-c", "sleep 600 & echo $!; wait"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("a shell");
    let mut said = String::new();
    BufReader::new(wrapper.stdout.take().expect("its output")).read_line(&mut said).expect("a number");
    let inside = caller(said.trim().parse().expect("a number"));
    let held = mounted.store.hold(".cwdfs/");
    let id = mounted.begin_batch(caller(wrapper.id()), false).unwrap();
    assert!(mounted.closes_at_once(inside, "a", 10).await);
    assert!(mounted.closes_at_once(inside, "large", SMALL as usize * 4).await);
    wrapper.kill().expect("kill");
    wrapper.wait().expect("reap");
    assert!(!mounted.closes_at_once(inside, "b", 10).await, "strict at once, before anybody has looked");
    held.release();
    let until = std::time::Instant::now() + Duration::from_secs(20);
    while mounted.owes() || mounted.measures().batches != (0, 1) {
        assert!(
            std::time::Instant::now() < until,
            "without a word all of it is stored: {:?}",
            mounted.unstored()
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(mounted.end_batch(us(), id).get().await, Err(SessionError::NoBatch(_))));
    let sleeper = rustix::process::Pid::from_raw(inside.pid as i32).expect("a process");
    rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).expect("kill");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_ended_by_its_own_process_and_once() {
    let mounted = mount(Durability::Close).await;
    let other = Below::us();
    let id = mounted.begin_batch(us(), false).unwrap();
    for (by, id) in [(other.caller(), id), (us(), id + 1), (STRANGER, id), (ROOT, id)] {
        assert!(matches!(mounted.end_batch(by, id).get().await, Err(SessionError::NoBatch(_))));
    }
    mounted.end_batch(us(), id).get().await.unwrap();
    assert!(matches!(mounted.end_batch(us(), id).get().await, Err(SessionError::NoBatch(_))));
    let refused = mounted.begin_batch(ROOT, false).expect_err("it cannot be seen");
    assert!(refused.to_string().contains("pid namespace"), "{refused}");
}
