//! A real Prometheus scrapes a real mount, takes the rules, and answers every query of the dashboard.

use super::dashboard::{dashboard, queries, rules};
use super::documented::documented;
use super::{ANYWHERE, address, file, program};
use crate::support::{Ran, World};
use crate::work::{noise, write_closed};
use serde_json::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(120);

/// A Prometheus that scrapes one target each second; dropped, it ends.
struct Prometheus {
    child: Child,
    at: String,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        // One that has ended already is what we want.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    fn start(dir: &Path, target: &str) -> Prometheus {
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [alerts.yml]\n\
             scrape_configs: [{{job_name: cwdfs, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        fs::write(dir.join("prometheus.yml"), config).expect("its configuration");
        fs::write(dir.join("alerts.yml"), file("alerts.yml")).expect("the rules");
        // Free until it takes it, but for others who look for one in between.
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port").to_string();
        let log = fs::File::create(dir.join("log")).expect("a log");
        let child = Command::new(program("prometheus"))
            .arg(format!("--config.file={}", dir.join("prometheus.yml").display()))
            .arg(format!("--storage.tsdb.path={}", dir.join("data").display()))
            .arg(format!("--web.listen-address={free}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("prometheus");
        Prometheus { child, at: free }
    }

    /// What its API answers; `None` while it does not.
    fn get(&self, path: &str) -> Option<Value> {
        let mut connection = TcpStream::connect(&self.at).ok()?;
        let request = format!("GET {path} HTTP/1.0\r\nHost: {}\r\n\r\n", self.at);
        connection.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        connection.read_to_string(&mut answer).ok()?;
        serde_json::from_str(answer.split_once("\r\n\r\n")?.1).ok()
    }

    /// The result of an expression.
    #[track_caller]
    fn query(&self, expression: &str) -> Vec<Value> {
        let encoded: String = expression.bytes().map(|b| format!("%{b:02x}")).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}")).expect("an answer");
        assert_eq!(answer["status"], "success", "{expression}: {answer}");
        answer["data"]["result"].as_array().expect("a result").clone()
    }
}

/// As Grafana fills them in.
fn filled_in(query: &str) -> String {
    query.replace("$__rate_interval", "30s").replace("$job", ".*").replace("$instance", ".*")
}

#[test]
fn promtool_takes_the_rules() {
    let world = World::new("metrics-rules");
    let path = world.local("rules").join("alerts.yml");
    fs::write(&path, file("alerts.yml")).expect("the rules");
    Ran::of(Command::new(program("promtool")).args(["check", "rules"]).arg(&path)).ok();
}

#[test]
fn prometheus_scrapes_and_answers_every_query_of_the_dashboard() {
    let world = World::new("metrics-prometheus");
    let mount = world.host("a").mount(&[&ANYWHERE[..], &["--quota", "1G"]].concat());
    let prometheus = Prometheus::start(&world.local("prometheus"), &address(&mount));
    let start = Instant::now();
    let mut files = 0;
    // Until it has seen counters grow.
    let grew = "rate(cwdfs_commits_total[30s]) > 0";
    while prometheus.get("/api/v1/labels").is_none() || prometheus.query(grew).is_empty() {
        assert!(start.elapsed() < PATIENCE, "it does not scrape");
        files += 1;
        let path = mount.path(format!("f{files}"));
        write_closed(&path, &noise(5000, files)).expect("a file");
        fs::read(mount.path("missing")).expect_err("nothing");
        std::thread::sleep(Duration::from_millis(300));
    }
    for (panel, query) in queries(&dashboard()) {
        let result = prometheus.query(&filled_in(&query));
        // Nothing was evicted or refused; of all else there is something to show.
        let may_be_empty = query.contains("answer!~");
        assert!(may_be_empty || !result.is_empty(), "{panel}: nothing to show: {query}");
    }
    for rule in rules() {
        assert!(prometheus.query(&rule).is_empty(), "all is well, and this would ring: {rule}");
    }
    let told = prometheus.get("/api/v1/targets/metadata").expect("what it knows of metrics");
    let told = told["data"].as_array().expect("a list");
    for (name, of) in documented() {
        let base = name.strip_suffix("_total").filter(|_| of.kind == "counter").unwrap_or(&name);
        let seen = told.iter().find(|metric| metric["metric"] == base);
        let seen = seen.unwrap_or_else(|| panic!("Prometheus has not seen {name}"));
        assert_eq!(seen["type"], of.kind, "{seen}");
        let unit = seen["unit"].as_str().unwrap_or_default();
        assert!(unit.is_empty() || unit == of.unit, "{seen}");
    }
    drop(prometheus);
    mount.unmount();
}
