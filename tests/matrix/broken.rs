//! That the matrix can fail.

use crate::agents::Agent;
use crate::providers::Provider;
use crate::story::{Teardown, run};
use crate::support::{World, sh};

fn fails(meanwhile: fn(&World)) -> String {
    let ran = std::panic::catch_unwind(|| run(Provider::Local, Agent::Pi, Teardown::Killed, meanwhile));
    let Err(why) = ran else { panic!("the cell passed") };
    why.downcast_ref::<String>().cloned().unwrap_or_default()
}

#[test]
fn a_store_that_was_wiped_is_a_fail() {
    let why = fails(|world| assert!(world.witness.delete_all("") > 0, "there was something to wipe"));
    assert!(why.contains("there is no session"), "{why}");
}

#[test]
fn a_transcript_that_lost_a_line_is_a_fail() {
    let why = fails(|world| {
        let mount = world.host("meddler").mount(&["--takeover"]);
        let found = sh(mount.root(), "find .agent -name '*.jsonl'");
        sh(mount.root(), &format!("sed -i '$d' {}", found.trim()));
        mount.unmount();
    });
    assert!(why.contains("the session in the next sandbox"), "{why}");
}
