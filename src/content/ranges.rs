//! Sets of byte ranges.

use std::collections::BTreeMap;
use std::ops::Range;

/// A set of bytes as disjoint, non-adjacent ranges.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges {
    /// start -> end
    map: BTreeMap<u64, u64>,
    /// Bytes in all.
    total: u64,
}

impl Ranges {
    /// The empty set.
    pub fn new() -> Ranges {
        Ranges::default()
    }

    /// The set of `range` alone.
    pub fn one(range: Range<u64>) -> Ranges {
        Ranges::from_iter([range])
    }

    /// Adds `range`.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let (mut start, mut end) = (range.start, range.end);
        let touching: Vec<u64> =
            self.map.range(..=end).rev().take_while(|&(_, &e)| e >= start).map(|(&s, _)| s).collect();
        for s in touching {
            if let Some(e) = self.map.remove(&s) {
                self.total -= e - s;
                start = start.min(s);
                end = end.max(e);
            }
        }
        self.total += end - start;
        self.map.insert(start, end);
    }

    /// Removes `range`.
    pub fn remove(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let hit: Vec<(u64, u64)> = self
            .map
            .range(..range.end)
            .rev()
            .take_while(|&(_, &e)| e > range.start)
            .map(|(&s, &e)| (s, e))
            .collect();
        for (s, e) in hit {
            self.map.remove(&s);
            self.total -= e.min(range.end) - s.max(range.start);
            if s < range.start {
                self.map.insert(s, range.start);
            }
            if e > range.end {
                self.map.insert(range.end, e);
            }
        }
    }

    /// The parts of `range` that are in the set.
    pub fn within(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut found: Vec<Range<u64>> = self
            .map
            .range(..range.end)
            .rev()
            .take_while(|&(_, &e)| e > range.start)
            .map(|(&s, &e)| s.max(range.start)..e.min(range.end))
            .collect();
        found.reverse();
        found
    }

    /// The parts of `range` that are not in the set.
    pub fn missing(&self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut gaps = Vec::new();
        let mut at = range.start;
        for r in self.within(range.clone()) {
            if r.start > at {
                gaps.push(at..r.start);
            }
            at = r.end;
        }
        if at < range.end {
            gaps.push(at..range.end);
        }
        gaps
    }

    /// Whether all of `range` is in the set.
    pub fn covers(&self, range: Range<u64>) -> bool {
        range.is_empty() || self.missing(range).is_empty()
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.map.iter().map(|(&s, &e)| s..e)
    }

    /// Whether it holds no byte.
    pub fn is_empty(&self) -> bool {
        self.map.is_empty()
    }

    /// How many bytes it holds.
    pub fn bytes(&self) -> u64 {
        self.total
    }

    /// How many ranges it is made of.
    pub fn count(&self) -> usize {
        self.map.len()
    }

    /// Whether any byte of `range` is in the set.
    pub fn touches(&self, range: &Range<u64>) -> bool {
        self.map.range(..range.end).next_back().is_some_and(|(_, &e)| e > range.start) && !range.is_empty()
    }

    /// The range that holds byte `at`, if one does.
    pub fn holding(&self, at: u64) -> Option<Range<u64>> {
        self.map.range(..=at).next_back().filter(|&(_, &e)| e > at).map(|(&s, &e)| s..e)
    }

    /// Where the first range that starts behind `at` starts.
    pub fn next_after(&self, at: u64) -> Option<u64> {
        self.map.range((std::ops::Bound::Excluded(at), std::ops::Bound::Unbounded)).next().map(|(&s, _)| s)
    }

    /// Adds all of `other`.
    pub fn extend(&mut self, other: &Ranges) {
        other.iter().for_each(|r| self.insert(r));
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.map.clear();
        self.total = 0;
    }
}

impl FromIterator<Range<u64>> for Ranges {
    fn from_iter<I: IntoIterator<Item = Range<u64>>>(ranges: I) -> Ranges {
        let mut set = Ranges::new();
        for r in ranges {
            set.insert(r);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    proptest! {
        #[test]
        fn equals_a_set_of_bytes(ops in proptest::collection::vec((any::<bool>(), 0u64..60, 0u64..20), 1..40), q in 0u64..60, l in 0u64..30) {
            let (mut ranges, mut set) = (Ranges::new(), BTreeSet::new());
            for (add, start, len) in ops {
                let r = start..start + len;
                if add {
                    ranges.insert(r.clone());
                    set.extend(r);
                } else {
                    ranges.remove(r.clone());
                    set.retain(|b| !r.contains(b));
                }
            }
            let all: BTreeSet<u64> = ranges.iter().flatten().collect();
            prop_assert_eq!(&all, &set);
            prop_assert_eq!(ranges.bytes(), set.len() as u64);
            let inside: Vec<u64> = ranges.within(q..q + l).into_iter().flatten().collect();
            let inside_is_empty = inside.is_empty();
            let outside: Vec<u64> = ranges.missing(q..q + l).into_iter().flatten().collect();
            prop_assert_eq!(inside, set.range(q..q + l).copied().collect::<Vec<_>>());
            prop_assert_eq!(outside, (q..q + l).filter(|b| !set.contains(b)).collect::<Vec<_>>());
            let starts: Vec<_> = ranges.iter().collect();
            prop_assert_eq!(ranges.touches(&(q..q + l)), !inside_is_empty);
            prop_assert_eq!(ranges.holding(q).is_some(), set.contains(&q));
            prop_assert!(starts.windows(2).all(|w| w[0].end < w[1].start), "adjacent ranges are joined");
        }
    }
}
