//! Long work tells how far it is: in the log every few seconds, and on a terminal where somebody waits.

use crate::support::{Ran, World};
use crate::work::noise;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// As often as work tells at most, in seconds; clocks of a loaded machine may be late, never early.
const EVERY: f64 = 3.0;

/// The events of progress of a work, in a JSON log.
fn told(log: &Path, work: &str) -> Vec<Value> {
    let text = fs::read_to_string(log).expect("the log");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    let told: Vec<_> = events.filter(|e| e["message"] == "progress" && e["work"] == work).collect();
    assert!(told.len() >= 2, "{work}: {} events in {text}", told.len());
    let seconds: Vec<f64> = told.iter().map(|event| event["seconds"].as_f64().expect("a number")).collect();
    // Its end may come at any time.
    let steps = seconds.windows(2).take(seconds.len() - 2);
    assert!(seconds[0] >= EVERY && steps.clone().all(|two| two[1] - two[0] > EVERY - 0.2), "{seconds:?}");
    for event in &told {
        assert!(event["rate"].is_number() && event["level"] == "INFO", "{event}");
        let (done, total) = (event["done"].as_u64().expect("a number"), event["total"].as_u64());
        assert!(total.is_none_or(|total| done <= total), "{event}");
    }
    let last = told.last().expect("two at least");
    assert!(last["ended"] == true && told[0]["ended"] == false, "{told:#?}");
    told
}

#[test]
fn a_first_import_tells_how_many_of_how_many_objects_are_in() {
    let world = World::with_relay("progress-import");
    let objects = 250;
    // Each has to be looked at by itself: only its headers tell a symlink.
    (0..objects).for_each(|n| world.witness.put(&format!("o{n}"), Vec::new()));
    world.relay().set_delay(Duration::from_millis(700));
    let log = world.local("daemon").join("log");
    let options = ["--log-format", "json", "--log-file", log.to_str().expect("utf-8")];
    let mount = world.host("a").mount(&options);
    assert_eq!(fs::read_dir(mount.root()).expect("readable").count(), objects);
    world.relay().set_delay(Duration::ZERO);
    mount.unmount();
    let told = told(&log, "import");
    assert!(told.iter().all(|event| event["total"] == objects), "{told:#?}");
    assert_eq!(told.last().expect("two at least")["done"], objects);
}

#[test]
fn an_unmount_tells_what_is_left_and_shows_it_on_a_terminal_only() {
    let world = World::with_relay("progress-drain");
    let log = world.local("daemon").join("log");
    let options = ["--durability", "fsync", "--commit-interval", "60s", "--log-format", "json", "--log-file"];
    for terminal in [false, true] {
        let host = world.host(if terminal { "a" } else { "b" });
        let log = log.with_extension(if terminal { "a" } else { "b" });
        let file = log.to_str().expect("utf-8");
        let mut mount = host.mount(&[&options[..], &[file, "--timeout", "300s"]].concat());
        for n in 0..4 {
            fs::write(mount.path(format!("f{terminal}{n}")), noise(2 << 20, n)).expect("a file");
        }
        world.relay().set_rate(Some(1 << 20));
        let unmount = unmounted(&host.command("unmount"), &host.mountpoint, terminal);
        world.relay().set_rate(None);
        assert_eq!(unmount.out.contains("to be stored: "), terminal, "{unmount}");
        assert!(terminal || (unmount.out.is_empty() && unmount.err.is_empty()), "{unmount}");
        mount.wait_end(Duration::from_secs(60));
        let told = told(&log, "store");
        assert!(told.iter().all(|event| event["bytes"].is_number() || event["done"] == 0), "{told:#?}");
    }
}

/// The command run to its end, on a terminal or without.
fn unmounted(command: &Command, mountpoint: &Path, terminal: bool) -> Ran {
    if !terminal {
        let mut plain = Command::new(command.get_program());
        plain.args(command.get_args()).arg(mountpoint);
        return Ran::of(&mut plain).ok();
    }
    let words = command.get_args().map(|word| word.to_string_lossy().into_owned());
    let line: Vec<_> = std::iter::once(command.get_program().to_string_lossy().into_owned())
        .chain(words)
        .chain([mountpoint.display().to_string()])
        .map(|word| format!("'{word}'"))
        .collect();
    Ran::of(Command::new("script").args(["-qec", &line.join(" "), "/dev/null"])).ok()
}
