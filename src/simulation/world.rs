//! Everything that the actors share: the objects, the dice, the model, and what has been seen so far.
//!
//! Invariants, checked whenever something of the log changes in the store, and at each acknowledgement:
//! - from every state that a reader may start from, the log leads to the same newest state, whole, with all
//!   content there, and that state is one that the model knows;
//! - that newest state only ever goes on from the one before: nothing that could be read is taken back;
//! - what is acknowledged is in it;
//! - a polite newcomer succeeds no holder that has renewed within its ttl.

use super::bucket::Bucket;
use super::faults::Faults;
use super::life::Life;
use super::model::{Model, StepId};
use super::oracle::Oracle;
use super::trace::Trace;
use crate::log::ids::{Epoch, keys};
use crate::log::lease::{LeaseBody, LeaseState};
use crate::store::{Condition, PutOptions, StoreError};
use bytes::Bytes;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::fmt::Arguments;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::sync::watch;
use tokio::time::Instant;

/// What has been seen so far.
#[derive(Default)]
struct Facts {
    tip: StepId,
    lease: Option<(LeaseBody, Instant)>,
    /// The machines that have taken the lease, in order.
    takers: Vec<String>,
    /// No check is made: the session was deleted, or damaged, on purpose, or its steps are none that the model
    /// knows.
    deleted: bool,
}

/// The world.
pub struct World {
    pub start: Instant,
    dice: Mutex<StdRng>,
    pub bucket: Mutex<Bucket>,
    pub trace: Mutex<Trace>,
    pub model: Mutex<Model>,
    pub faults: Mutex<Faults>,
    oracle: Mutex<Oracle>,
    facts: Mutex<Facts>,
    failed: watch::Sender<Option<String>>,
}

impl World {
    pub fn new(seed: u64) -> Arc<World> {
        Arc::new(World {
            start: Instant::now(),
            dice: Mutex::new(StdRng::seed_from_u64(seed)),
            bucket: Mutex::default(),
            trace: Mutex::new(Trace::new()),
            model: Mutex::new(Model::new()),
            faults: Mutex::default(),
            oracle: Mutex::default(),
            facts: Mutex::default(),
            failed: watch::Sender::new(None),
        })
    }

    /// A world whose sessions are judged by who uses them: the model knows none of their steps.
    pub fn without_model(seed: u64) -> Arc<World> {
        let world = World::new(seed);
        world.facts.lock().deleted = true;
        world
    }

    pub fn draw(&self, range: RangeInclusive<u64>) -> u64 {
        self.dice.lock().random_range(range)
    }

    /// Whether something happens that does so many times in a thousand.
    pub fn chance(&self, per_mille: u32) -> bool {
        self.dice.lock().random_range(0..1000) < per_mille
    }

    /// Sleeps for a time from the dice, milliseconds.
    pub async fn pause(&self, range: RangeInclusive<u64>) {
        let pause = self.draw(range);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }

