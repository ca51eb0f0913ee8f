//! Credentials that end while a session is mounted: what is here goes on, what waits for the store waits, and other
//! ones, handed over or found again, let everything go on. The relay refuses a key as a store refuses an ended token.

mod renewed;
mod source;

use crate::support::mount::Mount;
use crate::support::ran::Ran;
use crate::support::relay::{Act, Fate, Relay};
use crate::support::seaweed::{ACCESS_KEY, OTHER_KEYS, SECRET_KEY};
use crate::support::world::Host;
use crate::support::{World, eventually};
use serde_json::json;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From now on what is signed with `key` is refused.
fn end(relay: &Relay, key: &'static str) {
    relay.rule(1, usize::MAX, Act::Code(400, "ExpiredToken"), move |r| r.access_key == key);
}

/// Writes a file, whose close may wait.
fn writing(path: PathBuf, text: &'static str) -> JoinHandle<std::io::Result<()>> {
    thread::spawn(move || fs::write(path, text))
}

/// `cwdfs credentials` with this on its standard input.
fn hand(host: &Host<'_>, given: &str) -> Ran {
    Ran::fed(host.command("credentials").arg(&host.mountpoint), given)
}

fn lines((key, secret): (&str, &str)) -> String {
    format!("AWS_ACCESS_KEY_ID={key}\nAWS_SECRET_ACCESS_KEY={secret}\n")
}

/// Nothing that anybody can read has the secrets in it.
fn nothing_tells(mount: &Mount<'_>) {
    let cmdline = fs::read(format!("/proc/{}/cmdline", mount.pid().as_raw_nonzero())).expect("argv");
    let shown = format!("{}{}{}", mount.log(), mount.status(), String::from_utf8_lossy(&cmdline));
    for secret in [SECRET_KEY, OTHER_KEYS.1, "hunter2"] {
        assert!(!shown.contains(secret), "{secret} is shown");
    }
}

#[test]
fn ended_ones_stop_nothing_here_and_handed_ones_let_everything_go_on() {
    let world = World::with_relay("credentials-handed");
    let host = world.host("a");
    let mount = host.mount(&["--timeout", "240s"]);
    fs::write(mount.path("before"), "in the store").expect("write");
    end(world.relay(), ACCESS_KEY);

    // A close waits; what is here is read, and names change, meanwhile.
    let waiting = writing(mount.path("during"), "written with ended credentials");
    mount.wait_status("the refusal is told", Duration::from_secs(30), |status| {
        status["last_error"]["message"].as_str().is_some_and(|said| said.contains("ExpiredToken"))
    });
    assert_eq!(fs::read_to_string(mount.path("before")).expect("read"), "in the store");
    fs::rename(mount.path("before"), mount.path("renamed")).expect("rename");
    assert!(!waiting.is_finished(), "the close returned, and the store has refused everything");

    // What the store does not take changes nothing.
    hand(&host, &lines((OTHER_KEYS.0, "hunter2"))).exits(5).says(&["credentials"]).plainly();
    hand(&host, &lines((ACCESS_KEY, SECRET_KEY))).exits(5).says(&["ExpiredToken"]).plainly();
    hand(&host, "hunter2").exits(2).says(&["standard input"]).plainly();
    assert!(!waiting.is_finished());

    let told = "the store takes no credentials that can be had";
    eventually("the log tells it", Duration::from_secs(60), || mount.log().contains(told));
    hand(&host, &lines(OTHER_KEYS)).ok().says(&["the store takes them"]);
    waiting.join().expect("no panic").expect("the close that waited");
    let log = mount.log();
    assert_eq!(log.lines().filter(|line| line.contains(told)).count(), 1, "{log}");
    let errors = log.lines().filter(|line| line.contains("ExpiredToken")).count();
    assert!(errors <= 3, "{errors} lines about one thing:\n{log}");
    nothing_tells(&mount);
    // The close may have been in a commit that was sealed before the rename.
    mount.flush();
    mount.lose_machine();
    world.relay().clear_rules();
    let elsewhere = world.host("b").mount(&["--takeover"]);
    assert_eq!(fs::read_to_string(elsewhere.path("during")).expect("read"), "written with ended credentials");
    assert_eq!(fs::read_to_string(elsewhere.path("renamed")).expect("read"), "in the store");
}

#[test]
fn they_are_taken_unchecked_while_the_store_is_away_and_from_a_private_file_only() {
    let world = World::with_relay("credentials-away");
    let host = world.host("a");
    let mount = host.mount(&["--durability", "fsync"]);
    let file = world.local("keys").join("keys.json");
    let (key, secret) = OTHER_KEYS;
    let expiration = "2100-01-01T00:00:00Z";
    let keys = json!({"AccessKeyId": key, "SecretAccessKey": secret, "Expiration": expiration, "Version": 1});
    fs::write(&file, keys.to_string()).expect("write");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).expect("chmod");
    let file = file.to_str().expect("utf-8");
    mount.run("credentials", &["--file", file]).exits(5).says(&["chmod 600"]).plainly();
    fs::set_permissions(file, fs::Permissions::from_mode(0o600)).expect("chmod");

    world.relay().cut();
    mount.run("credentials", &["--file", file]).ok().says(&["in use", "not known"]);
    world.relay().heal();
    end(world.relay(), ACCESS_KEY);
    fs::write(mount.path("f"), "x").expect("write");
    mount.flush();
    assert_eq!(mount.status()["credentials_expire"], expiration);
    nothing_tells(&mount);
    mount.unmount();
}

/// A profile file that another program writes anew is seen when the store refuses what was read from it before.
#[test]
fn a_profile_that_is_written_anew_is_read_again() {
    let world = World::with_relay("credentials-profile");
    let host = world.host("a");
    let file = world.local("aws").join("credentials");
    let profile = |(key, secret): (&str, &str)| {
        let text = format!("[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n");
        fs::write(file.with_extension("new"), text).expect("write");
        fs::rename(file.with_extension("new"), &file).expect("rename");
    };
    profile((ACCESS_KEY, SECRET_KEY));
    let mut command = host.mount_command(&[]);
    command.env_remove("AWS_ACCESS_KEY_ID").env_remove("AWS_SECRET_ACCESS_KEY");
    command.env("AWS_SHARED_CREDENTIALS_FILE", &file);
    let mount = host.start(command).expect("mounts");
    fs::write(mount.path("before"), "x").expect("write");
    end(world.relay(), ACCESS_KEY);
    let waiting = writing(mount.path("during"), "y");
    eventually("the store has refused the old ones", Duration::from_secs(30), || {
        world.relay().seen().iter().any(|seen| seen.fate == Fate::Refused(400))
    });
    let begun = Instant::now();
    profile(OTHER_KEYS);
    waiting.join().expect("no panic").expect("the close that waited");
    println!("the close returned {:.1?} after the file was written", begun.elapsed());
    nothing_tells(&mount);
    mount.unmount();
}

#[test]
fn a_directory_has_no_credentials_to_replace() {
    let world = World::new("credentials-directory");
    let host = world.host("a");
    let store = format!("file://{}", world.local("store").display());
    Ran::of(world.command(["mount", &store, "--cache-dir"]).arg(&host.cache).arg(&host.mountpoint)).ok();
    hand(&host, &lines(OTHER_KEYS)).exits(5).says(&["directory", "no credentials"]).plainly();
    host.run("unmount", &[]).ok();
    hand(&host, &lines(OTHER_KEYS)).exits(5).says(&["not mounted"]).plainly();
}
