//! Opening a session: recovery, what becomes of local changes, the first root, the background.

use super::api::Result;
use super::change::{Numbers, next_ino};
use super::keeper::Keeping;
use super::make::root_row;
use super::node::Nodes;
use super::options::Untold;
use super::quota::Quota;
use super::status::Notices;
use super::{Session, SessionError, SessionOptions, Writer, file};
use crate::journal::salvage::Salvaged;
use crate::journal::{Found, Journal, JournalOptions};
use crate::log::blobs::BlobNames;
use crate::log::blocking::aside;
use crate::log::clock::SystemClock;
use crate::log::committer::{Committer, CommitterConfig};
use crate::log::ids::Ino;
use crate::log::lease::{LeaseOptions, random};
use crate::log::recover::{Lineage, Recovered, recover};
use crate::log::row::{Key, Record, meta};
use crate::log::source::LocalKind;
use crate::store::ObjectStore;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::SystemTime;
use tokio_util::sync::CancellationToken;

/// Slots under way at once.
const IN_FLIGHT: usize = 8;

impl Session {
    /// Opens the session that lives in `store`: takes its lease, brings the local tree up to its newest
    /// commit, sends what an earlier mount here could not. A store without a session gets a new one.
    pub async fn start(store: Arc<dyn ObjectStore>, options: SessionOptions) -> Result<Arc<Session>> {
        if options.read_only {
            return Session::start_following(store, options).await;
        }
        let notices = Notices::default();
        let (journal, found) = open_journal(&options, &notices).await?;
        let lease = LeaseOptions {
            holder: options.holder.clone(),
            ttl: options.lease_ttl,
            succession: options.succession,
            // It had this folder, whose lock we hold now.
            dead: found.writer,
            clock: SystemClock::shared(),
        };
        let recovered = recover(store.clone(), lease, found.base.clone(), &mut journal.sink()).await?;
        journal.writing_as(Some(recovered.lease.epoch()))?;
        settle_lineage(&journal, &found, &recovered, &options, &notices)?;
        journal.bind(recovered.lease.session())?;
        make_root(&journal, options.untold())?;
        let quota = count_for_quota(&journal, options.quota).await?;
        let writer = start_writer(&store, &journal, &recovered, quota)?;
        let session = Session::assemble(store, journal, Some(writer), found.same_boot, options, notices)?;
        session.data.take(&recovered.objects);
        session.start_background();
        Ok(session)
    }

    /// Puts a session together; nothing runs yet.
    pub(super) fn assemble(
        store: Arc<dyn ObjectStore>,
        journal: Arc<Journal>,
        writer: Option<Writer>,
        same_boot: bool,
        options: SessionOptions,
        notices: Notices,
    ) -> Result<Arc<Session>> {
        let stop = CancellationToken::new();
        let nodes = Nodes::new();
        let data = file::Data::open(file::DataConfig {
            store: &store,
            journal: &journal,
            nodes: &nodes,
            options: &options,
            names: writer.as_ref().map(|writer| writer.names.clone()),
            same_boot,
        })?;
        let session = Session {
            journal,
            store,
            writer,
            options,
            runtime: tokio::runtime::Handle::current(),
            nodes,
            data,
            reads: Default::default(),
            lost: AtomicBool::new(false),
            privileges_are_ours: AtomicBool::new(false),
            changed_at: AtomicU64::new(0),
            batches: Default::default(),
            invalidate: Default::default(),
            following: Default::default(),
            notices,
            opened: SystemTime::now(),
            _stop_when_dropped: stop.clone().drop_guard(),
            stop,
        };
        session.touched();
        Ok(Arc::new(session))
    }
}

/// Opens the journal, away from the runtime's threads. One that is damaged makes way for a new one.
pub(super) async fn open_journal(
    options: &SessionOptions,
    notices: &Notices,
) -> Result<(Arc<Journal>, Found)> {
    let dir = options.cache_dir.clone();
    let sizes = JournalOptions {
        row_cache: 12 << 20,
        piece_cache: 16 << 20,
        piece_store: (options.cache_size / 4).min(256 << 20),
    };
    let opened = aside(move || open_or_set_aside(&dir, &sizes)).await;
    // The runtime is being shut down under us.
    let (opened, damage) = opened.map_err(|_| SessionError::Errno(libc::ECANCELED))??;
    damage.into_iter().for_each(|notice| notices.add(notice));
    Ok(opened)
}

