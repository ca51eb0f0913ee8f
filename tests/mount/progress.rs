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
        // The first may come before any content is on its way.
        assert!(told.last().is_some_and(|event| event["bytes"].is_number()), "{told:#?}");
    }
}

/// The command run to its end, on a terminal or without.
fn unmounted(command: &Command, mountpoint: &Path, terminal: bool) -> Ran {
    let mut plain = Command::new(command.get_program());
    plain.args(command.get_args()).arg(mountpoint);
    match terminal {
        false => Ran::of(&mut plain).ok(),
        true => on_terminal(&plain).ok(),
    }
}

/// The command on a terminal, whatever it shows there as its output.
fn on_terminal(command: &Command) -> Ran {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let line: Vec<_> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let mut script = Command::new("script");
    script.args(["-qec", &line.join(" "), "/dev/null"]);
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => script.env(name, value),
            None => script.env_remove(name),
        };
    }
    Ran::of(&mut script)
}

#[test]
fn a_mount_that_takes_long_shows_it_on_its_terminal() {
    let world = World::with_relay("progress-terminal");
    (0..250).for_each(|n| world.witness.put(&format!("o{n}"), Vec::new()));
    world.relay().set_delay(Duration::from_millis(700));
    let host = world.host("a");
    let mut mount = host.command("mount");
    mount.arg("--cache-dir").arg(&host.cache).arg(&world.store).arg(&host.mountpoint);
    let ran = on_terminal(&mount).ok().says(&["cwdfs: import: ", " of 250"]);
    assert!(ran.out.ends_with("\u{1b}[K"), "the line is taken away: {ran}");
    world.relay().set_delay(Duration::ZERO);
    assert_eq!(fs::read_dir(&host.mountpoint).expect("readable").count(), 250);
    host.run("unmount", &[]).ok();
}
