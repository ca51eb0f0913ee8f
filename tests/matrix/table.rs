//! The table of what passed, written anew with each cell that ends: `target/matrix/table.txt`.

use crate::agents::Agent;
use crate::providers::Provider;
use crate::story::{Passed, Teardown};
use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

type Cell = (Provider, Agent, Teardown);

static ENDED: Mutex<BTreeMap<Cell, String>> = Mutex::new(BTreeMap::new());

/// Runs a cell and notes how it ended; a panic goes on.
pub fn noted(cell: Cell, run: impl FnOnce() -> Passed + std::panic::UnwindSafe) {
    let start = Instant::now();
    let ended = std::panic::catch_unwind(run);
    let text = match &ended {
        Ok(passed) => pass(passed, start.elapsed()),
        Err(why) => format!("FAIL  {}", first_line(why.as_ref())),
    };
    note(cell, text);
    if let Err(why) = ended {
        std::panic::resume_unwind(why);
    }
}

fn pass(passed: &Passed, took: Duration) -> String {
    let Passed { names, of_state, objects } = passed;
    format!(
        "PASS  {names:>3} names ({of_state} of the agent's state) and {objects:>3} objects the same, {:.0} s",
        took.as_secs_f64()
    )
}

fn first_line(why: &(dyn Any + Send)) -> String {
    let text = why.downcast_ref::<String>().map(String::as_str).or(why.downcast_ref::<&str>().copied());
    let line = text.unwrap_or("a panic without words").lines().next().unwrap_or_default();
    line.chars().take(100).collect()
}

fn note(cell: Cell, text: String) {
    let mut ended = ENDED.lock().unwrap_or_else(PoisonError::into_inner);
    ended.insert(cell, text);
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/matrix");
    let written =
        std::fs::create_dir_all(&dir).and_then(|()| std::fs::write(dir.join("table.txt"), table(&ended)));
    written.expect("the table is written");
}

fn table(ended: &BTreeMap<Cell, String>) -> String {
    let mut lines = vec![format!("{:<10} {:<20} {:<8} result", "provider", "agent", "teardown")];
    for provider in Provider::ALL {
        for agent in Agent::ALL {
            for teardown in [Teardown::Clean, Teardown::Killed] {
                let result = ended.get(&(provider, agent, teardown)).map_or("not run", String::as_str);
                let (provider, teardown) = (format!("{provider:?}"), format!("{teardown:?}"));
                let (provider, teardown) = (provider.to_lowercase(), teardown.to_lowercase());
                lines.push(format!("{provider:<10} {:<20} {teardown:<8} {result}", agent.name()));
            }
        }
    }
    lines.join("\n") + "\n"
}