type Opened = (Arc<Journal>, Found);

/// The journal, and what to tell where a damaged one was in its place.
fn open_or_set_aside(dir: &Path, sizes: &JournalOptions) -> Result<(Opened, Option<String>)> {
    let error = match Journal::open(dir, sizes.clone()) {
        Ok(opened) => return Ok((opened, None)),
        Err(error) if error.kind == LocalKind::Damaged => error,
        Err(error) => return Err(error.into()),
    };
    let aside = Journal::set_aside(dir, &error.message)?;
    let notice = format!(
        "{error}; it is set aside in {}, and the session is loaded from the store: everything acknowledged is \
         there; what else was not stored yet is lost where `cwdfs salvage --list {}` cannot read it",
        aside.display(),
        dir.display()
    );
    Ok((Journal::open(dir, sizes.clone())?, Some(notice)))
}

/// Counts what the session holds, away from the runtime's threads.
async fn count_for_quota(journal: &Arc<Journal>, limit: Option<u64>) -> Result<Option<Quota>> {
    let Some(limit) = limit else { return Ok(None) };
    let journal = journal.clone();
    let counted = aside(move || Quota::of(limit, &journal)).await;
    // The runtime is being shut down under us.
    counted.map_err(|_| SessionError::Errno(libc::ECANCELED))?.map(Some)
}

fn start_writer(
    store: &Arc<dyn ObjectStore>,
    journal: &Arc<Journal>,
    recovered: &Recovered,
    quota: Option<Quota>,
) -> Result<Writer> {
    let config = CommitterConfig {
        store: store.clone(),
        lease: recovered.lease.clone(),
        source: journal.clone(),
        first_slot: recovered.next_slot,
        max_in_flight: IN_FLIGHT,
        clock: SystemClock::shared(),
    };
    let next = next_ino(journal)?;
    Ok(Writer {
        lease: recovered.lease.clone(),
        committer: Committer::start(config, &tokio::runtime::Handle::current()),
        names: Arc::new(BlobNames::new(recovered.lease.epoch())),
        numbers: parking_lot::Mutex::new(Numbers { next, reserved: next }),
        cookie_key: journal.cookie_key()?,
        quota,
        keeping: tokio::sync::Mutex::new(Keeping::after(recovered)),
    })
}

/// Keeps or sets aside what an earlier mount here changed and did not commit.
fn settle_lineage(
    journal: &Journal,
    found: &Found,
    recovered: &Recovered,
    options: &SessionOptions,
    notices: &Notices,
) -> Result<()> {
    for warning in &recovered.warnings {
        notices.add(warning.clone());
    }
    let why = match &recovered.lineage {
        Lineage::Local { committed } => {
            let kept = journal.keep_changes_after(*committed)?;
            if kept > 0 {
                tracing::info!(rows = kept, "changes of an earlier mount here are sent now");
            }
            return Ok(());
        }
        Lineage::New => "the store holds no session",
        Lineage::Store => "the session's history does not contain what they were based on",
        Lineage::LocalDiverged => "another writer has committed since",
    };
    let successor = recovered.before.as_ref().filter(|(epoch, _)| found.writer != Some(*epoch));
    let salvaged = journal.salvage_changes(why, successor.map(|(_, holder)| holder.as_str()))?;
    let Some(Salvaged { folder, changes, images }) = salvaged else { return Ok(()) };
    let by = successor.map(|(_, holder)| format!(" ({holder})")).unwrap_or_default();
    notices.add(format!(
        "{changes} changed rows and the content of {images} files, never in the store, are set aside in {}, because \
         {why}{by}: `cwdfs salvage --list {1}` shows and `--to DIR` copies them",
        folder.display(),
        options.cache_dir.display()
    ));
    Ok(())
}

