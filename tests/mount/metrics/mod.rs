//! Metrics of a real mount: what is served is what is documented, figures are true, and the dashboard and the rules
//! use only what there is.

mod dashboard;
mod documented;
mod exposition;
mod prometheus;
mod serving;
mod truth;

use crate::support::installed;
use crate::support::mount::Mount;
use exposition::Exposition;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};

/// Has the daemon serve on a port of its own.
const ANYWHERE: [&str; 2] = ["--metrics", "127.0.0.1:0"];

/// What is asked for to get OpenMetrics.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0";

/// Of `packaging/metrics`.
fn file(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/metrics").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// A program of Prometheus: of the directory that `CWDFS_TEST_PROMETHEUS` names, or where tests/install puts it.
fn program(name: &str) -> PathBuf {
    installed("CWDFS_TEST_PROMETHEUS", "target/tools/prometheus/usr/bin", name)
}

/// Where a mount's metrics are, as `status` says: `HOST:PORT`.
#[track_caller]
fn address(mount: &Mount<'_>) -> String {
    let status = mount.status();
    let url = status["metrics"].as_str().unwrap_or_else(|| panic!("no metrics: {status:#}")).to_owned();
    let address = url.strip_prefix("http://").and_then(|rest| rest.strip_suffix("/metrics"));
    address.unwrap_or_else(|| panic!("no address: {url}")).to_owned()
}

/// Asks over a connection, and returns the head and the body of the answer.
fn ask(mut connection: impl Read + Write, request: &str) -> (String, String) {
    connection.write_all(request.as_bytes()).expect("send a request");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no head: {answer}"));
    (head.to_owned(), body.to_owned())
}

/// The text of a scrape, in the form that `accept` asks for.
#[track_caller]
fn text(mount: &Mount<'_>, accept: &str) -> String {
    let connection = TcpStream::connect(address(mount)).expect("connect");
    let (head, body) =
        ask(connection, &format!("GET /metrics HTTP/1.1\r\nHost: test\r\nAccept: {accept}\r\n\r\n"));
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    body
}

/// What a mount's metrics say now.
#[track_caller]
fn scrape(mount: &Mount<'_>) -> Exposition {
    Exposition::parse(&text(mount, "text/plain"))
}
