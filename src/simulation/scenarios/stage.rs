//! What the stories are told with: machines by name, requests that are held back, and the same end for all.

use crate::log::LogError;
use crate::log::ids::keys;
use crate::log::lease::Succession;
use crate::log::source::Seq;
use crate::log::testing::Gate;
use crate::simulation::disk::Disks;
use crate::simulation::faults::Fault;
use crate::simulation::life::{Host, Life};
use crate::simulation::machine::noise;
use crate::simulation::model::StepId;
use crate::simulation::process::{How, Process};
use crate::simulation::run::end_well;
use crate::simulation::world::World;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The ttl of the stories' writers.
pub const TTL: Duration = Duration::from_secs(15);

/// Takes over at once.
pub const AT_ONCE: How = How { succession: Succession::AtOnce, ttl: TTL, in_flight: 8 };
/// Waits for who holds the session.
pub const WHEN_DUE: How = How { succession: Succession::WhenDue, ttl: TTL, in_flight: 8 };

/// Where a story is told.
pub struct Stage {
    pub world: Arc<World>,
    pub disks: Arc<Disks>,
}

impl Stage {
    pub fn new(world: &Arc<World>, disks: &Arc<Disks>) -> Stage {
        Stage { world: world.clone(), disks: disks.clone() }
    }

    pub fn host(&self, name: &str) -> Arc<Host> {
        Host::new(name, self.world.start)
    }

    /// A process on a new machine, which has the session.
    pub async fn mount(&self, name: &str, how: How) -> Arc<Process> {
        self.mount_on(&self.host(name), &self.disks.blank(), how).await
    }

    /// A writer with some commits, whose next slots are held back on their way until the gate opens.
    pub async fn stalled(&self, how: How) -> (Arc<Process>, Gate) {
        let old = self.mount("old", how).await;
        self.commits(&old, 3).await;
        (old, self.hold("old", "put", keys::LOG))
    }

    /// What was held back arrives after all; a good while later its writer is gone, and the story ends.
    pub async fn arrives_late(&self, gate: Gate, old: &Process) {
        gate.open();
        self.after(30).await;
        old.life.die();
        self.end().await;
    }

    /// The same, on this machine and disk. One that cannot have the session never returns: that is a violation.
    pub async fn mount_on(&self, host: &Arc<Host>, dir: &Path, how: How) -> Arc<Process> {
        match self.try_mount(host, dir, how).await {
            Ok(process) => process,
            Err(error) => {
                self.world.violate(format!("{} cannot have the session: {error}", host.name));
                std::future::pending().await
            }
        }
    }

    pub async fn try_mount(&self, host: &Arc<Host>, dir: &Path, how: How) -> Result<Arc<Process>, LogError> {
        let started = Process::start(&self.world, &Life::new(host), dir, None, how).await;
        started.map_err(|failed| failed.0)
    }

    /// A step, a small file more, that nobody waits for.
    pub fn change(&self, process: &Process) -> (Seq, StepId) {
        let ino = self.world.model.lock().next_ino(process.head());
        process.write(&[(ino, noise(&self.world, 50), false)]).expect("the journal takes a change")
    }

    /// A step that is in the store when this returns.
    pub async fn commit(&self, process: &Process) {
        let (seq, step) = self.change(process);
        if let Err(error) = process.wait(seq, step).await {
            self.world.violate(format!("{} cannot commit: {error}", process.life.host.name));
        }
    }

    /// Several of those.
    pub async fn commits(&self, process: &Process, count: u32) {
        for _ in 0..count {
            self.commit(process).await;
        }
    }

    /// A file whose content is an object of its own.
    pub async fn commit_large(&self, process: &Process) -> u64 {
        let ino = self.world.model.lock().next_ino(process.head());
        let written = process.write_large(ino, noise(&self.world, 2000)).await;
        let (seq, step) = written.expect("a large file is written");
        if let Err(error) = process.wait(seq, step).await {
            self.world.violate(format!("{} cannot commit: {error}", process.life.host.name));
        }
        ino
    }

    /// Makes checkpoints until the floor has risen, and lets `grace` go by.
    pub async fn shorten(&self, process: &Process, images: u32, pack: bool) {
        for _ in 0..images {
            self.commit(process).await;
            if let Err(error) = process.round(pack, true).await {
                self.world.note(format_args!("{}: {error}", process.life.host.name));
            }
        }
    }

    /// The next request of `who` of this kind waits until the gate is opened.
    pub fn hold(&self, who: &'static str, operation: &'static str, prefix: impl Into<String>) -> Gate {
        self.hold_later(who, operation, prefix, 0)
    }

    /// The same, after `skip` that do not.
    pub fn hold_later(
        &self,
        who: &'static str,
        operation: &'static str,
        prefix: impl Into<String>,
        skip: u32,
    ) -> Gate {
        let gate = Gate::new();
        self.fault(who, operation, prefix, (skip, 1), Fault::HoldBefore(gate.clone()));
        gate
    }

    pub fn fault(
        &self,
        who: &'static str,
        operation: &'static str,
        prefix: impl Into<String>,
        times: (u32, u32),
        fault: Fault,
    ) {
        self.world.faults.lock().script(who, operation, prefix, times, fault);
    }

    pub async fn after(&self, seconds: u64) {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
    }

    /// What a process's end leaves on its disk, all of it written.
    pub fn kill(&self, process: &Process) -> PathBuf {
        let dir = self.disks.snapshot(&process.local.journal, &process.dir);
        process.life.die();
        dir
    }

    /// Everything has to be in order.
    pub async fn end(&self) {
        end_well(&self.world, &self.disks).await;
    }
}
