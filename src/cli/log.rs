//! The daemon's log: one line an event, to standard error or a file.

use super::exit::{Exit, Failure};
use super::options::{LogFormat, LogLevel, MountArgs};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

/// Libraries below us say much at these levels that nobody asked for.
const QUIET: &str = "aws_config=warn,aws_smithy_runtime=warn,aws_smithy_runtime_api=warn,aws_runtime=warn,aws_sdk_s3=warn,hyper=warn,hyper_util=warn,rustls=warn,h2=warn,fuser=warn,tracing=warn";

/// Starts the log of a mount. In the background and without a file there is none.
pub fn start(args: &MountArgs) -> Result<(), Failure> {
    let writer = match &args.log_file {
        Some(path) => BoxMakeWriter::new(Mutex::new(open(path)?)),
        None if args.daemon => BoxMakeWriter::new(io::sink),
        None => BoxMakeWriter::new(io::stderr),
    };
    let filter = EnvFilter::new(format!("{},{QUIET}", level(args.log_level)));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    let started = match args.log_format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread of the daemon panicked")));
    Ok(())
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
