//! First figures of cwdfs, each beside what it has to be compared with in the same run.
//!
//! Everything runs on a real mount over SeaweedFS behind the relay of the tests, which delays every request
//! and counts it. A figure whose data was wrong is an error, not a figure.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unused_imports)] // The tests use what the bench does not.
mod support;

mod report;
mod works;

use report::Report;
use std::time::Duration;

/// What the command line asks for.
pub struct Asked {
    /// Delay of each request before the store gets it.
    pub rtt: Duration,
    /// How many files the memory figure makes.
    pub files: usize,
    /// Only works whose name contains this.
    pub only: Option<String>,
}

fn main() {
    let asked = match parse(std::env::args().skip(1)) {
        Ok(asked) => asked,
        Err(what) => {
            eprintln!("bench: {what}; usage: bench/run [--rtt MS] [--files N] [--only NAME]");
            std::process::exit(2);
        }
    };
    let mut report = Report::new(&asked);
    for (name, work) in works::ALL {
        if asked.only.as_deref().is_none_or(|only| name.contains(only)) {
            eprintln!("-- {name}");
            work(&asked, &mut report);
        }
    }
    print!("{}", report.markdown());
    if let Err(e) = report.save("bench/results/latest.json") {
        eprintln!("bench: cannot write bench/results/latest.json: {e}");
        std::process::exit(1);
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Asked, String> {
    let mut asked = Asked { rtt: Duration::from_millis(20), files: 100_000, only: None };
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} needs a value"));
        match arg.as_str() {
            // cargo bench adds it.
            "--bench" => {}
            "--rtt" => asked.rtt = Duration::from_millis(number(&value()?)?),
            "--files" => asked.files = number(&value()?)? as usize,
            "--only" => asked.only = Some(value()?),
            other => return Err(format!("unknown argument {other}")),
        }
    }
    Ok(asked)
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is no number"))
}
