//! The text form of metrics, read strictly.

use std::collections::BTreeMap;

/// What is said of a metric before its samples.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    pub unit: Option<String>,
}

/// One line with a number.
#[derive(Debug, Clone)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
    /// The metric it belongs to.
    pub family: String,
}

/// A page of metrics.
#[derive(Debug, Default)]
pub struct Exposition {
    pub families: BTreeMap<String, Family>,
    pub samples: Vec<Sample>,
}

impl Exposition {
    /// Panics where the page breaks a rule of the form.
    #[track_caller]
    pub fn parse(text: &str) -> Exposition {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut page = Exposition::default();
        let mut current = String::new();
        for line in text.lines().filter(|line| *line != "# EOF") {
            match line.strip_prefix("# ") {
                Some(comment) => page.comment(comment, &mut current),
                None => page.sample(line, &current),
            }
        }
        page.check();
        page
    }

    /// The number with exactly these labels (`name="value"`), or 0 where there is no line.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let same = |sample: &&Sample| {
            sample.name == name
                && sample.labels.len() == labels.len()
                && labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|value| value == v))
        };
        self.samples.iter().find(same).map_or(0.0, |sample| sample.value)
    }

    /// The sum of all lines with these labels among theirs.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |sample: &&Sample| {
            sample.name == name
                && labels.iter().all(|(k, v)| sample.labels.get(*k).is_some_and(|value| value == v))
        };
        self.samples.iter().filter(has).map(|sample| sample.value).sum()
    }

    fn comment(&mut self, comment: &str, current: &mut String) {
        let mut words = comment.splitn(3, ' ');
        let (what, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let rest = words.next().unwrap_or_default().to_owned();
        assert!(!rest.is_empty(), "nothing said: {comment}");
        if what == "HELP" {
            assert!(!self.families.contains_key(name), "{name} is there twice");
            *current = name.to_owned();
        }
        assert_eq!(current, name, "what is said of a metric stands together, HELP first: {comment}");
        let family = self.families.entry(name.to_owned()).or_default();
        match what {
            "HELP" => family.help = rest,
            "TYPE" => family.kind = rest,
            "UNIT" => family.unit = Some(rest),
            other => panic!("{other} is nothing that is said"),
        }
    }

    fn sample(&mut self, line: &str, family: &str) {
        let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no number: {line}"));
        let value = value.parse().unwrap_or_else(|e| panic!("{e}: {line}"));
        let (name, labels) = match series.split_once('{') {
            Some((name, rest)) => (name, labels(rest.strip_suffix('}').expect("the labels end"))),
            None => (series, BTreeMap::new()),
        };
        let said = &self.families[family];
        let suffixes: &[&str] = match said.kind.as_str() {
            "histogram" => &["_bucket", "_sum", "_count"],
            "counter" => &["", "_total"],
            _ => &[""],
        };
        let ours = name.strip_prefix(family).is_some_and(|suffix| suffixes.contains(&suffix));
        assert!(ours, "{name} stands below {family}");
        assert!(said.kind != "counter" || name.ends_with("_total"), "{name}");
        self.samples.push(Sample { name: name.to_owned(), labels, value, family: family.to_owned() });
    }

    fn check(&self) {
        let mut series: Vec<_> = self.samples.iter().map(|s| (s.name.clone(), s.labels.clone())).collect();
        let all = series.len();
        series.sort();
        series.dedup();
        assert_eq!(series.len(), all, "a line is there twice");
        for family in self.families.values() {
            assert!(["counter", "gauge", "histogram"].contains(&family.kind.as_str()), "{family:?}");
        }
        let counts = self.samples.iter().filter(|s| s.name.ends_with("_count") && self.is_histogram(s));
        counts.for_each(|count| self.check_histogram(count));
        for sample in &self.samples {
            assert!(sample.value.is_finite() && sample.value >= 0.0, "{sample:?}");
        }
    }

    fn is_histogram(&self, sample: &Sample) -> bool {
        self.families[&sample.family].kind == "histogram"
    }

    /// Classes grow up to the count, and the last has no bound.
    fn check_histogram(&self, count: &Sample) {
        let (mut below, mut last) = (0.0, String::new());
        for bucket in self.samples.iter().filter(|s| s.name == format!("{}_bucket", count.family)) {
            let mut labels = bucket.labels.clone();
            let bound = labels.remove("le").expect("a class has a bound");
            if labels == count.labels {
                assert!(bucket.value >= below, "{bucket:?} is less than the class before");
                (below, last) = (bucket.value, bound);
            }
        }
        assert_eq!((below, last.as_str()), (count.value, "+Inf"), "{count:?}");
    }
}

/// `a="x",b="y"`; no value that we serve has quotes or commas in it.
fn labels(text: &str) -> BTreeMap<String, String> {
    let each = text.split(',').map(|label| {
        let (name, value) = label.split_once('=').unwrap_or_else(|| panic!("no label: {label}"));
        let value = value.strip_prefix('"').and_then(|v| v.strip_suffix('"')).expect("in quotes");
        (name.to_owned(), value.to_owned())
    });
    each.collect()
}
