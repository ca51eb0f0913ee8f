//! A writing process: the log's own parts put together as a session puts them together, on the real journal.

use super::disk::Disks;
use super::life::{Host, Life};
use super::link::Link;
use super::local::{Local, Sink};
use super::model::{File, Files, Rows, STEP, StepId};
use super::oracle;
use super::world::World;
use crate::journal::{Journal, JournalOptions};
use crate::log::LogError;
use crate::log::blobs::BlobNames;
use crate::log::committer::{Committer, CommitterConfig};
use crate::log::ids::{Blob, Ino, Slot, keys};
use crate::log::lease::{Lease, LeaseOptions, Succession};
use crate::log::recover::{Lineage, Recovered, recover};
use crate::log::row::{ExtentRow, InodeRow, Key, Record, Time};
use crate::log::source::{CommitSource, Committed, LocalError, Seq};
use crate::store::{Condition, ObjectStore, PutOptions};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::time::Instant;

/// How long a caller waits for a commit.
const PATIENCE: Duration = Duration::from_secs(60);

const SIZES: JournalOptions =
    JournalOptions { row_cache: 4 << 20, piece_cache: 4 << 20, piece_store: 4 << 20 };

/// How a process takes the session.
#[derive(Debug, Clone, Copy)]
pub struct How {
    pub succession: Succession,
    pub ttl: Duration,
    pub in_flight: usize,
}

/// What a process that ended left on its disk.
#[derive(Debug, Clone, Copy)]
pub struct Left {
    /// The newest step that is in its journal.
    pub head: StepId,
    /// How often the lease had been taken when that process had it.
    pub takes: usize,
}

/// A writing process.
pub struct Process {
    pub world: Arc<World>,
    pub life: Arc<Life>,
    pub dir: PathBuf,
    pub how: How,
    pub local: Arc<Local>,
    pub store: Arc<dyn ObjectStore>,
    pub lease: Arc<Lease>,
    pub committer: Arc<Committer>,
    pub names: BlobNames,
    /// Steps of this process, each with its last change.
    made: Mutex<Vec<(Seq, StepId)>>,
    /// How often the lease had been taken when this process had it.
    takes: usize,
    /// Floors that were raised, and when.
    pub floors: tokio::sync::Mutex<VecDeque<(Instant, Slot)>>,
}

/// Why a process did not start.
#[derive(Debug)]
pub struct Failed(pub LogError);

impl<E: Into<LogError>> From<E> for Failed {
    fn from(error: E) -> Failed {
        Failed(error.into())
    }
}

impl Process {
    /// Starts one on a disk: takes the session, brings the journal up, sends what is left.
    pub async fn start(
        world: &Arc<World>,
        life: &Arc<Life>,
        dir: &Path,
        left: Option<Left>,
        how: How,
    ) -> Result<Arc<Process>, Failed> {
        let (journal, found) = Journal::open(dir, SIZES)?;
        let local = Local::new(world, life, journal);
        let store = Link::store(world, life);
        life.polite.store(how.succession != Succession::AtOnce, Ordering::Relaxed);
        *life.known_dead.lock() = found.writer;
        *life.ttl.lock() = how.ttl;
        let options = LeaseOptions {
            holder: life.host.name.clone(),
            ttl: how.ttl,
            succession: how.succession,
            dead: found.writer,
            clock: life.host.clock.clone(),
        };
        let recovered = recover(store.clone(), options, found.base.clone(), &mut Sink::new(&local)).await;
        let recovered = recovered.inspect_err(|error| judge(world, life, error))?;
        let epoch = recovered.lease.epoch();
        local.write("writing_as", || local.journal.writing_as(Some(epoch)))?;
        settle(&local, &recovered, found.uncommitted)?;
        local.write("bind", || local.journal.bind(recovered.lease.session()))?;
        let head = check_start(world, &local, &recovered, left)?;
        let config = CommitterConfig {
            store: store.clone(),
            lease: recovered.lease.clone(),
            source: local.clone(),
            first_slot: recovered.next_slot,
            max_in_flight: how.in_flight,
            clock: life.host.clock.clone(),
        };
        let takes = if world.writer() == Some(epoch) { world.takes() } else { 0 };
        let floor = recovered.lease.floor();
        let floors = (floor > Slot(0)).then(|| (Instant::now(), floor)).into_iter().collect();
        let process = Arc::new(Process {
            world: world.clone(),
            life: life.clone(),
            dir: dir.to_owned(),
            how,
            store,
            committer: Committer::start(config, &tokio::runtime::Handle::current()),
            names: BlobNames::new(epoch),
            lease: recovered.lease,
            made: Mutex::new(vec![(local.journal.last_seq(), head)]),
            takes,
            local,
            floors: tokio::sync::Mutex::new(floors),
        });
        process.committer.kick(Duration::ZERO);
        process.spawn_wait(process.local.last_seq(), head);
        Ok(process)
    }

