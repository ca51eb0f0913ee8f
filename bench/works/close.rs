//! close(2) of a new file of 4 KiB, by 1, 4, 16 and 64 writers, and PUTs of the same bytes in turns with it.

use super::{Cell, Work, one_of};
use crate::raw::Raw;
use crate::sample::{Sample, Unit, Usage, percentile};
use crate::sources;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// The work.
pub const WORK: Work = Work {
    name: "close",
    title: "close(2) of a new file of 4 KiB, and a PUT of the same bytes in turns with it",
    takes: |system, quick| {
        one_of(system, &["cwdfs-close"])
            || (!quick && one_of(system, &["cwdfs-sync", "geesefs", "tigrisfs", "juicefs", "rclone", "s3fs"]))
    },
    rounds: (1, 5),
    run,
};

/// How many write at once.
pub const WRITERS: [usize; 4] = [1, 4, 16, 64];
const SIZE: usize = 4096;
/// How long each turn lasts.
const TURN: Duration = Duration::from_millis(1500);

/// The measure of a percentile.
pub fn latency(what: &str, writers: usize, percent: u32) -> String {
    format!("{what}, {writers} at once, p{percent}")
}

/// The measure of a rate.
pub fn rate(what: &str, writers: usize) -> String {
    format!("{what}, {writers} at once, a second")
}

fn run(cell: &Cell<'_>) -> Sample {
    let mut sample = Sample::default();
    let mounted = cell.mount("a", &["--no-publish"]);
    let client = Raw::new(&cell.world);
    let (body, root) = (sources::noise(4, SIZE), mounted.root());
    for writers in WRITERS {
        let (mut closes, mut puts, mut used) = (Turns::default(), Turns::default(), Usage::default());
        for turn in 0..cell.asked.size(2, 6) {
            let meter = cell.meter(mounted.as_ref());
            closes.take(writers, |who, n| close(root, &format!("{writers}-{turn}-{who}-{n}"), &body));
            used = used.and(meter.read());
            puts.take(writers, |who, n| client.put(&format!("{writers}-{who}-{n}"), body.clone()));
        }
        let requests = used.total() as f64 / closes.millis.len() as f64;
        sample.add_with(format!("requests of a close, {writers} at once"), Unit::Count, requests, used);
        for (what, turns) in [("close", closes), ("PUT", puts)] {
            sample.add(latency(what, writers, 50), Unit::Millis, percentile(&turns.millis, 0.5));
            sample.add(latency(what, writers, 99), Unit::Millis, percentile(&turns.millis, 0.99));
            sample.add(
                rate(what, writers),
                Unit::PerSecond,
                turns.millis.len() as f64 / turns.took.as_secs_f64(),
            );
            if what == "close" {
                cell.bytes_are_stored(&mut sample, (turns.millis.len() * SIZE) as u64);
            }
        }
    }
    sample.sure(mounted.made_sure());
    mounted.unmount();
    sample
}

/// Creates and writes a file, and tells how long its close takes.
fn close(root: &Path, name: &str, body: &[u8]) -> Duration {
    let mut file = std::fs::File::create_new(root.join(name)).expect("create a file");
    file.write_all(body).expect("write it");
    let start = Instant::now();
    nix::unistd::close(file).expect("close it");
    start.elapsed()
}

/// What came of some turns.
#[derive(Default)]
struct Turns {
    millis: Vec<f64>,
    took: Duration,
}

impl Turns {
    /// Lets so many threads do it again and again for a while; they are told who they are, and how often they did.
    fn take(&mut self, threads: usize, once: impl Fn(usize, usize) -> Duration + Sync) {
        let start = Instant::now();
        let until = start + TURN;
        let work = |who: usize| {
            let mut took = Vec::new();
            while Instant::now() < until || took.is_empty() {
                took.push(once(who, took.len()).as_secs_f64() * 1e3);
            }
            took
        };
        std::thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> = (0..threads).map(|who| scope.spawn(move || work(who))).collect();
            for thread in started {
                self.millis.extend(thread.join().expect("a writer"));
            }
        });
        self.took += start.elapsed();
    }
}