/// Makes the root, and what goes with a session, where there is none.
fn make_root(journal: &Journal, untold: Untold) -> Result<()> {
    if journal.inode(Ino::ROOT)?.is_some() {
        return Ok(());
    }
    let meta = |name: &[u8]| Key::Meta { name: name.to_vec() };
    let cookie_key = [random()?, random()?].map(u64::to_le_bytes).concat();
    journal.apply(vec![
        Record::put_raw(&meta(meta::COOKIE_KEY), cookie_key),
        Record::put(&meta(meta::NEXT_INO), &(Ino::ROOT.0 + 1)),
        Record::put(&Key::Inode { ino: Ino::ROOT }, &root_row(untold)),
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::session::api::{NewNode, WriteHow};
    use crate::session::testing::{READ, ROOT, WRITE, options};
    use crate::store::faulty::{Fault, FaultyStore, Rule};
    use crate::store::{DirStore, Gate};
    use std::time::Duration;
    use tempfile::TempDir;
    use tokio::time::Instant;

    const TRIP: Duration = Duration::from_secs(1);

    /// Opens the session in `dir` from a machine that has nothing of it; how many round trips that takes.
    async fn trips(dir: &TempDir) -> (Arc<Session>, u128, TempDir) {
        let cache = TempDir::new().unwrap();
        let faulty = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        faulty.add_rule(Rule::new(Fault::Delay(TRIP)));
        let gate = Gate::new(faulty, "here".into());
        gate.look_ahead();
        let start = Instant::now();
        let session = Session::start(gate, options(cache.path())).await.unwrap();
        (session, start.elapsed().as_millis() / TRIP.as_millis(), cache)
    }

    /// The content of a commit comes with its rows: who reads it then asks the store for nothing.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn content_that_was_replayed_is_not_fetched_again() {
        let (dir, caches) = (TempDir::new().unwrap(), [TempDir::new().unwrap(), TempDir::new().unwrap()]);
        let session =
            Session::start(Arc::new(DirStore::new(dir.path())), options(caches[0].path())).await.unwrap();
        let mut files = Vec::new();
        for n in 0..6_u8 {
            let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
            let made = session.create(ROOT, Ino::ROOT, &[b'a' + n], new, WRITE).get().await.unwrap();
            let (ino, fh) = (made.0.ino, made.1.fh);
            session.write(ROOT, fh, ino, 0, &[n; 100_000], WriteHow::default()).get().await.unwrap();
            session.release(fh);
            files.push((ino, n));
        }
        session.flush_all(Duration::from_secs(60)).await.unwrap();
        // As killed: nothing was packed, no checkpoint was made.
        drop(session);
        let store = FaultyStore::new(Arc::new(DirStore::new(dir.path())), 1);
        let session = Session::start(store.clone(), options(caches[1].path())).await.unwrap();
        let gets = || store.requests().get("get").copied().unwrap_or(0);
        let before = gets();
        for (ino, n) in files {
            let opened = session.open(ROOT, ino, READ).get().await.unwrap();
            let found = session.read(opened.fh, ino, 0, 200_000).get().await.unwrap();
            assert!(found == [n; 100_000][..], "file {n}");
            session.release(opened.fh);
        }
        assert_eq!(gets() - before, 0, "requests");
    }

    /// Of a new one: a look, three to find out what the store keeps, the lease. Of another: a look, the lease, the
    /// checkpoint and what lies behind it, the seal; what the store keeps is noted.
    #[tokio::test(start_paused = true)]
    async fn opening_takes_few_round_trips() {
        let dir = TempDir::new().unwrap();
        let (session, taken, _cache) = trips(&dir).await;
        assert_eq!(taken, 5, "a new session");
        let new = NewNode { mode: 0o644, umask: 0, rdev: 0, target: Vec::new() };
        let made = session.create(ROOT, Ino::ROOT, b"f", new, WRITE).get().await.unwrap();
        session.release(made.1.fh);
        assert!(session.close(Duration::from_secs(600)).await.is_clean());
        let (session, taken, _cache) = trips(&dir).await;
        assert!(taken <= 5, "{taken} for one that is there");
        assert!(session.close(Duration::from_secs(600)).await.is_clean());
    }
}
