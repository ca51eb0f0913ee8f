//! How many small operations a second, warm, of one and of four clients.

use super::{Cell, Work, one_of};
use crate::client::rates::{Clients, Phase, SIZE};
use crate::sample::{Sample, Unit};
use crate::systems::Mounted;
use std::time::Duration;

/// The work.
pub const WORK: Work = Work {
    name: "rates",
    title: "small operations, warm: how many a second",
    takes: |system, quick| {
        one_of(system, &["local", "bare", "bare-checked", "bare-passthrough", "cwdfs-fsync"])
            || (!quick && one_of(system, &["cwdfs-fsync-daemon", "geesefs"]))
    },
    rounds: (3, 7),
    run,
};

/// The measure of creates while the relay lets nothing through.
pub const PAUSED: &str = "create+write 4 KiB+close, store paused";

fn run(cell: &Cell<'_>, sample: &mut Sample) {
    let files = cell.asked.size(3_000, 10_000);
    let mounted = cell.mount("a", &["--no-publish"]);
    for clients in [1, 4] {
        if cell.is_ours() {
            paused(cell, mounted.as_ref(), clients, files, sample);
        }
        let root = mounted.root().join(format!("of{clients}"));
        std::fs::create_dir(&root).expect("a directory");
        let mut at_work = Clients::start(&root, clients, files / clients);
        for phase in Phase::ALL {
            let took = at_work.run(phase);
            add(sample, phase.name(), clients, files * phase.passes(), took);
            if phase == Phase::Create {
                mounted.settle();
                cell.bytes_are_stored(sample, (files * SIZE) as u64);
            }
        }
        drop(at_work);
    }
    sample.sure(mounted.made_sure());
    mounted.unmount();
}

/// Creates while the store answers nothing; what was written is read back, and comes into the store afterwards.
fn paused(cell: &Cell<'_>, mounted: &dyn Mounted, clients: usize, files: usize, sample: &mut Sample) {
    let root = mounted.root().join(format!("paused{clients}"));
    std::fs::create_dir(&root).expect("a directory");
    mounted.settle();
    let mut at_work = Clients::start(&root, clients, files / clients);
    cell.world.relay().black_hole();
    let took = at_work.run(Phase::Create);
    cell.world.relay().heal();
    add(sample, PAUSED, clients, files, took);
    at_work.run(Phase::Read);
    mounted.settle();
    cell.bytes_are_stored(sample, (files * SIZE) as u64);
}

fn add(sample: &mut Sample, what: &str, clients: usize, count: usize, took: Duration) {
    let who = if clients == 1 { "1 client" } else { "4 clients" };
    sample.add(format!("{what}, {who}"), Unit::PerSecond, count as f64 / took.as_secs_f64());
}
