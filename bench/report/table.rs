//! The table: each work's measures, each system's figure with its spread and its ratio to the first limit.

use crate::args::Asked;
use crate::baseline::Baseline;
use crate::runner::{Results, Row};
use crate::sample::{Usage, median, span};
use crate::stretch::Stretch;
use crate::works;
use crate::{goals, report};
use std::fmt::Write;

/// The whole text.
pub fn markdown(asked: &Asked, results: &Results) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write_all(asked, results, &mut out);
    out
}

fn write_all(asked: &Asked, results: &Results, out: &mut String) -> std::fmt::Result {
    writeln!(out, "# Measured\n")?;
    writeln!(
        out,
        "{} run (`{}`, of the cwdfs {}), {:.0} s. The relay holds each request for {} ms. Figures are medians, with \
         the least and the most of the runs behind them; a ratio is to the first line of its table that has one.\n",
        if asked.quick { "A quick" } else { "A full" },
        results.command,
        results.program,
        results.took(),
        asked.rtt.as_millis(),
    )?;
    if !results.left.is_empty() {
        writeln!(out, "**Not ended: {} are still to be done.**\n", results.left.join(", "))?;
    }
    write_baseline(results, out)?;
    write_goals(results, out)?;
    write_parts(results, out)?;
    for work in works::ALL {
        let rows: Vec<_> = results.rows.iter().filter(|row| row.work == work.name).collect();
        if !rows.is_empty() {
            writeln!(out, "\n## {}: {}", work.name, work.title)?;
            write_work(&rows, out)?;
        }
    }
    Ok(())
}

fn write_baseline(results: &Results, out: &mut String) -> std::fmt::Result {
    let mut ways: Vec<_> = results.stretches.iter().map(|stretch| stretch.idle.as_str()).collect();
    ways.dedup();
    writeln!(out, "{}\n", ways.join(" "))?;
    writeln!(
        out,
        "| measured together | creates a second on the bare server, before and after | a raw PUT without delay | waking a thread on another processor |"
    )?;
    writeln!(out, "|---|---|---|---|")?;
    for Stretch { works, before, after, .. } in &results.stretches {
        let both = |show: fn(&Baseline) -> String| {
            let after = after.as_ref().map(show).unwrap_or_default();
            format!("{}, {after}", show(before))
        };
        let bare = both(|baseline| format!("{:.0}", baseline.bare));
        let put = both(|baseline| format!("{:.1} ms", baseline.put));
        let waking = both(|baseline| baseline.waking.map(|us| format!("{us:.0} us")).unwrap_or_default());
        writeln!(out, "| {} | {bare} | {put} | {waking} |", works.join(", "))?;
    }
    for why in results.void() {
        writeln!(out, "\n**VOID: {why}. These figures do not count.**")?;
    }
    writeln!(out)
}

fn write_goals(results: &Results, out: &mut String) -> std::fmt::Result {
    writeln!(out, "## Goals\n\n| work | goal | | this run |\n|---|---|---|---|")?;
    for goal in goals::all(results) {
        writeln!(out, "{}", goal.line())?;
    }
    writeln!(out, "\n## Systems\n")
}

fn write_parts(results: &Results, out: &mut String) -> std::fmt::Result {
    writeln!(out, "| system | promises, while it is measured |\n|---|---|")?;
    for part in &results.parts {
        match &part.absent {
            Some(why) => writeln!(out, "| {} | absent: {why} |", part.name)?,
            None => writeln!(out, "| {} | {} |", part.name, part.promise)?,
        }
    }
    Ok(())
}

fn write_work(rows: &[&Row], out: &mut String) -> std::fmt::Result {
    let measures = report::measures(rows);
    writeln!(out, "\n| measure | system | median | least to most | ratio | requests, CPU, memory |")?;
    writeln!(out, "|---|---|---|---|---|---|")?;
    for (measure, unit) in measures {
        let mut first = None;
        for row in rows {
            let values = row.values(measure);
            if values.is_empty() {
                continue;
            }
            let middle = median(&values);
            let ratio = middle / *first.get_or_insert(middle);
            let (least, most) = span(&values);
            let cost = usage(row, measure);
            let (middle, span) = (unit.show(middle), format!("{} to {}", unit.show(least), unit.show(most)));
            writeln!(out, "| {measure} | {} | {middle} | {span} | {ratio:.2} | {cost} |", row.system)?;
        }
    }
    for row in rows {
        let sure = row.samples.last().map(|sample| sample.made_sure.join("; ")).unwrap_or_default();
        if let Some(error) = &row.error {
            writeln!(out, "\n**{}: an error, so no figure: {error}**", row.system)?;
        } else if let Some(cap) = row.capped {
            writeln!(
                out,
                "\n{}: not done within its cap of {cap:.0} s; what it has not come to has no figure.",
                row.system
            )?;
        } else if !sure.is_empty() {
            writeln!(out, "\n{}: made sure of {sure}.", row.system)?;
        }
    }
    Ok(())
}

/// What the last run that counted it cost.
fn usage(row: &Row, measure: &str) -> String {
    let mut readings = row.samples.iter().flat_map(|sample| &sample.readings);
    let last = readings.rfind(|reading| reading.measure == measure);
    last.and_then(|reading| reading.usage.as_ref()).map(Usage::words).unwrap_or_default()
}
