//! The dashboard and the rules: of the right form, and about what there is.

use super::documented::documented;
use super::file;
use crate::support::Ran;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

/// Labels that Prometheus adds, or that classes have.
const OTHERS: [&str; 3] = ["job", "instance", "le"];

pub fn dashboard() -> Value {
    serde_json::from_str(&file("grafana.json")).expect("JSON")
}

/// The panels that ask for something, each with its queries.
pub fn queries(dashboard: &Value) -> Vec<(String, String)> {
    let mut all = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            let text = |value: &Value| value.as_str().expect("a text").to_owned();
            all.push((text(&panel["title"]), text(&target["expr"])));
        }
    }
    assert!(all.len() > 30, "{} queries", all.len());
    all
}

/// The expressions of the rules, each in one line.
pub fn rules() -> Vec<String> {
    let text = file("alerts.yml").replace(">-\n          ", " ").replace("\n          ", " ");
    let rules = text.lines().filter_map(|line| line.trim().strip_prefix("expr: "));
    rules.map(|rule| rule.trim().to_owned()).collect()
}

/// Names in an expression: what comes before a parenthesis is a function's.
fn words(expression: &str) -> Vec<(String, Option<char>)> {
    let mut words = Vec::new();
    let mut rest = expression;
    while let Some(start) = rest.find(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '"' || c == '$') {
        rest = &rest[start..];
        if let Some(inside) = rest.strip_prefix('"') {
            rest = inside.split_once('"').expect("a text ends").1;
            continue;
        }
        let end =
            rest[1..].find(|c: char| !c.is_ascii_alphanumeric() && c != '_').map_or(rest.len(), |n| n + 1);
        let (word, after) = rest.split_at(end);
        words.push((word.to_owned(), after.trim_start().chars().next()));
        rest = after;
    }
    words
}

/// The labels that an expression names: in braces before a comparison, and behind `by` and `on`.
fn labels(expression: &str) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    for part in expression.split('{').skip(1) {
        let inside = part.split('}').next().unwrap_or_default();
        let names = words(inside).into_iter().filter(|(_, next)| matches!(next, Some('=' | '!')));
        labels.extend(names.map(|(name, _)| name));
    }
    for keyword in [" by (", " on ("] {
        for part in expression.split(keyword).skip(1) {
            let inside = part.split(')').next().unwrap_or_default();
            labels.extend(inside.split(',').map(|label| label.trim().to_owned()));
        }
    }
    labels
}

#[track_caller]
fn uses_what_there_is(what: &str, expression: &str) {
    let documented = documented();
    let mut known: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (name, of) in &documented {
        known.insert(name, of.labels.iter().map(String::as_str).collect());
    }
    let mut allowed: BTreeSet<&str> = OTHERS.into();
    let mut used = 0;
    for (word, _) in words(expression).iter().filter(|(word, _)| word.starts_with("cwdfs_")) {
        let histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| word.strip_suffix(suffix));
        let name = histogram.filter(|base| documented.get(*base).is_some_and(|of| of.kind == "histogram"));
        let name = name.unwrap_or(word);
        let labels = known.get(name).unwrap_or_else(|| panic!("{what}: there is no {word}: {expression}"));
        allowed.extend(labels);
        used += 1;
    }
    assert!(used > 0, "{what}: about nothing of ours: {expression}");
    for label in labels(expression) {
        assert!(allowed.contains(label.as_str()), "{what}: none of its metrics has {label}: {expression}");
    }
}

#[test]
fn every_query_and_rule_uses_metrics_and_labels_that_there_are() {
    for (panel, query) in queries(&dashboard()) {
        uses_what_there_is(&panel, &query);
    }
    let rules = rules();
    assert_eq!(rules.len(), file("alerts.yml").matches("- alert:").count());
    for rule in &rules {
        uses_what_there_is("a rule", rule);
    }
}

#[test]
fn a_query_about_what_there_is_not_would_be_found() {
    for wrong in ["cwdfs_nonsense", "sum by (path) (cwdfs_commits_total)", "cwdfs_commits_total{path=\"x\"}"]
    {
        assert!(std::panic::catch_unwind(|| uses_what_there_is("a test", wrong)).is_err(), "{wrong}");
    }
}

