//! A stretch of a run: what is measured between two baselines, which count only together.
//!
//! A run of everything takes hours, in which the machine may become slow, or the run may be ended. So the machine is
//! measured anew after every few minutes, and `--continue` does only what lies in no stretch that counts.

use crate::baseline::Baseline;
use serde::{Deserialize, Serialize};
use std::time::{Duration, Instant};

/// A work that ends later than this after a baseline ends its stretch.
const LONG: Duration = Duration::from_secs(300);

/// Works that were done one after another, and what the machine could do before and after them.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Stretch {
    /// Names of works.
    pub works: Vec<String>,
    /// What idle processors did, in words.
    pub idle: String,
    /// What the machine could do before.
    pub before: Baseline,
    /// The same after; not known while the stretch lasts, or where the run was ended in it.
    pub after: Option<Baseline>,
    /// How long it took, in seconds.
    pub seconds: f64,
    #[serde(skip, default = "Instant::now")]
    since: Instant,
}

impl Stretch {
    /// Begins one on a machine that has just been found to be like this.
    pub fn begin(idle: String, before: Baseline) -> Stretch {
        Stretch { works: Vec::new(), idle, before, after: None, seconds: 0.0, since: Instant::now() }
    }

    /// Adds a work that has just been done.
    pub fn add(&mut self, work: &str) {
        self.works.push(work.to_owned());
        self.seconds = self.since.elapsed().as_secs_f64();
    }

    /// Ends it, and begins the next one in its place: the baseline is that of both. Returns the one that has ended.
    pub fn end(&mut self, now: Baseline) -> Stretch {
        let next = Stretch::begin(self.idle.clone(), now);
        Stretch { after: Some(now), ..std::mem::replace(self, next) }
    }

    /// Whether it has a work.
    pub fn has(&self, work: &str) -> bool {
        self.works.iter().any(|own| own == work)
    }

    /// Whether it is time for another baseline.
    pub fn is_long(&self) -> bool {
        self.since.elapsed() > LONG
    }

    /// Why its figures do not count, if they do not.
    pub fn void(&self) -> Option<String> {
        let before = self.before.void().map(|why| format!("before: {why}"));
        let after = match &self.after {
            Some(after) => after.void().map(|why| format!("after: {why}")),
            None => Some("no baseline after it".to_owned()),
        };
        let why: Vec<_> = before.into_iter().chain(after).collect();
        (!why.is_empty()).then(|| format!("{}: {}", self.works.join(", "), why.join("; ")))
    }
}
