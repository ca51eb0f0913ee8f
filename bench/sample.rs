//! What one run of a work on a system gives, and what all of them together say.

use crate::support::relay::Relay;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;

/// Clock ticks a second, as /proc counts them on every Linux.
const TICKS: f64 = 100.0;

/// What a figure is counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unit {
    /// Seconds; less is better.
    Seconds,
    /// Milliseconds; less is better.
    Millis,
    /// Operations a second; more is better.
    PerSecond,
    /// Megabytes (10^6 bytes) a second; more is better.
    MegabytesPerSecond,
    /// Megabytes; less is better.
    Megabytes,
    /// Bytes; less is better.
    Bytes,
    /// Requests, commits, files; less is better.
    Count,
    /// A ratio; less is better.
    Times,
}

impl Unit {
    /// As it stands behind a number.
    pub fn name(self) -> &'static str {
        match self {
            Unit::Seconds => "s",
            Unit::Millis => "ms",
            Unit::PerSecond => "/s",
            Unit::MegabytesPerSecond => "MB/s",
            Unit::Megabytes => "MB",
            Unit::Bytes => "bytes",
            Unit::Count => "",
            Unit::Times => "x",
        }
    }

    /// Whether more is better.
    pub fn is_rate(self) -> bool {
        matches!(self, Unit::PerSecond | Unit::MegabytesPerSecond)
    }

    /// A number with as many digits as tell something.
    pub fn show(self, value: f64) -> String {
        let digits = match value.abs() {
            v if v >= 100.0 || (v.fract() == 0.0 && matches!(self, Unit::Count | Unit::Bytes)) => 0,
            v if v >= 10.0 => 1,
            v if v >= 0.1 => 2,
            _ => 4,
        };
        format!("{value:.digits$} {}", self.name()).trim_end().to_owned()
    }
}

/// What a piece of work cost besides time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Usage {
    /// Requests by kind.
    pub requests: BTreeMap<String, usize>,
    /// Bytes of request bodies.
    #[serde(rename = "up_bytes")]
    pub up: u64,
    /// Bytes of answer bodies.
    #[serde(rename = "down_bytes")]
    pub down: u64,
    /// Of the processes that serve the mount.
    pub cpu_seconds: f64,
    /// Their most memory, VmHWM.
    pub peak_mb: f64,
}

impl Usage {
    /// All requests.
    pub fn total(&self) -> usize {
        self.requests.values().sum()
    }

    /// What this and a later piece of the same work cost together.
    pub fn and(mut self, later: Usage) -> Usage {
        for (kind, n) in later.requests {
            *self.requests.entry(kind).or_default() += n;
        }
        self.up += later.up;
        self.down += later.down;
        self.cpu_seconds += later.cpu_seconds;
        self.peak_mb = self.peak_mb.max(later.peak_mb);
        self
    }

    /// In a few words; empty if there is nothing to say.
    pub fn words(&self) -> String {
        let mut out = String::new();
        if self.total() > 0 {
            let kinds: Vec<_> = self.requests.iter().map(|(kind, n)| format!("{n} {kind}")).collect();
            // Writing to a String cannot fail.
            let _ =
                write!(out, "{} ({:.1} MB up, {:.1} down)", kinds.join(", "), mega(self.up), mega(self.down));
        }
        if self.peak_mb > 0.0 {
            let _ = write!(out, "; {:.2} s CPU, {:.0} MB", self.cpu_seconds, self.peak_mb);
        }
        out.trim_start_matches("; ").to_owned()
    }
}

fn mega(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// One figure of one run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reading {
    /// What is measured.
    pub measure: String,
    /// In what.
    pub unit: Unit,
    /// How much.
    pub value: f64,
    /// What it cost, where that was counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
}

/// What one run gives.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Sample {
    /// The figures, in the order they were taken.
    pub readings: Vec<Reading>,
    /// What the run made sure of: level, I/O mode, that the bytes are in the store.
    pub made_sure: Vec<String>,
}

impl Sample {
    /// Adds a figure.
    pub fn add(&mut self, measure: impl Into<String>, unit: Unit, value: f64) {
        self.readings.push(Reading { measure: measure.into(), unit, value, usage: None });
    }

    /// Adds a figure and what it cost.
    pub fn add_with(&mut self, measure: impl Into<String>, unit: Unit, value: f64, usage: Usage) {
        self.readings.push(Reading { measure: measure.into(), unit, value, usage: Some(usage) });
    }

    /// Notes what was made sure of.
    pub fn sure(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !what.is_empty() && !self.made_sure.contains(&what) {
            self.made_sure.push(what);
        }
    }
}

/// Counts what happens between its start and its end.
pub struct Meter<'a> {
    relay: &'a Relay,
    pids: Vec<u32>,
    cpu: f64,
}

impl<'a> Meter<'a> {
    /// Begins to count the relay's requests and what these processes use.
    pub fn start(relay: &'a Relay, pids: Vec<u32>) -> Meter<'a> {
        relay.reset();
        for pid in &pids {
            // Begins the peak anew; a kernel without it tells the peak since the start.
            let _ = fs::write(format!("/proc/{pid}/clear_refs"), "5");
        }
        let cpu = cpu_seconds(&pids);
        Meter { relay, pids, cpu }
    }

    /// Has counted since the relay was reset and the processes were started.
    pub fn since_reset(relay: &'a Relay, pids: Vec<u32>) -> Meter<'a> {
        Meter { relay, pids, cpu: 0.0 }
    }

    /// What it was so far.
    pub fn read(&self) -> Usage {
        let requests = self.relay.counts().iter().map(|(kind, n)| (format!("{kind:?}"), *n)).collect();
        let (up, down) = self.relay.bytes();
        let peak_mb = self.pids.iter().map(|pid| memory_mb(*pid, "VmHWM:")).sum();
        Usage { requests, up, down, cpu_seconds: cpu_seconds(&self.pids) - self.cpu, peak_mb }
    }
}

/// User and system time of these processes together.
pub fn cpu_seconds(pids: &[u32]) -> f64 {
    let ticks = |pid: &u32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name, in parentheses, may hold anything.
        let rest = stat.rsplit(") ").next().unwrap_or_default();
        let field = |n: usize| rest.split(' ').nth(n).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
        field(11) + field(12)
    };
    pids.iter().map(ticks).sum::<f64>() / TICKS
}

/// A field of /proc/PID/status, in MB.
pub fn memory_mb(pid: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kib = line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<f64>().ok());
    kib.unwrap_or(0.0) * 1024.0 / 1e6
}

/// The value below which `share` of all lie.
pub fn percentile(values: &[f64], share: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 - 1.0) * share).round().max(0.0) as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

/// The value in the middle; of an even number, the mean of the two.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => (sorted[n / 2 - 1] + sorted[n / 2]) / 2.0,
    }
}

/// The least and the most.
pub fn span(values: &[f64]) -> (f64, f64) {
    values.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), v| (least.min(*v), most.max(*v)))
}