#[test]
fn every_metric_that_tells_of_trouble_is_on_the_dashboard_or_in_a_rule() {
    let all: String = queries(&dashboard()).into_iter().map(|(_, query)| query).chain(rules()).collect();
    let elsewhere = [
        "cwdfs_batches_total",
        "cwdfs_mount_info",
        "cwdfs_mount_time_seconds",
        "cwdfs_last_commit_time_seconds",
        "cwdfs_commit_failing",
        "cwdfs_committed_bytes_total",
        "cwdfs_view_pending_bytes",
        "cwdfs_view_unpublishable_names",
    ];
    for (name, _) in documented() {
        assert!(all.contains(&name) || elsewhere.contains(&name.as_str()), "{name} is shown nowhere");
    }
}

#[test]
fn the_dashboard_has_the_form_that_grafana_loads() {
    let dashboard = dashboard();
    assert_eq!((dashboard["title"].as_str(), dashboard["uid"].as_str()), (Some("cwdfs"), Some("cwdfs")));
    assert!(
        dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36),
        "of Grafana 9 or newer"
    );
    assert!(dashboard["id"].is_null() && dashboard["time"]["from"].is_string());
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().map(|variable| variable["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in panels {
        assert!(ids.insert(panel["id"].as_u64().expect("an id")), "two panels have one id: {panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        let kind = panel["type"].as_str().expect("a type");
        assert!(["row", "stat", "timeseries"].contains(&kind), "{kind}");
        let at = |side: &str| panel["gridPos"][side].as_u64().expect("a place");
        assert!(at("x") + at("w") <= 24 && at("w") > 0 && at("h") > 0, "{panel}");
        for x in at("x")..at("x") + at("w") {
            for y in at("y")..at("y") + at("h") {
                assert!(taken.insert((x, y)), "two panels in one place: {panel}");
            }
        }
        if kind != "row" {
            has_queries(panel, &names);
        }
    }
}

/// Grafana itself cannot be had from where the tests install: its own types are the next best.
#[test]
fn grafanas_own_types_take_the_dashboard() {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/grafana");
    assert!(
        tools.join("node_modules/@grafana/schema").is_dir(),
        "no types in {}: tests/run installs them",
        tools.display()
    );
    let compiled = |dashboard: &Value| {
        // In TypeScript this one text is a constant's.
        let text = dashboard.to_string().replace("\"mode\":\"absolute\"", "\"mode\":ThresholdsMode.Absolute");
        let import = "import { ThresholdsMode, type Dashboard } from '@grafana/schema';";
        let file = tools.join(format!("dashboard-{}.ts", std::process::id()));
        fs::write(&file, format!("{import}\nexport const dashboard: Dashboard = {text};\n")).expect("a file");
        let options =
            ["--noEmit", "--strict", "--skipLibCheck", "--moduleResolution", "node", "--target", "es2022"];
        let mut compiler = Command::new(tools.join("node_modules/.bin/tsc"));
        let ran = Ran::of(compiler.current_dir(&tools).args(options).arg(&file));
        fs::remove_file(&file).expect("it is there");
        ran
    };
    let mut dashboard = dashboard();
    compiled(&dashboard).ok();
    dashboard["panels"][1]["gridPos"]["w"] = "wide".into();
    compiled(&dashboard).exits(2).says(&["'string' is not assignable to type 'number'"]);
}

fn has_queries(panel: &Value, variables: &[&str]) {
    assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
    assert!(panel["fieldConfig"]["defaults"]["unit"].is_string() && panel["options"].is_object(), "{panel}");
    let targets = panel["targets"].as_array().expect("queries");
    let ids: BTreeSet<_> = targets.iter().map(|target| target["refId"].as_str().expect("an id")).collect();
    assert!(!targets.is_empty() && ids.len() == targets.len(), "{panel}");
    for target in targets {
        assert_eq!(target["datasource"]["uid"], "${datasource}", "{panel}");
        let expression = target["expr"].as_str().expect("an expression");
        for part in expression.split('$').skip(1) {
            let name: String = part.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect();
            assert!(name == "__rate_interval" || variables.contains(&name.as_str()), "${name}: {expression}");
        }
    }
}
