//! Every figure of every run.

use crate::baseline::Baseline;
use crate::goals::{self, Goal};
use crate::runner::{Part, Results, Row};
use crate::sample::{Reading, Sample, Usage};
use serde_json::{Value, json};

/// The results as JSON.
pub fn of(results: &Results) -> String {
    let all = json!({
        "quick": results.asked.quick,
        "rtt_ms": results.asked.rtt.as_millis() as u64,
        "took_seconds": results.took,
        "idle_processors": results.idle.words(),
        "void": results.void(),
        "baseline_before": baseline(&results.before),
        "baseline_after": results.after.as_ref().map(baseline),
        "goals": goals::all(results).iter().map(goal).collect::<Vec<_>>(),
        "systems": results.parts.iter().map(part).collect::<Vec<_>>(),
        "rows": results.rows.iter().map(row).collect::<Vec<_>>(),
    });
    format!("{all:#}\n")
}

fn baseline(baseline: &Baseline) -> Value {
    json!({"bare_creates_per_second": baseline.bare, "put_ms": baseline.put, "waking_us": baseline.waking})
}

fn goal(goal: &Goal) -> Value {
    let figures = goal.checks.iter().map(
        |check| json!({"what": check.what, "value": check.value, "unit": check.unit, "holds": check.holds()}),
    );
    json!({"work": goal.work, "goal": goal.goal, "verdict": format!("{:?}", goal.verdict()), "figures": figures.collect::<Vec<_>>()})
}

fn part(part: &Part) -> Value {
    json!({"name": part.name, "kind": format!("{:?}", part.kind), "promise": part.promise, "absent": part.absent})
}

fn row(row: &Row) -> Value {
    json!({
        "work": row.work,
        "system": row.system,
        "error": row.error,
        "capped_seconds": row.capped,
        "runs": row.samples.iter().map(sample).collect::<Vec<_>>(),
    })
}

fn sample(sample: &Sample) -> Value {
    json!({"made_sure": sample.made_sure, "readings": sample.readings.iter().map(reading).collect::<Vec<_>>()})
}

fn reading(reading: &Reading) -> Value {
    let mut value = json!({"measure": reading.measure, "unit": reading.unit.name(), "value": reading.value});
    if let Some(used) = &reading.usage {
        value["usage"] = usage(used);
    }
    value
}

fn usage(usage: &Usage) -> Value {
    json!({
        "requests": usage.requests,
        "up_bytes": usage.up,
        "down_bytes": usage.down,
        "cpu_seconds": usage.cpu_seconds,
        "peak_mb": usage.peak_mb,
    })
}
