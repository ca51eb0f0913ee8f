//! How long `mount` of an empty session takes until it answers.

use super::{Cell, QUICK_PEERS, Work, one_of};
use crate::raw::Raw;
use crate::sample::{Meter, Sample, Unit};
use crate::support::world::binary;
use crate::systems::Kind;

/// The work.
pub const WORK: Work = Work {
    name: "mount",
    title: "a session without files: until it answers",
    takes: |system, quick| match system.kind() {
        Kind::Ours => system.name() == "cwdfs-close",
        Kind::Raw => false,
        Kind::Limit => system.name() == "bare",
        Kind::Peer => !quick || one_of(system, &QUICK_PEERS),
    },
    rounds: (3, 7),
    run,
};

/// Until the mount answers; of cwdfs, until the command returns.
pub const ANSWERS: &str = "until it answers";
/// The same of a session that is there, and empty.
pub const AGAIN: &str = "until it answers, mounted once before";
/// A small GET.
pub const ROUND_TRIP: &str = "a round trip";
/// The size of the program.
pub const BINARY: &str = "the program";

fn run(cell: &Cell<'_>, sample: &mut Sample) {
    if !cell.is_ours() {
        cell.world.relay().reset();
        let mounted = cell.mount("a", &[]);
        let usage = cell.used_since_reset(mounted.as_ref());
        sample.add_with(ANSWERS, Unit::Millis, mounted.ready_after().as_secs_f64() * 1e3, usage);
        mounted.unmount();
        return;
    }
    let round_trip = Raw::new(&cell.world).round_trip();
    sample.add(ROUND_TRIP, Unit::Millis, round_trip.as_secs_f64() * 1e3);
    for (name, measure) in [("a", ANSWERS), ("b", AGAIN)] {
        let host = cell.world.host(name);
        cell.world.relay().reset();
        let ran = host.run_mount(&["--durability", "close"]).ok();
        let usage = Meter::since_reset(cell.world.relay(), Vec::new()).read();
        sample.add_with(measure, Unit::Millis, ran.took.as_secs_f64() * 1e3, usage);
        host.run("unmount", &[]).ok();
    }
    let size = std::fs::metadata(binary()).expect("the program").len();
    sample.add(BINARY, Unit::Megabytes, size as f64 / 1e6);
}
