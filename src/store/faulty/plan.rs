//! What goes wrong with which request: rules of named scenarios first, then chances drawn from a seed.
//!
//! Invariant: what happens to a request depends only on the seed, the rules and the order in which requests
//! arrive.

use super::gate::{Gate, Held};
use crate::store::Kind;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How often each fault happens by chance, in requests of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// The request has no effect and fails.
    pub error_before: u16,
    /// The request takes effect, but the answer is an error (a get: a body cut short).
    pub error_after: u16,
    /// The request waits up to `max_delay` first, and once more before its answer.
    pub delay: u16,
    /// The longest delay, of tokio's time.
    pub max_delay: Duration,
    /// A `delete_many` deletes only some.
    pub partial_delete: u16,
}

impl Chances {
    /// Everything that can go wrong does, a tenth of the time.
    pub fn rough() -> Self {
        let max_delay = Duration::from_millis(200);
        Chances { error_before: 50, error_after: 50, delay: 200, max_delay, partial_delete: 100 }
    }
}

/// What a rule does to a request.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Fails so, without effect.
    Before(Kind),
    /// Takes effect and fails so: the answer is lost.
    After(Kind),
    /// Waits so long first.
    Delay(Duration),
    /// A get answers with at most so many bytes, and no error: as if the object were damaged.
    Truncate(usize),
    /// A get answers with the byte at this offset (modulo the length) changed, and no error.
    Damage(usize),
}

/// A fault for chosen requests.
#[derive(Debug, Clone)]
pub struct Rule {
    operation: Option<&'static str>,
    key_prefix: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

impl Rule {
    /// `fault` for every request.
    pub fn new(fault: Fault) -> Self {
        Rule { operation: None, key_prefix: String::new(), skip: 0, times: u32::MAX, fault }
    }

    /// Only for the operation of this name, as in [`crate::store::StoreError::operation`].
    pub fn on(mut self, operation: &'static str) -> Self {
        self.operation = Some(operation);
        self
    }

    /// Only for keys that start so.
    pub fn key(mut self, prefix: &str) -> Self {
        self.key_prefix = prefix.to_owned();
        self
    }

    /// Only from the `n`th (from 1) request that it fits.
    pub fn from_nth(mut self, n: u32) -> Self {
        self.skip = n.saturating_sub(1);
        self
    }

    /// Only so often.
    pub fn times(mut self, times: u32) -> Self {
        self.times = times;
        self
    }

    fn fits(&self, request: &Request<'_>) -> bool {
        self.times > 0 && request.fits(self.operation, &self.key_prefix)
    }

    /// The fault, if it is this request's turn.
    fn turn(&mut self) -> Option<Fault> {
        if self.skip > 0 {
            self.skip -= 1;
            return None;
        }
        self.times -= 1;
        Some(self.fault.clone())
    }
}

/// When requests are held back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// Before their effect.
    Before,
    /// After their effect, before the answer.
    After,
}

struct Hold {
    operation: Option<&'static str>,
    key_prefix: String,
    point: Point,
    gate: Arc<Gate>,
}

/// A request on its way in.
pub(super) struct Request<'a> {
    pub operation: &'static str,
    pub keys: &'a [&'a str],
}

impl Request<'_> {
    fn fits(&self, operation: Option<&str>, prefix: &str) -> bool {
        operation.is_none_or(|operation| operation == self.operation)
            && (prefix.is_empty() || self.keys.iter().any(|key| key.starts_with(prefix)))
    }
}

/// What happens to one request.
#[derive(Default)]
pub(super) struct Fate {
    pub delay: Duration,
    pub gate_before: Option<Arc<Gate>>,
    pub before: Option<Kind>,
    pub truncate: Option<usize>,
    pub damage: Option<usize>,
    /// A seed for choosing what a `delete_many` deletes.
    pub partial: Option<u64>,
    pub after: Option<Kind>,
    pub delay_after: Duration,
    pub gate_after: Option<Arc<Gate>>,
}

impl Fate {
    /// Whether the request takes time of its own, in which its caller may go away.
    pub fn takes_time(&self) -> bool {
        !self.delay.is_zero()
            || !self.delay_after.is_zero()
            || self.gate_before.is_some()
            || self.gate_after.is_some()
    }
}

