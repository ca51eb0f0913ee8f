//! What publish and import have in common: the session's parts, the rows of the view, the figures.

use super::ViewOptions;
use super::deletes::Deletes;
use super::error::{Result, ViewError};
use super::keylock::KeyLocks;
use super::publish::dirty::Dirty;
use super::read::Reader;
use super::status::Figures;
use super::tag::Tag;
use super::tree::Tree;
use crate::journal::Journal;
use crate::log::LogError;
use crate::log::committer::Committer;
use crate::log::ids::keys;
use crate::log::lease::{Hold, Lease, SessionId};
use crate::log::row::{Key, Record, ViewRow, prefix_end};
use crate::log::rules::{Rule, holds};
use crate::log::source::Seq;
use crate::session::Session;
use crate::store::{Kind, ObjectMeta, ObjectStore};
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, SystemTime};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Memory is given out in these.
pub(super) const MEMORY_UNIT: u64 = 1 << 20;
/// How much of it, in units: content on its way to the store.
const MEMORY: u32 = 96;
/// Rows of the view are committed within this; whoever crashes earlier settles them by their tags.
const ROWS_LINGER: Duration = Duration::from_secs(1);

/// What publish and import share.
pub(super) struct Shared {
    pub session: Arc<Session>,
    pub journal: Arc<Journal>,
    pub store: Arc<dyn ObjectStore>,
    pub lease: Arc<Lease>,
    pub committer: Arc<Committer>,
    pub session_id: SessionId,
    pub cookie_key: [u8; 16],
    pub options: ViewOptions,
    pub reader: Reader,
    /// One user for each key.
    pub keys: KeyLocks,
    /// What is to be published.
    pub dirty: Mutex<Dirty>,
    /// Something became dirty, or due.
    pub wake: Notify,
    /// Everything has to be compared: noticing changes failed.
    pub compare: AtomicBool,
    /// Rises with each step of the publisher; whoever waits looks again.
    pub steps: watch::Sender<u64>,
    /// How often the publisher was asked to take all that is committed.
    pub asked: AtomicU64,
    /// The last of these that it did.
    pub taken: AtomicU64,
    /// Keys that an import changed, by the change that has to be committed before they are published.
    pub imported: Mutex<HashMap<String, Seq>>,
    pub deletes: Deletes,
    pub figures: Mutex<Figures>,
    pub memory: Semaphore,
    pub stop: CancellationToken,
}

impl Shared {
    /// The parts of a session that is mounted for writing.
    pub fn new(session: Arc<Session>, options: ViewOptions) -> Result<Option<Arc<Shared>>> {
        let Some(writer) = &session.writer else { return Ok(None) };
        let (lease, committer) = (writer.lease.clone(), writer.committer.clone());
        let (journal, store) = (session.journal.clone(), session.store.clone());
        let cookie_key = journal.cookie_key()?;
        Ok(Some(Arc::new(Shared {
            session_id: lease.session(),
            reader: Reader { journal: journal.clone(), store: store.clone() },
            session,
            store,
            lease,
            committer,
            cookie_key,
            options,
            keys: KeyLocks::default(),
            dirty: Mutex::default(),
            wake: Notify::new(),
            compare: AtomicBool::new(false),
            steps: watch::Sender::new(0),
            asked: AtomicU64::new(0),
            taken: AtomicU64::new(0),
            imported: Mutex::default(),
            deletes: Deletes::load(&journal)?,
            journal,
            figures: Mutex::default(),
            memory: Semaphore::new(MEMORY as usize),
            stop: CancellationToken::new(),
        })))
    }

    /// The newest committed tree.
    pub fn tree(&self) -> Result<Tree> {
        Tree::open(&*self.journal, self.cookie_key)
    }

    /// What we know of the object at `key`, the newest.
    pub fn row(&self, key: &str) -> Result<Option<ViewRow>> {
        Ok(self.journal.get(&Key::View { key: key.to_owned() })?)
    }

    /// The first key that starts so and has a row.
    pub fn first_row(&self, prefix: &str) -> Result<Option<String>> {
        let from = Key::views(prefix);
        let found = self.journal.scan(&from, prefix_end(&from).as_deref(), 1)?;
        Ok(found.first().and_then(|(key, _)| match Key::decode(key) {
            Some(Key::View { key }) => Some(key),
            _ => None,
        }))
    }

    /// Notes what an object shows now; the number of that change.
    pub fn put_row(&self, key: &str, row: &ViewRow) -> Result<Seq> {
        self.record(vec![Record::put(&Key::View { key: key.to_owned() }, row)])
    }

    /// Notes that there is no object.
    pub fn remove_row(&self, key: &str) -> Result<Seq> {
        self.record(vec![gone_row(key)])
    }

    /// Changes rows that only the view reads.
    pub fn record(&self, records: Vec<Record>) -> Result<Seq> {
        let seq = self.journal.apply(records)?;
        self.committer.kick(ROWS_LINGER);
        Ok(seq)
    }

