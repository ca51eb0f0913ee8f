//! A page of metrics in Prometheus's text form, or in that of OpenMetrics, which tells units too.
//!
//! Written here because the client libraries write one of the two forms, and measure behind locks; ours are atomics.

use super::families::{Family, Kind};
use crate::measure::{BOUNDS, Times};
use std::fmt::{Display, Write};

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Prometheus, version 0.0.4: what everybody reads.
    Prometheus,
    /// OpenMetrics, version 1.0.0: for those who ask for it.
    OpenMetrics,
}

impl Form {
    /// What a scraper takes, by its `Accept`.
    pub fn accepted(accept: &str) -> Form {
        match accept.contains("application/openmetrics-text") {
            true => Form::OpenMetrics,
            false => Form::Prometheus,
        }
    }

    /// Its `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A page that is being written.
pub struct Page {
    form: Form,
    text: String,
}

impl Page {
    /// An empty one.
    pub fn new(form: Form) -> Page {
        Page { form, text: String::with_capacity(32 << 10) }
    }

    /// Begins a metric; what it says follows.
    pub fn family(&mut self, family: &'static Family) -> Samples<'_> {
        let name = match self.form {
            Form::Prometheus => family.name,
            Form::OpenMetrics => family.base(),
        };
        self.put(format_args!("# HELP {name} {}\n# TYPE {name} {}\n", family.help, family.kind.name()));
        if let (Form::OpenMetrics, Some(unit)) = (self.form, family.unit()) {
            self.put(format_args!("# UNIT {name} {unit}\n"));
        }
        Samples { page: self, family }
    }

    /// A metric without labels.
    pub fn value(&mut self, family: &'static Family, value: impl Display) {
        self.family(family).value(&[], value);
    }

    /// The same, where there may be nothing to say.
    pub fn maybe(&mut self, family: &'static Family, value: Option<impl Display>) {
        let mut samples = self.family(family);
        if let Some(value) = value {
            samples.value(&[], value);
        }
    }

    /// The page.
    pub fn end(mut self) -> String {
        if self.form == Form::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn put(&mut self, text: std::fmt::Arguments<'_>) {
        // A String takes everything.
        let _ = self.text.write_fmt(text);
    }
}

/// What one metric says.
pub struct Samples<'a> {
    page: &'a mut Page,
    family: &'static Family,
}

impl Samples<'_> {
    /// A number, for the values of the labels, in the family's order.
    pub fn value(&mut self, labels: &[&str], value: impl Display) {
        debug_assert!(self.family.kind != Kind::Histogram);
        let labels = self.labels(labels, None);
        self.page.put(format_args!("{}{labels} {value}\n", self.family.name));
    }

    /// The times of a histogram.
    pub fn times(&mut self, labels: &[&str], times: &Times) {
        debug_assert!(self.family.kind == Kind::Histogram);
        let name = self.family.name;
        for (bound, within) in BOUNDS.iter().zip(times.within) {
            let bound = if bound.fract() == 0.0 { format!("{bound}.0") } else { bound.to_string() };
            let labels = self.labels(labels, Some(&bound));
            self.page.put(format_args!("{name}_bucket{labels} {within}\n"));
        }
        let all = self.labels(labels, Some("+Inf"));
        let labels = self.labels(labels, None);
        let (count, sum) = (times.count, times.sum.as_secs_f64());
        self.page.put(format_args!(
            "{name}_bucket{all} {count}\n{name}_sum{labels} {sum}\n{name}_count{labels} {count}\n"
        ));
    }

    fn labels(&self, values: &[&str], bound: Option<&str>) -> String {
        debug_assert_eq!(values.len(), self.family.labels.len());
        let named = self.family.labels.iter().copied().zip(values.iter().copied());
        let all: Vec<_> = named
            .chain(bound.map(|bound| ("le", bound)))
            .map(|(name, value)| format!("{name}=\"{}\"", escaped(value)))
            .collect();
        if all.is_empty() { String::new() } else { format!("{{{}}}", all.join(",")) }
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::super::families::{BUILD, CREDENTIALS, OPERATION_TIME, SENT};
    use super::*;
    use std::time::Duration;

    fn page(form: Form) -> String {
        let mut page = Page::new(form);
        page.family(&BUILD).value(&["1\"\\\n"], 1);
        page.value(&SENT, 12);
        page.maybe(&CREDENTIALS, None::<f64>);
        let mut times = Times { count: 3, sum: Duration::from_millis(1500), ..Times::default() };
        times.within.fill(2);
        page.family(&OPERATION_TIME).times(&["read"], &times);
        page.end()
    }

    #[test]
    fn a_page_is_as_prometheus_reads_it() {
        let page = page(Form::Prometheus);
        let begins = "# HELP cwdfs_build_info Always 1; the label tells the version of the daemon.\n\
             # TYPE cwdfs_build_info gauge\ncwdfs_build_info{version=\"1\\\"\\\\\\n\"} 1\n\
             # HELP cwdfs_store_sent_bytes_total Bytes of content and metadata stored.\n\
             # TYPE cwdfs_store_sent_bytes_total counter\ncwdfs_store_sent_bytes_total 12\n\
             # HELP cwdfs_credentials_expiry_time_seconds When the credentials in use end, since 1970.\n\
             # TYPE cwdfs_credentials_expiry_time_seconds gauge\n# HELP cwdfs_operation_duration_seconds ";
        assert!(page.starts_with(begins), "{page}");
        assert!(page.contains("_bucket{operation=\"read\",le=\"0.000025\"} 2\n"), "{page}");
        assert!(page.contains("_bucket{operation=\"read\",le=\"60.0\"} 2\n"), "{page}");
        let ends = "cwdfs_operation_duration_seconds_bucket{operation=\"read\",le=\"+Inf\"} 3\n\
             cwdfs_operation_duration_seconds_sum{operation=\"read\"} 1.5\n\
             cwdfs_operation_duration_seconds_count{operation=\"read\"} 3\n";
        assert!(page.ends_with(ends), "{page}");
    }

    #[test]
    fn openmetrics_tells_units_and_the_end() {
        let page = page(Form::accepted("application/openmetrics-text;version=1.0.0;q=0.5,*/*;q=0.1"));
        let sent = "# TYPE cwdfs_store_sent_bytes counter\n# UNIT cwdfs_store_sent_bytes bytes\n\
             cwdfs_store_sent_bytes_total 12\n";
        assert!(page.contains(sent) && page.ends_with("# EOF\n"), "{page}");
        assert_eq!(Form::accepted("text/plain"), Form::Prometheus);
    }
}