/// Rules, chances, and what they did.
pub(super) struct Plan {
    random: StdRng,
    pub chances: Chances,
    pub down: bool,
    rules: Vec<Rule>,
    holds: Vec<Hold>,
    pub injected: BTreeMap<&'static str, u64>,
    pub requests: BTreeMap<&'static str, u64>,
}

impl Plan {
    pub fn new(seed: u64) -> Self {
        Plan {
            random: StdRng::seed_from_u64(seed),
            chances: Chances::default(),
            down: false,
            rules: Vec::new(),
            holds: Vec::new(),
            injected: BTreeMap::new(),
            requests: BTreeMap::new(),
        }
    }

    pub fn add(&mut self, rule: Rule) {
        self.rules.push(rule);
    }

    pub fn clear(&mut self) {
        self.rules.clear();
        self.chances = Chances::default();
        self.down = false;
    }

    pub fn hold(&mut self, operation: Option<&'static str>, prefix: &str, point: Point) -> Held {
        let gate = Gate::new();
        self.holds.retain(|hold| hold.gate.is_closed());
        let key_prefix = prefix.to_owned();
        self.holds.push(Hold { operation, key_prefix, point, gate: Arc::clone(&gate) });
        Held { gate }
    }

    /// Decides what happens to a request.
    pub fn decide(&mut self, request: &Request<'_>) -> Fate {
        *self.requests.entry(request.operation).or_default() += 1;
        let mut fate = self.by_chance(request);
        for index in 0..self.rules.len() {
            if self.rules[index].fits(request)
                && let Some(fault) = self.rules[index].turn()
            {
                self.apply(fault, &mut fate);
            }
        }
        for hold in &self.holds {
            if hold.gate.is_closed() && request.fits(hold.operation, &hold.key_prefix) {
                let gate = Some(Arc::clone(&hold.gate));
                *self.injected.entry("held").or_default() += 1;
                match hold.point {
                    Point::Before => fate.gate_before = gate,
                    Point::After => fate.gate_after = gate,
                }
            }
        }
        if self.down {
            fate.before = Some(Kind::Unavailable);
            *self.injected.entry("down").or_default() += 1;
        }
        fate
    }

    fn apply(&mut self, fault: Fault, fate: &mut Fate) {
        let name = match fault {
            Fault::Before(kind) => {
                fate.before = Some(kind);
                "error before"
            }
            Fault::After(kind) => {
                fate.after = Some(kind);
                "error after"
            }
            Fault::Delay(delay) => {
                fate.delay = delay;
                "delay"
            }
            Fault::Truncate(length) => {
                fate.truncate = Some(length);
                "truncated"
            }
            Fault::Damage(offset) => {
                fate.damage = Some(offset);
                "damaged"
            }
        };
        *self.injected.entry(name).or_default() += 1;
    }

    /// The same number of draws for every request, so that one more chance shifts no other's.
    fn by_chance(&mut self, request: &Request<'_>) -> Fate {
        let draws: [u16; 4] = std::array::from_fn(|_| self.random.random_range(0..1000));
        let kinds = [Kind::Unavailable, Kind::Throttled, Kind::Timeout, Kind::Conflict];
        let kind = kinds[self.random.random_range(0..kinds.len())];
        let delays: [f64; 2] = std::array::from_fn(|_| self.random.random());
        let partial = self.random.random();
        let chances = self.chances;
        let mut fate = Fate::default();
        if draws[0] < chances.error_before {
            self.apply(Fault::Before(kind), &mut fate);
        } else if draws[1] < chances.error_after {
            // A store that throttled or refused did nothing: after the effect only the answer can be lost.
            let kind = if request.operation == "get" { Kind::Corrupt } else { Kind::Unavailable };
            self.apply(Fault::After(kind), &mut fate);
        }
        if draws[2] < chances.delay {
            self.apply(Fault::Delay(chances.max_delay.mul_f64(delays[0])), &mut fate);
            fate.delay_after = chances.max_delay.mul_f64(delays[1]);
        }
        if draws[3] < chances.partial_delete && request.operation == "delete_many" {
            fate.partial = Some(partial);
            *self.injected.entry("partial delete").or_default() += 1;
        }
        fate
    }
}
