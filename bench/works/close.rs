//! close(2) of a new file of 4 KiB, by 1, 4, 16 and 64 writers, and PUTs of the same bytes in turns with it.

use super::{Cell, Work, one_of};
use crate::raw::Raw;
use crate::sample::{Sample, Unit, Usage, percentile};
use crate::sources;
use std::collections::BTreeMap;
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
/// close(2), of files that all writers make in the same directory.
pub const CLOSE: &str = "close";
/// The same, where each makes them in a directory of its own: in one, the kernel lets one writer at a time make a file.
pub const CLOSE_APART: &str = "close in directories of their own";
/// What both send.
pub const PUT: &str = "PUT";
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

fn run(cell: &Cell<'_>, sample: &mut Sample) {
    let mounted = cell.mount("a", &["--no-publish"]);
    let client = Raw::new(&cell.world);
    let (body, root) = (sources::noise(4, SIZE), mounted.root());
    let apart = |who: usize| root.join(format!("of-{who}"));
    if cell.is_ours() {
        (0..WRITERS[3]).for_each(|who| std::fs::create_dir(apart(who)).expect("a directory"));
        mounted.settle();
    }
    for writers in WRITERS {
        let turns = cell.asked.size(2, 6);
        let mut all = BTreeMap::from([CLOSE, PUT].map(|what| (what, Turns::default())));
        if cell.is_ours() && writers > 1 {
            all.insert(CLOSE_APART, Turns::default());
        }
        for turn in 0..turns {
            for (what, done) in &mut all {
                let meter = cell.meter(mounted.as_ref());
                done.take(writers, |who, n| match *what {
                    PUT => client.put(&format!("{writers}-{who}-{n}"), body.clone()).into(),
                    CLOSE => close(root, &format!("{writers}-{turn}-{who}-{n}"), &body),
                    _ => close(&apart(who), &format!("{writers}-{turn}-{n}"), &body),
                });
                done.used = std::mem::take(&mut done.used).and(meter.read());
            }
        }
        for (what, done) in all {
            done.add_to(what, writers, sample);
            if what != PUT {
                cell.bytes_are_stored(sample, (done.millis.len() * SIZE) as u64);
            }
        }
    }
    sample.sure(mounted.made_sure());
    mounted.unmount();
}

/// How long something took, and what had to be done for it before.
struct Took {
    it: Duration,
    before: Duration,
}

impl From<Duration> for Took {
    fn from(it: Duration) -> Took {
        Took { it, before: Duration::ZERO }
    }
}

/// Makes and writes a file, and tells how long its close takes.
fn close(dir: &Path, name: &str, body: &[u8]) -> Took {
    let start = Instant::now();
    let mut file = std::fs::File::create_new(dir.join(name)).expect("create a file");
    file.write_all(body).expect("write it");
    let made = Instant::now();
    nix::unistd::close(file).expect("close it");
    Took { it: made.elapsed(), before: made - start }
}

/// What came of some turns.
#[derive(Default)]
struct Turns {
    millis: Vec<f64>,
    millis_before: Vec<f64>,
    took: Duration,
    used: Usage,
}

impl Turns {
    /// Lets so many threads do it again and again for a while; they are told who they are, and how often they did.
    fn take(&mut self, threads: usize, once: impl Fn(usize, usize) -> Took + Sync) {
        let start = Instant::now();
        let until = start + TURN;
        let work = |who: usize| {
            let mut took = Vec::new();
            while Instant::now() < until || took.is_empty() {
                took.push(once(who, took.len()));
            }
            took
        };
        std::thread::scope(|scope| {
            let work = &work;
            let started: Vec<_> = (0..threads).map(|who| scope.spawn(move || work(who))).collect();
            for took in started.into_iter().flat_map(|thread| thread.join().expect("a writer")) {
                self.millis.push(took.it.as_secs_f64() * 1e3);
                self.millis_before.push(took.before.as_secs_f64() * 1e3);
            }
        });
        self.took += start.elapsed();
    }

    fn add_to(&self, what: &str, writers: usize, sample: &mut Sample) {
        for percent in [50, 99] {
            let value = percentile(&self.millis, f64::from(percent) / 100.0);
            sample.add(latency(what, writers, percent), Unit::Millis, value);
        }
        let rates = self.millis.len() as f64 / self.took.as_secs_f64();
        sample.add(rate(what, writers), Unit::PerSecond, rates);
        if what == PUT {
            return;
        }
        let made = latency(&format!("making the file for a {what}"), writers, 50);
        sample.add(made, Unit::Millis, percentile(&self.millis_before, 0.5));
        let requests = self.used.total() as f64 / self.millis.len() as f64;
        let measure = format!("requests of a {what}, {writers} at once");
        sample.add_with(measure, Unit::Count, requests, self.used.clone());
    }
}
