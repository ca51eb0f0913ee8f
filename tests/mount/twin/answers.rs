//! How often each operation was done and refused: a run in which one was never done has not tried it.

use super::ops::Op;
use std::collections::BTreeMap;
use std::fmt;

/// Counts by operation and answer: `ok`, or the error.
#[derive(Default)]
pub struct Answers(BTreeMap<String, BTreeMap<String, usize>>);

impl Answers {
    /// Notes an answer.
    pub fn note(&mut self, op: &Op, answer: &str) {
        let op = format!("{op:?}");
        let op = op.split(' ').next().expect("its name comes first").to_owned();
        let word = answer.split([';', ',', ' ']).next().unwrap_or_default();
        let is_error = word.len() > 2 && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
        let word = if is_error && word.starts_with('E') { word } else { "ok" };
        *self.0.entry(op).or_default().entry(word.to_owned()).or_default() += 1;
    }

    /// Adds those of another run.
    pub fn add(&mut self, other: &Answers) {
        for (op, answers) in &other.0 {
            for (answer, n) in answers {
                *self.0.entry(op.clone()).or_default().entry(answer.clone()).or_default() += n;
            }
        }
    }

    /// Panics where a run did not try what it says: an operation that was tried often and never done, or too
    /// few that were done at all.
    pub fn check(&self) {
        let tried = |n: &BTreeMap<String, usize>| n.values().sum::<usize>();
        let mut never = self.0.iter().filter(|(_, n)| !n.contains_key("ok") && tried(n) >= 400);
        assert_eq!(never.next(), None, "tried often and never done");
        let all: usize = self.0.values().map(tried).sum();
        let done: usize = self.0.values().filter_map(|n| n.get("ok")).sum();
        assert!(done * 4 >= all, "of {all} steps only {done} were done");
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (op, answers) in &self.0 {
            let mut told: Vec<_> = answers.iter().collect();
            told.sort_by_key(|(_, n)| std::cmp::Reverse(**n));
            let told: Vec<_> = told.iter().map(|(answer, n)| format!("{n} {answer}")).collect();
            writeln!(f, "  {op}: {}", told.join(", "))?;
        }
        Ok(())
    }
}
