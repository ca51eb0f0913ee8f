//! Collects figures and prints them.

use crate::Asked;
use serde_json::{Value, json};
use std::fmt::Write;
use std::time::Duration;

/// One measured figure.
pub struct Figure {
    /// The work.
    pub work: &'static str,
    /// What did it: `cwdfs close`, `raw PUT`, `local disk`.
    pub system: String,
    /// Its samples, in `unit`.
    pub samples: Vec<f64>,
    /// `ms`, `s`, `MB`, `requests`.
    pub unit: &'static str,
    /// What stands beside it: requests by kind, bytes, ratio to the limit.
    pub note: String,
}

/// All figures of a run.
pub struct Report {
    rtt: Duration,
    figures: Vec<Figure>,
}

impl Report {
    /// An empty report.
    pub fn new(asked: &Asked) -> Report {
        Report { rtt: asked.rtt, figures: Vec::new() }
    }

    /// Adds a figure and shows it at once.
    pub fn add(&mut self, figure: Figure) {
        eprintln!("{}", line(&figure));
        self.figures.push(figure);
    }

    /// One figure of one sample.
    pub fn single(
        &mut self,
        work: &'static str,
        system: impl Into<String>,
        value: f64,
        unit: &'static str,
        note: String,
    ) {
        self.add(Figure { work, system: system.into(), samples: vec![value], unit, note });
    }

    /// The table.
    pub fn markdown(&self) -> String {
        let mut out = format!(
            "Each request delayed by {} ms before the store gets it.\n\n\
             | work | system | median | p99 | beside it |\n|---|---|---|---|---|\n",
            self.rtt.as_millis()
        );
        for figure in &self.figures {
            // Writing to a String cannot fail.
            let _ = writeln!(out, "{}", line(figure));
        }
        out
    }

    /// Writes all samples as JSON.
    pub fn save(&self, path: &str) -> std::io::Result<()> {
        let figures: Vec<Value> = self
            .figures
            .iter()
            .map(|f| json!({"work": f.work, "system": f.system, "unit": f.unit, "samples": f.samples, "note": f.note}))
            .collect();
        let all = json!({"rtt_ms": self.rtt.as_millis() as u64, "figures": figures});
        if let Some(dir) = std::path::Path::new(path).parent() {
            std::fs::create_dir_all(dir)?;
        }
        std::fs::write(path, serde_json::to_vec_pretty(&all)?)
    }
}

/// The sample below which `share` of all lie.
pub fn percentile(samples: &[f64], share: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = ((sorted.len() as f64 - 1.0) * share).round() as usize;
    sorted.get(at).copied().unwrap_or(f64::NAN)
}

fn line(f: &Figure) -> String {
    let p99 = match f.samples.len() {
        0 | 1 => String::new(),
        _ => format!("{:.2} {}", percentile(&f.samples, 0.99), f.unit),
    };
    format!(
        "| {} | {} | {:.2} {} | {p99} | {} |",
        f.work,
        f.system,
        percentile(&f.samples, 0.5),
        f.unit,
        f.note
    )
}
