//! What goes wrong with which request: scripted rules of a scenario first, then chances.
//!
//! Invariant: what happens depends only on the script, the dice, and the order of requests.

use super::world::World;
use crate::log::ids::keys;
use crate::log::testing::Gate;
use crate::store::Kind;
use std::time::Duration;

/// Chances, in requests of a thousand.
#[derive(Debug, Clone, Copy, Default)]
pub struct Chances {
    /// It fails and has no effect.
    pub refused: u32,
    /// It takes effect, and the answer is lost.
    pub lost: u32,
    /// It is answered by an error, and takes effect some time later.
    pub late: u32,
    /// The answer is lost and it is sent again below us: the answer is that of the second time.
    pub doubled: u32,
    /// A body arrives cut short.
    pub truncated: u32,
    /// Some of many keys are not deleted.
    pub partial: u32,
    /// The process dies at it.
    pub crash: u32,
    /// The process dies at a write of its journal.
    pub local_crash: u32,
    /// The journal refuses a write: its disk is full.
    pub local_full: u32,
    /// The longest time to take effect, and again to be answered, milliseconds.
    pub delay: u64,
}

/// What happens to a request.
#[derive(Clone)]
pub enum Fault {
    Refused(Kind),
    Lost(Kind),
    Late(Duration),
    Doubled,
    Truncated,
    CrashBefore,
    CrashAfter,
    HoldBefore(Gate),
    HoldAfter(Gate),
}

struct Rule {
    who: &'static str,
    operation: &'static str,
    prefix: String,
    skip: u32,
    times: u32,
    fault: Fault,
}

/// Rules and chances.
#[derive(Default)]
pub struct Faults {
    rules: Vec<Rule>,
    pub chances: Chances,
    /// Something between us and the store answers each listing and HEAD as if the bucket were empty.
    pub blind: bool,
}

impl Faults {
    /// The next `times` requests of `who` for `operation` on keys that start with `prefix` meet `fault`, after `skip`
    /// of them.
    pub fn script(
        &mut self,
        who: &'static str,
        operation: &'static str,
        prefix: impl Into<String>,
        (skip, times): (u32, u32),
        fault: Fault,
    ) {
        self.rules.push(Rule { who, operation, prefix: prefix.into(), skip, times, fault });
    }

    pub fn calm(&mut self) {
        self.rules.clear();
        self.blind = false;
        self.chances = Chances::default();
    }

    fn scripted(&mut self, who: &str, operation: &str, key: &str) -> Option<Fault> {
        let fits = |r: &&mut Rule| {
            r.who == who && r.operation == operation && key.starts_with(&r.prefix) && r.times > 0
        };
        let rule = self.rules.iter_mut().find(fits)?;
        if rule.skip > 0 {
            rule.skip -= 1;
            return None;
        }
        rule.times -= 1;
        Some(rule.fault.clone())
    }
}

/// Which part of the bucket a key is in.
pub fn class(key: &str) -> &'static str {
    let below = |prefix: &str| key.starts_with(prefix);
    match key {
        keys::LEASE => "lease",
        _ if below(keys::LOG) => "log",
        _ if below(keys::DATA) => "data",
        _ if below(keys::CHECKPOINT) => "checkpoint",
        _ if below(keys::ROOT) => "root",
        _ => "object",
    }
}

/// Failures by which a request has no effect.
const REFUSALS: [(Kind, &str); 6] = [
    (Kind::Unavailable, "503"),
    (Kind::Unavailable, "500"),
    (Kind::Throttled, "429"),
    (Kind::Conflict, "409"),
    (Kind::AccessDenied, "403"),
    (Kind::Timeout, "timeout"),
];

impl World {
    /// How long a request takes to have its effect, or to be answered.
    pub fn delay(&self) -> Duration {
        let most = self.faults.lock().chances.delay;
        // Most are quick, few take long: so that slots overtake each other.
        match self.draw(0..=3) {
            0 => Duration::from_millis(self.draw(0..=most)),
            _ => Duration::from_millis(self.draw(0..=most / 8)),
        }
    }

    /// Decides what goes wrong with a request.
    pub fn fault(&self, who: &str, operation: &'static str, key: &str) -> Option<Fault> {
        if let Some(fault) = self.faults.lock().scripted(who, operation, key) {
            return Some(fault);
        }
        let chances = self.faults.lock().chances;
        let changes = !matches!(operation, "get" | "head" | "list" | "list_multipart");
        let rare = match (operation, class(key)) {
            ("delete_many", _) => 120,
            ("list_multipart", _) => 25,
            (_, "data" | "checkpoint") => 8,
            _ => 1,
        };
        if self.chance(chances.crash * rare) {
            let (fault, when) = match self.draw(0..=1) {
                0 => (Fault::CrashBefore, "before"),
                _ => (Fault::CrashAfter, "after"),
            };
            self.count(&format!("crash: {when} {operation} {}", class(key)));
            return Some(fault);
        }
        if self.chance(chances.refused) {
            let (kind, name) = REFUSALS[self.draw(0..=5) as usize];
            self.count(&format!("fault: {name} before the effect"));
            return Some(Fault::Refused(kind));
        }
        if changes {
            return self.fault_of_write(chances);
        }
        if operation == "get" && self.chance(chances.truncated) {
            self.count("fault: truncated body");
            return Some(Fault::Truncated);
        }
        None
    }

    fn fault_of_write(&self, chances: Chances) -> Option<Fault> {
        if self.chance(chances.lost) {
            self.count("fault: lost answer");
            let kind = if self.chance(500) { Kind::Unavailable } else { Kind::Timeout };
            return Some(Fault::Lost(kind));
        }
        if self.chance(chances.late) {
            self.count("fault: effect after the error");
            return Some(Fault::Late(Duration::from_millis(self.draw(1..=40_000))));
        }
        if self.chance(chances.doubled) {
            self.count("fault: sent twice");
            return Some(Fault::Doubled);
        }
        None
    }

    /// By which some of many keys are not deleted, if that is to happen.
    pub fn spares(&self) -> Option<u64> {
        let chance = self.faults.lock().chances.partial;
        self.chance(chance).then(|| {
            self.count("fault: partial delete");
            self.draw(0..=u64::MAX)
        })
    }
}
