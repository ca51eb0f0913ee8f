//! What the daemon logs while everything it tries fails: a few lines of each kind, which say how many are missing.

use crate::support::World;
use crate::work::write_closed;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// Closes that fail.
const FAILED: u64 = 300;
/// Lines of one kind that a few seconds may hold: those at once, one in ten seconds, and the last.
const MOST: usize = 12;

/// The lines of a JSON log.
fn events(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).expect("the log");
    let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("no JSON: {e}: {line}"));
    text.lines().map(event).collect()
}

#[test]
fn a_store_that_is_away_leaves_a_bounded_number_of_lines_that_count_the_rest() {
    let world = World::with_relay("log-bounded");
    let log = world.local("daemon").join("log");
    let log_file = log.to_str().expect("utf-8");
    let options = ["--timeout", "1s", "--lease-ttl", "600s", "--log-format", "json", "--log-file", log_file];
    let mount = world.host("a").mount(&options);
    write_closed(&mount.path("before"), b"stored").expect("the store is there");
    world.relay().cut();
    for n in 0..FAILED {
        write_closed(&mount.path(format!("f{n}")), b"not stored").expect_err("the store is away");
    }
    world.relay().heal();
    mount.wait_status("all is stored", Duration::from_secs(60), |s| s["uncommitted"]["files"] == 0);
    mount.unmount();

    let events = events(&log);
    let mut lines: BTreeMap<String, (usize, u64)> = BTreeMap::new();
    for event in &events {
        for field in ["timestamp", "level", "target", "message"] {
            assert!(event[field].is_string(), "{field} is missing: {event}");
        }
        let message = event["message"].as_str().unwrap_or_default().to_owned();
        let (count, all) = lines.entry(message).or_default();
        *count += 1;
        *all += 1 + event["left_out"].as_u64().unwrap_or(0);
    }
    let (message, (most, _)) =
        lines.iter().max_by_key(|(_, (count, _))| *count).expect("something is logged");
    assert!(*most <= MOST, "{most} lines of {message:?}: {lines:#?}");
    let (written, all) = lines.get("operation failed").copied().expect("failed closes are logged");
    // A close that fails may be answered twice: by the close, and by the release that follows it.
    assert!((FAILED..=FAILED * 2).contains(&all), "{all} failures are told by {written} lines: {lines:#?}");
    let failed = events.iter().find(|event| event["message"] == "operation failed").expect("seen above");
    for field in ["operation", "path", "error"] {
        assert!(failed[field].is_string(), "{field} is missing: {failed}");
    }
}