    /// The newest step in its journal.
    pub fn head(&self) -> StepId {
        // One is there from the start.
        self.made.lock().last().map_or(0, |(_, step)| *step)
    }

    /// Whether it can still do anything.
    pub fn is_alive(&self) -> bool {
        !self.life.is_dead() && !self.lease.hold().is_final()
    }

    /// Makes one step: `edit` changes files, `records` are the rows for it. Returns its last change.
    fn apply(&self, files: Files, mut records: Vec<Record>) -> Result<(Seq, StepId), LocalError> {
        let mut model = self.world.model.lock();
        let step = model.next();
        records.push(Record::put(&Key::Meta { name: STEP.to_vec() }, &step));
        let seq = self.local.journal.apply(records)?;
        assert_eq!(model.step(self.head(), files), step);
        drop(model);
        self.made.lock().push((seq, step));
        self.world.note(format_args!("{} makes step {step}", self.life.host.name));
        Ok((seq, step))
    }

    /// Writes `content` as all there is of inode `ino`, or behind what there is, with the content of several files in
    /// one step.
    pub fn write(&self, contents: &[(u64, Vec<u8>, bool)]) -> Result<(Seq, StepId), LocalError> {
        let (mut files, step) = self.next_step();
        let mut records = Vec::new();
        for (ino, content, append) in contents {
            let mut all = match files.get(ino).filter(|_| *append) {
                Some(file) => file.content.to_vec(),
                None => Vec::new(),
            };
            let offset = all.len() as u64;
            if !append {
                records.extend(self.tombstones(*ino)?);
            }
            all.extend_from_slice(content);
            let id = self.local.journal.put_local(Bytes::from(content.clone()))?;
            records.push(extent(*ino, offset, Blob::Local(id), content));
            records.push(inode(*ino, step, all.len() as u64));
            files.insert(*ino, File { version: step, content: Arc::new(all) });
        }
        self.apply(files, records)
    }

    /// Writes a file whose content is an object of its own.
    pub async fn write_large(&self, ino: u64, content: Vec<u8>) -> Result<(Seq, StepId), LogError> {
        let blob = self.names.take_blob();
        let Blob::Data { epoch, n } = blob else { return Err(LocalError::failed("no data blob").into()) };
        let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
        let key = keys::data(epoch, n);
        if let Err(error) = self.store.put(&key, content.clone().into(), &options).await
            && !(error.is_precondition() && self.store.get(&key, None, None).await?.body == content)
        {
            return Err(error.into());
        }
        let (mut files, step) = self.next_step();
        if !files.contains_key(&ino) && ino < self.world.model.lock().next_ino(self.head()) {
            return Err(LocalError::failed("it was removed meanwhile").into());
        }
        let mut records = self.tombstones(ino)?;
        records.push(extent(ino, 0, blob, &content));
        records.push(inode(ino, step, content.len() as u64));
        files.insert(ino, File { version: step, content: Arc::new(content) });
        Ok(self.apply(files, records)?)
    }

    /// Removes a file.
    pub fn remove(&self, ino: u64) -> Result<(Seq, StepId), LocalError> {
        let (mut files, _) = self.next_step();
        files.remove(&ino);
        self.apply(files, vec![Record::delete(&Key::Inode { ino: Ino(ino) })])
    }

    fn next_step(&self) -> (Files, StepId) {
        let model = self.world.model.lock();
        (Files::clone(&model.files(self.head())), model.next())
    }

