//! Getting the lease: of a session that has one, of one that lost it, or of a new one.

use crate::log::LogError;
use crate::log::checkpoint::{self, Name};
use crate::log::ids::{Epoch, SessionId, Slot, keys};
use crate::log::lease::{Ending, First, Lease, LeaseOptions, create, read, take};
use crate::log::rules::{Rule, holds};
use crate::log::segment;
use crate::store::{Kind, ObjectStore, Pages};
use std::sync::Arc;
use std::time::Duration;

/// How often a session that changes under us is looked at anew.
const TRIES: u32 = 8;
/// The fixed part that starts a checkpoint is shorter.
const CHECKPOINT_HEAD: u64 = 4096;

/// A session whose lease we hold.
pub(super) struct Entered {
    pub lease: Arc<Lease>,
    /// The epoch the lease named before; `None` when there was no lease.
    pub before: Option<Epoch>,
    /// Its holder.
    pub holder: Option<String>,
    /// The first writer, whose log holds slot 1.
    pub origin: Epoch,
    /// The checkpoints there are.
    pub names: Vec<Name>,
    /// There was nothing of ours below the prefix.
    pub fresh: bool,
    /// A removal of the session was begun.
    pub ending: Option<Ending>,
}

/// Takes the lease, or makes one.
pub(super) async fn enter(store: &Arc<dyn ObjectStore>, options: &LeaseOptions) -> Result<Entered, LogError> {
    for tries in 0..TRIES {
        let (seen, glance) = futures::join!(read(store.as_ref()), Glance::at(store.as_ref()));
        let seen = match seen {
            Err(LogError::Store(error)) if error.kind == Kind::AccessDenied => {
                // Under some policies the GET of a missing object is refused: a listing decides.
                match listed(store.as_ref()).await? {
                    true => return Err(error.into()),
                    false => None,
                }
            }
            other => other?,
        };
        let entered = match seen {
            Some(seen) => {
                let (origin, count) = (seen.body.origin, seen.body.count);
                let taken = take(store, options, seen).await?;
                // Its holder may have written checkpoints and raised the floor since the listing.
                let same = taken.as_ref().is_none_or(|(_, before)| before.count == count)
                    || !holds(Rule::ListedUnderLease);
                let names = if same { glance?.names } else { checkpoint::list(store.as_ref()).await? };
                taken.map(|(lease, before)| Entered {
                    lease,
                    before: Some(before.epoch),
                    holder: Some(before.holder),
                    origin,
                    names,
                    fresh: false,
                    ending: before.ending,
                })
            }
            None => without_lease(store, options, glance?).await?,
        };
        if let Some(entered) = entered {
            return Ok(entered);
        }
        tokio::time::sleep(Duration::from_millis(10 << tries)).await;
    }
    let what = "it appears and disappears while it is being taken".to_owned();
    Err(LogError::Damaged { key: keys::LEASE.into(), what })
}

async fn listed(store: &dyn ObjectStore) -> Result<bool, LogError> {
    let page = store.list(keys::LEASE, None, 1).await?;
    Ok(page.objects.iter().any(|o| o.key == keys::LEASE))
}

/// A prefix without a lease: a new session, or one whose lease was deleted.
async fn without_lease(
    store: &Arc<dyn ObjectStore>,
    options: &LeaseOptions,
    Glance { names, all }: Glance,
) -> Result<Option<Entered>, LogError> {
    let found = match all {
        Some(all) => all,
        None => Survey::of(store.as_ref()).await?,
    };
    if found.lease {
        return Ok(None);
    }
    if found.origin.is_none() && names.is_empty() && found.data {
        let what = "there is content, but neither lease, log nor checkpoint: the session was deleted in part; \
                    delete the rest of .cwdfs/ to start a new one";
        return Err(LogError::Damaged { key: keys::ROOT.into(), what: what.into() });
    }
    let fresh = found.origin.is_none() && names.is_empty();
    let session = match (found.last, names.first()) {
        (Some((epoch, slot)), _) => Some(session_of_segment(store.as_ref(), epoch, slot).await?),
        (None, Some(name)) => Some(session_of_checkpoint(store.as_ref(), *name).await?),
        (None, None) => None,
    };
    let counter = found.counter.checked_add(1).ok_or_else(|| LogError::Damaged {
        key: keys::LOG.into(),
        what: "its epochs are at their end".into(),
    })?;
    let first = First { session, origin: found.origin, counter };
    let lease = create(store, options, first).await?;
    Ok(lease.map(|lease| {
        let origin = found.origin.unwrap_or(lease.epoch());
        Entered { lease, before: None, holder: None, origin, names, fresh, ending: None }
    }))
}

