//! Formatting an event as one line, and holding it back where its kind has had its share.

use super::limit::{Kind, Limit, Line};
use crate::measure::progress;
use std::fmt;
use std::sync::Arc;
use tracing::{Event, Level, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// A format whose lines are limited.
pub(super) struct Limited<F> {
    format: F,
    counted: fn(&str, u64) -> String,
    limit: Arc<Limit>,
}

impl<F> Limited<F> {
    /// Lines for people.
    pub fn text(format: F, limit: &Arc<Limit>) -> Limited<F> {
        let counted = |line: &str, left_out| format!("{} left_out={left_out}\n", line.trim_end_matches('\n'));
        Limited { format, counted, limit: Arc::clone(limit) }
    }

    /// JSON objects.
    pub fn json(format: F, limit: &Arc<Limit>) -> Limited<F> {
        let counted = |line: &str, left_out| {
            let object = line.trim_end_matches('\n');
            format!("{},\"left_out\":{left_out}}}\n", object.strip_suffix('}').unwrap_or(object))
        };
        Limited { format, counted, limit: Arc::clone(limit) }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut text = String::new();
        self.format.format_event(context, Writer::new(&mut text), event)?;
        let line = Line { text: one_line(text), counted: self.counted };
        let meta = event.metadata();
        match *meta.level() {
            Level::ERROR => self.limit.errors.one(),
            Level::WARN => self.limit.warnings.one(),
            _ => {}
        }
        // Progress keeps its own time.
        if *meta.level() > Level::INFO || meta.target() == progress::TARGET {
            return writer.write_str(&line.text);
        }
        match self.limit.admit(kind(event), line) {
            Some(line) => writer.write_str(&line.text),
            None => Ok(()),
        }
    }
}

/// A line's values may have ends of lines in them.
fn one_line(text: String) -> String {
    let line = text.trim_end_matches('\n');
    match line.contains(['\n', '\r']) {
        true => line.replace('\r', "\\r").replace('\n', "\\n") + "\n",
        false => text,
    }
}

fn kind(event: &Event<'_>) -> Kind {
    match event.normalized_metadata() {
        // All that comes through the `log` crate at one level has one place in the code of the bridge.
        Some(theirs) => Kind::Theirs(theirs.target().to_owned(), theirs.line()),
        None => Kind::Ours(event.metadata().callsite()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::output::{Handle, Output};
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    /// What ten events of one kind, one of them of two lines, leave in a log of this form.
    fn written(json: bool) -> Vec<String> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let output = Arc::new(Output::File(file.reopen().expect("the file")));
        let limit = Limit::start(Arc::clone(&output)).expect("a thread");
        let builder = tracing_subscriber::fmt().with_writer(Handle(output)).with_ansi(false);
        let flood = || {
            for n in 0..10 {
                let error = if n == 0 { "one\ntwo" } else { "three" };
                tracing::warn!(n, %error, "went wrong");
            }
            tracing::debug!("not asked for");
            tracing::info!(target: progress::TARGET, "another");
        };
        let layer = tracing_subscriber::layer::Identity::new();
        if json {
            let format = builder.json().flatten_event(true).map_event_format(|f| Limited::json(f, &limit));
            tracing::subscriber::with_default(format.finish().with(layer), flood);
        } else {
            let format = builder.map_event_format(|f| Limited::text(f, &limit));
            tracing::subscriber::with_default(format.finish().with(layer), flood);
        }
        limit.end();
        let all = std::fs::read_to_string(file.path()).expect("read");
        all.lines().map(str::to_owned).collect()
    }

    #[test]
    fn an_event_is_one_line_and_a_flood_a_few_that_say_how_many_are_missing() {
        let lines = written(false);
        assert_eq!(lines.len(), 7, "five, the other kind's, the last: {lines:#?}");
        assert!(lines[0].ends_with("went wrong n=0 error=one\\ntwo"), "{}", lines[0]);
        assert!(lines[6].ends_with("went wrong n=9 error=three left_out=4"), "{}", lines[6]);
    }

    #[test]
    fn json_stays_json() {
        let lines = written(true);
        let parsed: Vec<serde_json::Value> =
            lines.iter().map(|line| serde_json::from_str(line).expect("an object")).collect();
        assert_eq!(parsed[0]["error"], "one\ntwo");
        assert_eq!((&parsed[6]["n"], &parsed[6]["left_out"]), (&9.into(), &4.into()));
        assert_eq!((&parsed[6]["level"], &parsed[6]["message"]), (&"WARN".into(), &"went wrong".into()));
    }
}
