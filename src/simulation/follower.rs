//! A reader without a lease, and what it holds in memory.

use super::keep::GRACE;
use super::life::{Host, Life};
use super::link::Link;
use super::model::{Rows, StepId, apply};
use super::oracle;
use super::world::World;
use crate::log::LogError;
use crate::log::follow::{Followed, Follower};
use crate::log::ids::{Epoch, Slot};
use crate::log::row::{ExtentRow, Record};
use crate::log::source::{Checksum, LocalError, Part, RecoverySink};
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Rows in memory.
#[derive(Default)]
pub struct Memory {
    pub rows: Rows,
}

impl RecoverySink for Memory {
    fn reset(&mut self) -> Result<(), LocalError> {
        self.rows.clear();
        Ok(())
    }

    fn rows(&mut self, _part: Part, rows: Vec<Record>) -> Result<(), LocalError> {
        apply(&mut self.rows, &rows);
        Ok(())
    }

    fn segment(&mut self, _: Epoch, _: Slot, _: &Checksum, records: Vec<Record>) -> Result<(), LocalError> {
        apply(&mut self.rows, &records);
        Ok(())
    }

    fn keep(&mut self, _extent: &ExtentRow, _bytes: &Bytes) {}

    fn checkpoint_loaded(&mut self, _: Epoch, _: Slot, _image: Slot) -> Result<(), LocalError> {
        Ok(())
    }
}

/// A following process.
pub struct Reader {
    world: Arc<World>,
    host: Arc<Host>,
    life: Arc<Life>,
    memory: Memory,
    follower: Option<Follower>,
    /// When it last was up to date as far as it knows.
    polled: Instant,
    shown: StepId,
}

impl Reader {
    pub fn new(world: &Arc<World>, name: impl Into<String>) -> Reader {
        let host = Host::new(name, world.start);
        let life = Life::new(&host);
        let world = world.clone();
        Reader {
            world,
            host,
            life,
            memory: Memory::default(),
            follower: None,
            polled: Instant::now(),
            shown: 0,
        }
    }

    /// Polls until `end`; is suspended now and then.
    pub async fn run(mut self, end: Instant) {
        while Instant::now() < end {
            self.world.pause(500..=5000).await;
            if self.world.chance(30) {
                let pause = self.world.draw(1000..=60_000);
                self.world.count("suspended: follower");
                self.host.suspend();
                tokio::time::sleep(Duration::from_millis(pause)).await;
                self.host.resume();
            }
            let life = self.life.clone();
            let died = tokio::select! {
                biased;
                () = life.death() => true,
                // What fails for the store's sake is tried again.
                _ = self.poll() => false,
            };
            if died {
                self.life = Life::new(&self.host);
                (self.memory, self.follower) = (Memory::default(), None);
            }
        }
    }

    /// Looks once. The step that it shows then.
    pub async fn poll(&mut self) -> Result<StepId, LogError> {
        let before = self.polled;
        let result = self.look().await;
        match &result {
            Ok(Followed::Reloaded) => self.check(true),
            Ok(_) => self.check(before.elapsed() < GRACE / 2),
            Err(error) => self.judge(error),
        }
        if result.is_ok() {
            self.polled = Instant::now();
        }
        result.map(|_| self.shown)
    }

    async fn look(&mut self) -> Result<Followed, LogError> {
        if let Some(follower) = &mut self.follower {
            return follower.poll(&mut self.memory).await;
        }
        let store = Link::store(&self.world, &self.life);
        let clock = self.host.clock.clone();
        self.follower = Some(Follower::open_at(store, clock, &mut self.memory).await?);
        Ok(Followed::Reloaded)
    }

    /// What it holds is a state of the one history, not before the last one, and with `content` all can be read.
    fn check(&mut self, content: bool) {
        let compared = {
            let (bucket, model) = (self.world.bucket.lock(), self.world.model.lock());
            match content {
                true => model.compare(&self.memory.rows, &mut |row| oracle::piece(&bucket, row)),
                false => super::model::step_of(&self.memory.rows),
            }
        };
        let name = &self.host.name;
        let step = match compared {
            Ok(step) => step,
            Err(what) => return self.world.violate(format!("{name} follows, and {what}")),
        };
        self.world.shown(name, step);
        if !self.world.model.lock().is_within(self.shown, step) {
            self.world.violate(format!("{name} showed step {} and then {step}", self.shown));
        }
        self.shown = step;
    }

    fn judge(&mut self, error: &LogError) {
        self.world.note(format_args!("{} cannot follow: {error}", self.host.name));
        if matches!(error, LogError::Damaged { .. } | LogError::Gap { .. } | LogError::NewerFormat { .. }) {
            self.world.violate(format!("{} cannot follow: {error}", self.host.name));
        }
    }
}
