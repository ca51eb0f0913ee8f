//! Every figure of every run, as `--continue` reads it again.

use crate::goals::{self, Goal};
use crate::runner::Results;
use serde::Serialize;
use serde_json::{Value, json};

/// What is stored: the results, and what follows from them.
#[derive(Serialize)]
struct Stored<'r> {
    took_seconds: f64,
    void: Vec<String>,
    goals: Vec<Value>,
    #[serde(flatten)]
    results: &'r Results,
}

/// The results as JSON.
pub fn of(results: &Results) -> serde_json::Result<String> {
    let goals = goals::all(results).iter().map(goal).collect();
    let stored = Stored { took_seconds: results.took(), void: results.void(), goals, results };
    Ok(format!("{}\n", serde_json::to_string_pretty(&stored)?))
}

/// The results that JSON tells of.
pub fn read(text: &str) -> serde_json::Result<Results> {
    serde_json::from_str(text)
}

fn goal(goal: &Goal) -> Value {
    let figures = goal.checks.iter().map(
        |check| json!({"what": check.what, "value": check.value, "unit": check.unit, "holds": check.holds()}),
    );
    json!({"work": goal.work, "goal": goal.goal, "verdict": format!("{:?}", goal.verdict()), "figures": figures.collect::<Vec<_>>()})
}
