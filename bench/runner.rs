//! Runs the works: every round does the work once on each system, so that what disturbs the machine disturbs all.

use crate::args::{Asked, wants};
use crate::baseline::Baseline;
use crate::idle::Idle;
use crate::sample::{Reading, Sample};
use crate::support::World;
use crate::systems::{self, Kind, System};
use crate::watch::{Capped, Watch};
use crate::works::{self, Cell, Work};
use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A run that is no peer's and takes longer hangs.
const HANG: Duration = Duration::from_secs(3600);

/// What a work gave on a system.
pub struct Row {
    /// The work's name.
    pub work: &'static str,
    /// The system's name.
    pub system: String,
    /// One of each run that went well.
    pub samples: Vec<Sample>,
    /// What went wrong: then there is no figure.
    pub error: Option<String>,
    /// It ran into its cap of so many seconds; the figures before that are in the last sample.
    pub capped: Option<f64>,
}

/// A system that took part, or would have.
pub struct Part {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// What it promises while it is measured.
    pub promise: String,
    /// Why it was not there.
    pub absent: Option<String>,
}

/// Everything a run gave.
pub struct Results {
    /// What was asked for.
    pub asked: Asked,
    /// The systems.
    pub parts: Vec<Part>,
    /// The figures.
    pub rows: Vec<Row>,
    /// What idle processors did.
    pub idle: Idle,
    /// What the machine could do before, and after.
    pub before: Baseline,
    /// Only at the end of a run.
    pub after: Option<Baseline>,
    /// How long it all took, in seconds.
    pub took: f64,
}

/// Runs what is asked for; `after` sees the results after each work.
pub fn run(asked: &Asked, mut after: impl FnMut(&Results)) -> Results {
    let start = Instant::now();
    let systems = systems::all(asked);
    let names: Vec<_> = systems.iter().map(|system| system.name()).collect();
    let systems = systems.into_iter().filter(|system| wants(&asked.systems, &system.name(), &names));
    let systems: Vec<_> = systems.collect();
    let names: Vec<_> = works::ALL.iter().map(|work| work.name.to_owned()).collect();
    let parts = systems.iter().map(|system| part(system.as_ref())).collect();
    let idle = Idle::keep(asked.halt);
    let before = Baseline::measure();
    let mut results =
        Results { asked: asked.clone(), parts, rows: Vec::new(), idle, before, after: None, took: 0.0 };
    // One of the works is about as many files as the caller says.
    let sized = |work: &&Work| asked.files.is_some() || work.name != works::resume::ASKED.name;
    for work in works::ALL.iter().filter(sized).filter(|work| wants(&asked.only, work.name, &names)) {
        let taking = systems.iter().map(AsRef::as_ref);
        let taking = taking.filter(|system| system.absent().is_none() && (work.takes)(*system, asked.quick));
        let taking: Vec<_> = taking.collect();
        if taking.is_empty() {
            continue;
        }
        eprintln!("== {} ({:.0} s)", work.name, start.elapsed().as_secs_f64());
        let rows = run_work(asked, work, &taking);
        results.rows.extend(rows);
        results.took = start.elapsed().as_secs_f64();
        after(&results);
    }
    results.after = Some(Baseline::measure());
    results
}

fn part(system: &dyn System) -> Part {
    Part { name: system.name(), kind: system.kind(), promise: system.promise(), absent: system.absent() }
}

fn run_work(asked: &Asked, work: &Work, systems: &[&dyn System]) -> Vec<Row> {
    let row = |system: &&dyn System| Row {
        work: work.name,
        system: system.name(),
        samples: Vec::new(),
        error: None,
        capped: None,
    };
    let mut rows: Vec<_> = systems.iter().map(row).collect();
    let rounds = asked.rounds.unwrap_or(asked.size(work.rounds.0, work.rounds.1));
    for round in 0..rounds {
        for (system, row) in systems.iter().zip(&mut rows) {
            // One that was wrong, or too slow, once has no figure; it is not asked again.
            if row.error.is_none() && row.capped.is_none() {
                run_once(asked, work, *system, row, round);
            }
        }
    }
    rows
}

fn run_once(asked: &Asked, work: &Work, system: &dyn System, row: &mut Row, round: usize) {
    let start = Instant::now();
    let cap = if system.kind() == Kind::Peer { asked.cap } else { HANG };
    let watch = Watch::start(cap);
    let mut sample = Sample::default();
    let done = catch_unwind(AssertUnwindSafe(|| {
        let world = World::with_relay(&format!("bench-{}-{}", work.name, row.system));
        world.relay().set_delay(asked.rtt);
        (work.run)(&Cell { asked, system, world, watch: &watch }, &mut sample);
    }));
    let late = watch.end().then_some(Capped(cap));
    if let Err(why) = done {
        match late.or(why.downcast_ref::<Capped>().copied()) {
            Some(Capped(cap)) => row.capped = Some(cap.as_secs_f64()),
            None => row.error = Some(message(why.as_ref())),
        }
    }
    let ended = match (&row.error, row.capped) {
        (Some(why), _) => format!("ERROR: {why}: "),
        (None, Some(cap)) => format!("not within its cap of {cap:.0} s: "),
        (None, None) => String::new(),
    };
    let figures = sample.readings.iter().map(|r| format!("{} {}", r.measure, r.unit.show(r.value)));
    let figures = figures.collect::<Vec<_>>().join("; ");
    eprintln!("   {} {}, {:.0} s: {ended}{figures}", row.system, round + 1, start.elapsed().as_secs_f64());
    row.samples.push(sample);
}

fn message(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str).or(why.downcast_ref::<&str>().copied());
    let text = text.unwrap_or("it panicked").replace('\n', " / ");
    text[..text.floor_char_boundary(400)].trim_end_matches([' ', '/']).to_owned()
}

impl Results {
    /// What a work gave on a system.
    pub fn row(&self, work: &str, system: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.system == system)
    }

    /// Why the figures do not count, if they do not.
    pub fn void(&self) -> Vec<String> {
        let both = [("before", Some(self.before)), ("after", self.after)];
        both.iter().filter_map(|(when, baseline)| Some(format!("{when}: {}", (*baseline)?.void()?))).collect()
    }

    /// Their median; `None` where it was not measured.
    pub fn median(&self, work: &str, measure: &str, system: &str) -> Option<f64> {
        let values = self.row(work, system)?.values(measure);
        (!values.is_empty()).then(|| crate::sample::median(&values))
    }

    /// How many requests the measure took, the median of the runs.
    pub fn requests(&self, work: &str, measure: &str, system: &str) -> Option<f64> {
        let row = self.row(work, system).filter(|row| row.error.is_none())?;
        let readings = row.readings(measure).filter_map(|reading| reading.usage.as_ref());
        let totals: Vec<_> = readings.map(|usage| usage.total() as f64).collect();
        (!totals.is_empty()).then(|| crate::sample::median(&totals))
    }
}

impl Row {
    fn readings<'r>(&'r self, measure: &'r str) -> impl Iterator<Item = &'r Reading> {
        let all = self.samples.iter().flat_map(|sample| &sample.readings);
        all.filter(move |reading| reading.measure == measure)
    }

    /// The values of a measure, one of each run; none where one of the runs went wrong.
    pub fn values(&self, measure: &str) -> Vec<f64> {
        match self.error {
            None => self.readings(measure).map(|reading| reading.value).collect(),
            Some(_) => Vec::new(),
        }
    }
}
