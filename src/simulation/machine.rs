//! A machine that writes: starts processes, uses them, kills, suspends, clones and rolls back, by the dice.

use super::disk::{Disks, discard};
use super::keep::GRACE;
use super::life::{Host, Life};
use super::process::{How, Left, Process};
use super::world::World;
use crate::log::lease::Succession;
use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The most files of a session.
const FILES: usize = 10;

/// A machine, and what runs on it.
pub struct Machine {
    pub world: Arc<World>,
    pub disks: Arc<Disks>,
    pub host: Arc<Host>,
    /// Its disk while no process runs.
    dir: PathBuf,
    left: Option<Left>,
    process: Option<Arc<Process>>,
    /// How its disk was some time ago.
    older: Option<PathBuf>,
    /// A disk that was copied off some machine, for whoever wants it.
    loose: Arc<Mutex<Option<PathBuf>>>,
    /// Its processes live long and shorten the log often.
    steady: bool,
}

impl Machine {
    pub fn new(
        world: &Arc<World>,
        disks: &Arc<Disks>,
        name: impl Into<String>,
        loose: &Arc<Mutex<Option<PathBuf>>>,
    ) -> Machine {
        let (world, disks, loose) = (world.clone(), disks.clone(), loose.clone());
        let (host, dir) = (Host::new(name, world.start), disks.blank());
        let steady = world.chance(400);
        Machine { world, disks, host, dir, left: None, process: None, older: None, loose, steady }
    }

    /// Does this and that until `end`.
    pub async fn run(mut self, end: Instant) {
        let host = self.host.clone();
        // A newcomer whose clock stands would wait for a holder for ever.
        tokio::spawn(async move {
            tokio::time::sleep_until(end).await;
            host.clock.heal();
        });
        while Instant::now() < end {
            self.world.pause(5..=1200).await;
            let process = self.process.clone();
            match process {
                None => self.begin().await,
                Some(process) if !process.is_alive() => self.bury(&process).await,
                Some(process) => self.act(&process).await,
            }
        }
        self.host.clock.heal();
    }

    /// Starts a process, on the disk as it is, as it was, or as another machine's was.
    async fn begin(&mut self) {
        self.change_disk();
        self.host.clock.trust_again();
        let succession = match self.world.draw(0..=9) {
            0..=3 => Succession::AtOnce,
            4 => Succession::NotParked,
            _ => Succession::WhenDue,
        };
        let ttl = Duration::from_secs(self.world.draw(3..=15));
        let how = How { succession, ttl, in_flight: self.world.draw(1..=8) as usize };
        let life = Life::new(&self.host);
        let started = tokio::select! {
            biased;
            () = life.death() => None,
            started = Process::start(&self.world, &life, &self.dir, self.left, how) => Some(started),
        };
        match started {
            Some(Ok(process)) => self.process = Some(process),
            // Its disk is what it was, or further: what it has loaded is written.
            Some(Err(_)) | None => {
                life.die();
                let dir = self.disks.copy(&self.dir);
                discard(&std::mem::replace(&mut self.dir, dir));
                self.world.pause(0..=5000).await;
            }
        }
    }

    fn change_disk(&mut self) {
        let other = match self.world.draw(0..=19) {
            0 => Some(self.disks.blank()).inspect(|_| self.world.count("disk: lost")),
            1 => self.older.take().inspect(|_| self.world.count("disk: rolled back")),
            2 => {
                let loose = self.loose.lock().take();
                loose.inspect(|_| self.world.count("disk: cloned"))
            }
            _ => None,
        };
        if let Some(dir) = other {
            self.world.note(format_args!("{} has another disk", self.host.name));
            discard(&std::mem::replace(&mut self.dir, dir));
            self.left = None;
        }
    }

    /// Its process has ended, one way or the other.
    async fn bury(&mut self, process: &Arc<Process>) {
        self.process = None;
        let (dir, left) = process.remains(&self.disks);
        process.committer.stop().await;
        discard(&process.dir);
        (self.dir, self.left) = (dir, Some(left));
    }

    async fn act(&mut self, process: &Arc<Process>) {
        let what = match self.world.draw(0..=99) {
            85..=94 if self.steady && self.world.chance(900) => self.world.draw(66..=81),
            what => what,
        };
        match what {
            0..=39 => small(process),
            40..=51 => burst(process).await,
            52..=59 => large(process),
            60..=65 => remove(process),
            66..=75 => spawn_round(process),
            76..=81 => spawn_sweep(process),
            82..=84 => spawn_park(process),
            85..=87 => {
                let closed = tokio::select! {
                    biased;
                    () = process.life.death() => false,
                    closed = process.close() => closed,
                };
                if closed {
                    self.world.count("closed cleanly");
                }
                self.bury(process).await;
            }
            88..=91 => {
                self.world.count("crash: killed");
                self.bury(process).await;
            }
            92..=94 => self.suspend().await,
            95..=96 => self.disturb_clock(),
            97 => self.older = Some(self.disks.snapshot(&process.local.journal, &process.dir)),
            98 => *self.loose.lock() = Some(self.disks.snapshot(&process.local.journal, &process.dir)),
            _ => spawn_clean_up(process),
        }
    }

