//! What a run says: every figure as JSON, a plot of each work, one table.

mod json;
mod plot;
mod table;

use crate::args::Asked;
use crate::runner::{Results, Row};
use crate::sample::Unit;
use crate::works;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where it goes: a run of everything is worth keeping, one of some works or systems is not.
fn place(asked: &Asked) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let rtt = asked.rtt.as_millis();
    let mut place = match asked.only.is_empty() && asked.systems.is_empty() {
        true => root.join("bench/results"),
        false => root.join("target/bench/results"),
    };
    if !asked.quick {
        place.push("full");
    }
    if rtt != 20 {
        place.push(format!("rtt-{rtt}"));
    }
    place
}

/// What the last run of this kind gave, as it was stored.
pub fn load(asked: &Asked) -> io::Result<Results> {
    Ok(json::read(&std::fs::read_to_string(place(asked).join("latest.json"))?)?)
}

/// Writes everything; returns the table.
pub fn save(asked: &Asked, results: &Results) -> io::Result<String> {
    let place = place(asked);
    std::fs::create_dir_all(&place)?;
    let table = table::markdown(asked, results);
    // Whole, or not at all: it is what --continue goes on from.
    std::fs::write(place.join("latest.json.new"), json::of(results)?)?;
    std::fs::rename(place.join("latest.json.new"), place.join("latest.json"))?;
    std::fs::write(place.join("latest.md"), &table)?;
    for work in works::ALL {
        let rows: Vec<_> = results.rows.iter().filter(|row| row.work == work.name).collect();
        if !rows.is_empty() {
            let plot = plot::svg(&format!("{}: {}", work.name, work.title), &rows, &measures(&rows));
            std::fs::write(place.join(format!("{}.svg", work.name)), plot)?;
        }
    }
    Ok(table)
}

/// What was measured, in the order in which it was.
fn measures<'r>(rows: &[&'r Row]) -> Vec<(&'r str, Unit)> {
    let mut measures: Vec<(&str, Unit)> = Vec::new();
    for reading in rows.iter().flat_map(|row| &row.samples).flat_map(|sample| &sample.readings) {
        if !measures.iter().any(|(measure, _)| *measure == reading.measure) {
            measures.push((&reading.measure, reading.unit));
        }
    }
    measures
}

/// 0; 3 if the machine was not as fast as it has to be for the figures to count; 1 if a figure is an error.
pub fn exit(results: &Results) -> ExitCode {
    let void = results.void();
    void.iter().for_each(|why| eprintln!("bench: VOID: {why}"));
    match results.rows.iter().any(|row| row.error.is_some()) {
        true => ExitCode::FAILURE,
        false if !void.is_empty() => ExitCode::from(3),
        false => ExitCode::SUCCESS,
    }
}