    fn tombstones(&self, ino: u64) -> Result<Vec<Record>, LocalError> {
        let extents = self.local.journal.extents(Ino(ino), 0..u64::MAX)?;
        Ok(extents
            .iter()
            .map(|(offset, _)| Record::delete(&Key::Extent { ino: Ino(ino), offset: *offset }))
            .collect())
    }

    /// A caller waits for `step`, and is heard of when it is acknowledged.
    pub fn spawn_wait(self: &Arc<Self>, seq: Seq, step: StepId) {
        let process = self.clone();
        tokio::spawn(async move {
            let _ = process.wait(seq, step).await;
        });
    }

    /// Waits for `step` to be in the store.
    pub async fn wait(&self, seq: Seq, step: StepId) -> Result<(), LogError> {
        let waited = tokio::select! {
            biased;
            () = self.life.death() => return Err(LocalError::failed("the process is dead").into()),
            waited = self.committer.wait_stored(seq, PATIENCE) => waited,
        };
        if waited.is_ok() && !self.life.is_dead() {
            self.world.acknowledged(&self.life, step);
        }
        waited
    }

    /// Ends it properly. Whether everything is in the store and the lease is given back.
    pub async fn close(&self) -> bool {
        let (seq, step) = (self.local.last_seq(), self.head());
        let stored = self.wait(seq, step).await.is_ok();
        self.committer.stop().await;
        stored && self.lease.release().await.is_ok()
    }

    /// What its disk holds, when all is written.
    pub fn left(&self) -> Left {
        Left { head: self.head(), takes: self.takes }
    }

    /// The same process on a copy of this machine, with nothing under way.
    pub fn clone_machine(&self, disks: &Disks, host: &Arc<Host>) -> Arc<Process> {
        let (world, life) = (&self.world, Life::new(host));
        let dir = disks.snapshot(&self.local.journal, &self.dir);
        let (journal, _) = Journal::open(&dir, SIZES).expect("a copied journal opens");
        journal.keep_changes_after(None).expect("a copied journal has no old changes");
        let local = Local::new(world, &life, journal);
        let store = Link::store(world, &life);
        let lease = self.lease.cloned(&store, host.clock.clone());
        let config = CommitterConfig {
            store: store.clone(),
            lease: lease.clone(),
            source: local.clone(),
            first_slot: self.committer.progress().slot.next(),
            max_in_flight: self.how.in_flight,
            clock: host.clock.clone(),
        };
        Arc::new(Process {
            world: world.clone(),
            life,
            dir,
            how: self.how,
            store,
            committer: Committer::start(config, &tokio::runtime::Handle::current()),
            names: BlobNames::new(lease.epoch()),
            lease,
            made: Mutex::new(vec![(local.journal.last_seq(), self.head())]),
            takes: self.takes,
            local,
            floors: tokio::sync::Mutex::default(),
        })
    }

    /// What its end leaves on the disk, in a folder of its own.
    pub fn remains(&self, disks: &Disks) -> (PathBuf, Left) {
        self.life.die();
        let durable = self.local.durable();
        let made = self.made.lock();
        let later: Vec<Seq> = made.iter().map(|(seq, _)| *seq).filter(|seq| *seq > durable).collect();
        let kept = match self.world.draw(0..=later.len() as u64) {
            0 => durable,
            n => later[n as usize - 1],
        };
        let head = made.iter().rev().find(|(seq, _)| *seq <= kept).map_or(0, |(_, step)| *step);
        let left = Left { head, takes: self.takes };
        (disks.after_crash(&self.local.journal, &self.dir, kept), left)
    }
}

/// Whether recovery may fail so: whatever the store and other writers do, it never finds damage.
fn judge(world: &World, life: &Life, error: &LogError) {
    let who = &life.host.name;
    world.note(format_args!("{who} does not start: {}", kind(error)));
    let damage = matches!(
        error,
        LogError::Damaged { .. }
            | LogError::Gap { .. }
            | LogError::NewerFormat { .. }
            | LogError::Deleted { .. }
    );
    // Who has been succeeded meanwhile has no claim to what it has not read yet.
    let holds = world.last_taker().is_some_and(|taker| taker == *who);
    if damage && holds && !life.is_dead() && world.is_sound() {
        world.violate(format!("{who} cannot recover: {error}"));
    }
}

