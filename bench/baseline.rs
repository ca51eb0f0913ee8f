//! Whether the machine is as fast as it has to be for the figures to mean something: what a bare FUSE server and a
//! plain PUT reach is known of it.

use crate::client::rates::{Clients, Phase};
use crate::idle;
use crate::raw::Raw;
use crate::sample::median;
use crate::sources;
use crate::support::World;
use crate::systems::{self, System};
use serde::{Deserialize, Serialize};

/// Creates of 4 KiB a second of one client on the bare server in memory, as it was once found.
const BARE: f64 = 9_000.0;
/// A PUT of 4 KiB without delay, in ms: the slower end of what was once found.
const PUT: f64 = 8.0;
/// Below this part of it the run is void.
const LEAST: f64 = 0.8;

const FILES: usize = 3_000;
const PUTS: usize = 60;

/// What was found.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Baseline {
    /// Creates a second.
    #[serde(rename = "bare_creates_per_second")]
    pub bare: f64,
    /// Milliseconds.
    #[serde(rename = "put_ms")]
    pub put: f64,
    /// Microseconds until a thread goes on that slept on another processor, if there is one.
    #[serde(rename = "waking_us")]
    pub waking: Option<f64>,
}

impl Baseline {
    /// Measures them; the best of three of the first two, as nothing can make them better than they are.
    pub fn measure() -> Baseline {
        let bare = (0..3).map(|_| bare()).fold(0.0, f64::max);
        let put = (0..3).map(|_| put()).fold(f64::INFINITY, f64::min);
        Baseline { bare, put, waking: idle::waking() }
    }

    /// Why the run is void, if it is.
    pub fn void(&self) -> Option<String> {
        let mut why = Vec::new();
        if self.bare < LEAST * BARE {
            why.push(format!("the bare FUSE server makes {:.0} files a second, not {BARE:.0}", self.bare));
        }
        if self.put > PUT / LEAST {
            why.push(format!("a raw PUT takes {:.1} ms without delay, not {PUT:.0}", self.put));
        }
        (!why.is_empty()).then(|| why.join("; "))
    }
}

fn bare() -> f64 {
    let world = World::with_relay("bench-baseline");
    let mounted = systems::bare().mount(&world, "a", &[]);
    let took = Clients::start(mounted.root(), 1, FILES).run(Phase::Create);
    mounted.unmount();
    FILES as f64 / took.as_secs_f64()
}

fn put() -> f64 {
    let world = World::with_relay("bench-baseline");
    let client = Raw::new(&world);
    let body = sources::noise(1, 4096);
    let took: Vec<_> =
        (0..PUTS).map(|n| client.put(&n.to_string(), body.clone()).as_secs_f64() * 1e3).collect();
    median(&took)
}
