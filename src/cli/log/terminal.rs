//! Progress on a terminal whose user waits for a mount, where the log goes elsewhere.

use crate::cli::draining::line;
use crate::cli::values::human_size;
use crate::measure::progress::TARGET;
use std::fmt::Debug;
use std::io::{self, IsTerminal};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Shows events of progress in one line, which goes when the work ends.
pub(super) struct Terminal;

impl<S: Subscriber> Layer<S> for Terminal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        // A daemon lets go of the terminal once its mount answers.
        if event.metadata().target() == TARGET && io::stderr().is_terminal() {
            let mut work = Work::default();
            event.record(&mut work);
            line(&work.line());
        }
    }
}

/// The fields of an event.
#[derive(Default)]
struct Work {
    name: String,
    done: u64,
    total: Option<u64>,
    bytes: Option<u64>,
    rate: f64,
    ended: bool,
}

impl Work {
    fn line(&self) -> String {
        if self.ended {
            return String::new();
        }
        let of = self.total.map(|total| format!(" of {total}")).unwrap_or_default();
        let bytes = self.bytes.map(|bytes| format!(", {}", human_size(bytes))).unwrap_or_default();
        format!("cwdfs: {}: {}{of}{bytes} ({:.0}/s)", self.name, self.done, self.rate)
    }
}

impl Visit for Work {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "done" => self.done = value,
            "total" => self.total = Some(value),
            "bytes" => self.bytes = Some(value),
            _ => {}
        }
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if field.name() == "rate" {
            self.rate = value;
        }
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.ended |= field.name() == "ended" && value;
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "work" {
            value.clone_into(&mut self.name);
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_tells_what_is_known() {
        let mut work = Work { name: "import".into(), done: 7, rate: 2.4, ..Work::default() };
        assert_eq!(work.line(), "cwdfs: import: 7 (2/s)");
        (work.total, work.bytes) = (Some(9), Some(2048));
        assert_eq!(work.line(), "cwdfs: import: 7 of 9, 2 KiB (2/s)");
        work.ended = true;
        assert_eq!(work.line(), "", "the line is taken away");
    }
}
