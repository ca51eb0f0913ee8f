//! Random reads and writes of files on the mount and of the same on the local disk, compared all along, and
//! after the machine was lost. The seed is printed; `CWDFS_TEST_SEED` repeats it.

use crate::support::way::{Way, comes_back, seed};
use crate::support::{World, full};
use crate::work::noise;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rustix::fs::FallocateFlags;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Files that are worked on at once.
const FILES: usize = 4;
/// Their largest size: beyond what stays in memory, so that all kinds of images take part.
const LARGEST: u64 = 3 << 20;

#[derive(Debug, Clone, Copy)]
enum Op {
    Write { at: u64, len: usize, seed: u64 },
    Append { len: usize, seed: u64 },
    Truncate { to: u64 },
    Punch { at: u64, len: u64 },
    Zero { at: u64, len: u64 },
    Reserve { at: u64, len: u64 },
    Copy { from: usize, at: u64, to: u64, len: usize },
    Map { at: u64, len: usize, seed: u64 },
    Sync,
    Reopen,
    Rename,
    Read { at: u64, len: usize },
}

fn draw(random: &mut StdRng) -> Op {
    let at = random.random_range(0..LARGEST);
    // Most are small; some span many pieces.
    let len = if random.random_ratio(1, 8) { 1 << 19 } else { 1 << 14 };
    let len = random.random_range(1..len).min((LARGEST - at) as usize).max(1);
    let seed = random.random();
    match random.random_range(0..100) {
        0..25 => Op::Write { at, len, seed },
        25..35 => Op::Append { len: len.min(4096), seed },
        35..42 => Op::Truncate { to: at },
        42..50 => Op::Punch { at, len: len as u64 },
        50..54 => Op::Zero { at, len: len as u64 },
        54..57 => Op::Reserve { at, len: len as u64 },
        57..64 => {
            Op::Copy { from: random.random_range(0..FILES), at, to: random.random_range(0..LARGEST), len }
        }
        64..70 => Op::Map { at, len, seed },
        70..74 => Op::Sync,
        74..80 => Op::Reopen,
        80..84 => Op::Rename,
        _ => Op::Read { at, len },
    }
}

/// The files of one side, all open.
struct Side {
    root: PathBuf,
    names: Vec<String>,
    files: Vec<File>,
}

