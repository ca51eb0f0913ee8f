//! One run, and the end at which tree, objects and ledger have to agree.

use super::ledger::Ledger;
use super::machine::{Machine, meddle};
use super::outside::Outside;
use super::site::Site;
use super::tree::{all_tokens, compare, of_objects, of_session};
use crate::simulation::disk::Disks;
use crate::simulation::life::{Host, Life};
use crate::simulation::run::{Outcome, chances, tell_in};
use crate::simulation::world::World;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// How often tree and objects may have to be brought together until nothing moves any more.
const ROUNDS: usize = 5;

/// Runs `story` in a world from `seed` where sessions have views.
pub fn tell<F: Future<Output = ()>>(
    seed: u64,
    story: impl FnOnce(Arc<World>, Arc<Disks>, Arc<Ledger>) -> F,
) -> Outcome {
    tell_in(World::without_model, seed, |world, disks| story(world, disks, Arc::default()))
}

/// A run by the dice.
pub fn run(seed: u64) -> Outcome {
    tell(seed, |world, disks, ledger| async move {
        let end = Instant::now() + Duration::from_secs(world.draw(30..=150));
        world.faults.lock().chances = chances(&world);
        let mut actors = Vec::new();
        for n in 1..=world.draw(1..=2) {
            let machine = Machine::new(&world, &ledger, &disks, format!("m{n}"));
            actors.push(tokio::spawn(machine.run(end)));
        }
        let outside = Outside { world: world.clone(), ledger: ledger.clone() };
        if world.chance(900) {
            actors.push(tokio::spawn(meddle(outside, end)));
        }
        for actor in actors {
            if let Err(died) = actor.await {
                world.violate(format!("an actor died: {died}"));
            }
        }
        end_well(&world, &disks, &ledger).await;
    })
}

/// Once nothing goes wrong any more, a mount elsewhere has everything that was promised, and shows it.
pub async fn end_well(world: &Arc<World>, disks: &Arc<Disks>, ledger: &Arc<Ledger>) {
    world.faults.lock().calm();
    world.note(format_args!("nothing goes wrong any more"));
    // What is late has arrived by then.
    tokio::time::sleep(Duration::from_secs(60)).await;
    let life = Life::new(&Host::new("last", world.start));
    let site = match Site::mount(world, ledger, &life, &disks.blank()).await {
        Ok(site) => site,
        Err(error) => return world.violate(format!("nobody can mount the session: {error}")),
    };
    match settle(&site).await {
        Ok(()) => {}
        Err(what) => return world.violate(what),
    }
    let tree = match of_session(&site) {
        Ok(tree) => tree,
        Err(error) => return world.violate(format!("the tree cannot be read: {error}")),
    };
    if let Err(what) = compare(&tree, &of_objects(world)) {
        return world.violate(what);
    }
    if let Err(what) = ledger.judge(&all_tokens(&tree)) {
        return world.violate(what);
    }
    if !site.close().await {
        world.violate("the session cannot be closed");
    }
}

/// Brings tree and objects together.
async fn settle(site: &Arc<Site>) -> Result<(), String> {
    for _ in 0..ROUNDS {
        let imported = site.view.refresh().await.map_err(|e| format!("import ends with: {e}"))?;
        if !site.wait().await {
            return Err("the session cannot commit".into());
        }
        if !site.view.wait_published(Instant::now() + Duration::from_secs(300)).await {
            return Err(format!("the view does not get done: {:?}", site.view.status()));
        }
        if (imported.imported, imported.deleted, imported.conflicts, imported.failed) == (0, 0, 0, 0) {
            return Ok(());
        }
    }
    Err("the view does not come to rest".into())
}
