//! Looking at many sessions from outside, and deleting one: `sessions`, `du`, `rm`.

use crate::support::mount::Mount;
use crate::support::relay::{Act, Kind, Request};
use crate::support::{World, eventually, sh};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::time::Duration;

fn json(world: &World, args: &[&str]) -> Value {
    let ran = world.run(args).ok();
    serde_json::from_str(&ran.out).unwrap_or_else(|e| panic!("no JSON: {e}: {ran}"))
}

/// A session at a folder of the world's prefix, mounted on a host of its own.
fn mount_at<'w>(world: &'w World, folder: &str) -> Mount<'w> {
    let host = world.host(&folder.replace('/', "-"));
    let mut command = world.command(["mount", "--foreground", "--cache-dir"]);
    command.arg(&host.cache).arg(format!("{}/{folder}", world.store)).arg(&host.mountpoint);
    host.start(command).unwrap_or_else(|ran| panic!("{ran}"))
}

#[test]
fn sessions_are_found_below_a_prefix_with_what_they_hold() {
    let world = World::new("sessions");
    let none = json(&world, &["sessions", "--json", &world.store]);
    assert_eq!(none, serde_json::json!([]), "an empty prefix holds no session");

    let a = mount_at(&world, "p1/a");
    fs::create_dir(a.path("dir")).expect("mkdir");
    fs::write(a.path("dir/one"), vec![1; 1000]).expect("write");
    fs::hard_link(a.path("dir/one"), a.path("two")).expect("link");
    sh(a.root(), "truncate -s 1G sparse && mkdir -p not/a/.cwdfs && echo x > not/a/.cwdfs/lease");
    a.publish();
    let b = mount_at(&world, "b");
    fs::write(b.path("f"), "12345").expect("write");
    b.flush();
    b.unmount();
    world.witness.put("plain/object", b"not a session".to_vec());

    let found = json(&world, &["sessions", "--json", &world.store]);
    let found = found.as_array().expect("an array");
    let shown: Vec<_> = found.iter().map(|s| (&s["store"], &s["state"], &s["files"], &s["bytes"])).collect();
    let text = format!("{shown:?}");
    assert_eq!(found.len(), 2, "{text}");
    assert_eq!(found[0]["store"], format!("{}/b", world.store), "{text}");
    assert_eq!(
        (&found[0]["state"], &found[0]["files"], &found[0]["bytes"]),
        (&"free".into(), &1.into(), &5.into())
    );
    assert_eq!((&found[1]["state"], &found[1]["files"]), (&"held".into(), &3.into()), "{text}");
    assert_eq!(found[1]["bytes"], 1002, "a hole is no content, a second name no second file: {text}");
    assert!(found.iter().all(|s| s["last_commit"].is_string() && s["error"].is_null()), "{found:?}");
    assert!(found[1]["holder"].as_str().is_some_and(|h| h.contains(&a.pid().as_raw_nonzero().to_string())));
    world.run(["sessions", &world.store]).ok().says(&["p1/a", "held", "free", "LAST COMMIT"]);
    let shallow = json(&world, &["sessions", "--json", "--depth", "1", &world.store]);
    assert_eq!(shallow.as_array().map(Vec::len), Some(1), "{shallow}");

    // One that cannot be read is shown, not left out, and the rest is there all the same.
    a.unmount();
    world.witness.put("p1/c/.cwdfs/lease", b"{}".to_vec());
    let ran = world.run(["sessions", "--json", &world.store]).exits(8);
    let found: Value = serde_json::from_str(&ran.out).expect("JSON");
    assert_eq!(found.as_array().map(Vec::len), Some(3), "{found:#}");
    assert_eq!(found[2]["state"], "unreadable");
    assert!(found[2]["error"].as_str().is_some_and(|e| e.contains("damaged")), "{found:#}");
}

