//! One file under random operations from a seed, compared with what its bytes must be, on the mount and
//! after the machine was lost. A failure names its seed; `CWDFS_TEST_SEED` repeats it.

use crate::support::mount::Mount;
use crate::support::{World, full};
use crate::work::{close, noise};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::FallocateFlags;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;

/// Offsets and sizes stay below this; large enough for files that do not fit into memory images.
const LIMIT: u64 = 3 << 20;

struct Run {
    random: StdRng,
    model: Vec<u8>,
    file: File,
    done: Vec<String>,
}

impl Run {
    fn place(&mut self) -> (u64, usize) {
        let at = self.random.random_range(0..LIMIT);
        let longest = if self.random.random_bool(0.3) { 400_000 } else { 5_000 };
        (at, self.random.random_range(1..longest))
    }

    fn set(&mut self, at: u64, bytes: &[u8]) {
        let end = at as usize + bytes.len();
        if self.model.len() < end {
            self.model.resize(end, 0);
        }
        self.model[at as usize..end].copy_from_slice(bytes);
    }

    fn step(&mut self, mount: &Mount<'_>) {
        let (at, len) = self.place();
        let what = match self.random.random_range(0..100) {
            0..35 => {
                let bytes = noise(len, at);
                self.file.write_all_at(&bytes, at).expect("write");
                self.set(at, &bytes);
                format!("write {len} at {at}")
            }
            35..60 => {
                let mut bytes = vec![0; len];
                let n = self.read_full(&mut bytes, at);
                let end = self.model.len().min(at as usize + len);
                let expected = self.model.get(at as usize..end).unwrap_or_default();
                self.compare(&bytes[..n], expected, at);
                format!("read {len} at {at}")
            }
            60..67 => {
                self.file.set_len(at).expect("truncate");
                self.model.resize(at as usize, 0);
                format!("truncate to {at}")
            }
            67..75 => {
                let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                rustix::fs::fallocate(&self.file, punch, at, len as u64).expect("punch");
                let end = self.model.len().min(at as usize + len);
                if let Some(hole) = self.model.get_mut(at as usize..end) {
                    hole.fill(0);
                }
                format!("punch {len} at {at}")
            }
            75..82 => self.copy_range(at, len),
            82..88 => {
                self.file.sync_data().expect("fdatasync");
                "fdatasync".to_owned()
            }
            88..94 => {
                self.reopen(mount);
                "close and open".to_owned()
            }
            _ => {
                mount.flush();
                "flush".to_owned()
            }
        };
        assert_eq!(self.file.metadata().expect("fstat").len(), self.model.len() as u64, "size after {what}");
        self.done.push(what);
    }

    fn copy_range(&mut self, to: u64, len: usize) -> String {
        let from = self.random.random_range(0..LIMIT);
        let available = (self.model.len() as u64).saturating_sub(from).min(len as u64);
        // Overlapping ranges of one file are EINVAL.
        if available == 0 || from.abs_diff(to) < available {
            return "nothing".to_owned();
        }
        let (mut off_in, mut off_out) = (from, to);
        while off_in < from + available {
            let left = (from + available - off_in) as usize;
            let (i, o) = (Some(&mut off_in), Some(&mut off_out));
            let n = rustix::fs::copy_file_range(&self.file, i, &self.file, o, left);
            assert!(n.expect("copy_file_range") > 0, "copy_file_range stops early");
        }
        let bytes = self.model[from as usize..(from + available) as usize].to_vec();
        self.set(to, &bytes);
        format!("copy {available} from {from} to {to}")
    }

    fn read_full(&self, bytes: &mut [u8], at: u64) -> usize {
        let mut got = 0;
        while got < bytes.len() {
            match self.file.read_at(&mut bytes[got..], at + got as u64).expect("read") {
                0 => break,
                n => got += n,
            }
        }
        got
    }

    fn reopen(&mut self, mount: &Mount<'_>) {
        let file = OpenOptions::new().read(true).write(true).open(mount.path("f")).expect("open");
        close(std::mem::replace(&mut self.file, file)).expect("close");
    }

    #[track_caller]
    fn compare(&self, found: &[u8], expected: &[u8], at: u64) {
        if found == expected {
            return;
        }
        let first = found.iter().zip(expected).position(|(a, b)| a != b);
        let first = first.unwrap_or(found.len().min(expected.len())) as u64 + at;
        let last: Vec<_> = self.done.iter().rev().take(25).rev().collect();
        panic!("byte {first} differs ({} bytes, expected {}); last {last:#?}", found.len(), expected.len());
    }
}

fn random_io(name: &str, seed: u64, options: &[&str]) {
    let seed = std::env::var("CWDFS_TEST_SEED").map_or(seed, |s| s.parse().expect("a number"));
    eprintln!("CWDFS_TEST_SEED={seed}");
    let world = World::with_relay(name);
    let steps = if full() { 3000 } else { 250 };
    let mount = world.host("a").mount(options);
    let file = File::create_new(mount.path("f")).expect("create");
    drop(file);
    let file = OpenOptions::new().read(true).write(true).open(mount.path("f")).expect("open");
    let random = StdRng::seed_from_u64(seed);
    let mut run = Run { random, model: Vec::new(), file, done: Vec::new() };
    for _ in 0..steps {
        run.step(&mount);
    }
    run.reopen(&mount);
    run.compare(&fs::read(mount.path("f")).expect("read"), &run.model, 0);
    mount.flush();
    mount.lose_machine();
    let mount = world.host("b").mount(&["--takeover"]);
    run.compare(&fs::read(mount.path("f")).expect("read"), &run.model, 0);
    mount.unmount();
}

#[test]
fn random_io_through_the_daemon() {
    for seed in 0..if full() { 10 } else { 2 } {
        random_io(&format!("random-off-{seed}"), seed, &["--passthrough", "off", "--durability", "fsync"]);
    }
}

#[test]
fn random_io_with_passthrough() {
    for seed in 10..if full() { 20 } else { 12 } {
        random_io(&format!("random-on-{seed}"), seed, &["--passthrough", "on", "--durability", "fsync"]);
    }
}

#[test]
fn random_io_through_a_small_cache_with_commits_all_the_time() {
    let options = ["--cache-size", "16MiB", "--commit-interval", "20ms", "--durability", "fsync"];
    for seed in 20..if full() { 30 } else { 22 } {
        random_io(&format!("random-small-{seed}"), seed, &options);
    }
}
