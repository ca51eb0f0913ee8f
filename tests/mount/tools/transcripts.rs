//! Transcripts as agent harnesses keep them: JSON lines appended to a file that stays open, or that is opened
//! for each line, while readers tail them.

use crate::support::way::{Way, comes_back};
use crate::support::{World, full};
use serde_json::{Value, json};
use std::fs::{self, File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileExt;
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

/// Reads the end of a file again and again, and says how often. There is no NUL in what was appended.
fn watch_end(file: &File, ended: &AtomicBool) -> usize {
    let mut looks = 0;
    let mut page = [0; 4096];
    while !ended.load(Ordering::SeqCst) {
        let size = file.metadata().expect("its size").len();
        let read = file.read_at(&mut page, size.saturating_sub(64)).expect("read the end");
        let nul = page[..read].iter().position(|byte| *byte == 0);
        assert_eq!(nul, None, "a NUL in the {read} bytes before the end, of {size} in all");
        looks += 1;
    }
    looks
}

/// Appends to a file while others watch its end; who opens it first makes a difference to how they travel.
fn append_watched(path: &Path, writer_first: bool) {
    File::create(path).expect("create");
    let open = || OpenOptions::new().append(true).open(path).expect("open to append");
    let early = writer_first.then(open);
    let readers: Vec<_> = (0..4).map(|_| File::open(path).expect("open to read")).collect();
    let mut writer = early.unwrap_or_else(open);
    let until = Instant::now() + Duration::from_secs(if full() { 60 } else { 4 });
    let (ended, mut appended) = (AtomicBool::new(false), 0);
    let looks: Vec<usize> = thread::scope(|scope| {
        let watching: Vec<_> =
            readers.iter().map(|reader| scope.spawn(|| watch_end(reader, &ended))).collect();
        while Instant::now() < until && watching.iter().all(|reader| !reader.is_finished()) {
            writer.write_all(b"a line of thirty-two characters\n").expect("append");
            appended += 1;
        }
        ended.store(true, Ordering::SeqCst);
        watching.into_iter().map(|reader| reader.join().expect("a reader")).collect()
    });
    assert!(appended > 100 && looks.iter().all(|n| *n > 100), "{appended} appended, {looks:?} looks");
}

#[test]
fn whoever_reads_the_end_of_a_growing_file_sees_what_was_appended() {
    let world = World::new("growing");
    let mount = world.host("a").mount(&["--durability", "fsync"]);
    append_watched(&mount.path("written-first"), true);
    append_watched(&mount.path("read-first"), false);
    mount.unmount();
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
