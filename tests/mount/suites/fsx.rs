//! fsx: random reads, writes, mappings, truncations, holes, allocations, copies and reopenings of a file,
//! checked against memory after every operation, by several instances on one mount. What each leaves must be
//! what it leaves on the local disk with the same seed, and come back after the machine was lost.

use super::tool;
use crate::support::ran::Ran;
use crate::support::way::{Way, comes_back, seed};
use crate::support::{World, full, tree};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

/// Operations of one run. fsx 0.3.2 keeps every mapping that it reads through, and a process can have 65,530.
const RUN: u32 = 200_000;

/// One fsx and the file that it works on.
struct Instance {
    name: &'static str,
    /// The largest that the file gets, in bytes.
    length: u32,
    /// The largest read or write, in bytes.
    piece: u32,
    /// What offsets and sizes are multiples of, in bytes.
    align: u32,
    /// Whether a store to a mapping is followed by msync(2), and how often fsync(2) and fdatasync(2) come,
    /// of about 75: each waits for the store.
    msync: bool,
    syncs: f32,
    /// Operations at full size, and in a short run.
    full: u32,
    short: u32,
    /// Whether the file is made large and a reader keeps it open first: with passthrough, fsx then works on a
    /// file that bypasses the daemon.
    held: bool,
}

/// A file that fits the daemon's memory; one that outgrows it; whole pages; and a large one.
const INSTANCES: [Instance; 4] = [
    Instance {
        name: "small",
        length: 256 << 10,
        piece: 64 << 10,
        align: 1,
        msync: false,
        syncs: 0.02,
        full: 1_000_000,
        short: 4000,
        held: false,
    },
    Instance {
        name: "synced",
        length: 1 << 20,
        piece: 128 << 10,
        align: 1,
        msync: true,
        syncs: 2.0,
        full: 20_000,
        short: 500,
        held: false,
    },
    Instance {
        name: "pages",
        length: 4 << 20,
        piece: 256 << 10,
        align: 4096,
        msync: false,
        syncs: 0.1,
        full: 100_000,
        short: 1000,
        held: false,
    },
    Instance {
        name: "large",
        length: 24 << 20,
        piece: 1 << 20,
        align: 1,
        msync: false,
        syncs: 0.1,
        full: 50_000,
        short: 500,
        held: true,
    },
];

impl Instance {
    fn operations(&self) -> u32 {
        if full() { self.full } else { self.short }
    }

    /// fsx's configuration; a run without `msync` does the same operations. fsx 0.3.2 would also allocate
    /// nothing at all, which is EINVAL: so no empty operations, and no allocations where sizes are rounded.
    fn config(&self, msync: bool) -> String {
        let Instance { length, piece, align, syncs, .. } = self;
        let allocate = if *align == 1 { 5.0 } else { 0.0 };
        format!(
            "flen = {length}\nnomsyncafterwrite = {}\n\
             [opsize]\nmin = 1\nmax = {piece}\nalign = {align}\n\
             [weights]\nclose_open = 1.0\ninvalidate = 1.0\nmapread = 10.0\nmapwrite = 10.0\nread = 10.0\n\
             write = 10.0\ntruncate = 5.0\nfsync = {syncs:.2}\nfdatasync = {syncs:.2}\nposix_fallocate = {allocate:.1}\n\
             punch_hole = 5.0\nsendfile = 5.0\nposix_fadvise = 2.0\ncopy_file_range = 5.0\n",
            !msync
        )
    }

    /// Runs to the end on `file`, in as many runs as it takes, each from an empty file and with a seed of its own;
    /// `own` is a directory of the local disk. Says the file's hash.
    fn run(&self, file: &Path, own: &Path, msync: bool) -> String {
        let config = own.join(format!("{}.toml", self.name));
        fs::write(&config, self.config(msync)).expect("write the configuration");
        let mut took = Duration::ZERO;
        for (n, begun) in (0..self.operations()).step_by(RUN as usize).enumerate() {
            let seed = seed().wrapping_add(n as u64).to_string();
            let operations = RUN.min(self.operations() - begun).to_string();
            let mut command = Command::new(tool("fsx"));
            command.arg("-f").arg(&config).arg("-P").arg(own).args(["-S", &seed, "-N", &operations]);
            // Which operations it did is said only where it failed.
            took += Ran::of(command.arg(file)).ok().says(&["All operations completed A-OK!"]).took;
        }
        println!("  {}: {} operations passed in {took:.1?}", self.name, self.operations());
        tree::hash(file)
    }

    /// The same on the local disk.
    fn run_locally(&self, world: &World) -> String {
        let own = world.local(&format!("reference-{}", self.name));
        self.run(&own.join(self.name), &own, false)
    }
}

/// Makes a file that is large enough to bypass the daemon, and keeps it open.
fn hold(path: &Path) -> File {
    fs::write(path, vec![7; 16 << 20]).expect("write a large file");
    File::open(path).expect("open it to read")
}

fn files_end_as_on_the_local_disk(way: Way) {
    println!("fsx in {way}, seed {}", seed());
    let world = World::with_relay(&format!("fsx-{way}"));
    let options = way.options(&["--no-publish"]);
    let mount = world.host("a").mount(&options);
    let held: Vec<File> = INSTANCES.iter().filter(|i| i.held).map(|i| hold(&mount.path(i.name))).collect();
    let path = |instance: &Instance| -> PathBuf { mount.path(instance.name) };
    let (path, world_) = (&path, &world);
    // Whoever is done here does the same there while the others still work.
    let both = |i: &Instance| (i.run(&path(i), &world_.local(i.name), i.msync), i.run_locally(world_));
    let ends: Vec<(String, String)> = thread::scope(|scope| {
        let all: Vec<_> = INSTANCES.iter().map(|i| scope.spawn(move || both(i))).collect();
        all.into_iter().map(|one| one.join().expect("an instance")).collect()
    });
    drop(held);
    for (instance, (here, locally)) in INSTANCES.iter().zip(ends) {
        assert_eq!(here, locally, "{}: the bytes on the local disk", instance.name);
    }
    comes_back(&world, mount, "b", &options).unmount();
}

in_every_way!(files_end_as_on_the_local_disk);