#[test]
fn du_adds_up_what_the_store_holds() {
    let world = World::new("du");
    let mount = world.host("a").mount(&[]);
    fs::write(mount.path("large"), vec![7; 1 << 20]).expect("write");
    fs::write(mount.path("small"), "12345").expect("write");
    mount.publish();
    mount.unmount();
    let du = json(&world, &["du", "--json", &world.store]);
    assert_eq!(du["view"], serde_json::json!({ "objects": 2, "bytes": (1 << 20) + 5 }), "{du:#}");
    assert!(du["data"]["bytes"].as_u64() >= Some(1 << 20), "{du:#}");
    let keys = world.witness.keys();
    assert_eq!(du["total"]["objects"], keys.len() as u64, "{du:#}\n{keys:?}");
    world.run(["du", &world.store]).ok().says(&["plain objects", "in 2 objects", "total"]);
    world.run(["du", &format!("{}-nothing", world.store)]).exits(5).says(&["nothing here"]).plainly();
}

#[test]
fn rm_deletes_a_session_and_nothing_beside_it() {
    let world = World::new("rm");
    let (doomed, beside) = (mount_at(&world, "doomed"), mount_at(&world, "doomed-not"));
    for mount in [&doomed, &beside] {
        fs::create_dir(mount.path("d")).expect("mkdir");
        fs::write(mount.path("d/f"), vec![3; 2 << 20]).expect("write");
        mount.publish();
    }
    let store = format!("{}/doomed", world.store);
    world.run(["rm", &store]).exits(2).says(&["--yes"]).plainly();
    world.run(["rm", "--yes", &store]).exits(7).says(&["held by"]).plainly();
    assert_eq!(fs::read(doomed.path("d/f")).expect("it goes on").len(), 2 << 20);
    doomed.unmount();
    world.run(["rm", "--yes", &store]).ok().says(&["deleted"]);
    let left: Vec<_> = world.witness.keys().into_keys().filter(|key| key.starts_with("doomed/")).collect();
    assert_eq!(left, Vec::<String>::new());
    world.run(["rm", "--yes", &store]).exits(5).says(&["no session here"]).plainly();
    assert_eq!(fs::read(beside.path("d/f")).expect("the other is untouched").len(), 2 << 20);
    beside.unmount();
    world.run(["rm", "--yes", &format!("{}/plain", world.store)]).exits(5).plainly();
}

#[test]
fn rm_takes_a_parked_or_held_session_only_when_told_to() {
    let world = World::new("rm-takeover");
    let mount = world.host("a").mount(&["--park-after", "200ms"]);
    fs::write(mount.path("f"), "x").expect("write");
    mount.wait_status("parked", Duration::from_secs(20), |s| s["lease"]["state"] == "parked");
    world.run(["rm", "--yes", &world.store]).exits(7).says(&["parked", "--takeover"]).plainly();
    world.run(["rm", "--yes", "--takeover", &world.store]).ok();
    eventually("nothing is left", Duration::from_secs(20), || world.witness.keys().is_empty());
    // The daemon learns of it, and makes nothing anew.
    let _ = fs::write(mount.path("g"), "y");
    mount.wait_status("it is over", Duration::from_secs(90), |s| s["state"] != "mounted");
    assert_eq!(world.witness.keys().into_keys().collect::<Vec<_>>(), Vec::<String>::new());
    drop(mount);
}

#[test]
fn an_rm_that_was_cut_short_is_finished_by_another() {
    let world = World::with_relay("rm-cut");
    let mount = world.host("a").mount(&[]);
    for n in 0..50 {
        fs::write(mount.path(format!("f{n}")), vec![1; 100]).expect("write");
    }
    mount.publish();
    mount.unmount();
    // The plain objects are deleted; the deletion of the log never reaches the store.
    let deletes = |request: &Request| request.kind == Kind::DeleteMany;
    world.relay().rule(2, usize::MAX, Act::Delay(Duration::from_secs(60)), deletes);
    let mut rm = world.command(["rm", "--yes", &world.store]).spawn().expect("run rm");
    assert!(
        world.relay().wait_until_held(1, Duration::from_secs(20)),
        "it never came to the second deletion"
    );
    rustix::process::kill_process(rustix::process::Pid::from_child(&rm), Signal::KILL).expect("kill");
    rm.wait().expect("reap");
    world.relay().drop_held();
    world.relay().clear_rules();
    let left: Vec<_> = world.witness.keys().into_keys().collect();
    assert!(left.iter().all(|key| key.starts_with(".cwdfs/")) && !left.is_empty(), "{left:?}");
    world.run(["rm", "--yes", "--takeover", &world.store]).ok();
    assert_eq!(world.witness.keys().into_keys().collect::<Vec<_>>(), Vec::<String>::new());
}
