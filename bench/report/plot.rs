//! A plot of each work: bars, one group for each measure, each system with the spread of its runs.

use crate::runner::Row;
use crate::sample::{Unit, median};
use std::fmt::Write;

const WIDTH: f64 = 900.0;
const LEFT: f64 = 170.0;
const RIGHT: f64 = 120.0;
const BAR: f64 = 16.0;
const COLOURS: [(&str, &str); 4] =
    [("cwdfs", "#1f6feb"), ("bare", "#8c959f"), ("local", "#8c959f"), ("raw", "#57606a")];
const PEER: &str = "#d29922";

/// The plot as SVG.
pub fn svg(title: &str, rows: &[&Row], measures: &[(&str, Unit)]) -> String {
    let mut body = String::new();
    let mut y = 34.0;
    for (measure, unit) in measures {
        // Writing to a String cannot fail.
        let _ = group(rows, measure, *unit, &mut y, &mut body);
    }
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{y:.0}\" font-family=\"sans-serif\" \
         font-size=\"11\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"8\" y=\"18\" font-size=\"14\">{}</text>\n{body}</svg>\n",
        escape(title)
    )
}

fn group(rows: &[&Row], measure: &str, unit: Unit, y: &mut f64, out: &mut String) -> std::fmt::Result {
    let found = rows.iter().map(|row| (row.system.as_str(), row.values(measure)));
    let found: Vec<_> = found.filter(|(_, values)| !values.is_empty()).collect();
    let most = found.iter().flat_map(|(_, values)| values).copied().fold(0.0, f64::max);
    if most <= 0.0 {
        return Ok(());
    }
    let better = if unit.is_rate() { "more is better" } else { "less is better" };
    writeln!(
        out,
        "<text x=\"8\" y=\"{:.0}\" font-weight=\"bold\">{} ({better})</text>",
        *y + 12.0,
        escape(measure)
    )?;
    *y += 18.0;
    let scale = (WIDTH - LEFT - RIGHT) / most;
    for (system, values) in found {
        let middle = median(&values);
        let (least, greatest) = crate::sample::span(&values);
        let at = |value: f64| LEFT + value * scale;
        let (text, line) = (*y + BAR - 4.0, *y + BAR / 2.0 - 1.0);
        writeln!(
            out,
            "<text x=\"{:.0}\" y=\"{text:.0}\" text-anchor=\"end\">{}</text>",
            LEFT - 6.0,
            escape(system)
        )?;
        let (width, height, fill) = ((middle * scale).max(1.0), BAR - 3.0, colour(system));
        writeln!(
            out,
            "<rect x=\"{LEFT}\" y=\"{:.0}\" width=\"{width:.1}\" height=\"{height}\" fill=\"{fill}\"/>",
            *y
        )?;
        let (from, to) = (at(least), at(greatest));
        writeln!(out, "<path d=\"M{from:.1} {line:.1}H{to:.1}\" stroke=\"black\"/>")?;
        writeln!(out, "<text x=\"{:.1}\" y=\"{text:.0}\">{}</text>", at(greatest) + 5.0, unit.show(middle))?;
        *y += BAR;
    }
    *y += 8.0;
    Ok(())
}

fn colour(system: &str) -> &'static str {
    COLOURS.iter().find(|(start, _)| system.starts_with(start)).map_or(PEER, |(_, colour)| colour)
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
