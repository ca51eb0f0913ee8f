//! What an idle processor does while the bench runs, and what it costs to wake a thread on one.
//!
//! A virtual processor that has nothing to do halts, and hands itself back to the host. Where the host is shared, being
//! given it again takes 10 to 100 us, more or less from one minute to the next with what the neighbours do; in that
//! time a file system answers several requests. So idle processors are kept from halting, as cyclictest does; what
//! is measured is then the systems, not the neighbours. A user's machine halts: `--halt` measures that.

use rustix::thread::{CpuSet, sched_setaffinity};
use std::fs::File;
use std::io::Write;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

/// Linux's interface for it: the longest that waking may take, in us, for as long as the file is open.
const LATENCY: &str = "/dev/cpu_dma_latency";

/// What idle processors do.
pub enum Idle {
    /// They do not halt, for as long as this lives.
    Awake(#[allow(dead_code)] File), // Held, never read.
    /// They do as they always do; why.
    AsEver(String),
}

impl Idle {
    /// Keeps them from halting, unless that is not wanted, or cannot be done.
    pub fn keep(halt: bool) -> Idle {
        if halt {
            return Idle::AsEver("as asked for".to_owned());
        }
        let open = || {
            let mut file = File::options().write(true).open(LATENCY)?;
            file.write_all(&0i32.to_ne_bytes())?;
            Ok::<_, std::io::Error>(file)
        };
        match open() {
            Ok(file) => Idle::Awake(file),
            Err(error) => Idle::AsEver(format!("{LATENCY}: {error}")),
        }
    }

    /// It in words.
    pub fn words(&self) -> String {
        match self {
            Idle::Awake(_) => format!("Idle processors were kept from halting ({LATENCY})."),
            Idle::AsEver(why) => format!("Idle processors halted as they do on this machine ({why})."),
        }
    }
}

/// How long it takes, in us, until a thread that sleeps on another processor goes on; the median of many.
/// `None` where there is no other.
pub fn waking() -> Option<f64> {
    const TIMES: usize = 300;
    let ((there, asked), (back, answered)) = (channel::<()>(), channel::<()>());
    let other = std::thread::spawn(move || {
        let pinned = pin(1);
        while asked.recv().is_ok() && back.send(()).is_ok() {}
        pinned
    });
    let here = std::thread::spawn(move || {
        let pinned = pin(0);
        let mut took = Vec::new();
        for _ in 0..TIMES {
            // Long enough for the other one to have gone to sleep.
            std::thread::sleep(Duration::from_micros(200));
            let start = Instant::now();
            let _ = there.send(());
            let _ = answered.recv();
            took.push(start.elapsed().as_secs_f64() * 1e6 / 2.0); // There and back.
        }
        pinned.then_some(took)
    });
    let took = here.join().expect("it does nothing that panics");
    let both = other.join().expect("it does nothing that panics");
    took.filter(|_| both).map(|took| crate::sample::median(&took))
}

fn pin(cpu: usize) -> bool {
    let mut only = CpuSet::new();
    only.set(cpu);
    sched_setaffinity(None, &only).is_ok()
}
