//! The local journal: the tree, and what is not yet in the store.
//!
//! Invariants:
//! - committed rows (`base`) are the state after one committed slot, and change only slot by slot;
//! - changes since lie beside them in the order they happened, and are written behind in batches within
//!   milliseconds; a crash of the daemon loses at most the last batch, never one from the middle;
//! - a reader sees the newest change of each row at once: changes in memory, then the cache, then SQLite;
//! - one thread writes; while it cannot, new changes are refused with its error, and none made before is
//!   lost: they stay in memory and are tried again;
//! - one process at a time has the folder (`lock`), and everything in it can be made again from the store
//!   but the uncommitted changes.

mod base;
mod births;
mod clean;
mod commit;
mod db;
mod local;
mod locals;
mod lock;
mod overlay;
mod pieces;
mod queue;
mod readers;
mod reads;
mod reserve;
mod restart;
pub mod salvage;
mod sink;
mod snapshot;
mod sum;
mod writer;

#[cfg(test)]
mod tests;

pub use db::FORMAT;
pub use pieces::PinGuard;
pub use sink::JournalSink;

use crate::log::ids::Epoch;
use crate::log::lease::SessionId;
use crate::log::recover::LocalBase;
use crate::log::row::{Cookie, DentryRow, KeyBytes, Record};
use crate::log::source::{LocalError, Seq};
use bytes::Bytes;
use commit::Commits;
use lock::Lock;
use moka::sync::Cache;
use overlay::{Hold, Overlay};
use parking_lot::{Mutex, RwLock};
use pieces::PieceCache;
use queue::{Op, Queue};
use readers::Readers;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::sync::broadcast;

/// The result of a journal operation.
pub type Result<T> = std::result::Result<T, LocalError>;

/// How a journal is opened.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// Bytes of rows kept in memory.
    pub row_cache: u64,
    /// Bytes of small contents kept in memory.
    pub piece_cache: u64,
    /// Bytes of clean small contents kept in the database.
    pub piece_store: u64,
}

/// After room was made and the disk is full still, it is tried again after this, and then ever more seldom.
const ROOM_PAUSE: Duration = Duration::from_millis(200);
const MAX_ROOM_PAUSE: Duration = Duration::from_secs(5);

/// What an existing journal held when it was opened.
#[derive(Debug, Clone)]
pub struct Found {
    /// The session it is bound to.
    pub session: Option<SessionId>,
    /// Its lineage, unless it is new or was never based on a slot.
    pub base: Option<LocalBase>,
    /// As whom the last process that had this folder took the session: it is dead, for we hold its lock.
    pub writer: Option<Epoch>,
    /// Changed rows that are not committed as far as it knows. While there are any, the journal takes no
    /// changes before [`Journal::keep_changes_after`] or [`Journal::salvage_changes`] has settled them.
    pub uncommitted: u64,
    /// It was last written in this boot of the machine.
    pub same_boot: bool,
}

/// What is not yet in the store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Uncommitted {
    /// Changed rows.
    pub rows: u64,
    /// Bytes of small content.
    pub bytes: u64,
    /// The distinct inodes among the rows.
    pub files: u64,
}

/// A name in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its place.
    pub cookie: Cookie,
    /// Its name.
    pub name: Vec<u8>,
    /// What it names.
    pub row: DentryRow,
}

/// Keeps commits from going past a change that has to wait for a capture. Dropped unreleased, it lets go
/// as if there had been no capture.
pub struct Held {
    shared: Arc<Shared>,
    /// The last change of the held step.
    seq: Seq,
    released: bool,
}

impl Held {
    /// The capture's rows end at `until`: the held change and they go into one commit.
    pub fn release(mut self, until: Seq) {
        self.shared.release(self.seq, Hold::Through(until));
        self.released = true;
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if !self.released {
            self.shared.release(self.seq, Hold::Free);
        }
    }
}