/// The first keys below `.cwdfs/`: checkpoints come before all else.
struct Glance {
    /// The checkpoints there are.
    names: Vec<Name>,
    /// What there is, where it is no more than was looked at.
    all: Option<Survey>,
}

impl Glance {
    /// More than a session has of checkpoints; and few enough to cost next to nothing where there is more.
    const KEYS: usize = 64;

    async fn at(store: &dyn ObjectStore) -> Result<Glance, LogError> {
        let page = store.list(keys::ROOT, None, Glance::KEYS).await?;
        let is_past = |key: &str| key > keys::CHECKPOINT && !key.starts_with(keys::CHECKPOINT);
        let all_of_them = !page.more || page.objects.last().is_some_and(|last| is_past(&last.key));
        let names = match all_of_them {
            true => page.objects.iter().filter_map(|object| Name::parse(&object.key)).collect(),
            false => checkpoint::list(store).await?,
        };
        let all = (!page.more).then(|| {
            let mut survey = Survey::default();
            page.objects.iter().for_each(|object| survey.add(&object.key));
            survey
        });
        Ok(Glance { names, all })
    }
}

/// What lies below `.cwdfs/`.
#[derive(Default)]
struct Survey {
    lease: bool,
    data: bool,
    /// The highest counter in any name.
    counter: u64,
    /// The lowest epoch with a log.
    origin: Option<Epoch>,
    /// The last object of the log.
    last: Option<(Epoch, Slot)>,
}

impl Survey {
    async fn of(store: &dyn ObjectStore) -> Result<Survey, LogError> {
        let (mut survey, mut pages) = (Survey::default(), Pages::of(store, keys::ROOT, None));
        while let Some(objects) = pages.next().await? {
            objects.iter().for_each(|object| survey.add(&object.key));
        }
        Ok(survey)
    }

    fn add(&mut self, key: &str) {
        self.lease |= key == keys::LEASE;
        let epoch = if let Some((epoch, slot)) = keys::parse_segment(key) {
            self.origin = Some(self.origin.map_or(epoch, |o| o.min(epoch)));
            self.last = self.last.max(Some((epoch, slot)));
            epoch
        } else if let Some((epoch, _)) = keys::parse_data(key) {
            self.data = true;
            epoch
        } else if let Some(name) = Name::parse(key) {
            name.epoch
        } else {
            return;
        };
        self.counter = self.counter.max(epoch.counter);
    }
}

async fn session_of_segment(
    store: &dyn ObjectStore,
    epoch: Epoch,
    slot: Slot,
) -> Result<SessionId, LogError> {
    let object = store.get(&keys::segment(epoch, slot), None, None).await?;
    Ok(segment::decode_header(epoch, slot, &object.body)?.session)
}

async fn session_of_checkpoint(store: &dyn ObjectStore, name: Name) -> Result<SessionId, LogError> {
    let key = name.key();
    let object = store.get(&key, Some(0..CHECKPOINT_HEAD), None).await?;
    let mut reader = checkpoint::Reader::new(key.clone());
    reader.feed(&object.body);
    match reader.header()? {
        Some(header) => Ok(header.session),
        None => Err(LogError::Damaged { key, what: "it ends early".into() }),
    }
}

/// Aborts the uploads that writers before `ours` left behind under `data/`, and all of checkpoints; returns
/// how many. For after the mount, before the first checkpoint of this writer: nobody waits for it.
pub async fn abort_uploads(store: &dyn ObjectStore, ours: Epoch) -> Result<u64, LogError> {
    let mut aborted = 0;
    for (key, upload) in store.list_multipart(keys::DATA).await? {
        if keys::parse_data(&key).is_some_and(|(epoch, _)| epoch.counter < ours.counter) {
            store.abort_multipart(&key, &upload).await?;
            aborted += 1;
        }
    }
    // A checkpoint's name does not say who writes it. At worst a successor that took the session a moment
    // ago makes its first one again.
    for (key, upload) in store.list_multipart(keys::CHECKPOINT).await? {
        store.abort_multipart(&key, &upload).await?;
        aborted += 1;
    }
    Ok(aborted)
}
