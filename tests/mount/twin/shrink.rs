//! From a case that fails to the smallest that still does.

use super::ops::Step;
use super::run::Rig;
use crate::support::way::Way;
use crate::support::world::World;
use proptest::strategy::ValueTree;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// How long smaller cases are looked for.
const PATIENCE: Duration = Duration::from_secs(240);

/// What a case showed, and whether its rig can be used for another.
pub struct Wrong {
    pub what: String,
    pub usable: bool,
}

/// Runs a case. What panics (a mount that is gone, a process that died) is a finding too.
pub fn attempt(rig: &mut Rig<'_>, steps: &[Step]) -> Result<(), Wrong> {
    match catch_unwind(AssertUnwindSafe(|| rig.case(steps))) {
        Ok(Ok(())) => Ok(()),
        Ok(Err(what)) => Err(Wrong { usable: !what.contains("mount before"), what }),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().cloned();
            let said = said.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
            Err(Wrong { what: said.unwrap_or_default(), usable: false })
        }
    }
}

/// The smallest case that was met on the way down, and what it shows; `None` when even the first does not fail
/// by itself.
pub fn smallest(way: Way, mut tree: impl ValueTree<Value = Vec<Step>>) -> Option<(Vec<Step>, String)> {
    let end = Instant::now() + PATIENCE;
    let mut best: Option<(Vec<Step>, String)> = None;
    loop {
        let world = World::with_relay(&format!("twin-shrink-{way}"));
        let mut rig = Rig::new(&world, way);
        loop {
            let steps = tree.current();
            let outcome = attempt(&mut rig, &steps);
            let usable = outcome.as_ref().err().is_none_or(|wrong| wrong.usable);
            let smaller = match outcome {
                Ok(()) if best.is_none() => return None,
                Ok(()) => tree.complicate(),
                Err(wrong) => {
                    best = Some((steps, wrong.what));
                    tree.simplify()
                }
            };
            if !smaller || Instant::now() > end {
                return best;
            }
            if !usable {
                break;
            }
        }
    }
}

/// The steps as Rust.
pub fn listed(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("    {step:?},\n")).collect()
}
