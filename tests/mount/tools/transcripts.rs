//! Transcripts as agent harnesses keep them: JSON lines appended to a file that stays open, or that is opened
//! for each line, while readers tail them.

use crate::support::way::{Way, comes_back};
use crate::support::{World, full};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// A line of a transcript: numbered, of a length that changes, and with what JSON has to escape.
fn line(n: usize) -> Value {
    json!({"n": n, "role": "assistant", "text": format!("{}\n\"ü\"", "x".repeat(n * 37 % 3000))})
}

/// Appends lines until the time is over; says how many. `reopen` opens the file for each, as a shell's `>>`.
fn append(path: &Path, reopen: bool, until: Instant) -> usize {
    let open = || OpenOptions::new().append(true).create(true).open(path).expect("open to append");
    let mut file = open();
    let mut n = 0;
    while Instant::now() < until {
        file.write_all(format!("{}\n", line(n)).as_bytes()).expect("append");
        n += 1;
        if reopen {
            file = open();
        }
        thread::sleep(Duration::from_millis(2));
    }
    n
}

/// Follows the file as `tail -f` does, and says how many whole lines came, each checked to be the next one.
fn tail(path: &Path, ended: &AtomicBool) -> usize {
    let wait = Instant::now() + Duration::from_secs(10);
    while !path.exists() {
        assert!(Instant::now() < wait, "{} never appeared", path.display());
        thread::sleep(Duration::from_millis(5));
    }
    let mut reader = BufReader::new(File::open(path).expect("open to tail"));
    let (mut n, mut text) = (0, String::new());
    loop {
        // Read before the look at the end, so that the last line is not missed.
        let last = ended.load(Ordering::SeqCst);
        while reader.read_line(&mut text).expect("tail") > 0 {
            if text.ends_with('\n') {
                let seen: Value = serde_json::from_str(&text).unwrap_or_else(|e| panic!("line {n}: {e}"));
                assert_eq!(seen, line(n), "line {n} of {}", path.display());
                n += 1;
                text.clear();
            }
        }
        if last {
            assert_eq!(text, "", "half a line at the end of {}", path.display());
            return n;
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// Every line of a file, checked; says how many.
fn check(path: &Path) -> usize {
    let text = fs::read_to_string(path).expect("read the transcript");
    for (n, text) in text.lines().enumerate() {
        let seen: Value = serde_json::from_str(text).unwrap_or_else(|e| panic!("line {n}: {e}"));
        assert_eq!(seen, line(n));
    }
    text.lines().count()
}

#[test]
fn lines_are_appended_tailed_and_all_there_afterwards() {
    for way in Way::drawn("transcripts") {
        println!("{way}");
        let world = World::with_relay(&format!("transcripts-{way}"));
        let options = way.options(&[]);
        let mut mount = world.host("a").mount(&options);
        let span = Duration::from_secs(if full() { 180 } else { 6 });
        let paths = [(mount.path("kept-open.jsonl"), false), (mount.path("reopened.jsonl"), true)];
        let (until, ended) = (Instant::now() + span, AtomicBool::new(false));
        let written: Vec<usize> = thread::scope(|scope| {
            let tails: Vec<_> = paths
                .iter()
                .flat_map(|p| [p, p])
                .map(|(path, _)| scope.spawn(|| tail(path, &ended)))
                .collect();
            let writers: Vec<_> = paths
                .iter()
                .map(|(path, reopen)| scope.spawn(move || append(path, *reopen, until)))
                .collect();
            let written: Vec<usize> = writers.into_iter().map(|w| w.join().expect("a writer")).collect();
            ended.store(true, Ordering::SeqCst);
            let tailed: Vec<usize> = tails.into_iter().map(|t| t.join().expect("a tail")).collect();
            assert_eq!(tailed, [written[0], written[0], written[1], written[1]], "lines seen by each tail");
            written
        });
        assert!(written.iter().all(|n| *n > 20), "lines written: {written:?}");

        // The file that stays open is in the store within the commit interval, closed or not.
        mount = comes_back(&world, mount, "b", &options);
        for ((path, _), n) in paths.iter().zip(&written) {
            let name = path.file_name().expect("it has a name");
            assert_eq!(check(&mount.path(name)), *n, "{}", path.display());
        }
        mount.unmount();
    }
}
