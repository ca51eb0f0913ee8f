//! The daemon's log: one line an event, to standard error or a file.

use super::exit::{Exit, Failure};
use super::options::{LogFormat, LogLevel, MountArgs};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::writer::BoxMakeWriter;
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

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
        LogFormat::Text => builder.finish().with(Unawaited).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).finish().with(Unawaited).try_init(),
    };
    started.map_err(|error| Failure::new(Exit::CannotStart, error))?;
    std::panic::set_hook(Box::new(|panic| tracing::error!(%panic, "a thread of the daemon panicked")));
    Ok(())
}

/// Leaves out what fuser calls an error and is none: the kernel says ENOENT to an answer that it no longer waits for,
/// such as one to an interrupt whose request has been answered meanwhile, or to a request that an unmount dropped.
struct Unawaited;

impl<S: Subscriber> Layer<S> for Unawaited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let mut found = Unsent::default();
        event.record(&mut found);
        !(found.by_fuser && found.unawaited)
    }
}

/// What an event has of an answer that could not be sent.
#[derive(Default)]
struct Unsent {
    by_fuser: bool,
    unawaited: bool,
}

impl Visit for Unsent {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.by_fuser |= field.name() == "log.target" && value == "fuser::reply";
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let unawaited =
                format!("Failed to send FUSE reply: {}", io::Error::from_raw_os_error(libc::ENOENT));
            self.unawaited = format!("{value:?}") == unawaited;
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is written of these records of fuser's, each as (target, message).
    fn written(records: &[(&str, String)]) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        let writer = Mutex::new(file.reopen().unwrap());
        let log = tracing_subscriber::fmt().with_writer(writer).with_ansi(false).finish().with(Unawaited);
        tracing::subscriber::with_default(log, || {
            for (target, message) in records {
                let message = format_args!("{message}");
                let record =
                    log::Record::builder().target(target).level(log::Level::Error).args(message).build();
                tracing_log::format_trace(&record).unwrap();
            }
        });
        std::fs::read_to_string(file.path()).unwrap()
    }

    #[test]
    fn an_answer_that_nobody_waits_for_is_no_error_and_others_are() {
        let unsent = |errno| format!("Failed to send FUSE reply: {}", io::Error::from_raw_os_error(errno));
        assert_eq!(written(&[("fuser::reply", unsent(libc::ENOENT))]), "");
        assert!(written(&[("fuser::reply", unsent(libc::EINVAL))]).contains("Invalid argument"));
        assert!(written(&[("fuser::other", unsent(libc::ENOENT))]).contains("No such file"));
    }
}
