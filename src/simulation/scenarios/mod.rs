//! The interleavings that break simpler designs, by name. Each is told once as the rules have it, and all has to be
//! well; and once with the one rule broken that answers it, and the general checks have to say so. They know nothing
//! of the scenario.
//!
//! The second half needs the feature `broken-rules`; without it only the first is run.

mod collection;
mod fence;
mod lease;
mod local;
mod stage;

use super::run::{Outcome, tell};
use crate::log::rules::Rule;
use stage::Stage;

/// Tells a story as the rules have it, and with `rule` broken.
fn prove<F: Future<Output = ()>>(rule: Rule, story: impl Fn(Stage) -> F) {
    prove_told(rule, || tell(1, |world, disks| story(Stage::new(&world, &disks))));
}

/// The same, of a story that `told` tells.
pub fn prove_told(rule: Rule, told: impl Fn() -> Outcome) {
    let whole = told();
    assert_eq!(whole.violation, None, "with every rule kept:\n{}", whole.tail);
    must_be_caught(rule, told);
}

/// Tells a story that no single rule answers.
fn must_be_whole<F: Future<Output = ()>>(story: impl Fn(Stage) -> F) {
    let whole = tell(1, |world, disks| story(Stage::new(&world, &disks)));
    assert_eq!(whole.violation, None, "{}", whole.tail);
}

#[cfg(feature = "broken-rules")]
fn must_be_caught(rule: Rule, told: impl Fn() -> Outcome) {
    let broken = crate::log::rules::breaking(Some(rule), told);
    match broken.violation {
        Some(what) => println!("without {rule:?}: {what}"),
        None => panic!("nobody notices that {rule:?} is broken:\n{}", broken.tail),
    }
}

#[cfg(not(feature = "broken-rules"))]
fn must_be_caught(_rule: Rule, _told: impl Fn() -> Outcome) {}
