//! The goals, each beside what this run reached, computed from its figures alone.

mod compute;

use crate::runner::Results;

/// One figure of a goal.
pub struct Check {
    /// What it is.
    pub what: String,
    /// What it came to; `None` where that was not measured.
    pub value: Option<f64>,
    /// What it has to be.
    pub bound: Bound,
    /// What stands behind the number.
    pub unit: &'static str,
}

/// What a figure has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// So much, or less.
    AtMost(f64),
    /// So much, or more.
    AtLeast(f64),
    /// Anything: it stands beside the others.
    Told,
}

/// A goal.
pub struct Goal {
    /// The work.
    pub work: &'static str,
    /// What is to be reached.
    pub goal: &'static str,
    /// Its figures.
    pub checks: Vec<Check>,
}

/// What became of a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Every figure that it needs was measured, and is as it has to be.
    Reached,
    /// One is not.
    Missed,
    /// Some were not measured, the others are as they have to be.
    Partly,
    /// None was measured.
    NotMeasured,
}

impl Check {
    /// Whether it is as it has to be; `None` where it was not measured.
    pub fn holds(&self) -> Option<bool> {
        let value = self.value?;
        Some(match self.bound {
            Bound::AtMost(bound) => value <= bound,
            Bound::AtLeast(bound) => value >= bound,
            Bound::Told => true,
        })
    }

    /// In words.
    pub fn words(&self) -> String {
        let number = |value: f64| match value.abs() {
            v if v >= 100.0 => format!("{value:.0}"),
            v if v >= 10.0 => format!("{value:.1}"),
            v if v >= 1.0 => format!("{value:.2}"),
            _ => format!("{value:.3}"),
        };
        let unit = self.unit;
        let Some(value) = self.value else { return format!("{}: not measured", self.what) };
        let bound = match self.bound {
            Bound::AtMost(bound) => format!(" (at most {}{unit})", number(bound)),
            Bound::AtLeast(bound) => format!(" (at least {}{unit})", number(bound)),
            Bound::Told => String::new(),
        };
        let text = format!("{} {}{unit}{bound}", self.what, number(value)).trim_start().to_owned();
        if self.holds() == Some(false) { format!("**{text}**") } else { text }
    }
}

impl Goal {
    /// What became of it.
    pub fn verdict(&self) -> Verdict {
        let held: Vec<_> =
            self.checks.iter().filter(|check| check.bound != Bound::Told).map(Check::holds).collect();
        match () {
            () if held.contains(&Some(false)) => Verdict::Missed,
            () if held.iter().all(Option::is_none) => Verdict::NotMeasured,
            () if held.contains(&None) => Verdict::Partly,
            () => Verdict::Reached,
        }
    }

    /// Its line of the table.
    pub fn line(&self) -> String {
        let verdict = match self.verdict() {
            Verdict::Reached => "reached",
            Verdict::Missed => "**missed**",
            Verdict::Partly => "as far as measured",
            Verdict::NotMeasured => "not measured",
        };
        let figures = match self.verdict() {
            Verdict::NotMeasured => String::new(),
            _ => self.checks.iter().map(Check::words).collect::<Vec<_>>().join("; "),
        };
        format!("| {} | {} | {verdict} | {figures} |", self.work, self.goal)
    }
}

/// Every goal.
pub fn all(results: &Results) -> Vec<Goal> {
    compute::all(results)
}
