//! How long things take, by classes of time.

use super::Count;
use std::time::Duration;

/// The upper bounds of the classes, in seconds; a last class has no bound.
pub const BOUNDS: [f64; 16] = [
    0.000_025, 0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0,
    15.0, 60.0,
];

/// The same in nanoseconds.
const NANOS: [u64; BOUNDS.len()] = {
    let mut nanos = [0; BOUNDS.len()];
    let mut n = 0;
    while n < nanos.len() {
        // Whole microseconds, none above a minute: exact.
        nanos[n] = (BOUNDS[n] * 1e9 + 0.5) as u64;
        n += 1;
    }
    nanos
};

/// Counts of times.
#[derive(Debug, Default)]
pub struct Histogram {
    classes: [Count; BOUNDS.len() + 1],
    nanos: Count,
}

/// What a histogram held at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Times {
    /// How many were at most as long as each of [`BOUNDS`].
    pub within: [u64; BOUNDS.len()],
    /// All of them.
    pub count: u64,
    /// Their sum.
    pub sum: Duration,
}

impl Histogram {
    /// Counts a time.
    pub fn observe(&self, took: Duration) {
        // Beyond 584 years it is counted as that.
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let class = NANOS.iter().position(|bound| nanos <= *bound).unwrap_or(BOUNDS.len());
        self.classes[class].one();
        self.nanos.add(nanos);
    }

    /// What was counted. The sum may be ahead or behind by what is being counted now.
    pub fn times(&self) -> Times {
        let mut times = Times { sum: Duration::from_nanos(self.nanos.get()), ..Times::default() };
        for (class, within) in self.classes.iter().zip(&mut times.within) {
            times.count += class.get();
            *within = times.count;
        }
        times.count += self.classes[BOUNDS.len()].get();
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn each_time_is_in_its_class_and_all_classes_above() {
        let histogram = Histogram::default();
        for micros in [0, 25, 26, 1_000, 60_000_000, 61_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let times = histogram.times();
        assert_eq!((times.within[0], times.within[1]), (2, 3), "a bound is in its own class");
        assert_eq!((times.within[BOUNDS.len() - 1], times.count), (5, 6));
        assert_eq!(times.sum, Duration::from_micros(121_001_051));
        assert!(BOUNDS.is_sorted() && NANOS[0] == 25_000 && NANOS[BOUNDS.len() - 1] == 60_000_000_000);
    }

    #[test]
    fn nothing_is_lost_between_threads() {
        let histogram = Arc::new(Histogram::default());
        let threads: Vec<_> = (0..4)
            .map(|_| {
                let theirs = Arc::clone(&histogram);
                std::thread::spawn(move || (0..10_000).for_each(|n| theirs.observe(Duration::from_micros(n))))
            })
            .collect();
        threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        assert_eq!(histogram.times().count, 40_000);
    }
}