fn kind(error: &LogError) -> String {
    match error {
        LogError::Store(error) => format!("{:?}", error.kind),
        LogError::Local(_) => "the journal".into(),
        other => other.to_string(),
    }
}

/// What becomes of the changes of an earlier process here.
fn settle(local: &Local, recovered: &Recovered, uncommitted: u64) -> Result<(), LocalError> {
    let journal = &local.journal;
    if let Lineage::Local { committed } = &recovered.lineage {
        local.write("keep_changes", || journal.keep_changes_after(*committed))?;
        return Ok(());
    }
    let salvaged = local.write("salvage", || journal.salvage_changes("a test", None))?;
    // Those that had landed are not among them.
    let salvaged = salvaged.map_or(0, |salvaged| salvaged.changes);
    if salvaged > uncommitted {
        local.world.violate(format!("{salvaged} of {uncommitted} uncommitted rows were salvaged"));
    }
    Ok(())
}

/// Looks at what a process starts with. Returns the step it goes on from.
fn check_start(
    world: &World,
    local: &Local,
    recovered: &Recovered,
    left: Option<Left>,
) -> Result<StepId, LocalError> {
    let who = &local.life.host.name;
    let committed = match recovered.next_slot {
        Slot(1) => Rows::new(),
        _ => local
            .snapshot()?
            .rows(None, None, usize::MAX >> 2)?
            .into_iter()
            .filter_map(|r| Some((r.key, r.value?)))
            .collect(),
    };
    let compared = {
        let bucket = world.bucket.lock();
        world.model.lock().compare(&committed, &mut |row| oracle::piece(&bucket, row))
    };
    let base = match compared {
        Ok(step) => step,
        Err(what) => {
            world.violate(format!("{who} recovered a wrong state: {what}"));
            return Ok(0);
        }
    };
    world.shown(who, base);
    if world.writer() == Some(recovered.lease.epoch()) && base != world.tip() {
        world.violate(format!("{who} recovered step {base}, and the newest is {}", world.tip()));
    }
    let rows: Rows =
        local.journal.scan(&[], None, usize::MAX >> 2)?.into_iter().map(|(k, v)| (k, v.to_vec())).collect();
    let read = |row: &ExtentRow| match local.journal.piece(row) {
        Ok(Some(bytes)) => Ok(bytes),
        Ok(None) => oracle::piece(&world.bucket.lock(), &local.journal.resolve(row)),
        Err(error) => Err(error.to_string()),
    };
    let head = match world.model.lock().compare(&rows, &mut { read }) {
        Ok(step) => step,
        Err(what) => {
            world.violate(format!("{who} goes on from a wrong state: {what}"));
            return Ok(0);
        }
    };
    world.note(format_args!("{who} recovered step {base}, goes on from {head}, {:?}", recovered.lineage));
    if !world.model.lock().is_within(base, head) {
        world.violate(format!("{who} goes on from step {head}, which does not follow on step {base}"));
    }
    let alone = left.filter(|left| !world.taken_by_others(left.takes, who));
    if let Some(left) = alone
        && !world.model.lock().is_within(left.head, head)
    {
        world.violate(format!(
            "{who} lost step {}, which its journal had and nobody went on without",
            left.head
        ));
    }
    Ok(head)
}

fn extent(ino: u64, offset: u64, blob: Blob, content: &[u8]) -> Record {
    let row = ExtentRow {
        len: content.len() as u64,
        blob,
        piece_off: 0,
        piece_len: content.len() as u32,
        skip: 0,
        crc: Some(crc32c::crc32c(content)),
    };
    Record::put(&Key::Extent { ino: Ino(ino), offset }, &row)
}

fn inode(ino: u64, step: StepId, size: u64) -> Record {
    let time = Time::default();
    let row = InodeRow {
        mode: 0o100644,
        uid: 0,
        gid: 0,
        nlink: 1,
        rdev: 0,
        size,
        allocated: size,
        atime: time,
        mtime: time,
        ctime: time,
        btime: time,
        version: step,
        home: None,
        target: Vec::new(),
    };
    Record::put(&Key::Inode { ino: Ino(ino) }, &row)
}