/// What the journal, its snapshots and its guards share.
struct Shared {
    dir: PathBuf,
    overlay: RwLock<Overlay>,
    /// Committed values; `None`: there is no such row.
    rows: Cache<KeyBytes, Option<Bytes>>,
    pieces: PieceCache,
    readers: Readers,
    queue: Arc<Queue>,
    commits: Mutex<Commits>,
    keys: broadcast::Sender<Arc<Vec<KeyBytes>>>,
    next_local: AtomicU64,
    /// Changes of an earlier process wait for a decision.
    undecided: AtomicBool,
    /// The same, or content that it did not capture: what is set aside where the history went another way.
    unsettled: AtomicBool,
    /// As [`Found::same_boot`].
    same_boot: bool,
    /// What was set aside since this was opened.
    departed: Mutex<Option<salvage::Salvaged>>,
}

impl Shared {
    fn release(&self, seq: Seq, hold: Hold) {
        let mut overlay = self.overlay.write();
        let hold = match hold {
            // A change that does not exist yet would hold up commits for ever.
            Hold::Through(until) => Hold::Through(until.min(overlay.last_seq)),
            other => other,
        };
        let at = overlay.steps.partition_point(|s| s.last() < seq);
        // Gone only if the changes were salvaged meanwhile.
        if let Some(step) = overlay.steps.get_mut(at).filter(|s| s.last() == seq) {
            step.hold = hold;
        }
    }
}

/// The journal of one session on this machine.
pub struct Journal {
    shared: Arc<Shared>,
    writer: Option<JoinHandle<()>>,
    _lock: Lock,
}

impl Journal {
    /// Opens or creates `dir/journal.db`, and makes this process the only one that does. A damaged database
    /// is [`crate::log::source::LocalKind::Damaged`] and names the file; see [`Journal::set_aside`].
    pub fn open(dir: &Path, options: JournalOptions) -> Result<(Arc<Journal>, Found)> {
        let mkdir = |e| LocalError::failed(format!("{}: {e}", dir.display()));
        std::fs::create_dir_all(dir).map_err(mkdir)?;
        let lock = Lock::take(dir)?;
        sum::verify(dir)?;
        let (conn, existed) = db::open_writer(dir)?;
        let found = restart::look(&conn, existed)?;
        let readers = Readers::new(db::ReaderPath::new(dir));
        let queue = Arc::new(Queue::default());
        let shared = Arc::new(Shared {
            dir: dir.to_owned(),
            overlay: RwLock::new(Overlay::after(restart::last_seq(&conn)?)),
            rows: row_cache(options.row_cache),
            pieces: PieceCache::new(options.piece_cache),
            readers,
            queue: queue.clone(),
            commits: Mutex::default(),
            keys: broadcast::channel(1024).0,
            next_local: AtomicU64::new(restart::next_local(&conn)?),
            undecided: AtomicBool::new(found.uncommitted > 0),
            unsettled: AtomicBool::new(found.uncommitted > 0 || salvage::has_unstored_images(&conn)?),
            same_boot: found.same_boot,
            departed: Mutex::default(),
        });
        let writer = writer::Writer::new(conn, queue, reserve::Reserve::take(dir), options.piece_store);
        let thread = std::thread::Builder::new().name("cwdfs-journal".into()).spawn(move || writer.run());
        let writer = Some(thread.map_err(|e| LocalError::failed(format!("starting its writer: {e}")))?);
        Ok((Arc::new(Journal { shared, writer, _lock: lock }), found))
    }

    /// Moves a damaged database, and content that it may name, out of the way into the folder that is returned; the
    /// next [`Journal::open`] starts anew from the store. Uncommitted changes go with the damaged file.
    pub fn set_aside(dir: &Path, why: &str) -> Result<PathBuf> {
        lock::set_aside(dir, why)
    }

    /// Changes rows, as one step that no commit and no crash divides. Returns the last change's number.
    pub fn apply(&self, records: Vec<Record>) -> Result<Seq> {
        self.append(records, Hold::Free)
    }

    /// Like [`Journal::apply`], of a change by which local content can go: it is taken on a disk that is as good
    /// as full, too.
    pub fn apply_freeing(&self, records: Vec<Record>) -> Result<Seq> {
        self.check_settled()?;
        self.shared.queue.check_failing()?;
        self.shared.append(&mut self.shared.overlay.write(), records, Hold::Free)
    }

    /// Like [`Journal::apply`]; no commit goes past these changes before the returned guard is released.
    pub fn apply_held(&self, records: Vec<Record>) -> Result<(Seq, Held)> {
        let seq = self.append(records, Hold::Held)?;
        Ok((seq, Held { shared: self.shared.clone(), seq, released: false }))
    }