    /// The object at `key` has to be looked at by the publisher.
    pub fn mark(&self, key: &str, bytes: u64, delay: Duration) {
        self.dirty.lock().mark(key, bytes, Instant::now(), delay);
        self.wake.notify_one();
    }

    /// An import changed `key` by the change `seq`.
    pub fn note_import(&self, key: &str, seq: Seq) {
        self.imported.lock().insert(key.to_owned(), seq);
        self.committer.kick(ROWS_LINGER.min(self.session.options.commit_interval));
    }

    /// Fails while an import's change of `key` is not committed: the committed tree is not the one that
    /// the row tells of.
    pub fn import_settled(&self, key: &str) -> Result<()> {
        let committed = self.committer.progress().seq;
        let mut imported = self.imported.lock();
        imported.retain(|_, seq| *seq > committed);
        match imported.contains_key(key) {
            true => Err(ViewError::NotYet { key: key.to_owned(), what: "an import of it is not committed" }),
            false => Ok(()),
        }
    }

    /// Returns once the lease is surely ours; everything that writes to the view asks first.
    pub async fn writable(&self) -> Result<()> {
        if self.stop.is_cancelled() {
            return Err(ViewError::Stopped("it was asked to stop".into()));
        }
        Ok(self.lease.ensure().await?)
    }

    /// A key of ours is unexpectedly missing: fails, for good, if the session itself is.
    pub async fn check_alive(&self, missing: &str) -> Result<()> {
        match self.store.head(keys::LEASE).await {
            Ok(_) => return Ok(()),
            // Under some policies a missing key is refused.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::AccessDenied) => (),
            Err(error) => return Err(error.into()),
        }
        if self.sees_lease().await? {
            return Ok(());
        }
        self.lease.lost(Hold::Deleted { key: missing.to_owned() });
        Err(LogError::Deleted { key: missing.to_owned() }.into())
    }

    /// Whether a listing shows the session's lease.
    pub async fn sees_lease(&self) -> Result<bool> {
        Ok(self.is_listed(keys::LEASE).await? || !holds(Rule::ListingShowsLease))
    }

    async fn is_listed(&self, key: &str) -> Result<bool> {
        let page = self.store.list(key, None, 1).await?;
        Ok(page.objects.iter().any(|object| object.key == key))
    }

    /// What the store says of the object `key`; `None`: there is none, and a listing agrees.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectMeta>> {
        match self.store.head(key).await {
            // Some stores answer for a folder that only keys below it imply.
            Ok(head) if key.ends_with('/') && Tag::of(self.session_id, key, &head).is_none() => {
                Ok(self.is_listed(key).await?.then_some(head))
            }
            Ok(head) => Ok(Some(head)),
            // Under some policies a missing key is refused.
            Err(error) if matches!(error.kind, Kind::NotFound | Kind::AccessDenied) => {
                match self.is_listed(key).await? {
                    true => Err(error.into()),
                    false => Ok(None),
                }
            }
            Err(error) => Err(error.into()),
        }
    }

    /// The tag of an object at `key` that is surely ours, its content compared with its checksum.
    pub async fn ours(&self, key: &str, object: &ObjectMeta) -> Result<Option<Tag>> {
        let tag = Tag::of(self.session_id, key, object).filter(|_| holds(Rule::TagIsOurs));
        let Some(tag) = tag else { return Ok(None) };
        let (mut at, mut crc) = (0, 0);
        while at < object.size {
            let end = object.size.min(at + 8 * MEMORY_UNIT);
            let part = self.store.get(key, Some(at..end), Some(&object.etag)).await?;
            crc = crc32c::crc32c_append(crc, &part.body);
            at = end;
        }
        Ok((crc == tag.crc).then_some(tag))
    }

    /// Returns once everything changed so far is committed.
    pub async fn committed(&self, seq: Seq) -> Result<()> {
        Ok(self.committer.wait(seq, self.session.options.timeout).await?)
    }

    /// Returns once the publisher has marked all that is committed by now; false: it works no more (or never, once the view was stopped).
    pub async fn all_marked(&self) -> bool {
        let mut steps = self.steps.subscribe();
        let mine = self.asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.wake.notify_one();
        while self.taken.load(Ordering::Acquire) < mine {
            if steps.changed().await.is_err() {
                return false;
            }
        }
        true
    }

    /// The publisher did something.
    pub fn progress(&self) {
        self.steps.send_modify(|step| *step += 1);
    }

    /// Notes a failure for `status`.
    pub fn failed(&self, error: &ViewError) {
        self.figures.lock().last_error = Some((SystemTime::now(), error.to_string()));
    }

    /// The share of the memory that `bytes` take; what is larger than all of it takes all of it.
    pub fn memory_units(&self, bytes: u64) -> u32 {
        u32::try_from(bytes.div_ceil(MEMORY_UNIT)).unwrap_or(MEMORY).clamp(1, MEMORY)
    }
}

/// Says that there is no object at `key`.
pub(super) fn gone_row(key: &str) -> Record {
    Record::delete(&Key::View { key: key.to_owned() })
}