    pub fn wall(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1_700_000_000) + self.start.elapsed()
    }

    pub fn note(&self, what: Arguments<'_>) {
        self.trace.lock().note(self.start.elapsed(), what);
    }

    pub fn count(&self, what: &str) {
        self.trace.lock().count(what);
    }

    /// A promise is broken.
    pub fn violate(&self, what: impl Into<String>) {
        let what = what.into();
        self.note(format_args!("VIOLATION {what}"));
        self.failed.send_if_modified(|failed| {
            let first = failed.is_none();
            if first {
                *failed = Some(what);
            }
            first
        });
    }

    pub fn violation(&self) -> Option<String> {
        self.failed.borrow().clone()
    }

    /// Returns once a promise is broken.
    pub async fn broken(&self) {
        // The sender is here, so the wait ends only by a violation.
        let _ = self.failed.subscribe().wait_for(Option::is_some).await;
    }

    /// The newest state that can be read.
    pub fn tip(&self) -> StepId {
        self.facts.lock().tip
    }

    /// Whom the lease names now.
    pub fn writer(&self) -> Option<Epoch> {
        self.facts.lock().lease.as_ref().map(|(body, _)| body.epoch)
    }

    /// How often the lease was taken so far.
    pub fn takes(&self) -> usize {
        self.facts.lock().takers.len()
    }

    /// The machine that took the lease last.
    pub fn last_taker(&self) -> Option<String> {
        self.facts.lock().takers.last().cloned()
    }

    /// Whether any other machine has taken the lease since.
    pub fn taken_by_others(&self, since: usize, name: &str) -> bool {
        self.facts.lock().takers.iter().skip(since).any(|taker| taker != name)
    }

    /// Does something to the objects, and looks what that has made of the session.
    pub fn effect<T>(
        &self,
        life: Option<&Life>,
        (operation, key): (&str, &str),
        effect: impl FnOnce(&mut Bucket, SystemTime) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let result = effect(&mut self.bucket.lock(), self.wall());
        let told = result.as_ref().err().map(|error| error.kind);
        let who = life.map_or("outside", |life| &life.host.name);
        self.note(format_args!(
            "{who} {operation} {key}: {}",
            told.map_or("ok".into(), |k| format!("{k:?}"))
        ));
        let changes = !matches!(operation, "get" | "head" | "list" | "list_multipart");
        if changes && result.is_ok() {
            if key == keys::LEASE {
                self.see_lease(life);
            }
            if key.starts_with(keys::ROOT) && !(operation == "put" && key.starts_with(keys::DATA)) {
                self.check();
            }
        }
        result
    }

    /// The lease was written.
    fn see_lease(&self, life: Option<&Life>) {
        let body = {
            let bucket = self.bucket.lock();
            bucket.object(keys::LEASE).and_then(|o| serde_json::from_slice::<LeaseBody>(&o.body).ok())
        };
        let mut facts = self.facts.lock();
        let Some(body) = body else {
            facts.lease = None;
            return;
        };
        if let Some((old, at)) = &facts.lease
            && old.epoch != body.epoch
        {
            let ttl = Duration::from_millis(old.ttl_ms);
            let polite = life.is_some_and(|l| l.is_polite_to(old.epoch) && l.host.clock.is_sound());
            if old.state == LeaseState::Held && polite && at.elapsed() < ttl {
                let what =
                    format!("{} renewed {:?} ago and was succeeded all the same", old.holder, at.elapsed());
                drop(facts);
                return self.violate(what);
            }
        }
        if facts.lease.as_ref().is_none_or(|(old, _)| old.epoch != body.epoch) {
            let taker = life.map_or("outside", |life| &life.host.name);
            facts.takers.push(taker.to_owned());
        }
        facts.lease = Some((body, Instant::now()));
    }

    /// Reads the session as a reader would.
    pub fn check(&self) {
        if self.facts.lock().deleted {
            return;
        }
        let read = {
            let (bucket, model) = (self.bucket.lock(), self.model.lock());
            self.oracle.lock().read(&bucket, &model)
        };
        match read {
            Err(what) => self.violate(format!("the session cannot be read: {what}")),
            Ok(None) => {}
            Ok(Some(tip)) => {
                let before = self.tip();
                if !self.model.lock().is_within(before, tip) {
                    self.violate(format!(
                        "history changed: step {before} could be read, and the newest is {} now, without it",
                        tip
                    ));
                }
                self.facts.lock().tip = tip;
            }
        }
    }

    /// A caller was told that `step` is in the store.
    pub fn acknowledged(&self, life: &Life, step: StepId) {
        let who = &life.host.name;
        self.note(format_args!("{who} acknowledges step {step}"));
        self.count("acknowledged");
        if self.facts.lock().deleted {
            return;
        }
        let tip = self.tip();
        if !self.model.lock().is_within(step, tip) {
            self.violate(format!(
                "{who} acknowledged step {step}, and the newest state is {tip}, without it"
            ));
        }
    }

    /// A commit is taken for done; callers hear of it from now on.
    pub fn confirmed(&self, life: &Life) {
        let age = life.renewed.lock().map(|sent| life.host.clock.now().saturating_sub(sent));
        let (who, ttl) = (&life.host.name, *life.ttl.lock());
        if life.host.clock.is_sound() && age.is_some_and(|age| age > ttl) && !self.facts.lock().deleted {
            self.violate(format!(
                "{who} confirms a commit {age:?} after it last renewed, with a ttl of {ttl:?}"
            ));
        }
    }

    /// Somebody reads the state after `step`.
    pub fn shown(&self, who: &str, step: StepId) {
        self.note(format_args!("{who} shows step {step}"));
        let tip = self.tip();
        if !self.facts.lock().deleted && !self.model.lock().is_within(step, tip) {
            self.violate(format!("{who} shows step {step}, which is not in the history of step {tip}"));
        }
    }

    /// Somebody outside deletes the session: what was in it is gone, and nobody promises otherwise.
    pub fn delete_everything(&self) {
        *self.bucket.lock() = Bucket::default();
        *self.facts.lock() = Facts { deleted: true, ..Facts::default() };
    }

    /// Somebody outside takes an object away; until it is put back, nothing is promised.
    pub fn take_away(&self, key: &str) -> Option<Bytes> {
        let mut bucket = self.bucket.lock();
        let body = bucket.object(key).map(|stored| stored.body.clone());
        self.facts.lock().deleted = true;
        // Without a condition it does not fail.
        let _ = bucket.delete(key, &Condition::None);
        body
    }

    /// Puts it back, where nothing else has come in its place.
    pub fn put_back(&self, key: &str, body: Option<Bytes>) {
        let options = PutOptions { condition: Condition::Absent, ..PutOptions::default() };
        if let Some(body) = body {
            // Something else may lie there; what that means is found below.
            let _ = self.bucket.lock().put(key, body, &options, self.wall());
        }
        self.facts.lock().deleted = false;
        self.check();
    }

    /// Whether the session is as it should be, as far as those who use it can help it.
    pub fn is_sound(&self) -> bool {
        !self.facts.lock().deleted
    }

    /// A session begins where another one was deleted.
    pub fn begins_anew(&self) {
        *self.facts.lock() = Facts::default();
        *self.oracle.lock() = Oracle::default();
    }
}