    fn append(&self, records: Vec<Record>, hold: Hold) -> Result<Seq> {
        self.check_writable()?;
        self.shared.append(&mut self.shared.overlay.write(), records, hold)
    }

    /// Calls `make_room` whenever the disk is found full, on a thread of its own, until the journal is closed or that
    /// returns false. Meanwhile callers wait for it, a little, before they are refused.
    pub fn when_full(&self, make_room: impl Fn() -> bool + Send + 'static) -> std::io::Result<()> {
        let queue = self.shared.queue.clone();
        let help = move || {
            let mut pause = ROOM_PAUSE;
            while queue.wait_until_full() && make_room() {
                // The next batch sees what has become free; its failure is shown to everybody.
                let _ = queue.run(|_| Ok(()));
                match queue.failure() {
                    None => pause = ROOM_PAUSE,
                    Some(_) => {
                        std::thread::sleep(pause);
                        pause = (pause * 2).min(MAX_ROOM_PAUSE);
                    }
                }
            }
            queue.without_help();
        };
        std::thread::Builder::new().name("cwdfs-room".into()).spawn(help).map(drop)
    }

    /// Fails while nothing new can be kept: the disk fails, or changes of an earlier process wait.
    fn check_writable(&self) -> Result<()> {
        self.check_settled()?;
        self.shared.queue.check()
    }

    fn check_settled(&self) -> Result<()> {
        match self.shared.undecided.load(Ordering::Acquire) {
            true => Err(LocalError::failed("changes of an earlier mount are not settled yet")),
            false => Ok(()),
        }
    }

    /// What is not committed.
    pub fn uncommitted(&self) -> Uncommitted {
        self.shared.overlay.read().uncommitted()
    }

    /// How long the oldest of them has been waiting; zero when all is committed.
    pub fn lag(&self) -> Duration {
        self.shared.overlay.read().births.oldest(Instant::now())
    }

    /// Bytes of the database on the disk.
    pub fn size(&self) -> u64 {
        let of = |name: &str| std::fs::metadata(self.shared.dir.join(name)).map_or(0, |file| file.len());
        // What is not there has no bytes.
        of(db::FILE) + of(db::AHEAD)
    }

    /// Returns once every change made so far is in the database.
    pub fn settle(&self) -> Result<()> {
        self.shared.queue.run(|_| Ok(()))
    }

    /// Gives back the memory of pages that can be read again.
    pub fn shrink(&self) -> Result<()> {
        self.shared.readers.shrink()?;
        self.shared.queue.run(db::shrink)
    }

    /// How often the database was asked for rows.
    #[cfg(test)]
    pub(crate) fn asked(&self) -> u64 {
        self.shared.readers.asked.load(Ordering::Relaxed)
    }

    /// The failure that keeps the journal from being written at the moment.
    pub fn failure(&self) -> Option<LocalError> {
        self.shared.queue.failure()
    }

    /// The keys that each committed slot (or import of one by a follower) changed, in order; for publish
    /// and for a follower's invalidations. A receiver that lags learns so and has to compare everything.
    pub fn committed_keys(&self) -> broadcast::Receiver<Arc<Vec<KeyBytes>>> {
        self.shared.keys.subscribe()
    }
}

impl Shared {
    /// Adds a step to the changes and to what is written behind, in one order.
    fn append(&self, overlay: &mut Overlay, records: Vec<Record>, hold: Hold) -> Result<Seq> {
        let changes = overlay.append(records, hold)?;
        if !changes.is_empty() {
            self.queue.push(Op::Changes(changes));
        }
        Ok(overlay.last_seq)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        self.shared.queue.close();
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the journal's writer has panicked");
            return;
        }
        sum::leave(&self.shared.dir);
    }
}

fn row_cache(bytes: u64) -> Cache<KeyBytes, Option<Bytes>> {
    /// What an entry costs besides its bytes.
    const ENTRY: usize = 200;
    let weigh = |key: &KeyBytes, value: &Option<Bytes>| {
        u32::try_from(ENTRY + key.len() + value.as_ref().map_or(0, Bytes::len)).unwrap_or(u32::MAX)
    };
    Cache::builder().max_capacity(bytes).weigher(weigh).build()
}
