//! What happened, in order: its hash says whether two runs were the same, its counts what was met.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::time::Duration;

/// The most lines that are kept for people.
const KEPT: usize = 40_000;

/// Everything that happened.
pub struct Trace {
    hash: blake3::Hasher,
    lines: Vec<String>,
    pub steps: u64,
    counts: BTreeMap<String, u64>,
}

impl Trace {
    pub fn new() -> Trace {
        Trace { hash: blake3::Hasher::new(), lines: Vec::new(), steps: 0, counts: BTreeMap::new() }
    }

    pub fn note(&mut self, at: Duration, what: std::fmt::Arguments<'_>) {
        let mut line = String::new();
        // Writing into a string does not fail.
        let _ = write!(line, "{:>9.3} {what}", at.as_secs_f64());
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        self.steps += 1;
        if self.lines.len() < KEPT {
            self.lines.push(line);
        }
    }

    pub fn count(&mut self, what: &str) {
        match self.counts.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.counts.insert(what.to_owned(), 1)),
        }
    }

    pub fn counts(&self) -> &BTreeMap<String, u64> {
        &self.counts
    }

    pub fn hash(&self) -> String {
        self.hash.finalize().to_hex()[..16].to_string()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        self.lines[self.lines.len().saturating_sub(count)..].join("\n")
    }
}
