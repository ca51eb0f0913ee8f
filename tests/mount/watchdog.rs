//! A request that takes long is told of, with what it waits for.

use crate::support::World;
use crate::work::write_closed;
use std::time::Duration;

#[test]
fn a_close_that_takes_over_five_seconds_is_in_status_and_log_until_it_ends() {
    let world = World::with_relay("watchdog");
    let mount = world.host("a").mount(&[]);
    write_closed(&mount.path("before"), b"stored").expect("with the store there");
    assert_eq!(mount.status()["slow"], serde_json::json!([]));
    world.relay().black_hole();
    std::thread::scope(|threads| {
        let close = threads.spawn(|| write_closed(&mount.path("slow"), b"waits"));
        let limit = Duration::from_secs(50);
        let status =
            mount.wait_status("it is told", limit, |status| status["slow"][0]["operation"] == "flush");
        let slow = &status["slow"][0];
        assert_eq!(slow["path"], "slow", "{status:#}");
        assert!(slow["seconds"].as_f64().is_some_and(|seconds| seconds >= 5.0), "{status:#}");
        assert!(slow["waits_for"].as_str().is_some_and(|what| what.contains("a commit")), "{status:#}");
        assert!(slow["pid"].as_u64().is_some_and(|pid| pid > 0), "{status:#}");
        mount.run("status", &[]).ok().says(&["flush of /slow", "waits for a commit"]);
        world.relay().heal();
        close.join().expect("no panic").expect("it is stored at last");
    });
    mount
        .wait_status("it is over", Duration::from_secs(30), |status| status["slow"] == serde_json::json!([]));
    let log = mount.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("an operation takes long")).collect();
    assert_eq!(lines.len(), 1, "once: {lines:?}");
    assert!(lines[0].contains("waits_for") && lines[0].contains("flush"), "{lines:?}");
    mount.unmount();
}