fn open(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(false);
    options.open(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

impl Side {
    fn new(root: &Path) -> Side {
        let names: Vec<String> = (0..FILES).map(|n| format!("f{n}")).collect();
        let files = names.iter().map(|name| open(&root.join(name))).collect();
        Side { root: root.to_owned(), names, files }
    }

    /// What the operation answered, in words that are equal where the answers are.
    fn apply(&mut self, n: usize, op: Op) -> String {
        match self.try_apply(n, op) {
            Ok(answer) => answer,
            Err(error) => format!("error {:?}", error.raw_os_error()),
        }
    }

    fn try_apply(&mut self, n: usize, op: Op) -> io::Result<String> {
        let mut file = &self.files[n];
        let size = file.metadata()?.len();
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        match op {
            Op::Write { at, len, seed } => file.write_all_at(&noise(len, seed), at)?,
            Op::Append { len, seed } if size < LARGEST => {
                file.seek(SeekFrom::End(0))?;
                file.write_all(&noise(len, seed))?;
            }
            Op::Append { .. } => {}
            Op::Truncate { to } => file.set_len(to)?,
            Op::Punch { at, len } => rustix::fs::fallocate(file, hole, at, len)?,
            Op::Zero { at, len } => rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, at, len)?,
            Op::Reserve { at, len } => rustix::fs::fallocate(file, FallocateFlags::empty(), at, len)?,
            Op::Copy { from, at, to, len } => return self.copy(from, at, n, to, len),
            Op::Map { at, len, seed } => map(file, at.min(size), len, seed, size)?,
            Op::Sync => file.sync_all()?,
            Op::Reopen => self.files[n] = open(&self.root.join(&self.names[n])),
            Op::Rename => {
                let (old, new) =
                    (self.root.join(&self.names[n]), self.root.join(format!("{}r", self.names[n])));
                fs::rename(&old, &new)?;
                fs::rename(&new, &old)?;
            }
            Op::Read { at, len } => {
                let mut bytes = vec![0; len];
                let mut got = 0;
                while got < len {
                    match file.read_at(&mut bytes[got..], at + got as u64)? {
                        0 => break,
                        more => got += more,
                    }
                }
                return Ok(format!("{got} {}", blake3::hash(&bytes[..got])));
            }
        }
        Ok(format!("size {}", self.files[n].metadata()?.len()))
    }

    fn copy(&self, from: usize, at: u64, n: usize, to: u64, len: usize) -> io::Result<String> {
        let (mut at, mut to, mut copied) = (at, to, 0);
        while copied < len {
            let (source, target) = (&self.files[from], &self.files[n]);
            match rustix::fs::copy_file_range(source, Some(&mut at), target, Some(&mut to), len - copied)? {
                0 => break,
                more => copied += more,
            }
        }
        Ok(format!("copied {copied}"))
    }

    fn contents(&self) -> Vec<Vec<u8>> {
        self.names.iter().map(|name| fs::read(self.root.join(name)).expect("read")).collect()
    }
}

/// Stores through a shared mapping, within the file.
fn map(file: &File, at: u64, len: usize, seed: u64, size: u64) -> io::Result<()> {
    let page = at & !4095;
    let len = len.min((size - at) as usize);
    if len == 0 {
        return Ok(());
    }
    let before = (at - page) as usize;
    let bytes = noise(len, seed);
    // SAFETY: a fresh mapping, all of it within the file, whose size nobody else changes; it is unmapped before
    // this returns.
    unsafe {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        let whole = before + len;
        let start =
            libc::mmap(std::ptr::null_mut(), whole, access, libc::MAP_SHARED, file.as_raw_fd(), page as i64);
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), start.cast::<u8>().add(before), len);
        let synced = libc::msync(start, whole, libc::MS_SYNC);
        let error = io::Error::last_os_error();
        libc::munmap(start, whole);
        if synced == 0 { Ok(()) } else { Err(error) }
    }
}

fn same(ours: &Side, local: &Side, when: &str) {
    for (n, (ours, local)) in ours.contents().iter().zip(local.contents()).enumerate() {
        let differs = ours.iter().zip(&local).position(|(a, b)| a != b);
        assert!(
            ours.len() == local.len() && differs.is_none(),
            "f{n} {when}: {} bytes for {}, the first difference at {differs:?}",
            ours.len(),
            local.len()
        );
    }
}

fn random_io(way: Way) {
    let seed = seed();
    let mut random = StdRng::seed_from_u64(seed);
    let world = World::with_relay(&format!("random-{way}"));
    let options = way.options(&["--no-publish", "--cache-size", "16MiB"]);
    let reference = world.local("reference");
    let mut local = Side::new(&reference);
    let (rounds, steps) = if full() { (20, 1500) } else { (3, 300) };
    let mut mount = world.host("h0").mount(&options);
    let mut ours = Side::new(mount.root());
    for round in 1..=rounds {
        for step in 0..steps {
            let (n, op) = (random.random_range(0..FILES), draw(&mut random));
            let (got, expected) = (ours.apply(n, op), local.apply(n, op));
            assert_eq!(got, expected, "seed {seed}, round {round}, step {step}: {op:?} of f{n}");
        }
        same(&ours, &local, &format!("in round {round}, seed {seed}"));
        drop(ours);
        mount = comes_back(&world, mount, &format!("h{round}"), &options);
        ours = Side::new(mount.root());
        same(&ours, &local, &format!("after the machine was lost in round {round}, seed {seed}"));
    }
    drop(ours);
    mount.unmount();
}

#[test]
fn with_the_daemon_doing_all_io() {
    random_io(Way { level: "fsync", passthrough: false });
}

#[test]
fn with_passthrough_where_it_may_be() {
    random_io(Way { level: "fsync", passthrough: true });
}
