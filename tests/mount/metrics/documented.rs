//! What is served is what `packaging/metrics/README.md` says, name by name.

use super::exposition::Exposition;
use super::{ANYWHERE, OPENMETRICS, file, program, scrape, text};
use crate::support::{Ran, World};
use crate::work::write_closed;
use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// What the documentation says of a metric.
#[derive(Debug, PartialEq, Eq)]
pub struct Documented {
    pub kind: String,
    /// `seconds`, `bytes`, or what is counted.
    pub unit: String,
    pub labels: BTreeSet<String>,
}

/// Every row of the tables: `metric`, `type`, `unit`, `labels`, `meaning`.
pub fn documented() -> BTreeMap<String, Documented> {
    let text = file("README.md");
    let mut all = BTreeMap::new();
    for line in text.lines().filter(|line| line.starts_with("| `cwdfs_")) {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [name, kind, unit, labels, meaning] = cells[..] else { panic!("not five cells: {line}") };
        assert!(!meaning.is_empty() && !unit.is_empty(), "{line}");
        let labels =
            labels.split(',').map(|l| l.trim().trim_matches('`').to_owned()).filter(|l| !l.is_empty());
        let of = Documented { kind: kind.to_owned(), unit: unit.to_owned(), labels: labels.collect() };
        assert!(all.insert(name.trim_matches('`').to_owned(), of).is_none(), "twice: {line}");
    }
    all
}

/// A page with everything that there can be, as far as one mount has it.
fn worked_on(world: &World, accept: &str) -> String {
    let mount = world.host("a").mount(&[&ANYWHERE[..], &["--quota", "1G"]].concat());
    write_closed(&mount.path("f"), b"content").expect("a file");
    std::fs::read(mount.path("f")).expect("its content");
    std::fs::read(mount.path("missing")).expect_err("nothing");
    mount.publish();
    let page = text(&mount, accept);
    mount.unmount();
    page
}

#[test]
fn every_metric_is_documented_with_its_type_unit_and_labels_and_every_documented_one_is_served() {
    let world = World::new("metrics-documented");
    let page = Exposition::parse(&worked_on(&world, OPENMETRICS));
    let documented = documented();
    let mut served = BTreeSet::new();
    for (base, family) in &page.families {
        let name = if family.kind == "counter" { format!("{base}_total") } else { base.clone() };
        let of = documented.get(&name).unwrap_or_else(|| panic!("{name} is not documented"));
        assert_eq!(of.kind, family.kind, "the type of {name}");
        match &family.unit {
            Some(unit) => assert_eq!(&of.unit, unit, "the unit of {name}"),
            None => assert!(!["seconds", "bytes"].contains(&of.unit.as_str()), "{name} has no {}", of.unit),
        }
        assert_eq!(family.unit.is_some(), ["seconds", "bytes"].iter().any(|u| base.ends_with(u)), "{name}");
        for sample in page.samples.iter().filter(|sample| sample.family == *base) {
            let labels: BTreeSet<_> = sample.labels.keys().filter(|l| *l != "le").cloned().collect();
            assert_eq!(labels, of.labels, "the labels of {name}");
        }
        served.insert(name);
    }
    let all: BTreeSet<_> = documented.into_keys().collect();
    assert_eq!(all, served, "documented and not served, or the other way round");
    // All but what a mount without an end of its credentials has none of.
    let said = |family: &String| page.samples.iter().any(|sample| sample.family == *family);
    let silent: Vec<_> = page.families.keys().filter(|family| !said(family)).collect();
    assert_eq!(silent, ["cwdfs_credentials_expiry_time_seconds"], "nothing is said of these");
}

#[test]
fn promtool_finds_nothing_wrong() {
    let world = World::new("metrics-promtool");
    let page = worked_on(&world, "*/*");
    assert!(!page.contains("# UNIT") && !page.contains("# EOF"), "this form has neither");
    let path = world.local("page").join("metrics");
    std::fs::write(&path, page).expect("the page");
    let mut check = Command::new("sh");
    check.args(["-c", "\"$0\" check metrics < \"$1\""]).arg(program("promtool")).arg(&path);
    let ran = Ran::of(&mut check).ok();
    assert_eq!((ran.out.trim(), ran.err.trim()), ("", ""), "promtool has something to say");
}

#[test]
fn no_label_tells_paths_keys_or_secrets() {
    let world = World::new("metrics-labels");
    let mount = world.host("a").mount(&ANYWHERE);
    std::fs::create_dir(mount.path("hunter2")).expect("a directory");
    for n in 0..50 {
        write_closed(&mount.path(format!("hunter2/name{n}")), b"x").expect("a file");
    }
    mount.publish();
    let page = scrape(&mount);
    for sample in &page.samples {
        for (name, value) in &sample.labels {
            let secret =
                ["hunter2", "name", "cwdfs-tests", &world.prefix, "secret"].iter().any(|s| value.contains(s));
            assert!(!secret, "{name}={value} in {sample:?}");
        }
    }
    let lines = page.samples.len();
    assert!(lines < 1500, "{lines} lines, whatever was done");
    mount.unmount();
}
