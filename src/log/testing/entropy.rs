//! Numbers from a seed, where the log would ask the kernel for random ones.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::cell::RefCell;

thread_local! {
    static SEEDED: RefCell<Option<StdRng>> = const { RefCell::new(None) };
}

/// From now on, this thread's numbers come from `seed`; `None`: from the kernel again.
pub fn seed(seed: Option<u64>) {
    SEEDED.with_borrow_mut(|random| *random = seed.map(StdRng::seed_from_u64));
}

/// Whether this thread has a seed, and so asks for nothing that a run could not repeat.
pub fn is_seeded() -> bool {
    SEEDED.with_borrow(Option::is_some)
}

/// The next number, where this thread has a seed.
pub fn drawn() -> Option<u64> {
    SEEDED.with_borrow_mut(|random| random.as_mut().map(|random| random.random()))
}
