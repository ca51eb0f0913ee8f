//! The daemon's log: one line an event, to standard error or a file. `LOG.md` beside this file documents its fields.
//!
//! Invariants:
//! - an event is one line, whatever its values hold;
//! - no kind of event fills the log ([`limit`]), and what was left out is counted there.

mod limit;
mod limited;
mod output;
mod terminal;
mod unawaited;

use super::exit::{Exit, Failure};
use super::options::{LogFormat, LogLevel, MountArgs};
use limit::Limit;
use limited::Limited;
use output::{Handle, Output};
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use terminal::Terminal;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use unawaited::Unawaited;

/// Libraries below us say much at these levels that nobody asked for. What aws_config warns of is told once by who looks
/// for credentials.
const QUIET: &str = "aws_config=error,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_runtime=warn,aws_sdk_s3=warn,hyper=warn,hyper_util=warn,rustls=warn,h2=warn,fuser=warn,tracing=warn";

/// The log of this process, once it is started.
static LOG: OnceLock<Arc<Limit>> = OnceLock::new();

/// Starts the log of a mount. In the background and without a file there is none.
pub fn start(args: &MountArgs) -> Result<(), Failure> {
    let output = Arc::new(match &args.log_file {
        Some(path) => Output::File(open(path)?),
        None if args.daemon => Output::Nowhere,
        None => Output::Stderr,
    });
    // There the log is on the terminal already.
    let terminal = (!matches!(*output, Output::Stderr)).then_some(Terminal);
    let failed = |error: &dyn std::fmt::Display| Failure::new(Exit::CannotStart, format!("the log: {error}"));
    let limit = Limit::start(Arc::clone(&output)).map_err(|error| failed(&error))?;
    let filter = EnvFilter::new(format!("{},{QUIET}", level(args.log_level)));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(Handle(output)).with_ansi(false);
    let started = match args.log_format {
        LogFormat::Text => {
            let text = builder.map_event_format(|text| Limited::text(text, &limit));
            text.finish().with(Unawaited).with(terminal).try_init()
        }
        LogFormat::Json => {
            let json =
                builder.json().flatten_event(true).map_event_format(|json| Limited::json(json, &limit));
            json.finish().with(Unawaited).with(terminal).try_init()
        }
    };
    started.map_err(|error| failed(&error))?;
    // A process has one log.
    LOG.get_or_init(|| limit);
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread of the daemon panicked")));
    Ok(())
}

/// Writes what is held back: nothing more is logged.
pub fn end() {
    if let Some(limit) = LOG.get() {
        limit.end();
    }
}

/// Errors and warnings until now, those left out included.
pub fn counts() -> (u64, u64) {
    LOG.get().map_or((0, 0), |limit| (limit.errors.get(), limit.warnings.get()))
}

/// Opens a log file for appending.
pub fn open(path: &Path) -> Result<File, Failure> {
    let opened = File::options().create(true).append(true).open(path);
    opened.map_err(|error| Failure::new(Exit::CannotStart, format!("{}: {error}", path.display())))
}

fn level(level: LogLevel) -> &'static str {
    match level {
        LogLevel::Error => "error",
        LogLevel::Warn => "warn",
        LogLevel::Info => "info",
        LogLevel::Debug => "debug",
        LogLevel::Trace => "trace",
    }
}
