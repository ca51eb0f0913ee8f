//! Runs the works: every round does the work once on each system, so that what disturbs the machine disturbs all.

use crate::args::{Asked, wants};
use crate::baseline::Baseline;
use crate::idle::Idle;
use crate::sample::{Reading, Sample};
use crate::stretch::Stretch;
use crate::support::World;
use crate::support::world::binary;
use crate::systems::{self, Kind, System};
use crate::watch::{Capped, Watch};
use crate::works::{self, Cell, Work};
use serde::{Deserialize, Serialize};
use std::any::Any;
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

/// A run that is no peer's and takes longer hangs.
const HANG: Duration = Duration::from_secs(3600);

/// A system that takes longer for a work does it once only: more rounds would take hours.
const ONCE: Duration = Duration::from_secs(60);

/// What a work gave on a system.
#[derive(Serialize, Deserialize)]
pub struct Row {
    /// The work's name.
    pub work: String,
    /// The system's name.
    pub system: String,
    /// One of each run that went well.
    #[serde(rename = "runs")]
    pub samples: Vec<Sample>,
    /// What went wrong: then there is no figure.
    pub error: Option<String>,
    /// It ran into its cap of so many seconds; the figures before that are in the last sample.
    #[serde(rename = "capped_seconds")]
    pub capped: Option<f64>,
}

/// A system that took part, or would have.
#[derive(PartialEq, Serialize, Deserialize)]
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
#[derive(Serialize, Deserialize)]
pub struct Results {
    /// What was asked for, as a command.
    pub command: String,
    /// A hash of the program that was measured.
    pub program: String,
    /// One more size for the works on many files.
    pub files: Option<usize>,
    /// Works that no ended stretch has yet.
    pub left: Vec<String>,
    /// What was done between two baselines each, in this order.
    pub stretches: Vec<Stretch>,
    /// The systems.
    #[serde(rename = "systems")]
    pub parts: Vec<Part>,
    /// The figures.
    pub rows: Vec<Row>,
}

/// Runs what is asked for, apart from what counts of an earlier run; `after` sees the results after each work.
/// Errors are those of an earlier run that was not the same.
pub fn run(
    asked: &Asked,
    earlier: Option<Results>,
    mut after: impl FnMut(&Results),
) -> Result<Results, String> {
    let systems = systems::all(asked);
    let names: Vec<_> = systems.iter().map(|system| system.name()).collect();
    let systems = systems.into_iter().filter(|system| wants(&asked.systems, &system.name(), &names));
    let systems: Vec<_> = systems.collect();
    let mut results = Results::begin(asked, &systems)?;
    if let Some(earlier) = earlier {
        results.go_on_from(earlier)?;
    }
    let mut works = works(asked, &systems);
    works.retain(|(work, _)| !results.stretches.iter().any(|stretch| stretch.has(work.name)));
    results.left = works.iter().map(|(work, _)| work.name.to_owned()).collect();
    let idle = Idle::keep(asked.halt);
    let mut stretch = Stretch::begin(idle.words(), Baseline::measure());
    for (n, (work, taking)) in works.iter().enumerate() {
        eprintln!("== {} ({:.0} s)", work.name, results.took() + stretch.seconds);
        results.rows.extend(run_work(asked, work, taking));
        stretch.add(work.name);
        if stretch.is_long() || n + 1 == works.len() {
            let ended = stretch.end(Baseline::measure());
            results.left.retain(|work| !ended.has(work));
            results.stretches.push(ended);
        }
        after(&results);
    }
    Ok(results)
}

/// The works that are asked for, each with the systems that take part.
fn works<'s>(asked: &Asked, systems: &'s [Box<dyn System>]) -> Vec<(&'static Work, Vec<&'s dyn System>)> {
    let names: Vec<_> = works::ALL.iter().map(|work| work.name.to_owned()).collect();
    // One of the works is about as many files as the caller says.
    let sized = |work: &&Work| asked.files.is_some() || work.name != works::resume::ASKED.name;
    let wanted = works::ALL.iter().filter(sized).filter(|work| wants(&asked.only, work.name, &names));
    let taking = |work: &'static Work| {
        let present = systems.iter().map(AsRef::as_ref).filter(|system| system.absent().is_none());
        (work, present.filter(|system| (work.takes)(*system, asked.quick)).collect::<Vec<_>>())
    };
    wanted.map(taking).filter(|(_, taking)| !taking.is_empty()).collect()
}

fn part(system: &dyn System) -> Part {
    Part { name: system.name(), kind: system.kind(), promise: system.promise(), absent: system.absent() }
}

fn run_work(asked: &Asked, work: &Work, systems: &[&dyn System]) -> Vec<Row> {
    let row = |system: &&dyn System| Row {
        work: work.name.to_owned(),
        system: system.name(),
        samples: Vec::new(),
        error: None,
        capped: None,
    };
    let mut rows: Vec<_> = systems.iter().map(row).collect();
    let rounds = asked.rounds.unwrap_or(asked.size(work.rounds.0, work.rounds.1));
    let mut once = BTreeSet::new();
    for round in 0..rounds {
        for (system, row) in systems.iter().zip(&mut rows) {
            // One that was wrong, or too slow, once has no figure; it is not asked again.
            if row.error.is_none() && row.capped.is_none() && !(round > 0 && once.contains(&row.system)) {
                let start = Instant::now();
                run_once(asked, work, *system, row, round);
                if start.elapsed() > ONCE {
                    once.insert(row.system.clone());
                }
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
    /// Those of a run that begins.
    fn begin(asked: &Asked, systems: &[Box<dyn System>]) -> Result<Results, String> {
        let program = std::fs::read(binary()).map_err(|error| format!("{}: {error}", binary().display()))?;
        Ok(Results {
            command: asked.command(),
            program: blake3::hash(&program).to_hex()[..16].to_owned(),
            files: asked.files,
            left: Vec::new(),
            stretches: Vec::new(),
            parts: systems.iter().map(|system| part(system.as_ref())).collect(),
            rows: Vec::new(),
        })
    }

    /// Takes over what counts of a run that was the same so far; says what was not, if it was another.
    fn go_on_from(&mut self, earlier: Results) -> Result<(), String> {
        if earlier.command != self.command {
            return Err(format!("the last run was another: {}, not {}", earlier.command, self.command));
        }
        if earlier.program != self.program {
            return Err("the last run measured another cwdfs; begin anew, without --continue".to_owned());
        }
        if earlier.parts != self.parts {
            return Err("the last run had other systems, or peers that are absent now".to_owned());
        }
        self.stretches = earlier.stretches;
        self.stretches.retain(|stretch| stretch.void().is_none());
        let counts = |row: &Row| self.stretches.iter().any(|stretch| stretch.has(&row.work));
        self.rows.extend(earlier.rows.into_iter().filter(counts));
        Ok(())
    }

    /// How long it all took, in seconds.
    pub fn took(&self) -> f64 {
        self.stretches.iter().map(|stretch| stretch.seconds).sum()
    }

    /// What a work gave on a system.
    pub fn row(&self, work: &str, system: &str) -> Option<&Row> {
        self.rows.iter().find(|row| row.work == work && row.system == system)
    }

    /// Why figures do not count, if some do not.
    pub fn void(&self) -> Vec<String> {
        self.stretches.iter().filter_map(Stretch::void).collect()
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
