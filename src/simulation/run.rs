//! One run: a world from a seed, its machines and followers, and the end at which everything has to be in order.

use super::disk::Disks;
use super::faults::Chances;
use super::follower::Reader;
use super::keep::GRACE;
use super::life::{Host, Life};
use super::machine::{Machine, noise};
use super::process::{How, Process};
use super::world::World;
use crate::log::checkpoint::Name;
use crate::log::ids::keys;
use crate::log::lease::Succession;
use crate::log::testing;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The longest a run takes, in its own time.
const LONGEST: Duration = Duration::from_secs(3600);

/// How a run ended.
pub struct Outcome {
    pub seed: u64,
    pub hash: String,
    pub steps: u64,
    pub counts: BTreeMap<String, u64>,
    pub violation: Option<String>,
    /// The last lines of its trace.
    pub tail: String,
}

/// Runs `story` in a world from `seed`.
pub fn tell<F: Future<Output = ()>>(seed: u64, story: impl FnOnce(Arc<World>, Arc<Disks>) -> F) -> Outcome {
    tell_in(World::new, seed, story)
}

/// Runs `story` in the world that `make` makes of `seed`.
pub fn tell_in<F: Future<Output = ()>>(
    make: fn(u64) -> Arc<World>,
    seed: u64,
    story: impl FnOnce(Arc<World>, Arc<Disks>) -> F,
) -> Outcome {
    testing::seed(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    let runtime = runtime.expect("a runtime");
    let disks = Arc::new(Disks::new());
    let world = runtime.block_on(async {
        let world = make(seed);
        tokio::select! {
            biased;
            () = world.broken() => {}
            () = tokio::time::sleep(LONGEST) => world.violate("the run comes to no end: somebody waits for ever"),
            () = story(world.clone(), disks.clone()) => {}
        }
        world
    });
    drop(runtime);
    testing::seed(None);
    let violation = world.violation();
    let trace = world.trace.lock();
    let (hash, steps, counts) = (trace.hash(), trace.steps, trace.counts().clone());
    Outcome { seed, hash, steps, counts, violation, tail: trace.tail(400) }
}

/// A run by the dice.
pub fn run(seed: u64) -> Outcome {
    tell(seed, |world, disks| async move {
        let end = Instant::now() + Duration::from_secs(world.draw(60..=240));
        world.faults.lock().chances = chances(&world);
        let loose = Arc::new(Mutex::new(None));
        let mut actors = Vec::new();
        for n in 1..=world.draw(1..=3) {
            actors.push(tokio::spawn(Machine::new(&world, &disks, format!("m{n}"), &loose).run(end)));
        }
        for n in 1..=world.draw(0..=2) {
            actors.push(tokio::spawn(Reader::new(&world, format!("f{n}")).run(end)));
        }
        for actor in actors {
            if let Err(died) = actor.await {
                world.violate(format!("an actor died: {died}"));
            }
        }
        end_well(&world, &disks).await;
    })
}

/// What goes wrong in this run, and how often: each run has its own kinds.
pub fn chances(world: &World) -> Chances {
    let some = |most: u64| match world.draw(0..=2) {
        0 => 0,
        1 => world.draw(0..=most / 4) as u32,
        _ => world.draw(0..=most) as u32,
    };
    Chances {
        refused: some(100),
        lost: some(80),
        late: some(40),
        doubled: some(60),
        truncated: some(60),
        partial: some(500),
        crash: some(12),
        local_crash: some(12),
        local_full: some(40),
        delay: [10, 300, 3000][world.draw(0..=2) as usize],
    }
}

/// Once nothing goes wrong any more, the session can be had, written, followed, shortened, and had again even if
/// the newest image is damaged.
pub async fn end_well(world: &Arc<World>, disks: &Arc<Disks>) {
    world.faults.lock().calm();
    world.note(format_args!("nothing goes wrong any more"));
    // What is late has arrived by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let process = must_start(world, disks, "last").await;
    let Some(process) = process else { return };
    for round in 0..3u64 {
        let ino = world.model.lock().next_ino(process.head());
        let written = process.write(&[(ino, noise(world, 100), false)]);
        let (seq, step) = written.expect("the journal takes a change");
        if let Err(error) = process.wait(seq, step).await {
            return world.violate(format!("the rightful writer cannot commit: {error}"));
        }
        if let Err(error) = process.round(round == 1, round != 1).await {
            return world.violate(format!("the rightful writer cannot shorten the log: {error}"));
        }
        tokio::time::sleep(GRACE + Duration::from_secs(1)).await;
        if let Err(error) = process.sweep(GRACE).await {
            return world.violate(format!("the rightful writer cannot collect: {error}"));
        }
    }
    must_follow(world).await;
    if !process.close().await {
        return world.violate("the rightful writer cannot give the session back");
    }
    damage_newest_image(world);
    drop(must_start(world, disks, "after damage").await);
}

async fn must_start(world: &Arc<World>, disks: &Arc<Disks>, name: &str) -> Option<Arc<Process>> {
    let how = How { succession: Succession::AtOnce, ttl: Duration::from_secs(10), in_flight: 8 };
    let host = Host::new(name, world.start);
    match Process::start(world, &Life::new(&host), &disks.blank(), None, how).await {
        Ok(process) => Some(process),
        Err(error) => {
            world.violate(format!("nobody can have the session: {:?}", error.0));
            None
        }
    }
}

async fn must_follow(world: &Arc<World>) {
    match Reader::new(world, "last follower").poll().await {
        Ok(step) if step == world.tip() => {}
        Ok(step) => world.violate(format!("a follower sees step {step}, and the newest is {}", world.tip())),
        Err(error) => world.violate(format!("nobody can follow the session: {error}")),
    }
}

fn damage_newest_image(world: &World) {
    let mut bucket = world.bucket.lock();
    let images = bucket.below(keys::CHECKPOINT).filter_map(|(key, _)| Name::parse(key));
    let Some(newest) = images.filter(|name| name.base.is_none()).max() else { return };
    let key = newest.key();
    let Some(stored) = bucket.object(&key) else { return };
    let mut body = stored.body.to_vec();
    let middle = body.len() / 2;
    body[middle] ^= 1;
    bucket.damage(&key, Bytes::from(body));
}
