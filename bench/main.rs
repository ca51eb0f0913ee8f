//! Measures cwdfs in its ways beside its limits and its peers, all in the same run; README.md says how.
//!
//! Everything runs over SeaweedFS behind the relay of the tests, which holds every request and counts it. A figure
//! whose data was wrong is an error, not a figure.

#[path = "../tests/support/mod.rs"]
#[allow(dead_code, unused_imports)] // The tests use what the bench does not.
mod support;

mod args;
mod bare;
mod baseline;
mod client;
mod goals;
mod idle;
mod raw;
mod report;
mod runner;
mod sample;
mod shell;
mod sources;
mod stretch;
mod systems;
mod walk;
mod watch;
mod works;

use args::{Asked, USAGE};
use runner::Results;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        // The bench runs these itself.
        Some("bare") => serve_bare(&args[1..]),
        Some("client") => serve_client(&args[1..]),
        _ => return measure(args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench {}: {error}", args.join(" "));
            ExitCode::FAILURE
        }
    }
}

fn measure(args: Vec<String>) -> ExitCode {
    let asked = Asked::parse(args.into_iter());
    let asked = match asked.and_then(|asked| systems::refuse_unknown(&asked).map(|()| asked)) {
        Ok(asked) => asked,
        Err(what) => {
            eprintln!("bench: {what}; usage: {USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&asked) {
        Ok(results) => report::exit(&results),
        Err(what) => {
            eprintln!("bench: {what}");
            ExitCode::FAILURE
        }
    }
}

fn run(asked: &Asked) -> Result<Results, String> {
    let earlier = asked.resume.then(|| report::load(asked)).transpose();
    let earlier = earlier.map_err(|error| format!("there is no run to go on with: {error}"))?;
    let save = |results: &Results| {
        report::save(asked, results).map_err(|error| format!("the results cannot be written: {error}"))
    };
    let results = runner::run(asked, earlier, |so_far| {
        if let Err(what) = save(so_far) {
            eprintln!("bench: {what}");
        }
    })?;
    print!("{}", save(&results)?);
    Ok(results)
}

fn serve_bare(args: &[String]) -> std::io::Result<()> {
    let mut options = bare::Options { passthrough: None, checked: false };
    let mut args = args.iter();
    let mountpoint = args.next().ok_or_else(|| std::io::Error::other("no mount point"))?;
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--passthrough" => options.passthrough = args.next().map(PathBuf::from),
            "--checked" => options.checked = true,
            other => return Err(std::io::Error::other(format!("unknown argument {other}"))),
        }
    }
    // It goes when the bench does, however that ends.
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    bare::serve(mountpoint.as_ref(), options)
}

fn serve_client(args: &[String]) -> std::io::Result<()> {
    let [dir, files] = args else { return Err(std::io::Error::other("not DIRECTORY FILES")) };
    client::rates::serve(dir.into(), files.parse().map_err(std::io::Error::other)?)
}