    async fn suspend(&self) {
        let pause = self.world.draw(100..=60_000);
        self.world.count(if pause > 15_000 {
            "suspended: longer than a lease"
        } else {
            "suspended: shortly"
        });
        self.world.note(format_args!("{} is suspended for {pause} ms", self.host.name));
        self.host.suspend();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.host.resume();
        self.world.note(format_args!("{} goes on", self.host.name));
    }

    fn disturb_clock(&self) {
        let what = match self.world.draw(0..=3) {
            0 => {
                self.host.clock.jump(Duration::from_secs(self.world.draw(1..=4000)));
                "clock: jumps"
            }
            1 => {
                self.host.clock.stand();
                "clock: stands"
            }
            2 => {
                self.host.clock.heal();
                "clock: heals"
            }
            _ => {
                self.host.clock.jump_wall(self.world.draw(0..=2_000_000_000) as i64 - 1_000_000_000);
                "clock: time of day jumps"
            }
        };
        self.world.count(what);
        self.world.note(format_args!("{}: {what}", self.host.name));
    }
}

/// Bytes that no two draws give alike.
pub fn noise(world: &World, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    StdRng::seed_from_u64(world.draw(0..=u64::MAX)).fill_bytes(&mut bytes);
    bytes
}

/// A file to be written: one that is there, or a new one.
fn target(process: &Process) -> u64 {
    let model = process.world.model.lock();
    let files = model.files(process.head());
    let new = files.is_empty() || files.len() < FILES && process.world.chance(400);
    if new {
        return model.next_ino(process.head());
    }
    let n = process.world.draw(0..=files.len() as u64 - 1) as usize;
    // Below the length.
    files.keys().nth(n).copied().unwrap_or(2)
}

fn content(process: &Process) -> Vec<u8> {
    let len = process.world.draw(1..=300) as usize;
    noise(&process.world, len)
}

fn small(process: &Arc<Process>) {
    let world = &process.world;
    let mut contents = vec![(target(process), content(process), world.chance(300))];
    if world.chance(200) {
        let other = target(process);
        if other != contents[0].0 {
            contents.push((other, content(process), false));
        }
    }
    // A journal that refuses has taken nothing.
    let Ok((seq, step)) = process.write(&contents) else { return };
    match world.draw(0..=3) {
        0 => {}
        1 => process.committer.kick(Duration::from_millis(world.draw(0..=2000))),
        _ => process.spawn_wait(seq, step),
    }
}

/// Several commits one upon the other.
async fn burst(process: &Arc<Process>) {
    for _ in 0..process.world.draw(2..=8) {
        let Ok((seq, step)) = process.write(&[(target(process), content(process), false)]) else { return };
        process.spawn_wait(seq, step);
        process.world.pause(0..=10).await;
    }
}

fn large(process: &Arc<Process>) {
    let (process, ino) = (process.clone(), target(process));
    tokio::spawn(async move {
        let len = process.world.draw(500..=3000) as usize;
        let content = noise(&process.world, len);
        // What could not be stored is a file that was never written.
        if let Ok((seq, step)) = process.write_large(ino, content).await {
            let _ = process.wait(seq, step).await;
        }
    });
}

fn remove(process: &Arc<Process>) {
    let files = process.world.model.lock().files(process.head());
    if files.is_empty() {
        return;
    }
    let n = process.world.draw(0..=files.len() as u64 - 1) as usize;
    if let Some(ino) = files.keys().nth(n)
        && let Ok((seq, step)) = process.remove(*ino)
    {
        process.spawn_wait(seq, step);
    }
}

fn spawn_round(process: &Arc<Process>) {
    let process = process.clone();
    let (pack, image) = (process.world.chance(500), process.world.chance(500));
    // It may fail at any request; the next goes on.
    tokio::spawn(async move { drop(process.round(pack, image).await) });
}

fn spawn_sweep(process: &Arc<Process>) {
    let process = process.clone();
    tokio::spawn(async move { drop(process.sweep(GRACE).await) });
}

fn spawn_clean_up(process: &Arc<Process>) {
    let process = process.clone();
    tokio::spawn(async move { drop(process.clean_up().await) });
}

fn spawn_park(process: &Arc<Process>) {
    let process = process.clone();
    if process.local.journal.uncommitted().rows == 0 {
        process.world.count("parked");
        tokio::spawn(async move { drop(process.lease.park().await) });
    }
}
