//! A machine that mounts, works, dies and comes back, by the dice.

use super::ledger::Ledger;
use super::outside::Outside;
use super::site::{At, Manner, Site};
use crate::simulation::disk::{Disks, discard};
use crate::simulation::life::{Host, Life};
use crate::simulation::world::World;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

const DIRECTORIES: [&str; 2] = ["d", "e"];
const NAMES: [&str; 3] = ["a", "b", "c"];

/// A path from the dice.
fn path(world: &World) -> At {
    let directory = match world.draw(0..=3) {
        0 | 1 => None,
        n => DIRECTORIES.get(n as usize - 2).copied(),
    };
    At { directory, name: NAMES[world.draw(0..=2) as usize] }
}

/// A machine, and the mount that is there.
pub struct Machine {
    pub world: Arc<World>,
    pub ledger: Arc<Ledger>,
    pub disks: Arc<Disks>,
    host: Arc<Host>,
    dir: PathBuf,
    site: Option<Arc<Site>>,
}

impl Machine {
    pub fn new(world: &Arc<World>, ledger: &Arc<Ledger>, disks: &Arc<Disks>, name: String) -> Machine {
        let host = Host::new(name, world.start);
        let (world, ledger, disks, dir) = (world.clone(), ledger.clone(), disks.clone(), disks.blank());
        Machine { world, ledger, disks, host, dir, site: None }
    }

    /// Does this and that until `end`.
    pub async fn run(mut self, end: Instant) {
        while Instant::now() < end {
            self.world.pause(5..=1500).await;
            match self.site.clone() {
                None => self.begin().await,
                Some(site) if !site.is_alive() => self.bury(&site).await,
                Some(site) => self.act(&site).await,
            }
        }
        if let Some(site) = self.site.take() {
            self.bury(&site).await;
        }
    }

    async fn begin(&mut self) {
        let life = Life::new(&self.host);
        let mounted = tokio::select! {
            biased;
            () = life.death() => None,
            mounted = Site::mount(&self.world, &self.ledger, &life, &self.dir) => Some(mounted),
        };
        match mounted {
            Some(Ok(site)) => self.site = Some(site),
            Some(Err(error)) => {
                self.world.note(format_args!("{} does not mount: {error}", self.host.name));
                life.die();
                self.another_disk();
                self.world.pause(0..=5000).await;
            }
            None => self.another_disk(),
        }
    }

    fn another_disk(&mut self) {
        discard(&std::mem::replace(&mut self.dir, self.disks.blank()));
    }

    /// Its process has ended. The disk has what its journal had, or is lost.
    async fn bury(&mut self, site: &Arc<Site>) {
        self.site = None;
        site.life.die();
        site.view.stop().await;
        self.dir = match self.world.chance(500) {
            true => self.disks.snapshot(&site.session.journal, &site.dir),
            false => self.disks.blank(),
        };
        discard(&site.dir);
    }

    async fn act(&mut self, site: &Arc<Site>) {
        let (at, world) = (path(&self.world), self.world.clone());
        // What a session that is lost, or a full disk, refuses has not happened.
        let _ = match world.draw(0..=99) {
            0..=24 => site.write(at, Manner::Whole).await,
            25..=34 => site.write(at, Manner::Append).await,
            35..=44 => site.write(at, Manner::Beside).await,
            45..=50 => site.symlink(at),
            51..=58 => site.remove(at),
            59..=66 => site.rename(at, path(&world)),
            67..=69 => site.change_directory(DIRECTORIES[world.draw(0..=1) as usize], "e"),
            70..=79 => {
                spawn_wait(site);
                Ok(())
            }
            80..=85 => {
                spawn_refresh(site);
                Ok(())
            }
            86..=89 => {
                self.close(site).await;
                Ok(())
            }
            90..=93 => {
                world.count("crash: killed");
                world.note(format_args!("{} is killed", self.host.name));
                self.bury(site).await;
                Ok(())
            }
            94..=95 => {
                self.suspend().await;
                Ok(())
            }
            _ => {
                world.pause(1000..=10_000).await;
                Ok(())
            }
        };
    }

    async fn close(&mut self, site: &Arc<Site>) {
        let closed = tokio::select! {
            biased;
            () = site.life.death() => false,
            closed = site.close() => closed,
        };
        if closed {
            self.world.count("closed cleanly");
        }
        self.bury(site).await;
    }

    async fn suspend(&self) {
        let pause = self.world.draw(100..=60_000);
        self.world.count("suspended");
        self.host.suspend();
        tokio::time::sleep(Duration::from_millis(pause)).await;
        self.host.resume();
        self.world.note(format_args!("{} goes on after {pause} ms", self.host.name));
    }
}

fn spawn_wait(site: &Arc<Site>) {
    let site = site.clone();
    tokio::spawn(async move { site.wait().await });
}

fn spawn_refresh(site: &Arc<Site>) {
    let site = site.clone();
    site.world.count("refreshed");
    // It may fail at any request; the next one goes on.
    tokio::spawn(async move { drop(site.view.refresh().await) });
}

/// Somebody outside does this and that until `end`.
pub async fn meddle(outside: Outside, end: Instant) {
    let world = outside.world.clone();
    while Instant::now() < end {
        world.pause(100..=8000).await;
        let at = path(&world);
        match world.draw(0..=19) {
            0..=10 => outside.write(at),
            11..=13 => outside.symlink(at),
            14..=18 => outside.delete(at),
            _ => outside.delete_folder(DIRECTORIES[world.draw(0..=1) as usize]),
        }
    }
}
